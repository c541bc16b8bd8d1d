// SPDX-License-Identifier: Apache-2.0
//
// A match entry of a rule with all of its fields, and its form in the kernel's tables.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "agent/control/state.h"
#include "agent/control/tree.h"
#include "bpf/hg_abi.h"

namespace headgate {

// Fields are those of hg_rule and hg_match; masked-out bits are zero.
struct RuleEntry {
  std::array<uint32_t, 4> src{}, src_mask{};
  std::array<uint32_t, 4> dst{}, dst_mask{};
  uint16_t sport_min = 0, sport_max = 0xffff;
  uint16_t dport_min = 0, dport_max = 0xffff;
  uint32_t proto = 0, proto_mask = 0;  // of HG_WORD_PROTO
  uint32_t prio = 0;
  uint32_t id = 0;
  uint16_t port = 0;
  uint16_t vlan = HG_VLAN_ANY, inner_vlan = HG_VLAN_ANY;
  uint16_t length_min = 0, length_max = 0xffff;
  uint16_t src_set = 0, dst_set = 0;
  uint8_t flags = 0;  // HG_RULE_NAMED, HG_RULE_MGMT

  friend bool operator==(const RuleEntry&, const RuleEntry&) = default;
};

// The entries of a match, without id and priority: one for each pair of its port ranges.
std::vector<RuleEntry> CompileMatch(const Match& match, const State& state);
// The entries of a rule.
std::vector<RuleEntry> CompileRule(const Rule& rule, const State& state);
std::vector<RuleEntry> CompileManagement(const ManagementAllow& allow, const State& state);

Ternary<HG_WORDS_USED> KeyOf(const RuleEntry& entry);

// What hg_rule has no room for; nothing when it has.
std::optional<hg_match> MatchOf(const RuleEntry& entry);
// `match` is the index in hg_matches of what MatchOf gave. The action is left 0.
hg_rule Pack(const RuleEntry& entry, uint32_t match);
// `match` is what the rule names, when it names any.
RuleEntry Unpack(const hg_rule& rule, const hg_match* match);

}  // namespace headgate
