// SPDX-License-Identifier: Apache-2.0
#include "bench/frame.h"

#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "agent/base/status.h"
#include "bench/bpf/fill.h"

namespace headgate::bench {
namespace {

constexpr uint8_t kHopLimit = 64;
constexpr uint32_t kIpv4GroupMacBase = 0x5e000000, kIpv4GroupMacMask = 0x7fffff;  // of an address' last 32 bits
constexpr uint32_t kLastIpv4Group = 0xefffffff;

// Adds 16-bit words as they lie in memory; `size` is even.
uint32_t AddWords(uint32_t sum, const uint8_t* data, size_t size) {
  for (size_t i = 0; i < size; i += 2) {
    uint16_t word = 0;
    std::memcpy(&word, data + i, sizeof(word));
    sum += word;
  }
  return sum;
}

uint32_t IpHeaderBytes(Family family) { return family == Family::kIpv4 ? sizeof(iphdr) : sizeof(ipv6hdr); }
uint32_t L4HeaderBytes(Transport transport) {
  return transport == Transport::kUdp ? sizeof(udphdr) : sizeof(tcphdr);
}
uint8_t ProtocolNumber(Transport transport) { return transport == Transport::kUdp ? IPPROTO_UDP : IPPROTO_TCP; }

// `length`: of all from this header on.
void WriteIp(const IpAddress& source, const IpAddress& destination, uint8_t protocol, uint32_t length,
             uint8_t* header) {
  if (source.family == Family::kIpv4) {
    iphdr ip{};
    ip.version = 4;
    ip.ihl = sizeof(ip) / 4;
    ip.tot_len = htons(static_cast<uint16_t>(length));
    ip.frag_off = htons(0x4000);  // don't fragment: frames of one size stay of one size
    ip.ttl = kHopLimit;
    ip.protocol = protocol;
    ip.saddr = htonl(source.words[0]);
    ip.daddr = htonl(destination.words[0]);
    std::memcpy(header, &ip, sizeof(ip));
    return;
  }
  ipv6hdr ip6{};
  ip6.version = 6;
  ip6.payload_len = htons(static_cast<uint16_t>(length - sizeof(ip6)));
  ip6.nexthdr = protocol;
  ip6.hop_limit = kHopLimit;
  for (size_t i = 0; i < 4; ++i) {
    ip6.saddr.s6_addr32[i] = htonl(source.words[i]);
    ip6.daddr.s6_addr32[i] = htonl(destination.words[i]);
  }
  std::memcpy(header, &ip6, sizeof(ip6));
}

void WriteUdp(uint16_t source, uint16_t destination, uint32_t length, uint8_t* header) {
  udphdr udp{};
  udp.source = htons(source);
  udp.dest = htons(destination);
  udp.len = htons(static_cast<uint16_t>(length));
  std::memcpy(header, &udp, sizeof(udp));
}

// `length`: of all from this header on.
void WriteL4(const FrameSpec& spec, uint32_t length, uint8_t* header) {
  if (spec.transport == Transport::kUdp) {
    WriteUdp(spec.source_port, spec.destination_port, length, header);
    return;
  }
  tcphdr tcp{};
  tcp.source = htons(spec.source_port);
  tcp.dest = htons(spec.destination_port);
  tcp.doff = sizeof(tcp) / 4;
  tcp.ack = 1;
  tcp.psh = 1;
  tcp.window = htons(0xffff);
  std::memcpy(header, &tcp, sizeof(tcp));
}

// Of a tunnel, between the Ethernet header and the packet in it.
uint32_t TunnelBytes(const FrameSpec& spec) {
  if (!spec.wrapped) return 0;
  return IpHeaderBytes(spec.geneve.source.family) + static_cast<uint32_t>(sizeof(udphdr)) +
         GeneveBytes(spec.geneve);
}

uint16_t EtherType(Family family) { return family == Family::kIpv4 ? ETH_P_IP : ETH_P_IPV6; }

// UDP goes without a checksum, over IPv6 too, as a tunnel may (RFC 8926, section 3.3; RFC 6935).
void WriteTunnel(const FrameSpec& spec, uint8_t* bytes, hgb_template& frame) {
  const GeneveSpec& geneve = spec.geneve;
  const bool is_ipv4 = geneve.source.family == Family::kIpv4;
  const uint32_t udp = ETH_HLEN + IpHeaderBytes(geneve.source.family);
  WriteIp(geneve.source, geneve.destination, IPPROTO_UDP, spec.size - ETH_HLEN, bytes + ETH_HLEN);
  WriteUdp(HGB_OUTER_FIRST_PORT, HGB_GENEVE_PORT, spec.size - udp, bytes + udp);
  WriteGeneve(geneve, EtherType(spec.source.family), bytes + udp + sizeof(udphdr));
  frame.outer_port = udp;
  frame.outer_l4 = udp;
  frame.outer_udp_length = udp + offsetof(udphdr, len);
  frame.outer_ip_length = ETH_HLEN + (is_ipv4 ? offsetof(iphdr, tot_len) : offsetof(ipv6hdr, payload_len));
  frame.outer_ip_overhead = ETH_HLEN + (is_ipv4 ? 0 : sizeof(ipv6hdr));
  if (!is_ipv4) return;
  frame.outer_ip_check = ETH_HLEN + offsetof(iphdr, check);
  frame.outer_ip_sum = AddWords(0, bytes + ETH_HLEN, sizeof(iphdr));
  const uint16_t check = hgb_fold(frame.outer_ip_sum);
  std::memcpy(bytes + frame.outer_ip_check, &check, sizeof(check));
}

// Of the pseudo header (RFC 768, RFC 9293, RFC 8200), the L4 header and the record, without what varies.
uint32_t L4Sum(const FrameSpec& spec, const uint8_t* bytes, uint32_t l4, uint32_t end) {
  uint32_t sum = AddWords(0, bytes + l4, end - l4);
  const size_t words = spec.source.family == Family::kIpv4 ? 1 : 4;
  for (size_t i = 0; i < words; ++i) {
    const uint32_t both[] = {htonl(i + 1 == words ? 0 : spec.source.words[i]), htonl(spec.destination.words[i])};
    sum = AddWords(sum, reinterpret_cast<const uint8_t*>(both), sizeof(both));
  }
  uint16_t port = 0;
  std::memcpy(&port, bytes + l4, sizeof(port));
  sum -= port;
  return sum + htons(ProtocolNumber(spec.transport)) + htons(static_cast<uint16_t>(spec.size - l4));
}

uint16_t ReadWord(const uint8_t* bytes) {
  uint16_t word = 0;
  std::memcpy(&word, bytes, sizeof(word));
  return word;
}

// To the program, for each frame has its own: out of the headers and out of the sums.
void LeaveLengths(const FrameSpec& spec, uint8_t* bytes, hgb_template& frame) {
  const bool is_ipv4 = spec.source.family == Family::kIpv4;
  frame.sizes = static_cast<uint32_t>(spec.sizes.size());
  const uint32_t l3 = ETH_HLEN + TunnelBytes(spec);
  frame.ip_length = l3 + (is_ipv4 ? offsetof(iphdr, tot_len) : offsetof(ipv6hdr, payload_len));
  frame.ip_overhead = l3 + (is_ipv4 ? 0 : sizeof(ipv6hdr));
  frame.l4 = frame.source_port;
  if (spec.transport == Transport::kUdp) frame.udp_length = frame.l4 + offsetof(udphdr, len);
  if (frame.ip_check != 0) frame.ip_sum -= ReadWord(bytes + frame.ip_length);
  std::memset(bytes + frame.ip_length, 0, sizeof(uint16_t));
  if (frame.outer_ip_check != 0) frame.outer_ip_sum -= ReadWord(bytes + frame.outer_ip_length);
  if (frame.l4_check != 0) frame.l4_sum -= htons(static_cast<uint16_t>(spec.size - frame.l4));
  if (frame.udp_length == 0) return;
  if (frame.l4_check != 0) frame.l4_sum -= ReadWord(bytes + frame.udp_length);
  std::memset(bytes + frame.udp_length, 0, sizeof(uint16_t));
}

// To the program as well, when there are several.
void LeaveDestination(const FrameSpec& spec, uint8_t* bytes, hgb_template& frame) {
  const bool is_ipv4 = spec.source.family == Family::kIpv4;
  frame.first_destination = spec.destination.words[is_ipv4 ? 0 : 3];
  frame.destination = frame.source + (is_ipv4 ? sizeof(in_addr) : sizeof(in6_addr));
  const uint32_t sum = AddWords(0, bytes + frame.destination, sizeof(uint32_t));
  if (frame.ip_check != 0) frame.ip_sum -= sum;
  if (frame.l4_check != 0) frame.l4_sum -= sum;
  if (!spec.group_macs) return;
  frame.mac_mask = is_ipv4 ? kIpv4GroupMacMask : 0xffffffff;
  frame.mac_base = is_ipv4 ? kIpv4GroupMacBase : 0;
}

absl::Status ValidateGroups(const FrameSpec& spec) {
  if (spec.groups == 0) return absl::InvalidArgumentError("groups: at least 1");
  if ((spec.groups > 1 || spec.group_macs) && !IsGroup(spec.destination)) {
    return absl::InvalidArgumentError(absl::StrCat(ToString(spec.destination), " is not a multicast group"));
  }
  if (spec.group_macs && spec.wrapped) {
    return absl::InvalidArgumentError("a group in a tunnel has no Ethernet address");
  }
  const bool is_ipv4 = spec.destination.family == Family::kIpv4;
  const uint64_t last = spec.destination.words[is_ipv4 ? 0 : 3] + uint64_t{spec.groups} - 1;
  if (spec.groups > 1 && last > (is_ipv4 ? kLastIpv4Group : 0xffffffff)) {
    return absl::InvalidArgumentError(absl::StrCat("destination ", ToString(spec.destination), ": ", spec.groups,
                                                   " groups from there go beyond the last; begin lower"));
  }
  return absl::OkStatus();
}

absl::Status Validate(const FrameSpec& spec) {
  if (spec.source.family != spec.destination.family) {
    return absl::InvalidArgumentError("source and destination are not of one address family");
  }
  HG_RETURN_IF_ERROR(ValidateGroups(spec));
  if (spec.wrapped) HG_RETURN_IF_ERROR(ValidateGeneve(spec.geneve));
  if (spec.size < MinFrameBytes(spec) || spec.size > kMaxFrameBytes) {
    return absl::InvalidArgumentError(absl::StrCat("a frame size of ", spec.size, " bytes: such frames have ",
                                                   MinFrameBytes(spec), " to ", kMaxFrameBytes));
  }
  if (spec.sizes.size() > HGB_SIZES) {
    return absl::InvalidArgumentError(absl::StrCat("a mix of ", spec.sizes.size(), " sizes: at most ", HGB_SIZES));
  }
  for (const uint32_t size : spec.sizes) {
    if (size < MinFrameBytes(spec) || size > spec.size) {
      return absl::InvalidArgumentError(absl::StrCat(
          "a frame size of ", size, " bytes in a mix: such frames have ", MinFrameBytes(spec), " to ", spec.size));
    }
  }
  const uint64_t last_source = spec.source.words[spec.source.family == Family::kIpv4 ? 0 : 3] +
                               (static_cast<uint64_t>(spec.flows) - 1) / HGB_PORTS_PER_SOURCE;
  const uint32_t ports = spec.flows < HGB_PORTS_PER_SOURCE ? spec.flows : HGB_PORTS_PER_SOURCE;
  if (spec.flows == 0) return absl::InvalidArgumentError("flows: at least 1");
  if (spec.source_port + ports - 1 > 0xffff) {
    return absl::InvalidArgumentError(absl::StrCat("source port ", spec.source_port, ": ", ports,
                                                   " flows from there go beyond port 65535; begin lower"));
  }
  if (last_source > 0xffffffff) {
    return absl::InvalidArgumentError(absl::StrCat("source address ", ToString(spec.source), ": ", spec.flows,
                                                   " flows, 256 an address, go beyond the last address"));
  }
  return absl::OkStatus();
}

}  // namespace

bool IsGroup(const IpAddress& address) {
  return address.family == Family::kIpv4 ? address.words[0] >> 28 == 0xe : address.words[0] >> 24 == 0xff;
}

MacAddress GroupMac(const IpAddress& group) {
  if (group.family == Family::kIpv4) {
    const uint32_t low = kIpv4GroupMacBase | (group.words[0] & kIpv4GroupMacMask);
    return {0x01,
            0x00,
            static_cast<uint8_t>(low >> 24),
            static_cast<uint8_t>(low >> 16),
            static_cast<uint8_t>(low >> 8),
            static_cast<uint8_t>(low)};
  }
  const uint32_t low = group.words[3];
  return {0x33,
          0x33,
          static_cast<uint8_t>(low >> 24),
          static_cast<uint8_t>(low >> 16),
          static_cast<uint8_t>(low >> 8),
          static_cast<uint8_t>(low)};
}

absl::StatusOr<std::vector<SizeShare>> ParseSizes(const std::string& text) {
  if (text == "imix") return std::vector<SizeShare>{{60, 7}, {590, 4}, {1514, 1}};
  std::vector<SizeShare> mix;
  uint64_t shares = 0;
  for (const absl::string_view part : absl::StrSplit(text, ',')) {
    const std::pair<absl::string_view, absl::string_view> words = absl::StrSplit(part, absl::MaxSplits(':', 1));
    SizeShare share{.share = 1};
    const bool has_share = absl::StrContains(part, ':');
    if (!absl::SimpleAtoi(words.first, &share.size) ||
        (has_share && !absl::SimpleAtoi(words.second, &share.share)) || share.size == 0 || share.share == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("\"", part, "\": a size in bytes, SIZE:SHARE of a mix (64:7,594:4,1518:1), or imix"));
    }
    shares += share.share;
    mix.push_back(share);
  }
  if (shares > HGB_SIZES && mix.size() > 1) {
    return absl::InvalidArgumentError(absl::StrCat("shares of ", shares, " together: at most ", HGB_SIZES));
  }
  return mix;
}

