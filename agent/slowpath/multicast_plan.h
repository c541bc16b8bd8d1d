// SPDX-License-Identifier: Apache-2.0
//
// What workers are to do with the packets of multicast routes: the legs of each, with all that the environment
// says of them at the moment. Immutable: who wants another plan gives workers another.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "agent/slowpath/listener_table.h"
#include "bpf/hg_abi.h"

namespace headgate {

enum class LegTrouble : uint8_t {
  kNone,
  kNoDevice,     // its egress interface has none, or none is known
  kNoSource,     // it is to leave with the address of a device that has none
  kNoNeighbour,  // its unicast next hop is not resolved
};

struct PlannedLeg {
  uint32_t id = 0;  // of its counters and its rate limit
  LegTrouble trouble = LegTrouble::kNone;
  // As the data path has it; but the source address is always given, never taken from the egress port.
  hg_leg leg{};
  uint8_t source_mac[6] = {};
  uint32_t mtu = 0;      // largest network packet
  uint32_t ifindex = 0;  // of the egress device

  friend bool operator==(const PlannedLeg& a, const PlannedLeg& b) {
    return a.id == b.id && a.trouble == b.trouble && a.mtu == b.mtu && a.ifindex == b.ifindex &&
           std::memcmp(&a.leg, &b.leg, sizeof(a.leg)) == 0 &&
           std::memcmp(a.source_mac, b.source_mac, sizeof(a.source_mac)) == 0;
  }
};

// Legs that leave by one device and lie together: the kernel can make their copies at once (Copier).
struct LegBundle {
  uint32_t first = 0, count = 0;  // of the route's legs
  uint32_t ifindex = 0;
  uint32_t id = 0;                   // in the data path
  std::shared_ptr<const void> hold;  // as long as there is one, the id is this bundle's
  friend bool operator==(const LegBundle&, const LegBundle&) = default;
};

struct PlannedRoute {
  uint8_t protocol = 0;  // of all its packets
  std::vector<PlannedLeg> legs;
  std::vector<LegBundle> bundles;  // in the order of their legs
  friend bool operator==(const PlannedRoute&, const PlannedRoute&) = default;
};

struct MulticastPlan {
  std::vector<PlannedRoute> routes;                // by id; those without legs are none
  std::shared_ptr<const ListenerTable> listeners;  // of legs on_join; null: nobody listens
  friend bool operator==(const MulticastPlan&, const MulticastPlan&) = default;
};

}  // namespace headgate
