// SPDX-License-Identifier: Apache-2.0
#include "agent/slowpath/leg_copy.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>

#include "agent/slowpath/checksum.h"

namespace headgate {
namespace {

constexpr uint32_t kTag = 4;
constexpr uint32_t kAddresses = 2 * ETH_ALEN;
constexpr uint16_t kVidMask = 0x0fff;

uint32_t ReplaceWords(uint8_t* field, const uint32_t* words, size_t count) {
  uint32_t off = 0;
  for (size_t i = 0; i < count; ++i) {
    uint16_t halves[2];
    std::memcpy(halves, &words[i], sizeof(halves));
    off += ReplaceWord(field + 4 * i, halves[0]) + ReplaceWord(field + 4 * i + 2, halves[1]);
  }
  return off;
}

// What transport checksums change by.
uint32_t RewriteAddresses(const hg_leg& leg, uint8_t* source, uint8_t* destination, size_t words) {
  uint32_t off = 0;
  if ((leg.flags & HG_LEG_SOURCE) != 0) off += ReplaceWords(source, leg.src, words);
  if ((leg.flags & HG_LEG_DESTINATION) != 0) off += ReplaceWords(destination, leg.dst, words);
  return off;
}

uint32_t RewriteIpv4(const hg_leg& leg, uint8_t ttl, uint8_t* ip) {
  const uint32_t addresses = RewriteAddresses(leg, ip + offsetof(iphdr, saddr), ip + offsetof(iphdr, daddr), 1);
  uint8_t* const aged = ip + offsetof(iphdr, ttl);
  const std::array<uint8_t, 2> ttl_and_protocol = {ttl, aged[1]};
  uint32_t off = addresses + ReplaceWord(aged, LoadWord(ttl_and_protocol.data()));
  if ((leg.flags & HG_LEG_DSCP) != 0) {
    const std::array<uint8_t, 2> first = {ip[0], static_cast<uint8_t>(leg.dscp << 2 | (ip[1] & 3))};
    off += ReplaceWord(ip, LoadWord(first.data()));
  }
  const uint16_t check = AdjustedChecksum(LoadWord(ip + offsetof(iphdr, check)), off);
  std::memcpy(ip + offsetof(iphdr, check), &check, sizeof(check));
  return addresses;
}

uint32_t RewriteIpv6(const hg_leg& leg, uint8_t ttl, uint8_t* ip) {
  const uint32_t addresses =
      RewriteAddresses(leg, ip + offsetof(ipv6hdr, saddr), ip + offsetof(ipv6hdr, daddr), 4);
  ip[offsetof(ipv6hdr, hop_limit)] = ttl;
  if ((leg.flags & HG_LEG_DSCP) != 0) {
    // Version, the upper six bits of the traffic class, ECN, and the flow label's first bits.
    const auto first = static_cast<uint16_t>((ntohs(LoadWord(ip)) & 0xf03f) | leg.dscp << 6);
    ReplaceWord(ip, htons(first));
  }
  return addresses;
}

// Ports, and the checksum over them and the addresses.
void RewriteUdp(const hg_leg& leg, uint32_t off, uint8_t* udp) {
  if ((leg.flags & HG_LEG_SOURCE_PORT) != 0) off += ReplaceWord(udp + offsetof(udphdr, source), leg.sport);
  if ((leg.flags & HG_LEG_DESTINATION_PORT) != 0) off += ReplaceWord(udp + offsetof(udphdr, dest), leg.dport);
  uint16_t check = LoadWord(udp + offsetof(udphdr, check));
  if (check == 0) return;  // none was sent (RFC 768)
  check = AdjustedChecksum(check, off);
  if (check == 0) check = 0xffff;
  std::memcpy(udp + offsetof(udphdr, check), &check, sizeof(check));
}

}  // namespace

std::optional<LegPacket> ReadLegPacket(const Packet& packet, uint8_t protocol) {
  const Segment& first = packet.segments[0];
  const hg_steer_meta& meta = packet.meta;
  LegPacket read{.l3 = meta.l3, .l4 = meta.l4, .ipv6 = (meta.kind & HG_KIND_IPV6) != 0};
  const uint32_t header = read.ipv6 ? sizeof(ipv6hdr) : sizeof(iphdr);
  if (!read.ipv6 && (meta.kind & HG_KIND_IPV4) == 0) return std::nullopt;
  if (read.l3 < ETH_HLEN || read.l3 + header > first.length) return std::nullopt;
  const uint8_t* const ip = first.data + read.l3;
  if (read.ipv6) {
    read.ttl = ip[offsetof(ipv6hdr, hop_limit)];
    read.length = sizeof(ipv6hdr) + ntohs(LoadWord(ip + offsetof(ipv6hdr, payload_len)));
  } else {
    read.ttl = ip[offsetof(iphdr, ttl)];
    read.length = ntohs(LoadWord(ip + offsetof(iphdr, tot_len)));
  }
  if (read.length < header || read.length > packet.length - read.l3) return std::nullopt;
  read.headers = read.l3 + (read.ipv6 ? header : (ip[0] & 0xfU) * 4);
  if (read.headers > first.length) return std::nullopt;
  if ((meta.kind & HG_KIND_PORTS) == 0) return read;
  if (read.l4 < read.l3 + header || read.l4 + sizeof(udphdr) > first.length) return std::nullopt;
  read.has_udp = protocol == IPPROTO_UDP || protocol == IPPROTO_UDPLITE;
  if (read.has_udp) read.headers = read.l4 + sizeof(udphdr);
  return read;
}

uint8_t LegTtl(const hg_leg& leg, uint8_t ttl) {
  if ((leg.flags & HG_LEG_TTL) != 0) return leg.ttl;
  if (ttl != 0) --ttl;
  return ttl < leg.ttl_threshold ? uint8_t{0} : ttl;
}

bool IsListened(const hg_leg& leg, const LegPacket& packet, const uint8_t* network,
                const ListenerTable& listeners) {
  ListenerTable::Address group{}, source{};
  const size_t bytes = packet.ipv6 ? sizeof(in6_addr) : sizeof(in_addr);
  const bool readdressed = (leg.flags & HG_LEG_DESTINATION) != 0, resourced = (leg.flags & HG_LEG_SOURCE) != 0;
  const size_t from = packet.ipv6 ? offsetof(ipv6hdr, saddr) : offsetof(iphdr, saddr);
  const size_t to = packet.ipv6 ? offsetof(ipv6hdr, daddr) : offsetof(iphdr, daddr);
  std::memcpy(group.data(), readdressed ? static_cast<const void*>(leg.dst) : network + to, bytes);
  // An egress device without an address has none to be asked for.
  if ((leg.flags & HG_LEG_SOURCE_EGRESS) == 0) {
    std::memcpy(source.data(), resourced ? static_cast<const void*>(leg.src) : network + from, bytes);
  }
  return listeners.Wants(leg.port, group, source);
}

uint32_t LegEthernetLength(const hg_leg& leg, uint32_t l3) {
  const bool tagged = l3 > ETH_HLEN;
  if (leg.vlan_mode == HG_NEXT_HOP_VLAN_SET && !tagged) return l3 + kTag;
  if (leg.vlan_mode == HG_NEXT_HOP_VLAN_STRIP && tagged) return l3 - kTag;
  return l3;
}

void WriteLegEthernet(const PlannedLeg& leg, const uint8_t* from, uint32_t l3, uint8_t* to) {
  const uint32_t length = LegEthernetLength(leg.leg, l3);
  std::array<uint8_t, ETH_ALEN> destination;
  std::copy_n((leg.leg.flags & HG_LEG_DESTINATION) != 0 ? leg.leg.dmac : from, ETH_ALEN, destination.begin());
  // What stays of the tags, and the EtherType, end where the network header begins.
  const uint32_t kept = std::min(length, l3) - kAddresses;
  std::memmove(to + length - kept, from + l3 - kept, kept);
  std::copy(destination.begin(), destination.end(), to);
  std::copy_n(leg.source_mac, ETH_ALEN, to + ETH_ALEN);
  if (leg.leg.vlan_mode != HG_NEXT_HOP_VLAN_SET) return;
  uint8_t* const tag = to + kAddresses;
  // Of a tag that was there priority and drop eligibility stay.
  const uint16_t kept_bits = length == l3 ? ntohs(LoadWord(tag + 2)) & ~kVidMask : 0;
  if (length != l3) {
    const uint16_t type = htons(ETH_P_8021Q);
    std::memcpy(tag, &type, sizeof(type));
  }
  const uint16_t tci = htons(static_cast<uint16_t>(kept_bits | leg.leg.vlan));
  std::memcpy(tag + 2, &tci, sizeof(tci));
}

void RewriteLeg(const hg_leg& leg, const LegPacket& packet, uint8_t ttl, uint8_t* network) {
  const uint32_t off = packet.ipv6 ? RewriteIpv6(leg, ttl, network) : RewriteIpv4(leg, ttl, network);
  if (packet.has_udp) RewriteUdp(leg, off, network + (packet.l4 - packet.l3));
}

}  // namespace headgate