// Smooth weighted round robin: what is owed most is next.
std::vector<uint32_t> SpreadSizes(const std::vector<SizeShare>& mix) {
  if (mix.size() < 2) return {};
  int64_t total = 0;
  for (const SizeShare& share : mix) total += share.share;
  std::vector<int64_t> owed(mix.size());
  std::vector<uint32_t> sizes;
  while (static_cast<int64_t>(sizes.size()) < total) {
    for (size_t i = 0; i < mix.size(); ++i) owed[i] += mix[i].share;
    const auto next = std::max_element(owed.begin(), owed.end());
    *next -= total;
    sizes.push_back(mix[static_cast<size_t>(next - owed.begin())].size);
  }
  return sizes;
}

uint32_t MinFrameBytes(const FrameSpec& spec) {
  return ETH_HLEN + TunnelBytes(spec) + IpHeaderBytes(spec.source.family) + L4HeaderBytes(spec.transport) +
         HGB_RECORD_BYTES;
}

absl::StatusOr<hgb_template> BuildTemplate(const FrameSpec& spec) {
  HG_RETURN_IF_ERROR(Validate(spec));
  const bool is_ipv4 = spec.source.family == Family::kIpv4;
  hgb_template frame{};
  auto* bytes = reinterpret_cast<uint8_t*>(frame.words);
  const uint32_t l3 = ETH_HLEN + TunnelBytes(spec), l4 = l3 + IpHeaderBytes(spec.source.family);
  frame.record = l4 + L4HeaderBytes(spec.transport);
  frame.bytes = frame.record + HGB_RECORD_BYTES;
  constexpr size_t kMaxTunnel = sizeof(ipv6hdr) + sizeof(udphdr) + kMaxGeneveBytes;
  static_assert(sizeof(frame.words) >=
                ETH_HLEN + kMaxTunnel + sizeof(ipv6hdr) + sizeof(tcphdr) + HGB_RECORD_BYTES);
  static_assert(sizeof(hgb_record) == HGB_RECORD_BYTES);

  const MacAddress mac = spec.group_macs ? GroupMac(spec.destination) : spec.destination_mac;
  std::memcpy(bytes, mac.data(), ETH_ALEN);
  std::memcpy(bytes + ETH_ALEN, spec.source_mac.data(), ETH_ALEN);
  const uint16_t type = htons(EtherType(spec.wrapped ? spec.geneve.source.family : spec.source.family));
  std::memcpy(bytes + 2 * ETH_ALEN, &type, sizeof(type));
  if (spec.wrapped) WriteTunnel(spec, bytes, frame);
  WriteIp(spec.source, spec.destination, ProtocolNumber(spec.transport), spec.size - l3, bytes + l3);
  WriteL4(spec, spec.size - l4, bytes + l4);
  hgb_record record{};
  record.magic = htons(HGB_MAGIC);
  record.stream = htons(spec.stream);
  std::memcpy(bytes + frame.record, &record, sizeof(record));

  frame.source = l3 + (is_ipv4 ? offsetof(iphdr, saddr) : offsetof(ipv6hdr, saddr) + 12);
  frame.source_port = l4;
  if (is_ipv4) {
    frame.ip_check = l3 + offsetof(iphdr, check);
    frame.ip_sum = AddWords(0, bytes + l3, sizeof(iphdr)) - AddWords(0, bytes + frame.source, 4);
  }
  // UDP over IPv4 may go without (RFC 768).
  if (spec.transport == Transport::kTcp || !is_ipv4) {
    frame.l4_check = l4 + (spec.transport == Transport::kTcp ? offsetof(tcphdr, check) : offsetof(udphdr, check));
    frame.l4_sum = L4Sum(spec, bytes, l4, frame.bytes);
  }
  if (!spec.sizes.empty()) LeaveLengths(spec, bytes, frame);
  frame.groups = spec.groups;
  if (spec.groups > 1) LeaveDestination(spec, bytes, frame);
  frame.first_source = spec.source.words[is_ipv4 ? 0 : 3];
  frame.first_port = spec.source_port;
  frame.flows = spec.flows;
  return frame;
}

