// SPDX-License-Identifier: Apache-2.0
//
// The trees that rules are in, and where packets find them: one for each prefix set that rules name as source, one
// for each that they name as destination, and the main one for all others (ADR 2); and the one of multicast
// routes, whose entries are rules to it.
#pragma once

#include <absl/functional/function_ref.h>

#include <cstdint>

#include "agent/control/rule_entry.h"
#include "agent/control/tree.h"
#include "bpf/hg_abi.h"

namespace headgate {

// Trees are told by numbers: 0 is the main one, then those of source sets, those of destination sets, multicast's.
class RuleRoots {
 public:
  static constexpr uint32_t kMain = 0, kMulticast = 1 + 2 * HG_SETS, kTrees = kMulticast + 1;
  static constexpr uint32_t OfSourceSet(uint32_t set) { return 1 + set; }
  static constexpr uint32_t OfDestinationSet(uint32_t set) { return 1 + HG_SETS + set; }
  // The tree that an entry belongs to; from kTrees on when it is garbage.
  static uint32_t TreeOf(const RuleEntry& entry);

  explicit RuleRoots(TreeStore& store) : store_(store) {}

  hg_slot Get(uint32_t tree) const;
  void Put(uint32_t tree, const hg_slot& root);
  void ForEach(absl::FunctionRef<void(uint32_t tree, const hg_slot& root)> visit) const;

  // What hg_root says of them.
  uint32_t main() const { return main_.ref; }
  uint32_t multicast() const { return multicast_.ref; }
  uint32_t source_slots() const { return source_.base; }
  uint32_t destination_slots() const { return destination_.base; }

  // Takes over roots read back from the kernel, not what is below them. False when they are none this class wrote.
  bool Adopt(const hg_slot& main, const hg_slot& multicast, uint32_t source_slots, uint32_t destination_slots);

 private:
  // Slots by set.
  struct Run {
    uint32_t base = 0;   // 0: no set has a tree
    uint32_t trees = 0;  // that are not empty
  };
  const Run& RunOf(uint32_t tree) const { return tree <= HG_SETS ? source_ : destination_; }
  static uint32_t SetOf(uint32_t tree) { return (tree - 1) % HG_SETS; }
  bool AdoptRun(uint32_t base, Run& run);

  TreeStore& store_;
  hg_slot main_{}, multicast_{};
  Run source_, destination_;
};

}  // namespace headgate
