// SPDX-License-Identifier: Apache-2.0
#include "agent/control/compile_rules.h"

#include <absl/container/flat_hash_set.h>

#include <algorithm>
#include <cstring>

#include "agent/control/compile_multicast.h"

namespace headgate {
namespace {

hg_action ManagementAction() {
  hg_action pass{};
  pass.verdict = HG_VERDICT_PASS;
  return pass;
}

std::vector<RuleEntry> CompileAllManagement(const State& state) {
  std::vector<RuleEntry> entries;
  for (const ManagementAllow& allow : state.settings->management) {
    for (const RuleEntry& entry : CompileManagement(allow, state)) entries.push_back(entry);
  }
  return entries;
}

size_t CountChanges(const State& before, const State& after) {
  size_t changes = 0;
  Table<Rule>::ForEachDifference(before.rules, after.rules, [&](const auto*, const auto*) { ++changes; });
  Table<MulticastRoute>::ForEachDifference(before.multicast_routes, after.multicast_routes,
                                           [&](const auto*, const auto*) { ++changes; });
  return changes;
}

}  // namespace

RuleEntry RuleTable::EntryOf(const hg_rule& rule) const {
  return Unpack(rule, (rule.flags & HG_RULE_MATCH) != 0 ? &matches[rule.src] : nullptr);
}

void RuleTable::Count(const RuleEntry& entry, int sign) {
  const auto add = static_cast<uint32_t>(sign);
  entries_ += add;
  if (entry.src_set != 0) source_set_entries_ += add;
  if (entry.dst_set != 0) destination_set_entries_ += add;
}

hg_rule RuleTable::Acquire(const RuleEntry& entry, const hg_action& action) {
  uint32_t index = 0;
  if (const std::optional<hg_match> match = MatchOf(entry)) {
    index = matches.Allocate(0);
    matches.Write(index) = *match;
  }
  hg_rule rule = Pack(entry, index);
  rule.action = actions_.Acquire(action);
  Count(entry, 1);
  return rule;
}

void RuleTable::Release(const hg_rule& rule) {
  Count(EntryOf(rule), -1);
  actions_.Release(rule.action);
  if ((rule.flags & HG_RULE_MATCH) != 0) matches.Release(rule.src, 0);
}

void RuleTable::Add(absl::Span<const RuleEntry> entries, const hg_action& action) {
  for (const RuleEntry& entry : entries) {
    const uint32_t tree = RuleRoots::TreeOf(entry);
    roots_.Put(tree, tree_.Insert(roots_.Get(tree), Acquire(entry, action)));
  }
}

void RuleTable::Remove(absl::Span<const RuleEntry> entries) {
  for (const RuleEntry& entry : entries) {
    hg_rule gone{};
    const uint32_t tree = RuleRoots::TreeOf(entry);
    const auto is_it = [&](const hg_rule& rule) {
      if (rule.id != entry.id || EntryOf(rule) != entry) return false;
      gone = rule;
      return true;
    };
    roots_.Put(tree, tree_.Erase(roots_.Get(tree), headgate::KeyOf(entry), entry.prio, is_it));
    Release(gone);
  }
}

void RuleTable::RemoveRecord(const hg_rule& record) {
  const RuleEntry entry = EntryOf(record);
  const uint32_t tree = RuleRoots::TreeOf(entry);
  const auto is_it = [&](const hg_rule& rule) { return std::memcmp(&rule, &record, sizeof(rule)) == 0; };
  roots_.Put(tree, tree_.Erase(roots_.Get(tree), headgate::KeyOf(entry), entry.prio, is_it));
  Release(record);
}

void RuleTable::ForEachRecord(absl::FunctionRef<void(const hg_rule&)> visit) const {
  roots_.ForEach([&](uint32_t, const hg_slot& root) { tree_.ForEach(root.ref, visit); });
}

TreeShape RuleTable::Shape() const {
  TreeShape all;
  roots_.ForEach([&](uint32_t, const hg_slot& root) {
    const TreeShape one = tree_.Shape(root.ref);
    all.records += one.records;
    all.depth = std::max(all.depth, one.depth);
    all.longest_walk = std::max(all.longest_walk, one.longest_walk);
    all.largest_leaf = std::max(all.largest_leaf, one.largest_leaf);
  });
  return all;
}

void RuleTable::Rebuild(const State& state) {
  ForEachRecord([this](const hg_rule& rule) { Release(rule); });
  for (uint32_t tree = 0; tree < RuleRoots::kTrees; ++tree) {
    tree_.Free(roots_.Get(tree).ref);
    roots_.Put(tree, {});
  }
  std::array<std::vector<hg_rule>, RuleRoots::kTrees> records;
  records[RuleRoots::kMain].reserve(state.entry_count);
  const auto add = [&](absl::Span<const RuleEntry> entries, const hg_action& action) {
    for (const RuleEntry& entry : entries) records[RuleRoots::TreeOf(entry)].push_back(Acquire(entry, action));
  };
  add(CompileAllManagement(state), ManagementAction());
  state.rules.ForEach([&](const std::shared_ptr<const Rule>& rule) {
    add(CompileRule(*rule, state), CompileAction(*rule->action, state));
  });
  state.multicast_routes.ForEach([&](const std::shared_ptr<const MulticastRoute>& route) {
    add(CompileMulticastEntries(*route, state), MulticastAction());
  });
  for (uint32_t tree = 0; tree < RuleRoots::kTrees; ++tree) roots_.Put(tree, tree_.Build(records[tree]));
}

void RuleTable::Apply(const State& before, const State& after) {
  const size_t changes = CountChanges(before, after);
  if (RebuildPays(changes, after.rules.size() + after.multicast_routes.size())) {
    Rebuild(after);
    return;
  }
  // Not by value: an interface it names may have come back with another id.
  if (before.settings != after.settings) {
    Remove(CompileAllManagement(before));
    Add(CompileAllManagement(after), ManagementAction());
  }
  // First all that go: what comes may have their priority.
  Table<Rule>::ForEachDifference(before.rules, after.rules, [&](const auto* old, const auto*) {
    if (old) Remove(CompileRule(**old, before));
  });
  Table<MulticastRoute>::ForEachDifference(before.multicast_routes, after.multicast_routes,
                                           [&](const auto* old, const auto*) {
                                             if (old) Remove(CompileMulticastEntries(**old, before));
                                           });
  Table<Rule>::ForEachDifference(before.rules, after.rules, [&](const auto*, const auto* now) {
    if (now) Add(CompileRule(**now, after), CompileAction(*(*now)->action, after));
  });
  Table<MulticastRoute>::ForEachDifference(before.multicast_routes, after.multicast_routes,
                                           [&](const auto*, const auto* now) {
                                             if (now)
                                               Add(CompileMulticastEntries(**now, after), MulticastAction());
                                           });
}

// Whether what an id has in the table is what it should have.
bool RuleTable::Holds(absl::Span<const hg_rule> held, absl::Span<const RuleEntry> entries,
                      const hg_action& action) const {
  if (held.size() != entries.size()) return false;
  std::vector<bool> seen(entries.size());
  return std::all_of(held.begin(), held.end(), [&](const hg_rule& rule) {
    if (std::memcmp(&actions_.cells[rule.action], &action, sizeof(action)) != 0) return false;
    const RuleEntry entry = EntryOf(rule);
    // A record has only one form: what is said in it and in its hg_match has to agree.
    hg_rule packed = Pack(entry, (rule.flags & HG_RULE_MATCH) != 0 ? rule.src : 0);
    packed.action = rule.action;
    if (std::memcmp(&packed, &rule, sizeof(rule)) != 0) return false;
    size_t i = 0;
    while (i < entries.size() && (seen[i] || entries[i] != entry)) ++i;
    if (i == entries.size()) return false;
    seen[i] = true;
    return true;
  });
}

uint64_t RuleTable::Reconcile(const State& state) {
  std::vector<hg_rule> held;
  held.reserve(entries_);
  ForEachRecord([&held](const hg_rule& rule) { held.push_back(rule); });
  const auto by_id = [](const hg_rule& a, const hg_rule& b) { return a.id < b.id; };
  std::sort(held.begin(), held.end(), by_id);
  std::vector<bool> kept(held.size());
  std::vector<const Rule*> missing;
  std::vector<std::vector<RuleEntry>> missing_routes;  // of one id each
  const auto keep = [&](uint32_t id, absl::Span<const RuleEntry> entries, const hg_action& action) {
    const auto [from, to] = std::equal_range(held.begin(), held.end(), hg_rule{.id = id}, by_id);
    const auto first = static_cast<size_t>(from - held.begin()), count = static_cast<size_t>(to - from);
    if (!Holds(absl::MakeConstSpan(held).subspan(first, count), entries, action)) return false;
    std::fill_n(kept.begin() + static_cast<ptrdiff_t>(first), count, true);
    return true;
  };
  const bool management = keep(0, CompileAllManagement(state), ManagementAction());
  state.rules.ForEach([&](const std::shared_ptr<const Rule>& rule) {
    const hg_action action = CompileAction(*rule->action, state);
    if (!keep(rule->id, CompileRule(*rule, state), action)) missing.push_back(rule.get());
  });

  state.multicast_routes.ForEach([&](const std::shared_ptr<const MulticastRoute>& route) {
    const std::vector<RuleEntry> entries = CompileMulticastEntries(*route, state);
    for (auto from = entries.begin(); from != entries.end();) {
      const auto to = std::find_if(from, entries.end(), [from](const RuleEntry& e) { return e.id != from->id; });
      std::vector<RuleEntry> same(from, to);
      if (!keep(from->id, same, MulticastAction())) missing_routes.push_back(std::move(same));
      from = to;
    }
  });

  // By id: what is to be there and is not, and what is there and is not to be.
  absl::flat_hash_set<uint32_t> different;
  if (!management) different.insert(0);
  for (const Rule* rule : missing) different.insert(rule->id);
  for (const std::vector<RuleEntry>& entries : missing_routes) different.insert(entries[0].id);
  for (size_t i = 0; i < held.size(); ++i) {
    if (!kept[i]) different.insert(held[i].id);
  }
  if (RebuildPays(different.size(), state.rules.size() + state.multicast_routes.size())) {
    Rebuild(state);
    return different.size();
  }
  for (size_t i = 0; i < held.size(); ++i) {
    if (!kept[i]) RemoveRecord(held[i]);
  }
  if (!management) Add(CompileAllManagement(state), ManagementAction());
  for (const Rule* rule : missing) Add(CompileRule(*rule, state), CompileAction(*rule->action, state));
  for (const std::vector<RuleEntry>& entries : missing_routes) Add(entries, MulticastAction());
  return different.size();
}

bool RuleTable::Adopt(const hg_root& root, uint32_t ids) {
  if (!roots_.Adopt(tree_.RootOf(root.rule_tree), tree_.RootOf(root.mroute_tree), root.src_set_slots,
                    root.dst_set_slots)) {
    return false;
  }
  bool sound = true;
  roots_.ForEach([&](uint32_t tree, const hg_slot& top) {
    sound = sound && tree_.Adopt(top, [&](const hg_rule& rule) {
      const bool multicast = (rule.id & HG_ID_MROUTE) != 0;
      if (multicast ? (rule.id & ~(HG_ID_MROUTE | HG_ID_LEFT_OUT)) >= HG_MROUTES : rule.id >= ids) return false;
      if ((rule.flags & HG_RULE_MATCH) != 0) {
        if (rule.src == 0 || rule.src >= matches.size() || !matches.CanClaim(rule.src, 0)) return false;
        matches.Claim(rule.src, 0);
      }
      const RuleEntry entry = EntryOf(rule);
      // Packets look for it in the tree of the set it names.
      if (RuleRoots::TreeOf(entry) != tree || !actions_.Adopt(rule.action)) return false;
      Count(entry, 1);
      return true;
    });
  });
  return sound;
}

}  // namespace headgate