absl::StatusOr<hgb_template> BuildHeaderTemplate(const FrameSpec& spec) {
  if (spec.groups > 1 || spec.wrapped)
    return absl::InvalidArgumentError("headers go with neither groups nor tunnels");
  HG_ASSIGN_OR_RETURN(hgb_template frame, BuildTemplate(spec));
  auto* bytes = reinterpret_cast<uint8_t*>(frame.words);
  std::memset(bytes + frame.record, 0, HGB_RECORD_BYTES);
  constexpr size_t kDataOffset = 12;  // of the TCP header (RFC 9293, section 3.1)
  bytes[frame.source_port + kDataOffset] = sizeof(tcphdr) / 4 << 4;
  return frame;
}

std::vector<uint8_t> BuildFrame(const FrameSpec& spec, const hgb_template& frame, uint32_t flow) {
  std::vector<uint8_t> bytes(spec.size);
  std::memcpy(bytes.data(), frame.words, frame.bytes);
  hgb_turn turn{.flow = flow, .group = 0};
  const uint32_t sum = hgb_write_flow(bytes.data(), &frame, &turn);
  if (frame.l4_check != 0) {
    const uint16_t folded = hgb_fold(hgb_add(frame.l4_sum, sum));
    const uint16_t check = folded != 0 ? folded : 0xffff;
    std::memcpy(bytes.data() + frame.l4_check, &check, sizeof(check));
  }
  return bytes;
}

}  // namespace headgate::bench
