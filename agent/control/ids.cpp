// SPDX-License-Identifier: Apache-2.0
#include "agent/control/ids.h"

#include <cstdlib>

#include "bpf/hg_abi.h"

namespace headgate {

std::optional<uint32_t> IdAllocator::Take() {
  if (next_ <= last_) return next_++;
  if (free_.empty()) return std::nullopt;
  const uint32_t id = free_.front();
  free_.pop_front();
  return id;
}

bool IdAllocator::Claim(uint32_t id) {
  if (id < next_ || id > last_) return false;
  while (next_ < id) free_.push_back(next_++);
  ++next_;
  return true;
}

IdAllocators::IdAllocators(uint32_t max_rules)
    : interfaces(1, HG_PORTS - 1),
      prefix_sets(0, HG_SETS - 1),
      next_hops(0, HG_NEXT_HOP_PAGES * HG_NEXT_HOPS_PER_PAGE - 1),
      steer_targets(0, HG_TARGET_PAGES * HG_TARGETS_PER_PAGE - 1),
      counters(1, HG_COUNTERS - 1),
      rules(1, max_rules),
      multicast_routes(1, HG_MROUTES - 1),
      multicast_legs(1, HG_LEGS - 1),
      multicast_feeds(1, HG_MROUTES - 1) {}

IdAllocator& IdAllocators::of(Kind kind) {
  switch (kind) {
    case Kind::kInterface:
      return interfaces;
    case Kind::kPrefixSet:
      return prefix_sets;
    case Kind::kNextHop:
      return next_hops;
    case Kind::kSteerTarget:
      return steer_targets;
    case Kind::kCounter:
      return counters;
    case Kind::kRule:
      return rules;
    case Kind::kMulticastRoute:
      return multicast_routes;
    case Kind::kMulticastLeg:
      return multicast_legs;
    case Kind::kMulticastFeed:
      return multicast_feeds;
    case Kind::kSettings:
      break;
  }
  std::abort();  // settings have no id
}

}  // namespace headgate
