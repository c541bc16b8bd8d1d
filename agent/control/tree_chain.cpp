// SPDX-License-Identifier: Apache-2.0
//
// Chains of leaves changed: lists of records that no window tells apart, in falling order of priority. A change
// writes the leaf that it is in, and the nodes before, which have to name what is behind them; leaves before it
// and all that is behind stay as they are.
#include <algorithm>

#include "agent/control/tree.h"

namespace headgate {
namespace {

// Two leaves that hold so few together become one; below what a leaf holds, so that it does not split at once.
constexpr uint32_t kMergedRecords = HG_LEAF_ENTRIES - 2;

}  // namespace

// The leaf of a chain's first node, or the chain's last leaf, with what is behind it. Takes the node out.
template <typename Record, unsigned kWords, uint32_t kPerPage>
auto Tree<Record, kWords, kPerPage>::TakeLeaf(const hg_slot& chain) -> Link {
  if (!TreeRef::IsNode(chain.ref)) return {chain, {}};
  const uint32_t node = TreeRef::Index(chain.ref);
  const hg_node n = store_.nodes[node];
  const Link link{store_.slots[n.base], {n.rest_prio, n.rest}};
  store_.slots.Release(n.base, 0);
  store_.nodes.Release(node, 0);
  return link;
}

// Goes on along a chain while what is behind holds records above `prio`; nodes passed are added to `passed`.
template <typename Record, unsigned kWords, uint32_t kPerPage>
hg_slot Tree<Record, kWords, kPerPage>::SkipAbove(hg_slot chain, uint32_t prio,
                                                  std::vector<uint32_t>& passed) const {
  while (TreeRef::IsNode(chain.ref)) {
    const uint32_t node = TreeRef::Index(chain.ref);
    const hg_node& n = store_.nodes[node];
    if (n.rest_prio <= prio) break;
    passed.push_back(node);
    chain = {n.rest_prio, n.rest};
  }
  return chain;
}

// Leaves of these records, which are few, before `rest`.
template <typename Record, unsigned kWords, uint32_t kPerPage>
hg_slot Tree<Record, kWords, kPerPage>::WriteBefore(std::vector<Keyed>& records, const hg_slot& rest) {
  if (records.empty()) return rest;
  std::sort(records.begin(), records.end(), [](const Keyed& a, const Keyed& b) { return a.prio > b.prio; });
  const absl::Span<const Keyed> all(records);
  const size_t first = all.size() > HG_LEAF_ENTRIES ? all.size() / 2 : all.size();
  hg_slot behind = rest;
  if (first < all.size()) {
    const hg_slot second = WriteOneLeaf(all.subspan(first));
    behind = rest.ref != 0 ? WriteChainNode(second, rest) : second;
  }
  const hg_slot leaf = WriteOneLeaf(all.first(first));
  return behind.ref != 0 ? WriteChainNode(leaf, behind) : leaf;
}

// The chain of the nodes passed, with `behind` in place of what was behind them.
template <typename Record, unsigned kWords, uint32_t kPerPage>
hg_slot Tree<Record, kWords, kPerPage>::Relink(std::vector<uint32_t>& passed, hg_slot behind, uint32_t built) {
  if (behind.ref == 0 && !passed.empty()) {
    behind = TakeLeaf({0, TreeRef::OfNode(passed.back())}).leaf;
    passed.pop_back();
  }
  for (; !passed.empty(); passed.pop_back()) {
    const uint32_t node = Own(passed.back(), false);
    hg_node& owned = store_.nodes.Write(node);
    owned.rest = behind.ref;
    owned.rest_prio = behind.prio;
    const hg_slot& leaf = store_.slots[owned.base];
    store_.sizes[node].records = RecordsOf(leaf.ref) + RecordsOf(behind.ref);
    behind = {std::max(leaf.prio, behind.prio), TreeRef::OfNode(node)};
  }
  if (TreeRef::IsNode(behind.ref)) store_.sizes[TreeRef::Index(behind.ref)].built = built;
  return behind;
}

template <typename Record, unsigned kWords, uint32_t kPerPage>
hg_slot Tree<Record, kWords, kPerPage>::InsertInChain(const hg_slot& chain, const Keyed& record) {
  const uint32_t built = store_.sizes[TreeRef::Index(chain.ref)].built;
  std::vector<uint32_t> passed;
  const Link link = TakeLeaf(SkipAbove(chain, record.prio, passed));
  std::vector<Keyed> records;
  Collect(link.leaf.ref, records);
  records.push_back(record);
  Free(link.leaf.ref);
  return Relink(passed, WriteBefore(records, link.rest), built);
}

template <typename Record, unsigned kWords, uint32_t kPerPage>
hg_slot Tree<Record, kWords, kPerPage>::EraseFromChain(const hg_slot& chain, const Erasure& erasure) {
  const uint32_t built = store_.sizes[TreeRef::Index(chain.ref)].built;
  std::vector<uint32_t> passed;
  hg_slot at = SkipAbove(chain, erasure.prio, passed);
  std::vector<Keyed> records;
  const auto gone = [&] {
    return std::find_if(records.begin(), records.end(),
                        [&](const Keyed& keyed) { return erasure.is_it(keyed.record); });
  };
  // Others of its priority may be before it.
  while (true) {
    records.clear();
    const bool node = TreeRef::IsNode(at.ref);
    const hg_node n = node ? store_.nodes[TreeRef::Index(at.ref)] : hg_node{};
    Collect(node ? store_.slots[n.base].ref : at.ref, records);
    if (gone() != records.end() || !node) break;
    passed.push_back(TreeRef::Index(at.ref));
    at = {n.rest_prio, n.rest};
  }
  records.erase(gone());
  Link link = TakeLeaf(at);
  Free(link.leaf.ref);
  const bool node = TreeRef::IsNode(link.rest.ref);
  const uint32_t next = node ? store_.slots[store_.nodes[TreeRef::Index(link.rest.ref)].base].ref : link.rest.ref;
  if (next != 0 && records.size() + TreeRef::Count(next) <= kMergedRecords) {
    link = TakeLeaf(link.rest);
    Collect(link.leaf.ref, records);
    Free(link.leaf.ref);
  }
  return Relink(passed, WriteBefore(records, link.rest), built);
}

template hg_slot RuleTree::InsertInChain(const hg_slot&, const Keyed&);
template hg_slot RuleTree::EraseFromChain(const hg_slot&, const Erasure&);
template hg_slot PrefixTree::InsertInChain(const hg_slot&, const Keyed&);
template hg_slot PrefixTree::EraseFromChain(const hg_slot&, const Erasure&);

}  // namespace headgate
