// SPDX-License-Identifier: Apache-2.0
#include "agent/control/compile_rules.h"

#include <netinet/in.h>

#include <algorithm>
#include <bit>
#include <cstring>

namespace headgate {
namespace {

// Above this share of changed entries a new tree is cheaper, and better shaped, than so many small changes.
constexpr uint32_t kRebuildShare = 4;

struct Half {
  uint32_t value = 0;
  uint32_t mask = 0;
};

// The leading bits that all numbers of a 16-bit range share.
Half CommonPrefix(uint32_t first, uint32_t last) {
  const uint32_t mask = 0xffffU & ~((1U << std::bit_width(first ^ last)) - 1);
  return {first & mask, mask};
}

void SetPrefix(const std::optional<Prefix>& prefix, uint32_t& value, uint32_t& mask, uint32_t (&low)[3],
               uint32_t (&low_mask)[3]) {
  if (!prefix) return;
  value = prefix->address.words[0];
  mask = WordMask(prefix->length, 0);
  for (int i = 0; i < 3; ++i) {
    low[i] = prefix->address.words[i + 1];
    low_mask[i] = prefix->address.family == Family::kIpv6 ? WordMask(prefix->length, i + 1) : 0;
  }
}

void RequireKind(hg_rule& entry, uint32_t mask, uint32_t value) {
  entry.proto_mask |= mask;
  entry.proto |= value;
}

void RequireFragment(hg_rule& entry, FragmentMatch fragment) {
  switch (fragment) {
    case FragmentMatch::kUnspecified:
      return;
    case FragmentMatch::kNone:
      return RequireKind(entry, HG_KIND_FRAGMENT, 0);
    case FragmentMatch::kFirst:
      return RequireKind(entry, HG_KIND_FRAGMENT | HG_KIND_LATER, HG_KIND_FRAGMENT);
    case FragmentMatch::kLater:
      return RequireKind(entry, HG_KIND_LATER, HG_KIND_LATER);
    case FragmentMatch::kAny:
      return RequireKind(entry, HG_KIND_FRAGMENT, HG_KIND_FRAGMENT);
  }
}

// Fields of the IP header, which are zero in the key of other frames.
void RequireIpHeader(hg_rule& entry, const Match& match) {
  if (match.protocol) {
    RequireKind(entry, 0xffU << HG_PROTO_SHIFT, static_cast<uint32_t>(*match.protocol) << HG_PROTO_SHIFT);
  }
  if (match.dscp) {
    RequireKind(entry, 0x3fU << HG_DSCP_SHIFT, static_cast<uint32_t>(*match.dscp) << HG_DSCP_SHIFT);
  }
  RequireFragment(entry, match.fragment);
  if (match.protocol || match.dscp || match.fragment != FragmentMatch::kUnspecified) {
    RequireKind(entry, HG_KIND_IP, HG_KIND_IP);
  }
}

bool NamesProtocol(const Match& match) {
  return match.protocol && (*match.protocol == IPPROTO_ICMPV6 || *match.protocol == IPPROTO_IGMP);
}

// All of the rule but its ports.
hg_rule CompileMatch(const Match& match, const State& state) {
  hg_rule entry{};
  entry.sport_max = entry.dport_max = entry.length_max = 0xffff;
  entry.vlan = entry.inner_vlan = HG_VLAN_ANY;
  SetPrefix(match.source, entry.src, entry.src_mask, entry.src_low, entry.src_low_mask);
  SetPrefix(match.destination, entry.dst, entry.dst_mask, entry.dst_low, entry.dst_low_mask);
  for (const auto& prefix : {match.source, match.destination}) {
    if (!prefix) continue;
    const bool ipv6 = prefix->address.family == Family::kIpv6;
    RequireKind(entry, ipv6 ? HG_KIND_IPV6 : HG_KIND_IPV4, ipv6 ? HG_KIND_IPV6 : HG_KIND_IPV4);
    if (ipv6) entry.flags |= HG_RULE_IPV6;
  }
  RequireIpHeader(entry, match);
  RequireKind(entry, static_cast<uint32_t>(match.tcp_flags.mask) << HG_TCP_FLAGS_SHIFT,
              static_cast<uint32_t>(match.tcp_flags.value) << HG_TCP_FLAGS_SHIFT);
  // Without its L4 header, a fragment has no flags to be clear.
  if (match.tcp_flags.mask != 0) RequireKind(entry, HG_KIND_PORTS, HG_KIND_PORTS);
  if (match.icmp_type) {
    const uint32_t type = *match.icmp_type;
    entry.dport_min = static_cast<uint16_t>(type << 8 | match.icmp_code.value_or(0));
    entry.dport_max = static_cast<uint16_t>(type << 8 | match.icmp_code.value_or(0xff));
    RequireKind(entry, HG_KIND_ICMP, HG_KIND_ICMP);
  }
  if (!match.interface.empty()) entry.port = static_cast<uint16_t>(state.interfaces.Get(match.interface)->id);
  if (match.vlan) entry.vlan = *match.vlan;
  if (match.inner_vlan) entry.inner_vlan = *match.inner_vlan;
  if (match.packet_length) {
    entry.length_min = match.packet_length->first;
    entry.length_max = match.packet_length->last;
  }
  if (!match.source_set.empty()) {
    entry.src_set = static_cast<uint16_t>(state.prefix_sets.Get(match.source_set)->id + 1);
  }
  if (!match.destination_set.empty()) {
    entry.dst_set = static_cast<uint16_t>(state.prefix_sets.Get(match.destination_set)->id + 1);
  }
  if (entry.port != 0 || match.vlan || match.inner_vlan || match.packet_length || entry.src_set != 0 ||
      entry.dst_set != 0) {
    entry.flags |= HG_RULE_SCOPE;
  }
  if (NamesProtocol(match)) entry.flags |= HG_RULE_NAMED;
  return entry;
}

// One copy of the entry for each pair of port ranges.
std::vector<hg_rule> Expand(const hg_rule& entry, const PortRanges& sources, const PortRanges& destinations) {
  std::vector<hg_rule> entries = {entry};
  if (sources.empty() && destinations.empty()) return entries;
  entries.clear();
  const PortRanges any = {PortRange{}};
  for (const PortRange& source : sources.empty() ? any : sources) {
    for (const PortRange& destination : destinations.empty() ? any : destinations) {
      hg_rule copy = entry;
      copy.sport_min = source.first;
      copy.sport_max = source.last;
      copy.dport_min = destination.first;
      copy.dport_max = destination.last;
      RequireKind(copy, HG_KIND_PORTS, HG_KIND_PORTS);
      entries.push_back(copy);
    }
  }
  return entries;
}

}  // namespace

std::vector<hg_rule> CompileRule(const Rule& rule, const State& state) {
  hg_rule entry = CompileMatch(rule.match, state);
  entry.prio = rule.priority;
  entry.id = rule.id;
  return Expand(entry, rule.match.source_ports, rule.match.destination_ports);
}

std::vector<hg_rule> CompileManagement(const ManagementAllow& allow, const State& state) {
  Match match;
  match.source = allow.source;
  match.protocol = allow.protocol;
  match.interface = allow.interface;
  hg_rule entry = CompileMatch(match, state);
  entry.prio = HG_PRIO_MGMT;
  entry.flags |= HG_RULE_MGMT;
  return Expand(entry, {}, allow.destination_ports);
}

Ternary<HG_WORDS_USED> RuleTable::Key(uint32_t index) const {
  const hg_rule& entry = cells[index];
  Ternary<HG_WORDS_USED> key;
  const auto set = [&key](unsigned word, uint32_t value, uint32_t mask) {
    key.value[word] = value & mask;
    key.mask[word] = mask;
  };
  set(HG_WORD_SRC, entry.src, entry.src_mask);
  set(HG_WORD_DST, entry.dst, entry.dst_mask);
  for (unsigned i = 0; i < 3; ++i) {
    set(HG_WORD_SRC + 1 + i, entry.src_low[i], entry.src_low_mask[i]);
    set(HG_WORD_DST + 1 + i, entry.dst_low[i], entry.dst_low_mask[i]);
  }
  const Half sport = CommonPrefix(entry.sport_min, entry.sport_max);
  const Half dport = CommonPrefix(entry.dport_min, entry.dport_max);
  set(HG_WORD_PORTS, sport.value << 16 | dport.value, sport.mask << 16 | dport.mask);
  set(HG_WORD_PROTO, entry.proto, entry.proto_mask);
  set(HG_WORD_INGRESS, static_cast<uint32_t>(entry.port) << 16 | entry.vlan,
      (entry.port != 0 ? 0xffff0000U : 0) | (entry.vlan != HG_VLAN_ANY ? 0xffffU : 0));
  const Half length = CommonPrefix(entry.length_min, entry.length_max);
  set(HG_WORD_EXTRA, static_cast<uint32_t>(entry.inner_vlan) << 16 | length.value,
      (entry.inner_vlan != HG_VLAN_ANY ? 0xffff0000U : 0) | length.mask);
  return key;
}

void RuleTable::Link(uint32_t owner, uint32_t entry) {
  if (owner >= first_.size()) first_.resize(owner + 1024);
  if (entry >= next_.size()) next_.resize(entry + 1024);
  next_[entry] = first_[owner];
  first_[owner] = entry;
  ++entries_;
  if (cells[entry].src_set != 0) ++source_set_entries_;
  if (cells[entry].dst_set != 0) ++destination_set_entries_;
}

void RuleTable::Add(uint32_t owner, hg_rule entry) {
  const uint32_t index = cells.Allocate(0);
  cells.Write(index) = entry;
  Link(owner, index);
  added_.push_back(index);
}

void RuleTable::RemoveAll(uint32_t owner) {
  if (owner >= first_.size()) return;
  for (uint32_t entry = first_[owner]; entry != 0; entry = next_[entry]) {
    if (cells[entry].src_set != 0) --source_set_entries_;
    if (cells[entry].dst_set != 0) --destination_set_entries_;
    --entries_;
    removed_.push_back(entry);
  }
  first_[owner] = 0;
}

void RuleTable::SetRule(const Rule& rule, const State& state) {
  const hg_action action = CompileAction(*rule.action, state);
  for (hg_rule& entry : CompileRule(rule, state)) {
    entry.action = actions_.Acquire(action);
    Add(rule.id, entry);
  }
}

void RuleTable::SetManagement(const State& state) {
  hg_action pass{};
  pass.verdict = HG_VERDICT_PASS;
  for (const ManagementAllow& allow : state.settings->management) {
    for (hg_rule& entry : CompileManagement(allow, state)) {
      entry.action = actions_.Acquire(pass);
      Add(0, entry);
    }
  }
}

void RuleTable::UpdateTree() {
  if (added_.size() + removed_.size() > 64 && (added_.size() + removed_.size()) * kRebuildShare > entries_) {
    tree_.Free(root_);
    std::vector<uint32_t> all;
    all.reserve(entries_);
    for (uint32_t entry : first_) {
      for (; entry != 0; entry = next_[entry]) all.push_back(entry);
    }
    root_ = tree_.Build(all);
  } else {
    for (const uint32_t entry : removed_) root_ = tree_.Erase(root_, entry);
    for (const uint32_t entry : added_) root_ = tree_.Insert(root_, entry);
  }
  for (const uint32_t entry : removed_) {
    actions_.Release(cells[entry].action);
    cells.Release(entry, 0);
  }
  added_.clear();
  removed_.clear();
}

void RuleTable::Apply(const State& before, const State& after) {
  // Not by value: an interface it names may have come back with another id.
  if (before.settings != after.settings) {
    RemoveAll(0);
    SetManagement(after);
  }
  Table<Rule>::ForEachDifference(before.rules, after.rules, [&](const auto* old, const auto* now) {
    if (old) RemoveAll((*old)->id);
    if (now) SetRule(**now, after);
  });
  UpdateTree();
}

bool RuleTable::Matches(uint32_t owner, absl::Span<const hg_rule> entries) const {
  std::vector<bool> seen(entries.size());
  size_t found = 0;
  for (uint32_t index = owner < first_.size() ? first_[owner] : 0; index != 0; index = next_[index]) {
    size_t i = 0;
    while (i < entries.size() && (seen[i] || std::memcmp(&entries[i], &cells[index], sizeof(hg_rule)) != 0)) ++i;
    if (i == entries.size()) return false;
    seen[i] = true;
    ++found;
  }
  return found == entries.size();
}

uint64_t RuleTable::Reconcile(const State& state) {
  uint64_t differences = 0;
  std::vector<bool> wanted(first_.size());
  const auto keep = [&](uint32_t owner, std::vector<hg_rule> entries, const hg_action& action) {
    if (owner < wanted.size()) wanted[owner] = true;
    // Taken for the comparison, which is by the action's cell; released again when the entries stay.
    const uint32_t cell = actions_.Acquire(action);
    for (hg_rule& entry : entries) entry.action = cell;
    const bool same = Matches(owner, entries);
    if (!same) {
      ++differences;
      RemoveAll(owner);
      for (hg_rule& entry : entries) {
        entry.action = actions_.Acquire(action);
        Add(owner, entry);
      }
    }
    actions_.Release(cell);
  };
  state.rules.ForEach([&](const std::shared_ptr<const Rule>& rule) {
    keep(rule->id, CompileRule(*rule, state), CompileAction(*rule->action, state));
  });
  std::vector<hg_rule> management;
  for (const ManagementAllow& allow : state.settings->management) {
    for (const hg_rule& entry : CompileManagement(allow, state)) management.push_back(entry);
  }
  hg_action pass{};
  pass.verdict = HG_VERDICT_PASS;
  keep(0, std::move(management), pass);
  for (uint32_t owner = 0; owner < wanted.size(); ++owner) {
    if (wanted[owner] || first_[owner] == 0) continue;
    ++differences;
    RemoveAll(owner);
  }
  UpdateTree();
  return differences;
}

bool RuleTable::Adopt(uint32_t root, uint32_t ids) {
  root_ = root;
  return tree_.Adopt(root, [this, ids](uint32_t entry) {
    if (entry == 0 || entry >= cells.size() || !cells.CanClaim(entry, 0)) return false;
    if (cells[entry].prio == 0 || !actions_.Adopt(cells[entry].action)) return false;
    cells.Claim(entry, 0);
    if (cells[entry].id >= ids) return false;
    Link(cells[entry].id, entry);
    return true;
  });
}

}  // namespace headgate
