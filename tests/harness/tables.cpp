// SPDX-License-Identifier: Apache-2.0
#include "tests/harness/tables.h"

#include <absl/strings/escaping.h>
#include <absl/strings/str_cat.h>

#include <cstring>
#include <stdexcept>
#include <vector>

#include "agent/control/compile_forward.h"

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

// One walk over one tree; `scan` is called for every leaf with the items and the priority to beat, and returns the
// new one.
template <typename Scan>
void WalkTree(const Dataplane& dataplane, uint32_t root, const Key& key, unsigned first_word, bool prune,
              Scan&& scan) {
  std::vector<uint32_t> pending = {root};
  uint32_t best = 0, steps = 0;
  while (!pending.empty()) {
    const uint32_t index = pending.back();
    pending.pop_back();
    if (index == 0) continue;
    if (++steps > kMaxSteps) throw std::runtime_error("the walk does not end");
    const auto page = ReadValue<hg_node_page>(dataplane, TableId::kNodes, index / HG_NODES_PER_PAGE);
    const hg_node& node = page.node[index % HG_NODES_PER_PAGE];
    if (node.prio == 0 || (prune && node.prio <= best)) continue;
    if (node.bits != 0) {
      if (pending.size() >= HG_TREE_STACK) throw std::runtime_error("the walk's stack overflows");
      pending.push_back(node.rest);
      pending.push_back(node.base + (key[first_word + node.word] >> node.shift & ((1U << node.bits) - 1)));
      continue;
    }
    const auto items = ReadValue<hg_item_page>(dataplane, TableId::kItems, node.base / HG_ITEMS_PER_PAGE);
    for (uint32_t i = 0; i < node.count; ++i) {
      const hg_item& item = items.item[(node.base + i) % HG_ITEMS_PER_PAGE];
      if (prune && item.prio <= best) break;
      if (scan(item.entry)) {
        best = item.prio;
        if (prune) break;
      }
    }
    pending.push_back(node.rest);
  }
}

std::vector<bool> FindSets(const Dataplane& dataplane, const hg_root& root, const Key& key, unsigned word) {
  std::vector<bool> sets(HG_SETS);
  const bool ipv4 = (key[HG_WORD_PROTO] & HG_KIND_IPV4) != 0;
  WalkTree(dataplane, ipv4 ? root.set_tree4 : root.set_tree6, key, word, false, [&](uint32_t entry) {
    const auto page = ReadValue<hg_prefix_page>(dataplane, TableId::kPrefixes, entry / HG_PREFIXES_PER_PAGE);
    const hg_prefix& prefix = page.prefix[entry % HG_PREFIXES_PER_PAGE];
    for (int i = 0; i < 4; ++i) {
      if (((key[word + i] ^ prefix.addr[i]) & WordMask(static_cast<int>(prefix.length), i)) != 0) return false;
    }
    sets.at(prefix.set) = true;
    return true;
  });
  return sets;
}

bool MatchesFields(const hg_rule& rule, const Key& key) {
  uint32_t differs = (key[HG_WORD_SRC] ^ rule.src) & rule.src_mask;
  differs |= (key[HG_WORD_DST] ^ rule.dst) & rule.dst_mask;
  differs |= (key[HG_WORD_PROTO] ^ rule.proto) & rule.proto_mask;
  for (int i = 0; i < 3 && (rule.flags & HG_RULE_IPV6) != 0; ++i) {
    differs |= (key[HG_WORD_SRC + 1 + i] ^ rule.src_low[i]) & rule.src_low_mask[i];
    differs |= (key[HG_WORD_DST + 1 + i] ^ rule.dst_low[i]) & rule.dst_low_mask[i];
  }
  const uint32_t sport = key[HG_WORD_PORTS] >> 16, dport = key[HG_WORD_PORTS] & 0xffff;
  return differs == 0 && sport >= rule.sport_min && sport <= rule.sport_max && dport >= rule.dport_min &&
         dport <= rule.dport_max;
}

bool MatchesScope(const hg_rule& rule, const Key& key) {
  const uint32_t ingress = key[HG_WORD_INGRESS], extra = key[HG_WORD_EXTRA];
  if (rule.port != 0 && rule.port != ingress >> 16) return false;
  if (rule.vlan != HG_VLAN_ANY && rule.vlan != (ingress & 0xffff)) return false;
  if (rule.inner_vlan != HG_VLAN_ANY && rule.inner_vlan != extra >> 16) return false;
  return (extra & 0xffff) >= rule.length_min && (extra & 0xffff) <= rule.length_max;
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
  if (match.vlan && *match.vlan != probe.vlan) return false;
  if (match.inner_vlan && *match.inner_vlan != probe.inner_vlan) return false;
  if (match.packet_length &&
      (probe.length < match.packet_length->first || probe.length > match.packet_length->last)) {
    return false;
  }
  if (!Matches(match, header)) return false;
  if (!match.source_set.empty() && !InSet(state, match.source_set, header.source, header.family)) return false;
  return match.destination_set.empty() || InSet(state, match.destination_set, header.destination, header.family);
}

}  // namespace

Key KeyOf(const Probe& probe, const State& state) {
  Key key = KeyOf(probe.header);
  const Interface* interface = state.interfaces.Get(probe.interface);
  key[HG_WORD_INGRESS] = (interface ? interface->id : 0) << 16 | probe.vlan;
  key[HG_WORD_EXTRA] = static_cast<uint32_t>(probe.inner_vlan) << 16 | probe.length;
  return key;
}

std::optional<hg_rule> Classify(const Dataplane& dataplane, uint32_t root_index, const Key& key) {
  const auto root = ReadValue<hg_root>(dataplane, TableId::kRoots, root_index);
  std::vector<bool> source_sets(HG_SETS), destination_sets(HG_SETS);
  if ((root.flags & HG_ROOT_SRC_SETS) != 0) source_sets = FindSets(dataplane, root, key, HG_WORD_SRC);
  if ((root.flags & HG_ROOT_DST_SETS) != 0) destination_sets = FindSets(dataplane, root, key, HG_WORD_DST);
  std::optional<hg_rule> found;
  WalkTree(dataplane, root.rule_tree, key, 0, true, [&](uint32_t entry) {
    const auto rule = ReadValue<hg_rule>(dataplane, TableId::kRules, entry);
    if (!MatchesFields(rule, key)) return false;
    if ((rule.flags & HG_RULE_SCOPE) != 0) {
      if (!MatchesScope(rule, key)) return false;
      if (rule.src_set != 0 && !source_sets.at(rule.src_set - 1)) return false;
      if (rule.dst_set != 0 && !destination_sets.at(rule.dst_set - 1)) return false;
    }
    found = rule;
    return true;
  });
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
  probe.vlan = match.vlan.value_or(0);
  probe.inner_vlan = match.inner_vlan.value_or(0);
  if (match.packet_length)
    probe.length = random() % 2 == 0 ? match.packet_length->first : match.packet_length->last;
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
