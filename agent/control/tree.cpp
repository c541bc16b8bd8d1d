// SPDX-License-Identifier: Apache-2.0
#include "agent/control/tree.h"

#include <algorithm>

namespace headgate {
namespace {

// A subtree is shaped anew when it has grown or shrunk by this factor since.
constexpr uint32_t kRebuildFactor = 2;
constexpr uint32_t kRebuildSlack = 16;
// A node of so few records becomes a leaf.
constexpr uint32_t kLeafRecords = 4;

}  // namespace

template <typename Record, unsigned kWords, uint32_t kPerPage>
uint32_t Tree<Record, kWords, kPerPage>::Own(uint32_t node, bool with_slots) {
  if (!store_.nodes.IsFresh(node)) {
    const uint32_t copy = store_.AllocateNode();
    store_.nodes.Write(copy) = hg_node(store_.nodes[node]);
    store_.sizes[copy] = store_.sizes[node];
    store_.nodes.Release(node, 0);
    node = copy;
  }
  const hg_node n = store_.nodes[node];
  if (with_slots && !store_.slots.IsFresh(n.base)) {
    const uint32_t copy = store_.slots.Allocate(n.bits);
    for (uint32_t i = 0; i < (1U << n.bits); ++i) store_.slots.Write(copy + i) = hg_slot(store_.slots[n.base + i]);
    store_.slots.Release(n.base, n.bits);
    store_.nodes.Write(node).base = copy;
  }
  return node;
}

template <typename Record, unsigned kWords, uint32_t kPerPage>
void Tree<Record, kWords, kPerPage>::Collect(uint32_t ref, std::vector<Keyed>& out) const {
  ForEach(ref, [&](const Record& record) { out.push_back(Load(record)); });
}

template <typename Record, unsigned kWords, uint32_t kPerPage>
void Tree<Record, kWords, kPerPage>::Free(uint32_t ref) {
  // A loop along rest: chains may be long.
  while (TreeRef::IsNode(ref)) {
    const uint32_t node = TreeRef::Index(ref);
    const hg_node n = store_.nodes[node];
    for (uint32_t i = 0; i < (1U << n.bits); ++i) Free(store_.slots[n.base + i].ref);
    store_.slots.Release(n.base, n.bits);
    store_.nodes.Release(node, 0);
    ref = n.rest;
  }
  if (ref != 0) records_.Release(TreeRef::Index(ref), OrderFor(TreeRef::Count(ref)));
}

// The subtree without the record of the erasure, or with one more, in a shape of its own.
template <typename Record, unsigned kWords, uint32_t kPerPage>
hg_slot Tree<Record, kWords, kPerPage>::RebuildAt(uint32_t ref, unsigned depth, const Keyed* extra,
                                                  const Erasure* erasure) {
  // A chain or a leaf that has lost a record is no better split than before.
  const bool leaf = !TreeRef::IsNode(ref) || IsChain(store_.nodes[TreeRef::Index(ref)]);
  std::vector<Keyed> records;
  records.reserve(RecordsOf(ref) + 1);
  Collect(ref, records);
  if (extra) records.push_back(*extra);
  if (erasure) {
    records.erase(std::find_if(records.begin(), records.end(),
                               [&](const Keyed& keyed) { return erasure->is_it(keyed.record); }));
  }
  Free(ref);
  if (erasure && (leaf || records.size() <= kLeafRecords)) return WriteLeaf(absl::MakeSpan(records));
  return BuildAt(absl::MakeSpan(records), depth);
}

template <typename Record, unsigned kWords, uint32_t kPerPage>
hg_slot Tree<Record, kWords, kPerPage>::InsertAt(hg_slot slot, const Keyed& record, unsigned depth) {
  if (!TreeRef::IsNode(slot.ref)) {
    if (TreeRef::Count(slot.ref) >= HG_LEAF_ENTRIES) return RebuildAt(slot.ref, depth, &record, nullptr);
    std::vector<Keyed> records;
    Collect(slot.ref, records);
    records.push_back(record);
    Free(slot.ref);
    return WriteLeaf(absl::MakeSpan(records));
  }
  uint32_t node = TreeRef::Index(slot.ref);
  const TreeStore::Size size = store_.sizes[node];
  if (IsChain(store_.nodes[node])) {
    // Records that no window told apart: tried again when there are half as many more.
    if (size.records >= size.built + size.built / 2) return RebuildAt(slot.ref, depth, &record, nullptr);
    std::vector<Keyed> records;
    Collect(slot.ref, records);
    records.push_back(record);
    Free(slot.ref);
    slot = WriteLeaf(absl::MakeSpan(records));
    store_.sizes[TreeRef::Index(slot.ref)].built = size.built;
    return slot;
  }
  if (size.records >= size.built * kRebuildFactor + kRebuildSlack) {
    return RebuildAt(slot.ref, depth, &record, nullptr);
  }
  uint32_t child = 0;
  const bool selected = Selects(record.key, WindowOf(store_.nodes[node]), child);
  node = Own(node, selected);
  ++store_.sizes[node].records;
  const hg_node n = store_.nodes[node];
  if (selected) {
    const hg_slot below = InsertAt(store_.slots[n.base + child], record, depth + 1);
    store_.slots.Write(n.base + child) = below;
  } else {
    const hg_slot rest = InsertAt({n.rest_prio, n.rest}, record, depth);
    hg_node& owned = store_.nodes.Write(node);
    owned.rest = rest.ref;
    owned.rest_prio = rest.prio;
  }
  return {std::max(slot.prio, record.prio), TreeRef::OfNode(node)};
}

template <typename Record, unsigned kWords, uint32_t kPerPage>
uint32_t Tree<Record, kWords, kPerPage>::Insert(uint32_t root, const Record& record) {
  return InsertAt({0, root}, Load(record), 0).ref;
}

template <typename Record, unsigned kWords, uint32_t kPerPage>
uint32_t Tree<Record, kWords, kPerPage>::Highest(const hg_node& node) const {
  uint32_t prio = node.rest_prio;
  for (uint32_t i = 0; i < (1U << node.bits); ++i) prio = std::max(prio, store_.slots[node.base + i].prio);
  return prio;
}

template <typename Record, unsigned kWords, uint32_t kPerPage>
hg_slot Tree<Record, kWords, kPerPage>::EraseAt(hg_slot slot, const Erasure& erasure, unsigned depth) {
  if (!TreeRef::IsNode(slot.ref)) return RebuildAt(slot.ref, depth, nullptr, &erasure);
  uint32_t node = TreeRef::Index(slot.ref);
  const TreeStore::Size size = store_.sizes[node];
  if (IsChain(store_.nodes[node]) || size.records <= kLeafRecords + 1 ||
      size.records * kRebuildFactor + kRebuildSlack < size.built) {
    return RebuildAt(slot.ref, depth, nullptr, &erasure);
  }
  uint32_t child = 0;
  const bool selected = Selects(erasure.key, WindowOf(store_.nodes[node]), child);
  node = Own(node, selected);
  --store_.sizes[node].records;
  const hg_node n = store_.nodes[node];
  if (selected) {
    const hg_slot below = EraseAt(store_.slots[n.base + child], erasure, depth + 1);
    store_.slots.Write(n.base + child) = below;
  } else {
    const hg_slot rest = EraseAt({n.rest_prio, n.rest}, erasure, depth);
    hg_node& owned = store_.nodes.Write(node);
    owned.rest = rest.ref;
    owned.rest_prio = rest.prio;
  }
  return {Highest(store_.nodes[node]), TreeRef::OfNode(node)};
}

template <typename Record, unsigned kWords, uint32_t kPerPage>
uint32_t Tree<Record, kWords, kPerPage>::Erase(uint32_t root, const Ternary<kWords>& key,
                                               absl::FunctionRef<bool(const Record&)> is_it) {
  return EraseAt({0, root}, {key, is_it}, 0).ref;
}

template uint32_t RuleTree::Insert(uint32_t, const hg_rule&);
template uint32_t RuleTree::Erase(uint32_t, const Ternary<HG_WORDS_USED>&,
                                  absl::FunctionRef<bool(const hg_rule&)>);
template void RuleTree::Free(uint32_t);
template uint32_t RuleTree::Highest(const hg_node&) const;
template uint32_t PrefixTree::Insert(uint32_t, const hg_prefix&);
template uint32_t PrefixTree::Erase(uint32_t, const Ternary<4>&, absl::FunctionRef<bool(const hg_prefix&)>);
template void PrefixTree::Free(uint32_t);
template uint32_t PrefixTree::Highest(const hg_node&) const;

}  // namespace headgate
