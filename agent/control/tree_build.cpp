// SPDX-License-Identifier: Apache-2.0
//
// Trees built: which window a node has, and when records are few enough, or too much alike, for a leaf.
#include <algorithm>
#include <cmath>

#include "agent/control/tree.h"

namespace headgate {
namespace {

// Leaves are built this small, so that they have room to grow before they split.
constexpr size_t kLeafTarget = 4;
// Windows are judged by this many records of a node.
constexpr size_t kSample = 512;

// What a walk through a subtree of n records is expected to cost, in node visits; fitted to ClassBench sets.
double WalkCost(double n) {
  if (n <= 0) return 0;
  if (n <= 2) return 0.9;
  if (n <= kLeafTarget) return 0.7 + n * 0.15;
  return 0.7 + kLeafTarget * 0.15 + 1.5 * std::log2(n / kLeafTarget);
}

double LeafCost(double n) { return 0.5 + n * 0.35; }

}  // namespace

// Of a node with this window, judged by a sample that stands for `scale` times as many; infinite when it would not
// come to an end: when a child or the rest is all there is.
template <typename Record, unsigned kWords, uint32_t kPerPage>
double Tree<Record, kWords, kPerPage>::CostOf(absl::Span<const Ternary<kWords>* const> sample, double scale,
                                              const Window& window) const {
  std::array<uint32_t, 1U << HG_WINDOW_BITS> counts;
  std::fill_n(counts.begin(), 1U << window.bits, 0);
  uint32_t selected = 0, child = 0;
  for (const Ternary<kWords>* key : sample) {
    if (!Selects(*key, window, child)) continue;
    ++counts[child];
    ++selected;
  }
  double below = 0;
  uint32_t largest = 0;
  for (unsigned i = 0; i < (1U << window.bits); ++i) {
    if (counts[i] != 0) below += counts[i] * WalkCost(counts[i] * scale);
    largest = std::max(largest, counts[i]);
  }
  if (selected == 0 || largest == sample.size()) return std::numeric_limits<double>::infinity();
  const double rest = static_cast<double>(sample.size() - selected) * scale;
  const double records = static_cast<double>(sample.size()) * scale;
  // Pending subtrees are often not visited, when a better match was found before them.
  return 1 + below / selected + WalkCost(rest) + 0.02 * (1U << window.bits) * kLeafTarget / records;
}

// Tries every window that begins and ends with a bit that tells records apart. False when a leaf is better.
template <typename Record, unsigned kWords, uint32_t kPerPage>
bool Tree<Record, kWords, kPerPage>::ChooseWindow(absl::Span<const Keyed> records, Window& window) const {
  const size_t step = std::max<size_t>(1, records.size() / kSample);
  std::vector<const Ternary<kWords>*> sample;
  for (size_t i = 0; i < records.size(); i += step) sample.push_back(&records[i].key);
  const double scale = static_cast<double>(records.size()) / static_cast<double>(sample.size());
  unsigned max_bits = 1;
  while (max_bits < HG_WINDOW_BITS && (1U << max_bits) * kLeafTarget < records.size() * 2) ++max_bits;

  double best = LeafCost(static_cast<double>(records.size()));
  bool found = false;
  for (unsigned word = 0; word < kWords; ++word) {
    uint32_t any_one = 0, any_zero = 0;
    for (const Ternary<kWords>* key : sample) {
      any_one |= key->value[word] & key->mask[word];
      any_zero |= ~key->value[word] & key->mask[word];
    }
    const uint32_t telling = any_one & any_zero;
    for (unsigned shift = 0; shift < 32; ++shift) {
      if ((telling >> shift & 1) == 0) continue;
      for (unsigned bits = 1; bits <= max_bits && shift + bits <= 32; ++bits) {
        if ((telling >> (shift + bits - 1) & 1) == 0) continue;
        const Window candidate{static_cast<uint8_t>(word), static_cast<uint8_t>(shift),
                               static_cast<uint8_t>(bits)};
        const double cost = CostOf(sample, scale, candidate);
        if (cost >= best) continue;
        best = cost;
        window = candidate;
        found = true;
      }
    }
  }
  return found;
}

template <typename Record, unsigned kWords, uint32_t kPerPage>
hg_slot Tree<Record, kWords, kPerPage>::WriteOneLeaf(absl::Span<const Keyed> records) {
  const uint32_t first = records_.Allocate(OrderFor(records.size()));
  for (uint32_t i = 0; i < records.size(); ++i) records_.Write(first + i) = records[i].record;
  return {records[0].prio, TreeRef::OfLeaf(first, records.size())};
}

template <typename Record, unsigned kWords, uint32_t kPerPage>
hg_slot Tree<Record, kWords, kPerPage>::WriteChainNode(const hg_slot& leaf, const hg_slot& rest) {
  const uint32_t base = store_.slots.Allocate(0);
  store_.slots.Write(base) = leaf;
  const uint32_t node = store_.AllocateNode();
  store_.nodes.Write(node) = {.base = base, .rest = rest.ref, .rest_prio = rest.prio};
  const uint32_t size = RecordsOf(leaf.ref) + RecordsOf(rest.ref);
  store_.sizes[node] = {size, size};
  return {leaf.prio, TreeRef::OfNode(node)};
}

// A list of any length: a leaf, or a chain of nodes without a window, each with a leaf as its child.
template <typename Record, unsigned kWords, uint32_t kPerPage>
hg_slot Tree<Record, kWords, kPerPage>::WriteLeaf(absl::Span<Keyed> records) {
  if (records.empty()) return {};
  std::sort(records.begin(), records.end(), [](const Keyed& a, const Keyed& b) { return a.prio > b.prio; });
  // From the end, so that each node can name its rest.
  const size_t last = (records.size() - 1) / HG_LEAF_ENTRIES * HG_LEAF_ENTRIES;
  hg_slot rest = WriteOneLeaf(records.subspan(last));
  for (size_t from = last; from != 0;) {
    from -= HG_LEAF_ENTRIES;
    rest = WriteChainNode(WriteOneLeaf(records.subspan(from, HG_LEAF_ENTRIES)), rest);
  }
  return rest;
}

template <typename Record, unsigned kWords, uint32_t kPerPage>
hg_slot Tree<Record, kWords, kPerPage>::BuildNode(absl::Span<Keyed> records, const Window& window,
                                                  unsigned depth) {
  // Children in order, then the rest.
  const auto place = [&window](const Keyed& record) {
    uint32_t child = 0;
    return Selects(record.key, window, child) ? child : 1U << window.bits;
  };
  std::sort(records.begin(), records.end(), [&](const Keyed& a, const Keyed& b) { return place(a) < place(b); });
  const uint32_t node = store_.AllocateNode();
  const uint32_t base = store_.slots.Allocate(window.bits);
  uint32_t prio = 0;
  size_t from = 0;
  for (uint32_t child = 0; child < (1U << window.bits); ++child) {
    size_t to = from;
    while (to < records.size() && place(records[to]) == child) ++to;
    const hg_slot slot = BuildAt(records.subspan(from, to - from), depth + 1);
    store_.slots.Write(base + child) = slot;
    prio = std::max(prio, slot.prio);
    from = to;
  }
  const hg_slot rest = BuildAt(records.subspan(from), depth);
  store_.nodes.Write(node) = {.base = base,
                              .rest = rest.ref,
                              .rest_prio = rest.prio,
                              .word = window.word,
                              .shift = window.shift,
                              .bits = window.bits};
  const auto size = static_cast<uint32_t>(records.size());
  store_.sizes[node] = {size, size};
  return {std::max(prio, rest.prio), TreeRef::OfNode(node)};
}

template <typename Record, unsigned kWords, uint32_t kPerPage>
hg_slot Tree<Record, kWords, kPerPage>::BuildAt(absl::Span<Keyed> records, unsigned depth) {
  Window window;
  // A chain takes a place in the walk's stack too.
  if (records.size() <= kLeafTarget || depth + 1 >= HG_TREE_STACK || !ChooseWindow(records, window)) {
    return WriteLeaf(records);
  }
  return BuildNode(records, window, depth);
}

template <typename Record, unsigned kWords, uint32_t kPerPage>
hg_slot Tree<Record, kWords, kPerPage>::Build(absl::Span<const Record> records) {
  std::vector<Keyed> keyed;
  keyed.reserve(records.size());
  for (const Record& record : records) keyed.push_back(Load(record));
  return BuildAt(absl::MakeSpan(keyed), 0);
}

template hg_slot RuleTree::BuildAt(absl::Span<Keyed>, unsigned);
template hg_slot RuleTree::WriteLeaf(absl::Span<Keyed>);
template hg_slot RuleTree::WriteOneLeaf(absl::Span<const Keyed>);
template hg_slot RuleTree::WriteChainNode(const hg_slot&, const hg_slot&);
template hg_slot RuleTree::Build(absl::Span<const hg_rule>);
template hg_slot PrefixTree::BuildAt(absl::Span<Keyed>, unsigned);
template hg_slot PrefixTree::WriteLeaf(absl::Span<Keyed>);
template hg_slot PrefixTree::WriteOneLeaf(absl::Span<const Keyed>);
template hg_slot PrefixTree::WriteChainNode(const hg_slot&, const hg_slot&);
template hg_slot PrefixTree::Build(absl::Span<const hg_prefix>);

}  // namespace headgate
