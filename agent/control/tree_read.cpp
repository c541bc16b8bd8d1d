// SPDX-License-Identifier: Apache-2.0
//
// Trees read: entries found and listed, shapes measured, and trees that an earlier process left checked and taken
// over.
#include <algorithm>
#include <limits>

#include "agent/control/tree.h"

namespace headgate {
namespace {

// Windows along one path, selected by or passed by, are all different.
constexpr size_t kMaxPath = 4096;

bool Fits(uint32_t first, uint32_t count, uint32_t cells) {
  return first != 0 && first < cells && count <= cells - first;
}

}  // namespace

template <unsigned kWords>
uint32_t Tree<kWords>::Find(uint32_t root, const Ternary<kWords>& key,
                            const std::function<bool(uint32_t)>& is_it) const {
  while (root != 0) {
    const hg_node& n = store_.nodes[root];
    if (uint32_t child = 0; n.bits != 0 && Selects(key, WindowOf(n), child)) {
      root = n.base + child;
      continue;
    }
    for (uint32_t i = 0; i < n.count; ++i) {
      const uint32_t entry = store_.items[n.base + i].entry;
      if (is_it(entry)) return entry;
    }
    root = n.rest;
  }
  return 0;
}

template <unsigned kWords>
void Tree<kWords>::ForEachEntry(uint32_t root, const std::function<void(uint32_t)>& visit) const {
  // A loop along rest: chains of leaves may be long.
  for (uint32_t node = root; node != 0; node = store_.nodes[node].rest) {
    const hg_node& n = store_.nodes[node];
    if (n.bits != 0) {
      for (uint32_t i = 0; i < (1U << n.bits); ++i) ForEachEntry(n.base + i, visit);
    } else {
      for (uint32_t i = 0; i < n.count; ++i) visit(store_.items[n.base + i].entry);
    }
  }
}

template <unsigned kWords>
void Tree<kWords>::ShapeOf(uint32_t node, uint32_t depth, TreeShape& shape, uint32_t& walk) const {
  const hg_node& n = store_.nodes[node];
  shape.depth = std::max(shape.depth, depth);
  uint32_t below = 0;
  if (n.bits != 0) {
    for (uint32_t i = 0; i < (1U << n.bits); ++i) {
      uint32_t child = 0;
      ShapeOf(n.base + i, depth + 1, shape, child);
      below = std::max(below, child);
    }
  } else {
    shape.entries += n.count;
    shape.largest_leaf = std::max(shape.largest_leaf, store_.sizes[node].entries);
  }
  uint32_t rest = 0;
  if (n.rest != 0) ShapeOf(n.rest, depth + 1, shape, rest);
  walk = 1 + below + rest;
}

template <unsigned kWords>
TreeShape Tree<kWords>::Shape(uint32_t root) const {
  TreeShape shape;
  if (root != 0) ShapeOf(root, 0, shape, shape.longest_walk);
  return shape;
}

// A leaf with all that is chained to it.
template <unsigned kWords>
bool Tree<kWords>::AdoptLeaf(uint32_t node, const Path& path, const std::function<bool(uint32_t)>& claim_entry) {
  std::vector<uint32_t> chain;
  uint32_t above = std::numeric_limits<uint32_t>::max();
  for (uint32_t next = node; next != 0;) {
    const hg_node n = store_.nodes[next];
    if (n.bits != 0 || n.count > HG_LEAF_ITEMS || (n.count == 0 && (n.rest != 0 || n.prio != 0))) return false;
    chain.push_back(next);
    if (n.count != 0) {
      if (!Fits(n.base, n.count, store_.items.size()) || !store_.items.CanClaim(n.base, OrderFor(n.count)))
        return false;
      store_.items.Claim(n.base, OrderFor(n.count));
      if (n.prio != store_.items[n.base].prio) return false;
    }
    for (uint32_t i = 0; i < n.count; ++i) {
      const hg_item item = store_.items[n.base + i];
      if (!claim_entry(item.entry) || item.prio != entries_.Priority(item.entry) || item.prio > above)
        return false;
      if (!LeadsTo(path, entries_.Key(item.entry))) return false;
      above = item.prio;
    }
    next = n.rest;
    if (next == 0) break;
    if (!Fits(next, 1, store_.nodes.size()) || !store_.nodes.CanClaim(next, 0)) return false;
    store_.nodes.Claim(next, 0);
  }
  uint32_t entries = 0;
  for (auto link = chain.rbegin(); link != chain.rend(); ++link) {
    entries += store_.nodes[*link].count;
    store_.sizes[*link] = {entries, entries};
  }
  return true;
}

template <unsigned kWords>
bool Tree<kWords>::LeadsTo(const Path& path, const Ternary<kWords>& key) {
  return std::all_of(path.begin(), path.end(), [&key](const Step& step) {
    uint32_t child = 0;
    return Selects(key, step.window, child) ? step.child == child : !step.child;
  });
}

template <unsigned kWords>
bool Tree<kWords>::AdoptAt(uint32_t node, unsigned depth, Path& path,
                           const std::function<bool(uint32_t)>& claim_entry) {
  const hg_node n = store_.nodes[node];
  if (n.bits == 0) return AdoptLeaf(node, path, claim_entry);
  if (n.bits > HG_WINDOW_BITS || n.word >= kWords || n.shift + n.bits > 32 || depth >= HG_TREE_STACK ||
      path.size() >= kMaxPath || !Fits(n.base, 1U << n.bits, store_.nodes.size()) ||
      !store_.nodes.CanClaim(n.base, n.bits)) {
    return false;
  }
  store_.nodes.Claim(n.base, n.bits);
  uint32_t entries = 0, prio = 0;
  const auto adopt = [&](uint32_t below, unsigned its_depth, std::optional<uint32_t> child) {
    path.push_back({WindowOf(n), child});
    const bool good = AdoptAt(below, its_depth, path, claim_entry);
    path.pop_back();
    entries += store_.sizes[below].entries;
    prio = std::max(prio, store_.nodes[below].prio);
    return good;
  };
  for (uint32_t i = 0; i < (1U << n.bits); ++i) {
    if (!adopt(n.base + i, depth + 1, i)) return false;
  }
  if (n.rest != 0) {
    if (!Fits(n.rest, 1, store_.nodes.size()) || !store_.nodes.CanClaim(n.rest, 0)) return false;
    store_.nodes.Claim(n.rest, 0);
    if (!adopt(n.rest, depth, std::nullopt)) return false;
  }
  store_.sizes[node] = {entries, entries};
  return n.prio == prio;
}

template <unsigned kWords>
bool Tree<kWords>::Adopt(uint32_t root, const std::function<bool(uint32_t)>& claim_entry) {
  if (root == 0) return true;
  store_.CoverNodes();
  if (!Fits(root, 1, store_.nodes.size()) || !store_.nodes.CanClaim(root, 0)) return false;
  store_.nodes.Claim(root, 0);
  Path path;
  return AdoptAt(root, 0, path, claim_entry);
}

template uint32_t Tree<HG_WORDS_USED>::Find(uint32_t, const Ternary<HG_WORDS_USED>&,
                                            const std::function<bool(uint32_t)>&) const;
template void Tree<HG_WORDS_USED>::ForEachEntry(uint32_t, const std::function<void(uint32_t)>&) const;
template TreeShape Tree<HG_WORDS_USED>::Shape(uint32_t) const;
template bool Tree<HG_WORDS_USED>::Adopt(uint32_t, const std::function<bool(uint32_t)>&);
template uint32_t Tree<4>::Find(uint32_t, const Ternary<4>&, const std::function<bool(uint32_t)>&) const;
template void Tree<4>::ForEachEntry(uint32_t, const std::function<void(uint32_t)>&) const;
template TreeShape Tree<4>::Shape(uint32_t) const;
template bool Tree<4>::Adopt(uint32_t, const std::function<bool(uint32_t)>&);

}  // namespace headgate
