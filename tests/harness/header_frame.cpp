// SPDX-License-Identifier: Apache-2.0
#include "tests/harness/header_frame.h"

#include <netinet/in.h>

namespace headgate::testing {

Bytes FrameOf(const Header& header) {
  const IpAddress source{header.source, header.family}, destination{header.destination, header.family};
  const auto with_l4 = [&](const auto& l3) -> Bytes {
    const Packet packet = Ethernet{} / l3;
    switch (header.protocol) {
      case IPPROTO_TCP:
        return packet / Tcp{.source_port = header.source_port, .destination_port = header.destination_port};
      case IPPROTO_UDP:
        return packet / Udp{.source_port = header.source_port, .destination_port = header.destination_port};
      case IPPROTO_ICMP:
        return packet / Icmp{};
      case IPPROTO_ICMPV6:
        return packet / Icmpv6{};
      default:
        return packet / Protocol{.number = header.protocol, .bytes = Bytes(20)};
    }
  };
  if (header.family == Family::kIpv4) {
    return with_l4(Ipv4{.source = ToString(source), .destination = ToString(destination)});
  }
  return with_l4(Ipv6{.source = ToString(source), .destination = ToString(destination)});
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
