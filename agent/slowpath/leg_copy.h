// SPDX-License-Identifier: Apache-2.0
//
// One leg's copy of a multicast packet: its headers, rewritten. Checksums are kept by what changes (RFC 1624), so
// that one that was wrong stays wrong. The same as bpf/leg.bpf.c does to the copies that the kernel makes.
#pragma once

#include <absl/types/span.h>

#include <cstdint>
#include <optional>

#include "agent/slowpath/handler.h"
#include "agent/slowpath/multicast_plan.h"

namespace headgate {

// Where the headers of a received packet are, all of them in its first segment.
struct LegPacket {
  uint32_t l3 = 0;
  uint32_t l4 = 0;
  bool ipv6 = false;
  bool has_udp = false;  // it has a UDP or UDP-Lite header: it is no later fragment
  uint8_t ttl = 0;
  uint32_t length = 0;   // of the network packet, by its own header: Ethernet's padding is none of it
  uint32_t headers = 0;  // where those end that may be rewritten, and IPv4's options
};

// Nothing for one whose headers the first segment does not hold. `protocol`: its transport protocol.
std::optional<LegPacket> ReadLegPacket(const Packet& packet, uint8_t protocol);

// The TTL its copy leaves with; 0: it does not.
uint8_t LegTtl(const hg_leg& leg, uint8_t ttl);

// Whether somebody at its egress asks for the copy. `network`: the packet's own network header.
bool IsListened(const hg_leg& leg, const LegPacket& packet, const uint8_t* network,
                const ListenerTable& listeners);

// Bytes of the copy's Ethernet header, tags included.
uint32_t LegEthernetLength(const hg_leg& leg, uint32_t l3);

// Writes the copy's Ethernet header to `to`, of the packet's own at `from`; they may overlap. `l3`: the length of
// that.
void WriteLegEthernet(const PlannedLeg& leg, const uint8_t* from, uint32_t l3, uint8_t* to);

// Rewrites the headers of a copy, whose network header is at `network`, and its transport header where it was.
void RewriteLeg(const hg_leg& leg, const LegPacket& packet, uint8_t ttl, uint8_t* network);

}  // namespace headgate
