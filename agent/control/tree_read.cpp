// SPDX-License-Identifier: Apache-2.0
//
// Trees read: records found and listed, shapes measured, and trees that an earlier process left checked and taken
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

template <typename Record, unsigned kWords, uint32_t kPerPage>
const Record* Tree<Record, kWords, kPerPage>::Find(uint32_t ref, const Ternary<kWords>& key,
                                                   absl::FunctionRef<bool(const Record&)> is_it) const {
  while (TreeRef::IsNode(ref)) {
    const hg_node& n = store_.nodes[TreeRef::Index(ref)];
    if (IsChain(n)) {
      if (const Record* found = Find(store_.slots[n.base].ref, key, is_it)) return found;
      ref = n.rest;
      continue;
    }
    uint32_t child = 0;
    ref = Selects(key, WindowOf(n), child) ? store_.slots[n.base + child].ref : n.rest;
  }
  for (uint32_t i = 0; i < TreeRef::Count(ref); ++i) {
    const Record& record = records_[TreeRef::Index(ref) + i];
    if (is_it(record)) return &record;
  }
  return nullptr;
}

template <typename Record, unsigned kWords, uint32_t kPerPage>
void Tree<Record, kWords, kPerPage>::ForEach(uint32_t ref, absl::FunctionRef<void(const Record&)> visit) const {
  // A loop along rest: chains may be long.
  while (TreeRef::IsNode(ref)) {
    const hg_node& n = store_.nodes[TreeRef::Index(ref)];
    for (uint32_t i = 0; i < (1U << n.bits); ++i) ForEach(store_.slots[n.base + i].ref, visit);
    ref = n.rest;
  }
  for (uint32_t i = 0; i < TreeRef::Count(ref); ++i) visit(records_[TreeRef::Index(ref) + i]);
}

template <typename Record, unsigned kWords, uint32_t kPerPage>
void Tree<Record, kWords, kPerPage>::ShapeOf(uint32_t ref, uint32_t depth, TreeShape& shape,
                                             uint32_t& walk) const {
  if (ref == 0) return;
  shape.depth = std::max(shape.depth, depth);
  walk = 1;
  if (!TreeRef::IsNode(ref)) {
    shape.records += TreeRef::Count(ref);
    shape.largest_leaf = std::max(shape.largest_leaf, TreeRef::Count(ref));
    return;
  }
  const hg_node& n = store_.nodes[TreeRef::Index(ref)];
  if (IsChain(n)) shape.largest_leaf = std::max(shape.largest_leaf, RecordsOf(ref));
  uint32_t below = 0, rest = 0;
  for (uint32_t i = 0; i < (1U << n.bits); ++i) {
    uint32_t child = 0;
    ShapeOf(store_.slots[n.base + i].ref, depth + 1, shape, child);
    below = std::max(below, child);
  }
  ShapeOf(n.rest, depth + 1, shape, rest);
  walk += below + rest;
}

template <typename Record, unsigned kWords, uint32_t kPerPage>
TreeShape Tree<Record, kWords, kPerPage>::Shape(uint32_t root) const {
  TreeShape shape;
  ShapeOf(root, 0, shape, shape.longest_walk);
  return shape;
}

template <typename Record, unsigned kWords, uint32_t kPerPage>
bool Tree<Record, kWords, kPerPage>::LeadsTo(const Path& path, const Ternary<kWords>& key) {
  return std::all_of(path.begin(), path.end(), [&key](const Step& step) {
    uint32_t child = 0;
    return Selects(key, step.window, child) ? step.child == child : !step.child;
  });
}

template <typename Record, unsigned kWords, uint32_t kPerPage>
bool Tree<Record, kWords, kPerPage>::AdoptLeaf(const hg_slot& slot, const Path& path,
                                               absl::FunctionRef<bool(const Record&)> claim) {
  const uint32_t first = TreeRef::Index(slot.ref), count = TreeRef::Count(slot.ref);
  if (count > HG_LEAF_ENTRIES || !Fits(first, count, records_.size()) ||
      !records_.CanClaim(first, OrderFor(count)) || source_.PriorityOf(records_[first]) != slot.prio) {
    return false;
  }
  records_.Claim(first, OrderFor(count));
  uint32_t above = std::numeric_limits<uint32_t>::max();
  for (uint32_t i = 0; i < count; ++i) {
    const Record& record = records_[first + i];
    const uint32_t prio = source_.PriorityOf(record);
    if (prio == 0 || prio > above || !claim(record) || !LeadsTo(path, source_.KeyOf(record))) return false;
    above = prio;
  }
  return true;
}

// A node and its slots, which it names.
template <typename Record, unsigned kWords, uint32_t kPerPage>
bool Tree<Record, kWords, kPerPage>::ClaimNode(uint32_t node) {
  if (!Fits(node, 1, store_.nodes.size()) || !store_.nodes.CanClaim(node, 0)) return false;
  const hg_node n = store_.nodes[node];
  if (n.bits > HG_WINDOW_BITS || n.word >= kWords || n.shift + n.bits > 32 ||
      !Fits(n.base, 1U << n.bits, store_.slots.size()) || !store_.slots.CanClaim(n.base, n.bits)) {
    return false;
  }
  store_.nodes.Claim(node, 0);
  store_.slots.Claim(n.base, n.bits);
  return true;
}

