// SPDX-License-Identifier: Apache-2.0
//
// Prefix sets, from model to prefix entries and the two trees (IPv4, IPv6) that hold those of all sets.
#pragma once

#include <array>
#include <vector>

#include "agent/control/arena.h"
#include "agent/control/state.h"
#include "agent/control/tree.h"
#include "bpf/hg_abi.h"

namespace headgate {

class PrefixTable : public RecordSource<hg_prefix, 4> {
 public:
  explicit PrefixTable(TreeStore& store) : tree_(store, prefixes, *this) {}

  // Brings the table from `before` to `after`; `before` is what the last call left.
  void Apply(const State& before, const State& after);
  // Brings an adopted table to `state`. Returns how many prefixes differed.
  uint64_t Reconcile(const State& state);
  bool Adopt(uint32_t root4, uint32_t root6);

  uint32_t root4() const { return roots_[0].ref; }
  uint32_t root6() const { return roots_[1].ref; }

  Ternary<4> KeyOf(const hg_prefix& prefix) const override;
  // All the same: membership is the union of all matches.
  uint32_t PriorityOf(const hg_prefix&) const override { return 1; }

  Arena<hg_prefix, HG_PREFIXES_PER_PAGE> prefixes;

 private:
  static size_t TreeOf(Family family) { return family == Family::kIpv4 ? 0 : 1; }
  bool Holds(const Prefix& prefix, uint32_t set) const;
  void Rebuild(const State& state);

  PrefixTree tree_;
  std::array<hg_slot, 2> roots_{};
};

}  // namespace headgate
