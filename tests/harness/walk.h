// SPDX-License-Identifier: Apache-2.0
//
// The walk of classify.bpf.c in user space, over an image: for tests of the tree alone.
#pragma once

#include <absl/types/span.h>

#include <array>
#include <cstdint>
#include <optional>
#include <stdexcept>

#include "agent/control/compile_rules.h"

namespace headgate::testing {

struct WalkResult {
  std::optional<hg_rule> rule;
  uint32_t steps = 0;  // nodes and leaves visited
};

// Walks one tree for a match above that in `result`.
template <typename Matches>
void WalkTree(const TreeStore& store, const RuleTable& table, const hg_slot& root,
              const std::array<uint32_t, HG_WORDS>& key, Matches&& matches, WalkResult& result) {
  std::array<hg_slot, HG_TREE_STACK> stack{};
  uint32_t pending = 0, best = result.rule ? result.rule->prio : 0;
  uint32_t at = root.prio > best ? root.ref : 0;
  while (true) {
    if (at == 0) {
      if (pending == 0) return;
      const hg_slot next = stack[--pending];
      at = next.prio > best ? next.ref : 0;
      continue;
    }
    ++result.steps;
    if (TreeRef::IsNode(at)) {
      const hg_node& node = store.nodes[TreeRef::Index(at)];
      if (node.rest_prio > best) {
        if (pending >= HG_TREE_STACK) throw std::logic_error("the walk's stack overflows");
        stack[pending++] = {node.rest_prio, node.rest};
      }
      const hg_slot& slot = store.slots[node.base + (key[node.word] >> node.shift & ((1U << node.bits) - 1))];
      at = slot.prio > best ? slot.ref : 0;
      continue;
    }
    for (uint32_t i = 0; i < TreeRef::Count(at); ++i) {
      const hg_rule& rule = table.rules[TreeRef::Index(at) + i];
      if (rule.prio <= best) break;
      if (!matches(rule)) continue;
      best = rule.prio;
      result.rule = rule;
      break;
    }
    at = 0;
  }
}

// `trees` are those of the sets that the packet is in.
template <typename Matches>
WalkResult Walk(const TreeStore& store, const RuleTable& table, const std::array<uint32_t, HG_WORDS>& key,
                Matches&& matches, absl::Span<const uint32_t> trees = {}) {
  WalkResult result;
  WalkTree(store, table, table.roots().Get(RuleRoots::kMain), key, matches, result);
  for (const uint32_t tree : trees) WalkTree(store, table, table.roots().Get(tree), key, matches, result);
  return result;
}

// Whether a packet with the key matches, but for prefix sets: as the program compares.
inline bool MatchesKey(const RuleEntry& entry, const std::array<uint32_t, HG_WORDS>& key) {
  uint32_t differs = (key[HG_WORD_PROTO] ^ entry.proto) & entry.proto_mask;
  for (int i = 0; i < 4; ++i) {
    differs |= (key[HG_WORD_SRC + i] ^ entry.src[i]) & entry.src_mask[i];
    differs |= (key[HG_WORD_DST + i] ^ entry.dst[i]) & entry.dst_mask[i];
  }
  const auto within = [](uint32_t value, uint32_t first, uint32_t last) {
    return value >= first && value <= last;
  };
  const uint32_t ingress = key[HG_WORD_INGRESS], extra = key[HG_WORD_EXTRA];
  return differs == 0 && within(key[HG_WORD_PORTS] >> 16, entry.sport_min, entry.sport_max) &&
         within(key[HG_WORD_PORTS] & 0xffff, entry.dport_min, entry.dport_max) &&
         (entry.port == 0 || entry.port == ingress >> 16) &&
         (entry.vlan == HG_VLAN_ANY || entry.vlan == (ingress & 0xffff)) &&
         (entry.inner_vlan == HG_VLAN_ANY || entry.inner_vlan == extra >> 16) &&
         within(extra & 0xffff, entry.length_min, entry.length_max);
}

}  // namespace headgate::testing