// A loop, for chains may be long.
template <typename Record, unsigned kWords, uint32_t kPerPage>
bool Tree<Record, kWords, kPerPage>::AdoptChain(hg_slot slot, const Path& path,
                                                absl::FunctionRef<bool(const Record&)> claim) {
  std::vector<uint32_t> chain;
  while (TreeRef::IsNode(slot.ref)) {
    const uint32_t node = TreeRef::Index(slot.ref);
    if (!ClaimNode(node) || !IsChain(store_.nodes[node])) return false;
    const hg_node n = store_.nodes[node];
    const hg_slot leaf = store_.slots[n.base];
    if (TreeRef::Count(leaf.ref) == 0 || n.rest == 0 || std::max(leaf.prio, n.rest_prio) != slot.prio ||
        !AdoptLeaf(leaf, path, claim)) {
      return false;
    }
    chain.push_back(node);
    slot = {n.rest_prio, n.rest};
  }
  if (!AdoptLeaf(slot, path, claim)) return false;
  uint32_t records = TreeRef::Count(slot.ref);
  for (auto node = chain.rbegin(); node != chain.rend(); ++node) {
    records += TreeRef::Count(store_.slots[store_.nodes[*node].base].ref);
    store_.sizes[*node] = {records, records};
  }
  return true;
}

template <typename Record, unsigned kWords, uint32_t kPerPage>
bool Tree<Record, kWords, kPerPage>::AdoptNode(const hg_slot& slot, unsigned depth, Path& path,
                                               absl::FunctionRef<bool(const Record&)> claim) {
  const uint32_t node = TreeRef::Index(slot.ref);
  // Room in the walk's stack for this one and for a chain below.
  if (depth + 1 >= HG_TREE_STACK || path.size() >= kMaxPath || !ClaimNode(node)) return false;
  const hg_node n = store_.nodes[node];
  uint32_t records = 0;
  const auto adopt = [&](const hg_slot& below, unsigned its_depth, std::optional<uint32_t> child) {
    path.push_back({WindowOf(n), child});
    const bool good = AdoptAt(below, its_depth, path, claim);
    path.pop_back();
    records += good ? RecordsOf(below.ref) : 0;
    return good;
  };
  for (uint32_t i = 0; i < (1U << n.bits); ++i) {
    if (!adopt(store_.slots[n.base + i], depth + 1, i)) return false;
  }
  if (!adopt({n.rest_prio, n.rest}, depth, std::nullopt)) return false;
  store_.sizes[node] = {records, records};
  return Highest(n) == slot.prio;
}

template <typename Record, unsigned kWords, uint32_t kPerPage>
bool Tree<Record, kWords, kPerPage>::AdoptAt(const hg_slot& slot, unsigned depth, Path& path,
                                             absl::FunctionRef<bool(const Record&)> claim) {
  if (slot.ref == 0) return slot.prio == 0;
  if (!TreeRef::IsNode(slot.ref)) return AdoptLeaf(slot, path, claim);
  const uint32_t node = TreeRef::Index(slot.ref);
  if (!Fits(node, 1, store_.nodes.size())) return false;
  return IsChain(store_.nodes[node]) ? AdoptChain(slot, path, claim) : AdoptNode(slot, depth, path, claim);
}

template <typename Record, unsigned kWords, uint32_t kPerPage>
hg_slot Tree<Record, kWords, kPerPage>::RootOf(uint32_t ref) const {
  if (!TreeRef::IsNode(ref)) {
    const uint32_t first = TreeRef::Index(ref);
    return {Fits(first, 1, records_.size()) ? source_.PriorityOf(records_[first]) : 0, ref};
  }
  const uint32_t node = TreeRef::Index(ref);
  if (!Fits(node, 1, store_.nodes.size())) return {0, ref};
  const hg_node& n = store_.nodes[node];
  const bool sound = n.bits <= HG_WINDOW_BITS && Fits(n.base, 1U << n.bits, store_.slots.size());
  return {sound ? Highest(n) : 0, ref};
}

template <typename Record, unsigned kWords, uint32_t kPerPage>
bool Tree<Record, kWords, kPerPage>::Adopt(hg_slot root, absl::FunctionRef<bool(const Record&)> claim) {
  store_.CoverNodes();
  Path path;
  return AdoptAt(root, 0, path, claim);
}

template const hg_rule* RuleTree::Find(uint32_t, const Ternary<HG_WORDS_USED>&,
                                       absl::FunctionRef<bool(const hg_rule&)>) const;
template void RuleTree::ForEach(uint32_t, absl::FunctionRef<void(const hg_rule&)>) const;
template TreeShape RuleTree::Shape(uint32_t) const;
template hg_slot RuleTree::RootOf(uint32_t) const;
template bool RuleTree::Adopt(hg_slot, absl::FunctionRef<bool(const hg_rule&)>);
template const hg_prefix* PrefixTree::Find(uint32_t, const Ternary<4>&,
                                           absl::FunctionRef<bool(const hg_prefix&)>) const;
template void PrefixTree::ForEach(uint32_t, absl::FunctionRef<void(const hg_prefix&)>) const;
template TreeShape PrefixTree::Shape(uint32_t) const;
template hg_slot PrefixTree::RootOf(uint32_t) const;
template bool PrefixTree::Adopt(hg_slot, absl::FunctionRef<bool(const hg_prefix&)>);

}  // namespace headgate
