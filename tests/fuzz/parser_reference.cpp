// SPDX-License-Identifier: Apache-2.0
#include "tests/fuzz/parser_reference.h"

#include <algorithm>

namespace headgate::testing {
namespace {

using Span = std::span<const uint8_t>;

// IANA's numbers.
enum : unsigned {
  kTypeIpv4 = 0x0800,
  kTypeArp = 0x0806,
  kTypeVlan = 0x8100,
  kTypeIpv6 = 0x86dd,
  kTypeProviderVlan = 0x88a8,
  kTypeLldp = 0x88cc,
};
enum : unsigned {
  kHopByHop = 0,
  kIcmp = 1,
  kIgmp = 2,
  kTcp = 6,
  kUdp = 17,
  kDccp = 33,
  kRouting = 43,
  kFragment = 44,
  kAuthentication = 51,
  kIcmpv6 = 58,
  kDestinationOptions = 60,
  kSctp = 132,
  kMobility = 135,
  kUdpLite = 136,
};

constexpr int kMaxTags = 2;
constexpr int kMaxExtensions = 8;
constexpr size_t kMaxDatagram = 65535;

struct Malformed {
  hg_reason reason;
};

// The first `size` bytes, which have to be there.
Span Need(Span bytes, size_t size, hg_reason reason) {
  if (bytes.size() < size) throw Malformed{reason};
  return bytes.first(size);
}
unsigned Get16(Span bytes, size_t at) { return static_cast<unsigned>(bytes[at] << 8 | bytes[at + 1]); }
uint32_t Get32(Span bytes, size_t at) { return Get16(bytes, at) << 16 | Get16(bytes, at + 2); }

// RFC 9293, section 3.1. Only of a whole packet can it be said that its options are cut.
void ParseTcp(Span payload, Parsed& parsed) {
  const Span header = Need(payload, 20, HG_REASON_TCP_SHORT);
  const size_t size = static_cast<size_t>(header[12] >> 4) * 4;
  if (size < 20) throw Malformed{HG_REASON_TCP_OFFSET};
  if (!parsed.fragment) Need(payload, size, HG_REASON_TCP_OFFSET);
  parsed.source_port = static_cast<uint16_t>(Get16(header, 0));
  parsed.destination_port = static_cast<uint16_t>(Get16(header, 2));
  parsed.tcp_flags = header[13];
  parsed.ports = true;
}

// RFC 768; length 0 in an IPv6 jumbogram: RFC 2675, section 4.
void ParseUdp(Span payload, Parsed& parsed) {
  const Span header = Need(payload, 8, HG_REASON_UDP_SHORT);
  const size_t length = Get16(header, 4);
  const bool jumbogram = length == 0 && payload.size() > kMaxDatagram;
  if (length < 8 && !jumbogram) throw Malformed{HG_REASON_UDP_LENGTH};
  if (!parsed.fragment) Need(payload, length, HG_REASON_UDP_LENGTH);
  parsed.source_port = static_cast<uint16_t>(Get16(header, 0));
  parsed.destination_port = static_cast<uint16_t>(Get16(header, 2));
  parsed.ports = true;
}

// SCTP (RFC 9260), DCCP (RFC 4340), UDP-Lite (RFC 3828).
void ParsePorts(Span payload, Parsed& parsed) {
  const Span header = Need(payload, 4, HG_REASON_L4_SHORT);
  parsed.source_port = static_cast<uint16_t>(Get16(header, 0));
  parsed.destination_port = static_cast<uint16_t>(Get16(header, 2));
  parsed.ports = true;
}

// The header of ICMP is eight bytes in all its messages (RFC 792), that of ICMPv6 four (RFC 4443, section 2.1).
void ParseIcmp(Span payload, unsigned hop_limit, Parsed& parsed) {
  const Span header = Need(payload, parsed.protocol == kIcmp ? 8 : 4, HG_REASON_ICMP_SHORT);
  const unsigned type = parsed.icmp_type = header[0];
  parsed.icmp_code = header[1];
  parsed.icmp = true;
  if (!parsed.ipv6 || parsed.protocol != kIcmpv6) return;
  const bool discovery = type >= 133 && type <= 137 && hop_limit == 255;  // RFC 4861, section 6.1
  const bool listener = (type >= 130 && type <= 132) || type == 143;      // RFC 2710, RFC 3810
  parsed.essential = parsed.essential || discovery || listener;
}

void ParseL4(Span payload, unsigned hop_limit, Parsed& parsed) {
  switch (parsed.protocol) {
    case kTcp:
      return ParseTcp(payload, parsed);
    case kUdp:
      return ParseUdp(payload, parsed);
    case kIcmp:
    case kIcmpv6:
      return ParseIcmp(payload, hop_limit, parsed);
    case kSctp:
    case kDccp:
    case kUdpLite:
      return ParsePorts(payload, parsed);
    default:
      return;
  }
}

// A later fragment with `payload` at byte `offset` of the datagram.
void CheckLaterFragment(size_t offset, Span payload, const Parsed& parsed) {
  if (offset + payload.size() > kMaxDatagram) throw Malformed{HG_REASON_FRAGMENT_OVERRUN};
  if (offset == 8 && parsed.protocol == kTcp) throw Malformed{HG_REASON_FRAGMENT_OVERLAP};  // RFC 1858, section 4
}

bool IsIpv4Group(uint32_t address) {
  return (address >= 0xe0000000 && address <= 0xefffffff) || address == 0xffffffff;
}

// RFC 791, section 3.1.
void ParseIpv4(Span rest, Parsed& parsed) {
  const Span fixed = Need(rest, 20, HG_REASON_IPV4_SHORT);
  if (fixed[0] >> 4 != 4) throw Malformed{HG_REASON_IPV4_VERSION};
  const size_t header = static_cast<size_t>(fixed[0] & 15) * 4;
  if (header < 20) throw Malformed{HG_REASON_IPV4_IHL};
  const Span packet = Need(rest, Get16(fixed, 2), HG_REASON_IPV4_LENGTH);
  Need(packet, header, HG_REASON_IPV4_LENGTH);
  parsed.ipv4 = true;
  parsed.length = static_cast<uint32_t>(packet.size());
  parsed.source[0] = Get32(fixed, 12);
  parsed.destination[0] = Get32(fixed, 16);
  if (IsIpv4Group(parsed.source[0])) throw Malformed{HG_REASON_SOURCE_GROUP};  // RFC 1122, section 3.2.1.3
  parsed.group = parsed.group || IsIpv4Group(parsed.destination[0]);
  parsed.dscp = fixed[1] >> 2;
  parsed.protocol = fixed[9];
  parsed.essential = parsed.protocol == kIgmp;
  const size_t offset = (Get16(fixed, 6) & 0x1fff) * 8;
  parsed.later = offset != 0;
  parsed.fragment = parsed.later || (Get16(fixed, 6) & 0x2000) != 0;
  const Span payload = packet.subspan(header);
  if (parsed.later) return CheckLaterFragment(offset, payload, parsed);
  ParseL4(payload, fixed[8], parsed);
}

bool IsExtension(unsigned header) {
  return header == kHopByHop || header == kRouting || header == kFragment || header == kAuthentication ||
         header == kDestinationOptions || header == kMobility;
}

// RFC 8200, section 4; returns the payload that is left after the chain of extension headers.
Span WalkExtensions(Span payload, unsigned next, size_t& offset, Parsed& parsed) {
  for (int count = 0; IsExtension(next); ++count) {
    if (count == kMaxExtensions) throw Malformed{HG_REASON_IPV6_EXT_DEPTH};
    const Span start = Need(payload, next == kFragment ? 8 : 2, HG_REASON_IPV6_EXT_SHORT);
    size_t size = 8;
    if (next == kAuthentication) size = (start[1] + 2U) * 4;  // RFC 4302, section 2.2
    if (next != kAuthentication && next != kFragment) size = (start[1] + 1U) * 8;
    Need(payload, size, HG_REASON_IPV6_EXT_SHORT);
    const bool fragment = next == kFragment;
    next = start[0];
    payload = payload.subspan(size);
    if (!fragment) continue;
    const unsigned field = Get16(start, 2);
    offset = field & 0xfff8;
    parsed.later = offset != 0;
    // Neither offset nor more: a whole packet, which an outer fragment header may still call one (RFC 6946).
    parsed.fragment = parsed.fragment || parsed.later || (field & 1) != 0;
    if (parsed.later) break;  // what follows is the middle of something
  }
  parsed.protocol = static_cast<uint8_t>(next);
  return payload;
}

// RFC 8200, section 3.
void ParseIpv6(Span rest, Parsed& parsed) {
  const Span fixed = Need(rest, 40, HG_REASON_IPV6_SHORT);
  if (fixed[0] >> 4 != 6) throw Malformed{HG_REASON_IPV6_VERSION};
  const size_t length = Get16(fixed, 4);
  const bool jumbogram = length == 0 && fixed[6] == kHopByHop;
  Span payload = rest.subspan(40);
  if (!jumbogram) payload = Need(payload, length, HG_REASON_IPV6_LENGTH);
  parsed.ipv6 = true;
  parsed.length = static_cast<uint32_t>(40 + payload.size());
  for (size_t i = 0; i < 4; ++i) {
    parsed.source[i] = Get32(fixed, 8 + 4 * i);
    parsed.destination[i] = Get32(fixed, 24 + 4 * i);
  }
  if (fixed[8] == 0xff) throw Malformed{HG_REASON_SOURCE_GROUP};  // RFC 4291, section 2.7
  parsed.group = parsed.group || fixed[24] == 0xff;
  parsed.dscp = static_cast<uint8_t>((fixed[0] & 15) << 2 | fixed[1] >> 6);
  size_t offset = 0;
  payload = WalkExtensions(payload, fixed[6], offset, parsed);
  if (parsed.later) return CheckLaterFragment(offset, payload, parsed);
  ParseL4(payload, fixed[7], parsed);
}

void ParseEthernet(Span frame, Parsed& parsed) {
  Span rest = frame;
  parsed.group = (Need(rest, 14, HG_REASON_ETH_SHORT)[0] & 1) != 0;
  unsigned type = Get16(rest, 12);
  rest = rest.subspan(14);
  for (int tags = 0; type == kTypeVlan || type == kTypeProviderVlan; ++tags) {
    if (tags == kMaxTags) throw Malformed{HG_REASON_VLAN_DEPTH};
    const Span tag = Need(rest, 4, HG_REASON_VLAN_SHORT);
    (tags == 0 ? parsed.vlan : parsed.inner_vlan) = Get16(tag, 0) & 0xfff;
    type = Get16(tag, 2);
    rest = rest.subspan(4);
  }
  if (type == kTypeIpv4) return ParseIpv4(rest, parsed);
  if (type == kTypeIpv6) return ParseIpv6(rest, parsed);
  parsed.essential = type == kTypeArp || type == kTypeLldp;
  parsed.length = static_cast<uint32_t>(rest.size());
}

}  // namespace

std::array<uint32_t, HG_WORDS> Parsed::Key(uint32_t port) const {
  std::array<uint32_t, HG_WORDS> key{};
  std::copy(source.begin(), source.end(), key.begin() + HG_WORD_SRC);
  std::copy(destination.begin(), destination.end(), key.begin() + HG_WORD_DST);
  key[HG_WORD_PORTS] = icmp ? static_cast<uint32_t>(icmp_type << 8 | icmp_code)
                            : static_cast<uint32_t>(source_port) << 16 | destination_port;
  uint32_t kind = 0;
  if (ipv4) kind |= HG_KIND_IP | HG_KIND_IPV4;
  if (ipv6) kind |= HG_KIND_IP | HG_KIND_IPV6;
  if (fragment) kind |= HG_KIND_FRAGMENT;
  if (later) kind |= HG_KIND_LATER;
  if (ports) kind |= HG_KIND_PORTS;
  if (icmp) kind |= HG_KIND_ICMP;
  key[HG_WORD_PROTO] = static_cast<uint32_t>(protocol) << HG_PROTO_SHIFT |
                       static_cast<uint32_t>(dscp) << HG_DSCP_SHIFT |
                       static_cast<uint32_t>(tcp_flags) << HG_TCP_FLAGS_SHIFT | kind;
  key[HG_WORD_INGRESS] = port << 16 | vlan;
  key[HG_WORD_EXTRA] = static_cast<uint32_t>(inner_vlan) << 16 | std::min<uint32_t>(length, 0xffff);
  return key;
}

Parsed ParseFrame(Span frame) {
  Parsed parsed;
  try {
    ParseEthernet(frame, parsed);
  } catch (const Malformed& malformed) {
    parsed.malformed = malformed.reason;
  }
  return parsed;
}

}  // namespace headgate::testing
