// SPDX-License-Identifier: Apache-2.0
#include "agent/slowpath/echo_handler.h"

#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>

#include "agent/slowpath/checksum.h"

namespace headgate {
namespace {

constexpr uint8_t kTtl = 64;  // RFC 1700's default

template <size_t kBytes>
void Swap(uint8_t* a, uint8_t* b) {
  std::swap_ranges(a, a + kBytes, b);
}

// A header at any address: behind Ethernet's 14 bytes none is aligned.
template <typename Header>
struct [[gnu::packed]] Unaligned {
  Header at;
};
template <typename Header>
Unaligned<Header>* HeaderAt(uint8_t* data) {
  return reinterpret_cast<Unaligned<Header>*>(data);
}

// The headers of a UDP datagram that is whole, in the first segment.
struct Datagram {
  ethhdr* ethernet = nullptr;
  Unaligned<iphdr>* ipv4 = nullptr;
  Unaligned<ipv6hdr>* ipv6 = nullptr;
  Unaligned<udphdr>* udp = nullptr;
};

bool Find(const Packet& packet, Datagram& datagram) {
  const Segment& first = packet.segments[0];
  const uint32_t kind = packet.meta.kind;
  const bool ipv6 = (kind & HG_KIND_IPV6) != 0;
  if ((kind & HG_KIND_PORTS) == 0 || (kind & HG_KIND_FRAGMENT) != 0) return false;
  if (packet.meta.l4 < packet.meta.l3 + (ipv6 ? sizeof(ipv6hdr) : sizeof(iphdr))) return false;
  if (packet.meta.l4 + sizeof(udphdr) > first.length) return false;
  datagram.ethernet = reinterpret_cast<ethhdr*>(first.data);
  datagram.udp = HeaderAt<udphdr>(first.data + packet.meta.l4);
  if (ipv6) {
    datagram.ipv6 = HeaderAt<ipv6hdr>(first.data + packet.meta.l3);
    // Directly: what extension headers ask for, the answer would repeat.
    return datagram.ipv6->at.nexthdr == IPPROTO_UDP && datagram.ipv6->at.daddr.s6_addr[0] != 0xff;
  }
  datagram.ipv4 = HeaderAt<iphdr>(first.data + packet.meta.l3);
  const uint32_t destination = ntohl(datagram.ipv4->at.daddr);
  return datagram.ipv4->at.protocol == IPPROTO_UDP && !IN_MULTICAST(destination) &&
         destination != INADDR_BROADCAST;
}

// From the service itself, or from another's port of the same number, both of which would answer the answer: one
// forged datagram would never come to rest.
bool MayComeBack(const Packet& packet, const Datagram& datagram) {
  const uint8_t* const network = packet.segments[0].data + packet.meta.l3;
  const bool to_itself =
      datagram.ipv6 != nullptr
          ? std::memcmp(network + offsetof(ipv6hdr, saddr), network + offsetof(ipv6hdr, daddr),
                        sizeof(in6_addr)) == 0
          : std::memcmp(network + offsetof(iphdr, saddr), network + offsetof(iphdr, daddr), sizeof(in_addr)) == 0;
  return to_itself || datagram.udp->at.source == datagram.udp->at.dest;
}

bool ChecksumsAreRight(const Packet& packet, const Datagram& datagram) {
  const uint32_t length = ntohs(datagram.udp->at.len);
  if (length < sizeof(udphdr) || packet.meta.l4 + length > packet.length) return false;
  if (datagram.ipv4 != nullptr) {
    const auto header = static_cast<uint32_t>(packet.meta.l4 - packet.meta.l3);
    if (Checksum{}.Add(packet.segments, packet.meta.l3, header).Finish() != 0) return false;
    if (datagram.udp->at.check == 0) return true;
  } else if (datagram.udp->at.check == 0) {
    return false;  // RFC 8200 section 8.1
  }
  Checksum sum;
  const uint32_t addresses = datagram.ipv6 != nullptr ? packet.meta.l3 + offsetof(ipv6hdr, saddr)
                                                      : packet.meta.l3 + offsetof(iphdr, saddr);
  sum.Add(packet.segments, addresses, datagram.ipv6 != nullptr ? 2 * sizeof(in6_addr) : 2 * sizeof(in_addr));
  sum.AddNumber(IPPROTO_UDP).AddNumber(length);
  return sum.Add(packet.segments, packet.meta.l4, length).Finish() == 0;
}

void TurnRound(Packet& packet, const Datagram& datagram) {
  Swap<ETH_ALEN>(datagram.ethernet->h_source, datagram.ethernet->h_dest);
  uint8_t* const network = packet.segments[0].data + packet.meta.l3;
  uint8_t* const ports = packet.segments[0].data + packet.meta.l4;
  Swap<sizeof(in_port_t)>(ports, ports + sizeof(in_port_t));
  if (datagram.ipv6 != nullptr) {
    Swap<sizeof(in6_addr)>(network + offsetof(ipv6hdr, saddr), network + offsetof(ipv6hdr, daddr));
    datagram.ipv6->at.hop_limit = kTtl;
    return;
  }
  Swap<sizeof(in_addr)>(network + offsetof(iphdr, saddr), network + offsetof(iphdr, daddr));
  datagram.ipv4->at.ttl = kTtl;
  datagram.ipv4->at.check = 0;
  const auto header = static_cast<uint32_t>(packet.meta.l4 - packet.meta.l3);
  datagram.ipv4->at.check = Checksum{}.Add(packet.segments, packet.meta.l3, header).Finish();
}

}  // namespace

void EchoHandler::Handle(absl::Span<Packet> packets, Output&) {
  for (Packet& packet : packets) {
    Datagram datagram;
    packet.disposition = Disposition::kDropped;
    // A group address cannot become a source.
    if (!Find(packet, datagram) || ((datagram.ethernet->h_dest[0] | datagram.ethernet->h_source[0]) & 1) != 0)
      continue;
    if (MayComeBack(packet, datagram) || !ChecksumsAreRight(packet, datagram)) continue;
    TurnRound(packet, datagram);
    packet.disposition = Disposition::kReply;
  }
}

}  // namespace headgate
