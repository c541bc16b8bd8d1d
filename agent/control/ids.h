// SPDX-License-Identifier: Apache-2.0
//
// Ids of objects: small numbers that index the kernel's tables. An object keeps its id for life, over restarts
// too. An id becomes free again only when the data path has let go of it and its counters are cleared: the
// controller sees to that.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>

#include "agent/control/model.h"

namespace headgate {

class IdAllocator {
 public:
  // Ids from `first` to `last`, both included.
  IdAllocator(uint32_t first, uint32_t last) : first_(first), last_(last), next_(first) {}

  // Nothing when none is free.
  std::optional<uint32_t> Take();
  // Takes the id that a stored object brings along; in rising order. False when it is out of range or taken.
  bool Claim(uint32_t id);
  void Free(uint32_t id) { free_.push_back(id); }

  uint32_t capacity() const { return last_ - first_ + 1; }
  // How many Take() could still give now.
  uint32_t available() const { return static_cast<uint32_t>(free_.size()) + (last_ - next_ + 1); }

 private:
  uint32_t first_, last_;
  uint32_t next_;  // never given so far from here on
  std::deque<uint32_t> free_;
};

struct IdAllocators {
  explicit IdAllocators(uint32_t max_rules);
  IdAllocator& of(Kind kind);

  IdAllocator interfaces, prefix_sets, next_hops, steer_targets, counters, rules, multicast_routes, multicast_legs,
      multicast_feeds;
};

}  // namespace headgate
