// SPDX-License-Identifier: Apache-2.0
//
// Rules and the management allow-list, from model to match entries and their tree.
#pragma once

#include <absl/types/span.h>

#include <vector>

#include "agent/control/arena.h"
#include "agent/control/compile_forward.h"
#include "agent/control/state.h"
#include "agent/control/tree.h"
#include "bpf/hg_abi.h"

namespace headgate {

// The entries of a rule: one for each pair of its port ranges. Their action index is left 0.
std::vector<hg_rule> CompileRule(const Rule& rule, const State& state);
std::vector<hg_rule> CompileManagement(const ManagementAllow& allow, const State& state);

class RuleTable : public EntrySource<HG_WORDS_USED> {
 public:
  RuleTable(TreeStore& store, ActionTable& actions) : actions_(actions), tree_(store, *this) {}

  // Brings the table from `before` to `after`; `before` is what the last call left.
  void Apply(const State& before, const State& after);
  // Brings an adopted table to `state`, whatever it held. Returns how many rules differed.
  uint64_t Reconcile(const State& state);
  // Takes over a tree read back from the kernel, whose cells are loaded. Rules have ids below `ids`.
  bool Adopt(uint32_t root, uint32_t ids);

  uint32_t root() const { return root_; }
  TreeShape Shape() const { return tree_.Shape(root_); }
  bool asks_source_sets() const { return source_set_entries_ != 0; }
  bool asks_destination_sets() const { return destination_set_entries_ != 0; }

  Ternary<HG_WORDS_USED> Key(uint32_t entry) const override;
  uint32_t Priority(uint32_t entry) const override { return cells[entry].prio; }

  Arena<hg_rule, 1> cells;

 private:
  // Entries by owner: a rule's id, or 0 for the management list.
  void Add(uint32_t owner, hg_rule entry);
  void RemoveAll(uint32_t owner);
  void SetRule(const Rule& rule, const State& state);
  void SetManagement(const State& state);
  bool Matches(uint32_t owner, absl::Span<const hg_rule> entries) const;
  void Link(uint32_t owner, uint32_t entry);
  // Carries out what Add and RemoveAll noted, one by one or by a new tree.
  void UpdateTree();

  ActionTable& actions_;
  RuleTree tree_;
  uint32_t root_ = 0;
  uint32_t entries_ = 0;
  uint32_t source_set_entries_ = 0;
  uint32_t destination_set_entries_ = 0;
  std::vector<uint32_t> first_;  // by owner: its first entry, 0 for none
  std::vector<uint32_t> next_;   // by entry: the owner's next
  std::vector<uint32_t> added_;
  std::vector<uint32_t> removed_;
};

}  // namespace headgate
