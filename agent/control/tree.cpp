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

uint32_t TreeStore::OwnSlots(uint32_t base, unsigned order) {
  if (slots.IsFresh(base)) return base;
  const uint32_t copy = slots.Allocate(order);
  for (uint32_t i = 0; i < (1U << order); ++i) slots.Write(copy + i) = hg_slot(slots[base + i]);
  slots.Release(base, order);
  return copy;
}

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
  if (with_slots && !store_.slots.IsFresh(n.base)) store_.nodes.Write(node).base = store_.OwnSlots(n.base, n.bits);
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
uint32_t Tree<Record, kWords, kPerPage>::ChangeBelow(
    uint32_t node, const Ternary<kWords>& key, int added, unsigned depth,
    absl::FunctionRef<hg_slot(const hg_slot&, unsigned)> change_below) {
  uint32_t child = 0;
  const bool selected = Selects(key, WindowOf(store_.nodes[node]), child);
  node = Own(node, selected);
  store_.sizes[node].records += static_cast<uint32_t>(added);
  const hg_node n = store_.nodes[node];
  if (selected) {
    const hg_slot below = change_below(hg_slot(store_.slots[n.base + child]), depth + 1);
    store_.slots.Write(n.base + child) = below;
  } else {
    const hg_slot rest = change_below({n.rest_prio, n.rest}, depth);
    hg_node& owned = store_.nodes.Write(node);
    owned.rest = rest.ref;
    owned.rest_prio = rest.prio;
  }
  return node;
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
    return InsertInChain(slot, record);
  }
  if (size.records >= size.built * kRebuildFactor + kRebuildSlack) {
    return RebuildAt(slot.ref, depth, &record, nullptr);
  }
  node = ChangeBelow(node, record.key, 1, depth,
                     [&](const hg_slot& below, unsigned its_depth) { return InsertAt(below, record, its_depth); });
  return {std::max(slot.prio, record.prio), TreeRef::OfNode(node)};
}

template <typename Record, unsigned kWords, uint32_t kPerPage>
hg_slot Tree<Record, kWords, kPerPage>::Insert(hg_slot root, const Record& record) {
  return InsertAt(root, Load(record), 0);
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
  if (size.records <= kLeafRecords + 1 || size.records * kRebuildFactor + kRebuildSlack < size.built) {
    return RebuildAt(slot.ref, depth, nullptr, &erasure);
  }
  if (IsChain(store_.nodes[node])) return EraseFromChain(slot, erasure);
  node = ChangeBelow(node, erasure.key, -1, depth,
                     [&](const hg_slot& below, unsigned its_depth) { return EraseAt(below, erasure, its_depth); });
  return {Highest(store_.nodes[node]), TreeRef::OfNode(node)};
}

template <typename Record, unsigned kWords, uint32_t kPerPage>
hg_slot Tree<Record, kWords, kPerPage>::Erase(hg_slot root, const Ternary<kWords>& key, uint32_t prio,
                                              absl::FunctionRef<bool(const Record&)> is_it) {
  return EraseAt(root, {key, prio, is_it}, 0);
}

template hg_slot RuleTree::Insert(hg_slot, const hg_rule&);
template hg_slot RuleTree::Erase(hg_slot, const Ternary<HG_WORDS_USED>&, uint32_t,
                                 absl::FunctionRef<bool(const hg_rule&)>);
template void RuleTree::Free(uint32_t);
template void RuleTree::Collect(uint32_t, std::vector<Keyed>&) const;
template uint32_t RuleTree::Own(uint32_t, bool);
template uint32_t RuleTree::Highest(const hg_node&) const;
template hg_slot PrefixTree::Insert(hg_slot, const hg_prefix&);
template hg_slot PrefixTree::Erase(hg_slot, const Ternary<4>&, uint32_t,
                                   absl::FunctionRef<bool(const hg_prefix&)>);
template void PrefixTree::Free(uint32_t);
template void PrefixTree::Collect(uint32_t, std::vector<Keyed>&) const;
template uint32_t PrefixTree::Own(uint32_t, bool);
template uint32_t PrefixTree::Highest(const hg_node&) const;

}  // namespace headgate
