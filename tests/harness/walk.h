// SPDX-License-Identifier: Apache-2.0
//
// The walk of classify.bpf.c in user space, over an image: for tests of the tree alone.
#pragma once

#include <array>
#include <cstdint>
#include <stdexcept>

#include "agent/control/tree.h"

namespace headgate::testing {

struct WalkResult {
  uint32_t entry = 0;
  uint32_t steps = 0;
};

template <typename Matches>
WalkResult Walk(const TreeStore& store, uint32_t root, const std::array<uint32_t, HG_WORDS>& key,
                Matches&& matches) {
  WalkResult result;
  std::array<uint32_t, HG_TREE_STACK> stack{};
  uint32_t pending = 0, best = 0;
  while (root != 0) {
    const hg_node& node = store.nodes[root];
    ++result.steps;
    if (node.prio > best) {
      if (node.bits != 0) {
        if (node.rest != 0) {
          if (pending >= HG_TREE_STACK) throw std::logic_error("the walk's stack overflows");
          stack[pending++] = node.rest;
        }
        root = node.base + (key[node.word] >> node.shift & ((1U << node.bits) - 1));
        continue;
      }
      for (uint32_t i = 0; i < node.count; ++i) {
        const hg_item& item = store.items[node.base + i];
        if (item.prio <= best) break;
        if (matches(item.entry)) {
          best = item.prio;
          result.entry = item.entry;
          break;
        }
      }
      if (node.rest != 0) {
        root = node.rest;
        continue;
      }
    }
    root = pending > 0 ? stack[--pending] : 0;
  }
  return result;
}

}  // namespace headgate::testing
