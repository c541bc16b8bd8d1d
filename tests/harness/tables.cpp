// SPDX-License-Identifier: Apache-2.0
#include "tests/harness/tables.h"

#include <absl/strings/escaping.h>
#include <absl/strings/str_cat.h>

#include <cstring>
#include <limits>
#include <stdexcept>
#include <vector>

#include "agent/control/compile_forward.h"
#include "agent/control/compile_multicast.h"
#include "agent/control/rule_entry.h"
#include "tests/harness/walk.h"

namespace headgate::testing {
namespace {

constexpr uint32_t kMaxSteps = 1 << 20;

template <typename Value>
Value ReadValue(const Dataplane& dataplane, TableId table, uint32_t index) {
  Value value;
  const absl::Status status = dataplane.Read(table, index, 1, &value);
  if (!status.ok()) throw std::runtime_error(status.ToString());
  return value;
}

// One walk over one tree; `scan` is called for every leaf with the priority to beat, and returns the new one.
// Begins and ends with the priority to beat.
template <typename Scan>
uint32_t WalkTree(const Dataplane& dataplane, const hg_slot& root, const Key& key, unsigned first_word, bool prune,
                  uint32_t best, Scan&& scan) {
  std::vector<hg_slot> pending = {root};
  uint32_t steps = 0;
  while (!pending.empty()) {
    const hg_slot at = pending.back();
    pending.pop_back();
    if (at.ref == 0 || (prune && at.prio <= best)) continue;
    if (++steps > kMaxSteps) throw std::runtime_error("the walk does not end");
    const uint32_t index = at.ref >> HG_REF_SHIFT, count = at.ref & HG_REF_COUNT_MASK;
    if (count != 0) {
      if (count > HG_LEAF_ENTRIES) throw std::runtime_error("a leaf is too long");
      best = scan(index, count, best);
      continue;
    }
    const auto nodes = ReadValue<hg_node_page>(dataplane, TableId::kNodes, index / HG_NODES_PER_PAGE);
    const hg_node& node = nodes.node[index % HG_NODES_PER_PAGE];
    if (pending.size() >= HG_TREE_STACK) throw std::runtime_error("the walk's stack overflows");
    pending.push_back({node.rest_prio, node.rest});
    const uint32_t slot = node.base + (key[first_word + node.word] >> node.shift & ((1U << node.bits) - 1));
    const auto slots = ReadValue<hg_slot_page>(dataplane, TableId::kSlots, slot / HG_SLOTS_PER_PAGE);
    pending.push_back(slots.slot[slot % HG_SLOTS_PER_PAGE]);
  }
  return best;
}

// For a root whose priority is nowhere written.
hg_slot RootOf(uint32_t tree) { return {std::numeric_limits<uint32_t>::max(), tree}; }

std::vector<bool> FindSets(const Dataplane& dataplane, const hg_root& root, const Key& key, unsigned word) {
  std::vector<bool> sets(HG_SETS);
  const bool ipv4 = (key[HG_WORD_PROTO] & HG_KIND_IPV4) != 0;
  const auto scan = [&](uint32_t first, uint32_t count, uint32_t) -> uint32_t {
    const auto page = ReadValue<hg_prefix_page>(dataplane, TableId::kPrefixes, first / HG_PREFIXES_PER_PAGE);
    for (uint32_t i = 0; i < count; ++i) {
      const hg_prefix& prefix = page.prefix[(first + i) % HG_PREFIXES_PER_PAGE];
      bool covers = true;
      for (int k = 0; k < 4; ++k) {
        covers = covers && ((key[word + k] ^ prefix.addr[k]) & WordMask(static_cast<int>(prefix.length), k)) == 0;
      }
      if (covers) sets.at(prefix.set) = true;
    }
    return 0;
  };
  WalkTree(dataplane, RootOf(ipv4 ? root.set_tree4 : root.set_tree6), key, word, false, 0, scan);
  return sets;
}

// The entry in full: what the record refers to is read too.
RuleEntry ReadEntry(const Dataplane& dataplane, const hg_rule& rule) {
  if ((rule.flags & HG_RULE_MATCH) == 0) return Unpack(rule, nullptr);
  const auto page = ReadValue<hg_match_page>(dataplane, TableId::kMatches, rule.src / HG_MATCHES_PER_PAGE);
  return Unpack(rule, &page.match[rule.src % HG_MATCHES_PER_PAGE]);
}

std::string Bytes(const hg_action& action) {
  return " action " + absl::BytesToHexString({reinterpret_cast<const char*>(&action), sizeof(action)});
}

bool InSet(const State& state, const std::string& name, const std::array<uint32_t, 4>& words, Family family) {
  const PrefixSet* set = state.prefix_sets.Get(name);
  bool found = false;
  set->prefixes.ForEach([&](const Prefix& prefix) {
    found = found || Contains(prefix, IpAddress{words, family});
  });
  return found;
}

bool Matches(const Match& match, const Probe& probe, const State& state) {
  const Header& header = probe.header;
  if (!match.interface.empty() && match.interface != probe.interface) return false;
  if (!Matches(match, header)) return false;
  if (!match.source_set.empty() && !InSet(state, match.source_set, header.source, header.family)) return false;
  return match.destination_set.empty() || InSet(state, match.destination_set, header.destination, header.family);
}

}  // namespace

Key KeyOf(const Probe& probe, const State& state) {
  Key key = KeyOf(probe.header);
  const Interface* interface = state.interfaces.Get(probe.interface);
  key[HG_WORD_INGRESS] |= (interface ? interface->id : 0) << 16;
  return key;
}

std::optional<hg_rule> Classify(const Dataplane& dataplane, uint32_t root_index, const Key& key) {
  const auto root = ReadValue<hg_root>(dataplane, TableId::kRoots, root_index);
  std::vector<bool> source_sets(HG_SETS), destination_sets(HG_SETS);
  if ((root.flags & HG_ROOT_SRC_SETS) != 0) source_sets = FindSets(dataplane, root, key, HG_WORD_SRC);
  if ((root.flags & HG_ROOT_DST_SETS) != 0) destination_sets = FindSets(dataplane, root, key, HG_WORD_DST);
  std::optional<hg_rule> found;
  const auto scan = [&](uint32_t first, uint32_t count, uint32_t best) {
    const auto page = ReadValue<hg_rule_page>(dataplane, TableId::kRules, first / HG_RULES_PER_PAGE);
    for (uint32_t i = 0; i < count; ++i) {
      const hg_rule& rule = page.rule[(first + i) % HG_RULES_PER_PAGE];
      if (rule.prio <= best) break;
      const RuleEntry entry = ReadEntry(dataplane, rule);
      if (!MatchesKey(entry, key)) continue;
      if (entry.src_set != 0 && !source_sets.at(entry.src_set - 1)) continue;
      if (entry.dst_set != 0 && !destination_sets.at(entry.dst_set - 1)) continue;
      found = rule;
      return rule.prio;
    }
    return best;
  };
  uint32_t best = WalkTree(dataplane, RootOf(root.rule_tree), key, 0, true, 0, scan);
  const auto walk_sets = [&](uint32_t base, const std::vector<bool>& sets) {
    for (uint32_t set = 0; set < HG_SETS && base != 0; ++set) {
      if (!sets[set]) continue;
      const auto page = ReadValue<hg_slot_page>(dataplane, TableId::kSlots, (base + set) / HG_SLOTS_PER_PAGE);
      best = WalkTree(dataplane, page.slot[(base + set) % HG_SLOTS_PER_PAGE], key, 0, true, best, scan);
    }
  };
  walk_sets(root.src_set_slots, source_sets);
  walk_sets(root.dst_set_slots, destination_sets);
  return found;
}

bool IsManagement(const State& state, const Probe& probe) {
  for (const ManagementAllow& allow : state.settings->management) {
    Match match;
    match.source = allow.source;
    match.protocol = allow.protocol;
    match.destination_ports = allow.destination_ports;
    match.interface = allow.interface;
    if (Matches(match, probe, state)) return true;
  }
  return false;
}

const Rule* FindRule(const State& state, const Probe& probe) {
  const Rule* best = nullptr;
  state.rules.ForEach([&](const std::shared_ptr<const Rule>& rule) {
    if (best && best->priority > rule->priority) return;
    if (Matches(rule->match, probe, state)) best = rule.get();
  });
  return best;
}

Probe DrawProbe(const State& state, std::mt19937_64& random) {
  std::vector<Rule> rules;
  state.rules.ForEach([&](const std::shared_ptr<const Rule>& rule) { rules.push_back(*rule); });
  for (const ManagementAllow& allow : state.settings->management) {
    Rule rule;
    rule.match.source = allow.source;
    rule.match.protocol = allow.protocol;
    rule.match.destination_ports = allow.destination_ports;
    rule.match.interface = allow.interface;
    rules.push_back(rule);
  }
  if (rules.empty()) rules.emplace_back();
  std::vector<Rule> one = {rules[random() % rules.size()]};
  Match& match = one[0].match;
  // A prefix of the set stands for the set.
  const auto from_set = [&](const std::string& name, std::optional<Prefix>& out) {
    const PrefixSet* set = name.empty() ? nullptr : state.prefix_sets.Get(name);
    if (!set || set->prefixes.empty()) return;
    size_t skip = random() % set->prefixes.size();
    set->prefixes.ForEach([&](const Prefix& prefix) {
      if (skip-- == 0) out = prefix;
    });
  };
  from_set(match.source_set, match.source);
  from_set(match.destination_set, match.destination);
  Probe probe{.header = DrawHeader(one, random), .interface = match.interface};
  if (random() % 8 == 0) probe.interface.clear();
  return probe;
}

// What rules refer to: next hops and steer targets by id, and what happens without a rule.
std::string CompareObjects(const Dataplane& dataplane, const hg_root& root, const State& state) {
  std::string differs;
  const auto expect = [&differs](const std::string& name, const auto& held, const auto& wanted) {
    if (std::memcmp(&held, &wanted, sizeof(held)) != 0)
      absl::StrAppend(&differs, name, " is not as it should be\n");
  };
  state.next_hops.ForEach([&](const std::shared_ptr<const NextHop>& hop) {
    const uint32_t page = root.next_hop_page[hop->id / HG_NEXT_HOPS_PER_PAGE];
    expect("next hop " + hop->name,
           ReadValue<hg_next_hop_page>(dataplane, TableId::kNextHops, page).hop[hop->id % HG_NEXT_HOPS_PER_PAGE],
           CompileNextHop(*hop, state));
  });
  state.steer_targets.ForEach([&](const std::shared_ptr<const SteerTarget>& target) {
    const uint32_t page = root.target_page[target->id / HG_TARGETS_PER_PAGE];
    expect("steer target " + target->name,
           ReadValue<hg_target_page>(dataplane, TableId::kTargets, page).target[target->id % HG_TARGETS_PER_PAGE],
           CompileTarget(*target));
  });
  state.multicast_routes.ForEach([&](const std::shared_ptr<const MulticastRoute>& route) {
    const uint32_t page = root.mroute_page[route->id / HG_MROUTES_PER_PAGE];
    const hg_mroute held =
        ReadValue<hg_mroute_page>(dataplane, TableId::kMroutes, page).route[route->id % HG_MROUTES_PER_PAGE];
    expect("multicast route " + route->name, held, CompileMroute(*route, state, held.fanout));
    // Workers' legs are in no table.
    if (!WhyWorkers(*route).empty()) return;
    expect("the fanout of " + route->name, ReadValue<hg_fanout>(dataplane, TableId::kFanouts, held.fanout),
           CompileFanout(*route, state));
    for (const MulticastLeg& leg : route->legs) {
      const uint32_t id = LegId(*route, leg, state), legs = root.leg_page[id / HG_LEGS_PER_PAGE];
      expect("leg " + leg.name, ReadValue<hg_leg_page>(dataplane, TableId::kLegs, legs).leg[id % HG_LEGS_PER_PAGE],
             CompileLeg(leg, state.interfaces.Get(leg.interface)->id));
    }
  });
  const uint32_t verdict =
      state.settings->default_action == BasicVerdict::kDrop ? HG_VERDICT_DROP : HG_VERDICT_PASS;
  expect("the default verdict", root.default_verdict, verdict);
  expect("the generation", root.generation, state.generation);
  return differs;
}

std::string CompareWithModel(const Dataplane& dataplane, const State& state, int probes, std::mt19937_64& random) {
  const std::optional<uint32_t> active = dataplane.Active();
  if (!active) return "no generation is in force";
  const auto root = ReadValue<hg_root>(dataplane, TableId::kRoots, *active);
  if (std::string differs = CompareObjects(dataplane, root, state); !differs.empty()) return differs;
  for (int i = 0; i < probes; ++i) {
    const Probe probe = DrawProbe(state, random);
    const std::optional<hg_rule> found = Classify(dataplane, *active, KeyOf(probe, state));
    const Rule* expected = FindRule(state, probe);
    std::string wanted = "no rule", got = "no rule";
    if (expected) wanted = absl::StrCat("id ", expected->id, Bytes(CompileAction(*expected->action, state)));
    if (IsManagement(state, probe)) wanted = "management";
    if (found) {
      const auto action = ReadValue<hg_action>(dataplane, TableId::kActions, found->action);
      got = absl::StrCat("id ", found->id, Bytes(action));
      if ((found->flags & HG_RULE_MGMT) != 0) got = "management";
    }
    if (got != wanted) return absl::StrCat("probe ", i, ": expected ", wanted, ", found ", got);
  }
  return "";
}

}  // namespace headgate::testing
