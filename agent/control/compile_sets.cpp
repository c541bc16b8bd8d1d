// SPDX-License-Identifier: Apache-2.0
#include "agent/control/compile_sets.h"

#include <absl/container/flat_hash_set.h>

#include <algorithm>

namespace headgate {
namespace {

// Above this share of changed prefixes new trees are cheaper than so many small changes.
constexpr uint64_t kRebuildShare = 4;

hg_prefix CompilePrefix(const Prefix& prefix, uint32_t set) {
  hg_prefix cell{};
  std::copy(prefix.address.words.begin(), prefix.address.words.end(), cell.addr);
  cell.set = set;
  cell.length = prefix.length;
  return cell;
}

Ternary<4> KeyOf(const hg_prefix& cell) {
  Ternary<4> key;
  for (int i = 0; i < 4; ++i) {
    key.mask[i] = WordMask(static_cast<int>(cell.length), i);
    key.value[i] = cell.addr[i];
  }
  return key;
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

Ternary<4> PrefixTable::Key(uint32_t entry) const { return KeyOf(cells[entry]); }

uint32_t PrefixTable::Find(const Prefix& prefix, uint32_t set) const {
  const hg_prefix wanted = CompilePrefix(prefix, set);
  return tree_.Find(roots_[TreeOf(prefix.address.family)], KeyOf(wanted),
                    [&](uint32_t entry) { return Same(cells[entry], wanted); });
}

uint32_t PrefixTable::Write(const Prefix& prefix, uint32_t set) {
  const uint32_t entry = cells.Allocate(0);
  cells.Write(entry) = CompilePrefix(prefix, set);
  return entry;
}

void PrefixTable::Rebuild(const State& state) {
  for (uint32_t& root : roots_) {
    tree_.ForEachEntry(root, [this](uint32_t entry) { cells.Release(entry, 0); });
    tree_.Free(root);
    root = 0;
  }
  for (const Family family : {Family::kIpv4, Family::kIpv6}) {
    std::vector<uint32_t> entries;
    state.prefix_sets.ForEach([&](const std::shared_ptr<const PrefixSet>& set) {
      set->prefixes.ForEach([&](const Prefix& prefix) {
        if (prefix.address.family == family) entries.push_back(Write(prefix, set->id));
      });
    });
    roots_[TreeOf(family)] = tree_.Build(entries);
  }
}

void PrefixTable::Apply(const State& before, const State& after) {
  uint64_t changes = 0;
  ForEachPrefixDifference(before, after, [&](const Prefix&, uint32_t, bool) { ++changes; });
  if (changes == 0) return;
  if (changes > 64 && changes * kRebuildShare > after.prefix_count) {
    Rebuild(after);
    return;
  }
  ForEachPrefixDifference(before, after, [&](const Prefix& prefix, uint32_t set, bool added) {
    uint32_t& root = roots_[TreeOf(prefix.address.family)];
    if (added) {
      root = tree_.Insert(root, Write(prefix, set));
      return;
    }
    const uint32_t entry = Find(prefix, set);
    root = tree_.Erase(root, entry);
    cells.Release(entry, 0);
  });
}

uint64_t PrefixTable::Reconcile(const State& state) {
  uint64_t missing = 0, present = 0, held = 0;
  state.prefix_sets.ForEach([&](const std::shared_ptr<const PrefixSet>& set) {
    set->prefixes.ForEach([&](const Prefix& prefix) { ++(Find(prefix, set->id) != 0 ? present : missing); });
  });
  for (const uint32_t root : roots_) tree_.ForEachEntry(root, [&](uint32_t) { ++held; });
  if (missing == 0 && held == present) return 0;
  Rebuild(state);
  return missing + (held - present);
}

bool PrefixTable::Adopt(uint32_t root4, uint32_t root6) {
  roots_ = {root4, root6};
  for (const uint32_t root : roots_) {
    const uint32_t bits = root == root4 ? 32 : 128;
    if (!tree_.Adopt(root, [&](uint32_t entry) {
          if (entry == 0 || entry >= cells.size() || !cells.CanClaim(entry, 0)) return false;
          if (cells[entry].length > bits || cells[entry].set >= HG_SETS) return false;
          cells.Claim(entry, 0);
          return true;
        })) {
      return false;
    }
  }
  return true;
}

}  // namespace headgate
