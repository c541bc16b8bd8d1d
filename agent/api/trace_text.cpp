// SPDX-License-Identifier: Apache-2.0
#include "agent/api/trace_text.h"

#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>
#include <netinet/in.h>

#include <algorithm>
#include <optional>

#include "agent/api/field_text.h"
#include "agent/base/address.h"
#include "agent/base/status.h"
#include "agent/control/validate.h"

namespace headgate::api {
namespace {

constexpr uint8_t kEcho4 = 8, kEcho6 = 128;  // ICMP and ICMPv6 echo request
constexpr uint8_t kDefaultTtl = 64;
constexpr uint32_t kMaxLength = 3400;  // with the Ethernet header, what a test run takes

struct Endpoint {
  IpAddress address;
  std::optional<std::string> port;
};

struct Description {
  uint8_t protocol = 0;
  Endpoint source, destination;
  std::vector<uint16_t> vlans;
  uint32_t length = 0;  // L3 bytes, 0: as needed
  uint32_t ttl = kDefaultTtl;
  uint32_t dscp = 0;
  uint8_t tcp_flags = 0x02;  // SYN
  std::string interface;
};

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

// "10.0.0.1", "10.0.0.1:53", "2001:db8::1", "[2001:db8::1]:53".
absl::StatusOr<Endpoint> ParseEndpoint(absl::string_view text) {
  Endpoint endpoint;
  absl::string_view address = text, port;
  if (!text.empty() && text[0] == '[') {
    const size_t end = text.find(']');
    if (end == absl::string_view::npos)
      return absl::InvalidArgumentError(absl::StrCat("\"", text, "\": a ] is missing"));
    address = text.substr(1, end - 1);
    port = text.substr(end + 1);
    if (!port.empty() && !absl::ConsumePrefix(&port, ":")) {
      return absl::InvalidArgumentError(absl::StrCat("\"", text, "\": expected :PORT after ]"));
    }
  } else if (const size_t colon = text.find(':'); colon != absl::string_view::npos && colon == text.rfind(':')) {
    address = text.substr(0, colon);
    port = text.substr(colon + 1);
  }
  HG_ASSIGN_OR_RETURN(endpoint.address, ParseAddress(address));
  if (!port.empty()) endpoint.port = std::string(port);
  return endpoint;
}

absl::StatusOr<uint32_t> ParseNumber(absl::string_view what, absl::string_view text, uint32_t max) {
  uint32_t number = 0;
  if (!absl::SimpleAtoi(text, &number) || number > max) {
    return absl::InvalidArgumentError(absl::StrCat(what, " \"", text, "\": a number up to ", max, " is needed"));
  }
  return number;
}

absl::Status ParseOption(absl::string_view key, absl::string_view value, Description& out) {
  if (key == "in") {
    out.interface = std::string(value);
  } else if (key == "vlan") {
    HG_ASSIGN_OR_RETURN(const uint32_t id, ParseNumber(key, value, 4094));
    out.vlans.push_back(static_cast<uint16_t>(id));
  } else if (key == "len") {
    HG_ASSIGN_OR_RETURN(out.length, ParseNumber(key, value, kMaxLength));
  } else if (key == "ttl") {
    HG_ASSIGN_OR_RETURN(out.ttl, ParseNumber(key, value, 255));
  } else if (key == "dscp") {
    HG_ASSIGN_OR_RETURN(out.dscp, ParseNumber(key, value, 63));
  } else if (key == "flags") {
    HG_ASSIGN_OR_RETURN(const TcpFlagMatch flags, ParseTcpFlags(value));
    out.tcp_flags = flags.value;
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", key, "\" is not known here: use in, vlan, len, ttl, dscp or flags"));
  }
  return absl::OkStatus();
}

absl::StatusOr<Description> Parse(absl::string_view text) {
  const std::vector<absl::string_view> words = absl::StrSplit(text, absl::ByAnyChar(" \t\n"), absl::SkipEmpty());
  if (words.size() < 4 || words[2] != ">") {
    return absl::InvalidArgumentError(absl::StrCat(
        "\"", text, "\": write PROTOCOL SOURCE[:PORT] > DESTINATION[:PORT] [in INTERFACE] and so on"));
  }
  Description out;
  HG_ASSIGN_OR_RETURN(out.protocol, ParseProtocol(words[0]));
  HG_ASSIGN_OR_RETURN(out.source, ParseEndpoint(words[1]));
  HG_ASSIGN_OR_RETURN(out.destination, ParseEndpoint(words[3]));
  if (out.source.address.family != out.destination.address.family) {
    return absl::InvalidArgumentError("source and destination are of different IP versions");
  }
  for (size_t i = 4; i < words.size(); i += 2) {
    if (i + 1 == words.size()) return absl::InvalidArgumentError(absl::StrCat("\"", words[i], "\" needs a value"));
    HG_RETURN_IF_ERROR(ParseOption(words[i], words[i + 1], out));
  }
  if (out.vlans.size() > 3) return absl::InvalidArgumentError("more than three VLAN tags");
  return out;
}

absl::StatusOr<Bytes> IcmpHeader(const Description& packet) {
  const bool ipv6 = packet.protocol == IPPROTO_ICMPV6;
  uint32_t type = ipv6 ? kEcho6 : kEcho4, code = 0;
  if (packet.destination.port) {
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(*packet.destination.port, absl::MaxSplits('/', 1));
    HG_ASSIGN_OR_RETURN(type, ParseNumber("ICMP type", parts.first, 255));
    if (!parts.second.empty()) {
      HG_ASSIGN_OR_RETURN(code, ParseNumber("ICMP code", parts.second, 255));
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
    if (packet.source.port || packet.destination.port) {
      return absl::InvalidArgumentError(absl::StrCat("protocol ", packet.protocol, " has no ports"));
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
  Set16(l4, *at, Fold(Sum(pseudo) + Sum(l4)));
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

}  // namespace

absl::StatusOr<TraceInput> ParseTraceText(absl::string_view text) {
  HG_ASSIGN_OR_RETURN(const Description packet, Parse(text));
  HG_ASSIGN_OR_RETURN(Bytes l4, L4Header(packet));
  const bool ipv6 = packet.source.address.family == Family::kIpv6;
  const size_t l3_size = ipv6 ? 40 : 20;
  if (packet.length != 0 && packet.length < l3_size + l4.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("len ", packet.length, ": the headers alone take ", l3_size + l4.size()));
  }
  if (packet.length != 0) l4.resize(packet.length - l3_size);
  FinishL4(packet, l4);

  TraceInput input{.interface = packet.interface};
  Bytes& frame = input.frame;
  frame = {0x02, 0, 0, 0, 0, 0x01, 0x02, 0, 0, 0, 0, 0x02};
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

}  // namespace headgate::api
