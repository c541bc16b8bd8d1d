// SPDX-License-Identifier: Apache-2.0
#include "tests/harness/header_frame.h"

#include <netinet/in.h>

#include <stdexcept>

namespace headgate::testing {

namespace {

constexpr size_t kIpv4Bytes = 20, kIpv6Bytes = 40, kTcpBytes = 20, kUdpBytes = 8, kIcmpBytes = 8;

}  // namespace

Bytes FrameOf(const Header& header) {
  const IpAddress source{header.source, header.family}, destination{header.destination, header.family};
  const bool ipv4 = header.family == Family::kIpv4;
  const auto l3_class = static_cast<uint8_t>(header.dscp << 2);
  Packet packet{Ethernet{}};
  if (header.inner_vlan != 0) {
    packet = packet / Vlan{.id = header.vlan, .tpid = 0x88a8} / Vlan{.id = header.inner_vlan};
  } else if (header.vlan != 0) {
    packet = packet / Vlan{.id = header.vlan};
  }
  if (ipv4) {
    packet = packet / Ipv4{.source = ToString(source), .destination = ToString(destination), .tos = l3_class};
  } else {
    packet =
        packet / Ipv6{.source = ToString(source), .destination = ToString(destination), .traffic_class = l3_class};
  }
  // What is left of the packet's length after the headers.
  const auto rest = [&](size_t l4) {
    const size_t headers = (ipv4 ? kIpv4Bytes : kIpv6Bytes) + l4;
    if (header.length < headers) throw std::invalid_argument("a header of fewer bytes than it needs");
    return Payload(header.length - headers);
  };
  switch (header.protocol) {
    case IPPROTO_TCP:
      return packet /
             Tcp{.source_port = header.source_port,
                 .destination_port = header.destination_port,
                 .flags = header.tcp_flags} /
             rest(kTcpBytes);
    case IPPROTO_UDP:
      return packet / Udp{.source_port = header.source_port, .destination_port = header.destination_port} /
             rest(kUdpBytes);
    case IPPROTO_ICMP:
      return packet / Icmp{} / rest(kIcmpBytes);
    case IPPROTO_ICMPV6:
      return packet / Icmpv6{} / rest(kIcmpBytes);
    default:
      return packet / Protocol{.number = header.protocol, .bytes = Bytes(rest(0).bytes.size())};
  }
}

bool IsUsable(const Header& header) {
  if (header.family == Family::kIpv4) return header.source[0] >> 28 != 0xe && header.source[0] != 0xffffffff;
  return header.source[0] >> 24 != 0xff;
}

Header DrawUsableHeader(const std::vector<Rule>& rules, std::mt19937_64& random) {
  Header header = DrawHeader(rules, random);
  while (!IsUsable(header)) header = DrawHeader(rules, random);
  return header;
}

}  // namespace headgate::testing
