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

// The headers of a UDP datagram that is whole, in the first segment.
struct Datagram {
  ethhdr* ethernet = nullptr;
  iphdr* ipv4 = nullptr;
  ipv6hdr* ipv6 = nullptr;
  udphdr* udp = nullptr;
};

bool Find(const Packet& packet, Datagram& datagram) {
  const Segment& first = packet.segments[0];
  const uint32_t kind = packet.meta.kind;
  const bool ipv6 = (kind & HG_KIND_IPV6) != 0;
  if ((kind & HG_KIND_PORTS) == 0 || (kind & HG_KIND_FRAGMENT) != 0) return false;
  if (packet.meta.l4 < packet.meta.l3 + (ipv6 ? sizeof(ipv6hdr) : sizeof(iphdr))) return false;
  if (packet.meta.l4 + sizeof(udphdr) > first.length) return false;
  datagram.ethernet = reinterpret_cast<ethhdr*>(first.data);
  datagram.udp = reinterpret_cast<udphdr*>(first.data + packet.meta.l4);
  if (ipv6) {
    datagram.ipv6 = reinterpret_cast<ipv6hdr*>(first.data + packet.meta.l3);
    // Directly: what extension headers ask for, the answer would repeat.
    return datagram.ipv6->nexthdr == IPPROTO_UDP && datagram.ipv6->daddr.s6_addr[0] != 0xff;
  }
  datagram.ipv4 = reinterpret_cast<iphdr*>(first.data + packet.meta.l3);
  const uint32_t destination = ntohl(datagram.ipv4->daddr);
  return datagram.ipv4->protocol == IPPROTO_UDP && !IN_MULTICAST(destination) && destination != INADDR_BROADCAST;
}

bool ChecksumsAreRight(const Packet& packet, const Datagram& datagram) {
  const uint32_t length = ntohs(datagram.udp->len);
  if (length < sizeof(udphdr) || packet.meta.l4 + length > packet.length) return false;
  if (datagram.ipv4 != nullptr) {
    const auto header = static_cast<uint32_t>(packet.meta.l4 - packet.meta.l3);
    if (Checksum{}.Add(packet.segments, packet.meta.l3, header).Finish() != 0) return false;
    if (datagram.udp->check == 0) return true;
  } else if (datagram.udp->check == 0) {
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
  std::swap(datagram.udp->source, datagram.udp->dest);
  if (datagram.ipv6 != nullptr) {
    Swap<sizeof(in6_addr)>(datagram.ipv6->saddr.s6_addr, datagram.ipv6->daddr.s6_addr);
    datagram.ipv6->hop_limit = kTtl;
    return;
  }
  std::swap(datagram.ipv4->saddr, datagram.ipv4->daddr);
  datagram.ipv4->ttl = kTtl;
  datagram.ipv4->check = 0;
  datagram.ipv4->check =
      Checksum{}
          .Add(packet.segments, packet.meta.l3, static_cast<uint32_t>(packet.meta.l4 - packet.meta.l3))
          .Finish();
}

}  // namespace

void EchoHandler::Handle(absl::Span<Packet> packets) {
  for (Packet& packet : packets) {
    Datagram datagram;
    packet.disposition = Disposition::kDropped;
    // A group address cannot become a source.
    if (!Find(packet, datagram) || (datagram.ethernet->h_dest[0] & 1) != 0) continue;
    if (!ChecksumsAreRight(packet, datagram)) continue;
    TurnRound(packet, datagram);
    packet.disposition = Disposition::kReply;
  }
}

}  // namespace headgate
