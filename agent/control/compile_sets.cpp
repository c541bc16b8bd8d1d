// SPDX-License-Identifier: Apache-2.0
#include "agent/control/compile_sets.h"

#include <absl/container/flat_hash_set.h>

#include <algorithm>

namespace headgate {
namespace {

hg_prefix CompilePrefix(const Prefix& prefix, uint32_t set) {
  hg_prefix cell{};
  std::copy(prefix.address.words.begin(), prefix.address.words.end(), cell.addr);
  cell.set = set;
  cell.length = prefix.length;
  return cell;
}

bool Same(const hg_prefix& a, const hg_prefix& b) {
  return std::equal(a.addr, a.addr + 4, b.addr) && a.set == b.set && a.length == b.length;
}

// Calls visit(prefix, set id, added) for every prefix that differs between the states.
template <typename Visit>
void ForEachPrefixDifference(const State& before, const State& after, Visit&& visit) {
  Table<PrefixSet>::ForEachDifference(
      before.prefix_sets, after.prefix_sets, [&](const auto* old, const auto* now) {
        if (old && now && (*old)->id == (*now)->id) {
          PrefixMap::ForEachDifference((*old)->prefixes, (*now)->prefixes,
                                       [&](const Prefix* gone, const Prefix* come) {
                                         visit(come ? *come : *gone, (*now)->id, come != nullptr);
                                       });
          return;
        }
        if (old) (*old)->prefixes.ForEach([&](const Prefix& prefix) { visit(prefix, (*old)->id, false); });
        if (now) (*now)->prefixes.ForEach([&](const Prefix& prefix) { visit(prefix, (*now)->id, true); });
      });
}

}  // namespace

Ternary<4> PrefixTable::KeyOf(const hg_prefix& prefix) const {
  Ternary<4> key;
  for (int i = 0; i < 4; ++i) {
    key.mask[i] = WordMask(static_cast<int>(prefix.length), i);
    key.value[i] = prefix.addr[i];
  }
  return key;
}

bool PrefixTable::Holds(const Prefix& prefix, uint32_t set) const {
  const hg_prefix wanted = CompilePrefix(prefix, set);
  return tree_.Find(roots_[TreeOf(prefix.address.family)].ref, KeyOf(wanted),
                    [&](const hg_prefix& held) { return Same(held, wanted); }) != nullptr;
}

void PrefixTable::Rebuild(const State& state) {
  for (const Family family : {Family::kIpv4, Family::kIpv6}) {
    std::vector<hg_prefix> all;
    state.prefix_sets.ForEach([&](const std::shared_ptr<const PrefixSet>& set) {
      set->prefixes.ForEach([&](const Prefix& prefix) {
        if (prefix.address.family == family) all.push_back(CompilePrefix(prefix, set->id));
      });
    });
    hg_slot& root = roots_[TreeOf(family)];
    tree_.Free(root.ref);
    root = tree_.Build(all);
  }
}

void PrefixTable::Apply(const State& before, const State& after) {
  uint64_t changes = 0;
  ForEachPrefixDifference(before, after, [&](const Prefix&, uint32_t, bool) { ++changes; });
  if (changes == 0) return;
  if (RebuildPays(changes, after.prefix_count)) {
    Rebuild(after);
    return;
  }
  ForEachPrefixDifference(before, after, [&](const Prefix& prefix, uint32_t set, bool added) {
    hg_slot& root = roots_[TreeOf(prefix.address.family)];
    const hg_prefix cell = CompilePrefix(prefix, set);
    root = added ? tree_.Insert(root, cell)
                 : tree_.Erase(root, KeyOf(cell), PriorityOf(cell),
                               [&](const hg_prefix& held) { return Same(held, cell); });
  });
}

uint64_t PrefixTable::Reconcile(const State& state) {
  uint64_t missing = 0, present = 0, held = 0;
  state.prefix_sets.ForEach([&](const std::shared_ptr<const PrefixSet>& set) {
    set->prefixes.ForEach([&](const Prefix& prefix) { ++(Holds(prefix, set->id) ? present : missing); });
  });
  for (const hg_slot& root : roots_) tree_.ForEach(root.ref, [&](const hg_prefix&) { ++held; });
  if (missing == 0 && held == present) return 0;
  Rebuild(state);
  return missing + (held - present);
}

bool PrefixTable::Adopt(uint32_t root4, uint32_t root6) {
  roots_ = {tree_.RootOf(root4), tree_.RootOf(root6)};
  const auto adopt = [this](const hg_slot& root, uint32_t bits) {
    return tree_.Adopt(root,
                       [bits](const hg_prefix& prefix) { return prefix.length <= bits && prefix.set < HG_SETS; });
  };
  return adopt(roots_[0], 32) && adopt(roots_[1], 128);
}

}  // namespace headgate
