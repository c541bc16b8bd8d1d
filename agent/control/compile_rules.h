// SPDX-License-Identifier: Apache-2.0
//
// Rules, the management allow-list and what finds multicast routes, in the tables: their trees, the records in
// them, and what records refer to.
#pragma once

#include <absl/types/span.h>

#include <vector>

#include "agent/control/arena.h"
#include "agent/control/compile_forward.h"
#include "agent/control/rule_entry.h"
#include "agent/control/rule_roots.h"
#include "agent/control/state.h"
#include "agent/control/tree.h"
#include "bpf/hg_abi.h"

namespace headgate {

class RuleTable : public RecordSource<hg_rule, HG_WORDS_USED> {
 public:
  RuleTable(TreeStore& store, ActionTable& actions)
      : actions_(actions), tree_(store, rules, *this), roots_(store) {}

  // Brings the table from `before` to `after`; `before` is what the last call left.
  void Apply(const State& before, const State& after);
  // Brings an adopted table to `state`, whatever it held. Returns how many ids differed: rules, mostly.
  uint64_t Reconcile(const State& state);
  // Takes over the trees that a root record read back from the kernel names, whose cells are loaded. Rules have
  // ids below `ids`.
  bool Adopt(const hg_root& root, uint32_t ids);

  const RuleRoots& roots() const { return roots_; }
  // Of all trees together: sums and maxima.
  TreeShape Shape() const;
  bool asks_source_sets() const { return source_set_entries_ != 0; }
  bool asks_destination_sets() const { return destination_set_entries_ != 0; }

  RuleEntry EntryOf(const hg_rule& rule) const;
  Ternary<HG_WORDS_USED> KeyOf(const hg_rule& rule) const override { return headgate::KeyOf(EntryOf(rule)); }
  uint32_t PriorityOf(const hg_rule& rule) const override { return rule.prio; }

  Arena<hg_rule, HG_RULES_PER_PAGE> rules;
  Arena<hg_match, HG_MATCHES_PER_PAGE> matches;

 private:
  // The record of an entry that goes into its tree, with what it refers to; and what it refers to given back.
  hg_rule Acquire(const RuleEntry& entry, const hg_action& action);
  void Release(const hg_rule& rule);
  void Count(const RuleEntry& entry, int sign);

  void ForEachRecord(absl::FunctionRef<void(const hg_rule&)> visit) const;
  void Add(absl::Span<const RuleEntry> entries, const hg_action& action);
  void Remove(absl::Span<const RuleEntry> entries);
  void RemoveRecord(const hg_rule& record);
  void Rebuild(const State& state);
  bool Holds(absl::Span<const hg_rule> held, absl::Span<const RuleEntry> entries, const hg_action& action) const;

  ActionTable& actions_;
  RuleTree tree_;
  RuleRoots roots_;
  uint32_t entries_ = 0;
  uint32_t source_set_entries_ = 0;
  uint32_t destination_set_entries_ = 0;
};

}  // namespace headgate
