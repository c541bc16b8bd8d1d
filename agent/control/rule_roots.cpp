// SPDX-License-Identifier: Apache-2.0
#include "agent/control/rule_roots.h"

namespace headgate {
namespace {

// Of the run with a slot for each set.
constexpr unsigned kOrder = HG_WINDOW_BITS;
static_assert(HG_SETS == 1 << kOrder, "a run of slots is as long as there are sets");

}  // namespace

uint32_t RuleRoots::TreeOf(const RuleEntry& entry) {
  if ((entry.id & HG_ID_MROUTE) != 0) return kMulticast;
  // Source sets are usually the larger ones, and fewer packets are in them.
  if (entry.src_set != 0) return entry.src_set <= HG_SETS ? OfSourceSet(entry.src_set - 1) : kTrees;
  return entry.dst_set != 0 ? OfDestinationSet(entry.dst_set - 1) : kMain;
}

hg_slot RuleRoots::Get(uint32_t tree) const {
  if (tree == kMain) return main_;
  if (tree == kMulticast) return multicast_;
  const Run& run = RunOf(tree);
  return run.base != 0 ? store_.slots[run.base + SetOf(tree)] : hg_slot{};
}

void RuleRoots::Put(uint32_t tree, const hg_slot& root) {
  if (tree == kMain || tree == kMulticast) {
    (tree == kMain ? main_ : multicast_) = root;
    return;
  }
  const hg_slot before = Get(tree);
  if (before.ref == root.ref && before.prio == root.prio) return;
  Run& run = tree <= HG_SETS ? source_ : destination_;
  run.base = run.base != 0 ? store_.OwnSlots(run.base, kOrder) : store_.slots.Allocate(kOrder);
  store_.slots.Write(run.base + SetOf(tree)) = root;
  run.trees += (root.ref != 0 ? 1 : 0) - (before.ref != 0 ? 1 : 0);
  if (run.trees == 0) {
    store_.slots.Release(run.base, kOrder);
    run.base = 0;
  }
}

void RuleRoots::ForEach(absl::FunctionRef<void(uint32_t tree, const hg_slot& root)> visit) const {
  for (uint32_t tree = 0; tree < kTrees; ++tree) {
    if (const hg_slot root = Get(tree); root.ref != 0) visit(tree, root);
  }
}

bool RuleRoots::AdoptRun(uint32_t base, Run& run) {
  if (base == 0) return true;
  if (base >= store_.slots.size() || HG_SETS > store_.slots.size() - base ||
      !store_.slots.CanClaim(base, kOrder)) {
    return false;
  }
  store_.slots.Claim(base, kOrder);
  run = {base, 0};
  for (uint32_t set = 0; set < HG_SETS; ++set) {
    const hg_slot& slot = store_.slots[base + set];
    if (slot.ref != 0) ++run.trees;
    if (slot.ref == 0 && slot.prio != 0) return false;
  }
  return run.trees != 0;
}

bool RuleRoots::Adopt(const hg_slot& main, const hg_slot& multicast, uint32_t source_slots,
                      uint32_t destination_slots) {
  main_ = main;
  multicast_ = multicast;
  return AdoptRun(source_slots, source_) && AdoptRun(destination_slots, destination_);
}

}  // namespace headgate
