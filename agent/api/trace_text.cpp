// SPDX-License-Identifier: Apache-2.0
#include "agent/api/trace_text.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>
#include <netinet/in.h>

#include <algorithm>
#include <optional>

#include "agent/api/field_text.h"
#include "agent/base/address.h"
#include "agent/base/number.h"
#include "agent/base/status.h"
#include "agent/control/validate.h"

namespace headgate::api {
namespace {

constexpr uint8_t kEcho4 = 8, kEcho6 = 128;  // ICMP and ICMPv6 echo request
constexpr uint8_t kDefaultTtl = 64;
constexpr uint32_t kMaxLength = 3400;  // with the Ethernet header, what a test run takes

// A part of the description, and where it begins, from 1.
struct Word {
  absl::string_view text;
  size_t column = 0;
};

struct Endpoint {
  IpAddress address;
  std::optional<Word> port;
};

struct Description {
  uint8_t protocol = 0;
  Endpoint source, destination;
  std::vector<uint16_t> vlans;
  uint32_t length = 0;  // L3 bytes, 0: as needed
  Word length_word;
  uint32_t ttl = kDefaultTtl;
  uint32_t dscp = 0;
  uint8_t tcp_flags = 0x02;  // SYN
  std::string interface;
};

absl::Status Mistake(const Word& at, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("column ", at.column, ": ", what));
}

// The same, with the place when it is none.
template <typename T>
absl::StatusOr<T> At(const Word& word, absl::StatusOr<T> parsed) {
  if (parsed.ok()) return parsed;
  return Mistake(word, {parsed.status().message().data(), parsed.status().message().size()});
}

using Bytes = std::vector<uint8_t>;

void Put16(Bytes& out, uint32_t value) {
  out.push_back(static_cast<uint8_t>(value >> 8));
  out.push_back(static_cast<uint8_t>(value));
}
void Put32(Bytes& out, uint32_t value) {
  Put16(out, value >> 16);
  Put16(out, value & 0xffff);
}
void PutAddress(Bytes& out, const IpAddress& address) {
  for (int i = 0; i < (address.family == Family::kIpv4 ? 1 : 4); ++i) Put32(out, address.words[i]);
}
uint32_t Sum(const Bytes& bytes) {
  uint32_t sum = 0;
  for (size_t i = 0; i < bytes.size(); ++i) sum += static_cast<uint32_t>(bytes[i]) << (i % 2 == 0 ? 8 : 0);
  return sum;
}
uint16_t Fold(uint32_t sum) {
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}
void Set16(Bytes& bytes, size_t at, uint16_t value) {
  bytes[at] = static_cast<uint8_t>(value >> 8);
  bytes[at + 1] = static_cast<uint8_t>(value);
}

std::vector<Word> Split(absl::string_view text) {
  std::vector<Word> words;
  for (const absl::string_view part : absl::StrSplit(text, absl::ByAnyChar(" \t\n"), absl::SkipEmpty())) {
    words.push_back({part, static_cast<size_t>(part.data() - text.data()) + 1});
  }
  return words;
}

// "10.0.0.1", "10.0.0.1:53", "2001:db8::1", "[2001:db8::1]:53".
absl::StatusOr<Endpoint> ParseEndpoint(const Word& word) {
  const absl::string_view text = word.text;
  absl::string_view address = text;
  size_t colon = text.find(':');
  if (text[0] == '[') {
    const size_t end = text.find(']');
    if (end == absl::string_view::npos) return Mistake(word, absl::StrCat("\"", text, "\": a ] is missing"));
    address = text.substr(1, end - 1);
    colon = end + 1 == text.size() ? absl::string_view::npos : end + 1;
    if (colon != absl::string_view::npos && text[colon] != ':') {
      return Mistake(word, absl::StrCat("\"", text, "\": expected :PORT after ]"));
    }
  } else if (colon != text.rfind(':')) {
    colon = absl::string_view::npos;
  } else {
    address = text.substr(0, colon);
  }
  Endpoint endpoint;
  HG_ASSIGN_OR_RETURN(endpoint.address, At(word, ParseAddress(address)));
  if (colon != absl::string_view::npos) endpoint.port = {text.substr(colon + 1), word.column + colon + 1};
  return endpoint;
}

absl::StatusOr<uint32_t> ParseNumber(absl::string_view what, const Word& word, uint32_t max) {
  uint32_t number = 0;
  if (!ParseDigits(word.text, number) || number > max) {
    return Mistake(word, absl::StrCat(what, " \"", word.text, "\": a number up to ", max, " is needed"));
  }
  return number;
}

absl::Status ParseOption(const Word& key, const Word& value, Description& out) {
  if (key.text == "in") {
    out.interface = std::string(value.text);
  } else if (key.text == "vlan") {
    HG_ASSIGN_OR_RETURN(const uint32_t id, ParseNumber(key.text, value, 4094));
    if (out.vlans.size() == 3) return Mistake(key, "more than three VLAN tags");
    out.vlans.push_back(static_cast<uint16_t>(id));
  } else if (key.text == "len") {
    HG_ASSIGN_OR_RETURN(out.length, ParseNumber(key.text, value, kMaxLength));
    out.length_word = value;
  } else if (key.text == "ttl") {
    HG_ASSIGN_OR_RETURN(out.ttl, ParseNumber(key.text, value, 255));
  } else if (key.text == "dscp") {
    HG_ASSIGN_OR_RETURN(out.dscp, ParseNumber(key.text, value, 63));
  } else if (key.text == "flags") {
    if (out.protocol != IPPROTO_TCP) return Mistake(key, "flags need protocol tcp");
    HG_ASSIGN_OR_RETURN(const TcpFlagMatch flags, At(value, ParseTcpFlags(value.text)));
    out.tcp_flags = flags.value;
  } else {
    return Mistake(key,
                   absl::StrCat("\"", key.text, "\" is not known here: use in, vlan, len, ttl, dscp or flags"));
  }
  return absl::OkStatus();
}

absl::StatusOr<Description> Parse(absl::string_view text) {
  const std::vector<Word> words = Split(text);
  if (words.size() < 4 || words[2].text != ">") {
    return absl::InvalidArgumentError(absl::StrCat(
        "\"", text, "\": write PROTOCOL SOURCE[:PORT] > DESTINATION[:PORT] [in INTERFACE] and so on"));
  }
  Description out;
  HG_ASSIGN_OR_RETURN(out.protocol, At(words[0], ParseProtocol(words[0].text)));
  HG_ASSIGN_OR_RETURN(out.source, ParseEndpoint(words[1]));
  HG_ASSIGN_OR_RETURN(out.destination, ParseEndpoint(words[3]));
  if (out.source.address.family != out.destination.address.family) {
    return Mistake(words[3], "source and destination are of different IP versions");
  }
  for (size_t i = 4; i < words.size(); i += 2) {
    if (i + 1 == words.size()) return Mistake(words[i], absl::StrCat("\"", words[i].text, "\" needs a value"));
    HG_RETURN_IF_ERROR(ParseOption(words[i], words[i + 1], out));
  }
  return out;
}

absl::StatusOr<Bytes> IcmpHeader(const Description& packet) {
  if (packet.source.port) {
    return Mistake(*packet.source.port,
                   "an ICMP packet has no ports: its type, or type/code, goes to the destination");
  }
  const bool ipv6 = packet.protocol == IPPROTO_ICMPV6;
  uint32_t type = ipv6 ? kEcho6 : kEcho4, code = 0;
  if (packet.destination.port) {
    const Word& word = *packet.destination.port;
    const size_t slash = word.text.find('/');
    HG_ASSIGN_OR_RETURN(type, ParseNumber("ICMP type", {word.text.substr(0, slash), word.column}, 255));
    if (slash != absl::string_view::npos) {
      HG_ASSIGN_OR_RETURN(code,
                          ParseNumber("ICMP code", {word.text.substr(slash + 1), word.column + slash + 1}, 255));
    }
  }
  Bytes out = {static_cast<uint8_t>(type), static_cast<uint8_t>(code)};
  out.resize(8);
  return out;
}

absl::StatusOr<Bytes> L4Header(const Description& packet) {
  if (packet.protocol == IPPROTO_ICMP || packet.protocol == IPPROTO_ICMPV6) return IcmpHeader(packet);
  Bytes out;
  if (!HasPorts(packet.protocol)) {
    for (const Endpoint* endpoint : {&packet.source, &packet.destination}) {
      if (endpoint->port) {
        return Mistake(*endpoint->port, absl::StrCat("protocol ", ProtocolText(packet.protocol), " has no ports"));
      }
    }
    return out;
  }
  uint32_t ports[2] = {40000, 80};
  if (packet.source.port) {
    HG_ASSIGN_OR_RETURN(ports[0], ParseNumber("port", *packet.source.port, 65535));
  }
  if (packet.destination.port) {
    HG_ASSIGN_OR_RETURN(ports[1], ParseNumber("port", *packet.destination.port, 65535));
  }
  Put16(out, ports[0]);
  Put16(out, ports[1]);
  if (packet.protocol == IPPROTO_TCP) {
    Put32(out, 1);
    Put32(out, 0);
    out.push_back(5 << 4);
    out.push_back(packet.tcp_flags);
    Put16(out, 65535);
    Put32(out, 0);
  } else {
    out.resize(packet.protocol == IPPROTO_UDP || packet.protocol == IPPROTO_UDPLITE ? 8 : 12);
  }
  return out;
}

// Where the L4 checksum is, for those computed over a pseudo header or alone.
std::optional<size_t> ChecksumAt(uint8_t protocol) {
  switch (protocol) {
    case IPPROTO_TCP:
      return 16;
    case IPPROTO_UDP:
    case IPPROTO_UDPLITE:
      return 6;
    case IPPROTO_ICMP:
    case IPPROTO_ICMPV6:
      return 2;
    default:
      return std::nullopt;
  }
}

void FinishL4(const Description& packet, Bytes& l4) {
  if (packet.protocol == IPPROTO_UDP) Set16(l4, 4, static_cast<uint16_t>(l4.size()));
  const std::optional<size_t> at = ChecksumAt(packet.protocol);
  if (!at) return;
  Bytes pseudo;
  if (packet.protocol != IPPROTO_ICMP) {
    PutAddress(pseudo, packet.source.address);
    PutAddress(pseudo, packet.destination.address);
    Put32(pseudo, static_cast<uint32_t>(l4.size()));
    Put32(pseudo, packet.protocol);
  }
  uint16_t checksum = Fold(Sum(pseudo) + Sum(l4));
  // Zero would say that there is none (RFC 768, RFC 3828 section 3.1).
  if (checksum == 0 && *at == 6) checksum = 0xffff;
  Set16(l4, *at, checksum);
}

Bytes L3Header(const Description& packet, size_t payload) {
  Bytes out;
  if (packet.source.address.family == Family::kIpv4) {
    out.push_back(0x45);
    out.push_back(static_cast<uint8_t>(packet.dscp << 2));
    Put16(out, static_cast<uint32_t>(20 + payload));
    Put32(out, 0);
    out.push_back(static_cast<uint8_t>(packet.ttl));
    out.push_back(packet.protocol);
    Put16(out, 0);
  } else {
    Put32(out, 6U << 28 | packet.dscp << 22);
    Put16(out, static_cast<uint32_t>(payload));
    out.push_back(packet.protocol);
    out.push_back(static_cast<uint8_t>(packet.ttl));
  }
  PutAddress(out, packet.source.address);
  PutAddress(out, packet.destination.address);
  if (packet.source.address.family == Family::kIpv4) Set16(out, 10, Fold(Sum(out)));
  return out;
}

// Of groups, those that stand for them (RFC 1112 section 6.4, RFC 2464 section 7).
MacAddress MacOf(const IpAddress& destination) {
  const bool ipv6 = destination.family == Family::kIpv6;
  const uint32_t last = destination.words[ipv6 ? 3 : 0];
  const auto byte = [last](int shift) { return static_cast<uint8_t>(last >> shift); };
  if (ipv6 && destination.words[0] >> 24 == 0xff) return {0x33, 0x33, byte(24), byte(16), byte(8), byte(0)};
  if (!ipv6 && last == 0xffffffff) return {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
  if (!ipv6 && last >> 28 == 0xe) {
    return {0x01, 0x00, 0x5e, static_cast<uint8_t>(byte(16) & 0x7f), byte(8), byte(0)};
  }
  return {0x02, 0, 0, 0, 0, 0x01};
}

}  // namespace

absl::StatusOr<TraceInput> ParseTraceText(absl::string_view text) {
  HG_ASSIGN_OR_RETURN(const Description packet, Parse(text));
  HG_ASSIGN_OR_RETURN(Bytes l4, L4Header(packet));
  const bool ipv6 = packet.source.address.family == Family::kIpv6;
  const size_t l3_size = ipv6 ? 40 : 20;
  if (packet.length != 0 && packet.length < l3_size + l4.size()) {
    return Mistake(packet.length_word,
                   absl::StrCat("len ", packet.length, ": the headers alone take ", l3_size + l4.size()));
  }
  if (packet.length != 0) l4.resize(packet.length - l3_size);
  FinishL4(packet, l4);

  TraceInput input{.interface = packet.interface};
  Bytes& frame = input.frame;
  const MacAddress destination = MacOf(packet.destination.address);
  frame.assign(destination.begin(), destination.end());
  const MacAddress source = {0x02, 0, 0, 0, 0, 0x02};
  frame.insert(frame.end(), source.begin(), source.end());
  for (const uint16_t vlan : packet.vlans) {
    Put16(frame, 0x8100);
    Put16(frame, vlan);
  }
  Put16(frame, ipv6 ? 0x86dd : 0x0800);
  const Bytes l3 = L3Header(packet, l4.size());
  frame.insert(frame.end(), l3.begin(), l3.end());
  frame.insert(frame.end(), l4.begin(), l4.end());
  return input;
}

void Address(TraceInput& input, const MacAddress& device) {
  if ((input.frame[0] & 1) == 0) std::copy(device.begin(), device.end(), input.frame.begin());
}

}  // namespace headgate::api
