// SPDX-License-Identifier: Apache-2.0
//
// Ids of objects: small numbers that index the kernel's tables. An object keeps its id for life, over restarts
// too. A freed id rests until the data path has let go of it and its counters are cleared.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "agent/control/model.h"

namespace headgate {

class IdAllocator {
 public:
  // Ids from `first` to `last`, both included.
  IdAllocator(uint32_t first, uint32_t last) : first_(first), last_(last), next_(first) {}

  // Nothing when all are taken or resting.
  std::optional<uint32_t> Take();
  // Marks an id as taken that a stored object brings along.
  void Claim(uint32_t id);
  // The id's object is gone; it becomes free with the next Recycle().
  void Retire(uint32_t id) { resting_.push_back(id); }
  // No packet can still use the retired ids: returns them for their counters to be cleared, and frees them.
  std::vector<uint32_t> Recycle();

  uint32_t capacity() const { return last_ - first_ + 1; }
  // How many Take() could still give now.
  uint32_t available() const { return static_cast<uint32_t>(free_.size()) + (last_ - next_ + 1); }

 private:
  uint32_t first_, last_;
  uint32_t next_;  // never given so far from here on
  std::deque<uint32_t> free_;
  std::vector<uint32_t> resting_;
};

struct IdAllocators {
  explicit IdAllocators(uint32_t max_rules);
  IdAllocator& of(Kind kind);

  IdAllocator interfaces, prefix_sets, next_hops, steer_targets, counters, rules;
};

}  // namespace headgate
