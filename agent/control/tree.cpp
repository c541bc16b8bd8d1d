// SPDX-License-Identifier: Apache-2.0
#include "agent/control/tree.h"

#include <algorithm>
#include <cmath>

namespace headgate {
namespace {

// Leaves are built this small, so that they have room to grow before they split.
constexpr size_t kLeafTarget = 4;
// Windows are judged by this many entries of a node.
constexpr size_t kSample = 512;
// A subtree is shaped anew when it has grown or shrunk by this factor since.
constexpr uint32_t kRebuildFactor = 2;
constexpr uint32_t kRebuildSlack = 16;

// What a walk through a subtree of n entries is expected to cost, in node visits; fitted to ClassBench sets.
double WalkCost(double n) {
  if (n <= 0) return 0;
  if (n <= 2) return 0.9;
  if (n <= kLeafTarget) return 0.7 + n * 0.15;
  return 0.7 + kLeafTarget * 0.15 + 0.35 * std::log2(n / kLeafTarget);
}

double LeafCost(double n) { return 0.5 + n * 0.35; }

}  // namespace

// Tries every window that begins and ends with a bit that tells entries apart.
template <unsigned kWords>
bool Tree<kWords>::ChooseWindow(absl::Span<const Keyed> entries, Window& window) const {
  const size_t step = std::max<size_t>(1, entries.size() / kSample);
  std::vector<const Ternary<kWords>*> sample;
  for (size_t i = 0; i < entries.size(); i += step) sample.push_back(&entries[i].key);
  const double scale = static_cast<double>(entries.size()) / static_cast<double>(sample.size());
  unsigned max_bits = 1;
  while (max_bits < HG_WINDOW_BITS && (1U << max_bits) * kLeafTarget < entries.size() * 2) ++max_bits;

  double best = LeafCost(static_cast<double>(entries.size()));
  bool found = false;
  std::array<uint32_t, 1U << HG_WINDOW_BITS> counts{};
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
        std::fill_n(counts.begin(), 1U << bits, 0);
        uint32_t selected = 0, child = 0;
        for (const Ternary<kWords>* key : sample) {
          if (!Selects(*key, candidate, child)) continue;
          ++counts[child];
          ++selected;
        }
        if (selected == 0) continue;
        double below = 0;
        uint32_t largest = 0;
        for (unsigned i = 0; i < (1U << bits); ++i) {
          if (counts[i] != 0) below += counts[i] * WalkCost(counts[i] * scale);
          largest = std::max(largest, counts[i]);
        }
        const double rest = static_cast<double>(sample.size() - selected);
        // Neither a child nor the rest may be all there is: that would not come to an end.
        if (largest == sample.size() || rest == static_cast<double>(sample.size())) continue;
        // Pending subtrees are often not visited, when a better match was found before them.
        const double cost = 1 + below / selected + (rest > 0 ? 0.8 * WalkCost(rest * scale) : 0) +
                            0.02 * (1U << bits) * kLeafTarget / static_cast<double>(entries.size());
        if (cost < best) {
          best = cost;
          window = candidate;
          found = true;
        }
      }
    }
  }
  return found;
}

// A leaf of any length: nodes of up to HG_LEAF_ITEMS items, chained through rest.
template <unsigned kWords>
void Tree<kWords>::WriteLeaf(uint32_t node, absl::Span<Keyed> entries) {
  std::sort(entries.begin(), entries.end(), [](const Keyed& a, const Keyed& b) { return a.prio > b.prio; });
  store_.sizes[node] = {static_cast<uint32_t>(entries.size()), static_cast<uint32_t>(entries.size())};
  while (true) {
    const size_t count = std::min<size_t>(entries.size(), HG_LEAF_ITEMS);
    hg_node& leaf = store_.nodes.Write(node);
    leaf = {};
    if (count == 0) return;
    leaf.prio = entries[0].prio;
    leaf.count = static_cast<uint8_t>(count);
    leaf.base = store_.items.Allocate(OrderFor(count));
    for (size_t i = 0; i < count; ++i) {
      store_.items.Write(leaf.base + static_cast<uint32_t>(i)) = {entries[i].entry, entries[i].prio};
    }
    entries.remove_prefix(count);
    if (entries.empty()) return;
    const uint32_t next = store_.AllocateNodes(0);
    store_.nodes.Write(node).rest = next;
    node = next;
    store_.sizes[node] = {static_cast<uint32_t>(entries.size()), static_cast<uint32_t>(entries.size())};
  }
}

template <unsigned kWords>
void Tree<kWords>::BuildAt(uint32_t node, absl::Span<Keyed> entries, unsigned depth) {
  Window window;
  if (entries.size() <= kLeafTarget || depth >= HG_TREE_STACK || !ChooseWindow(entries, window)) {
    WriteLeaf(node, entries);
    return;
  }
  // Children in order, then the rest.
  const auto slot = [&window](const Keyed& entry) {
    uint32_t child = 0;
    return Selects(entry.key, window, child) ? child : 1U << window.bits;
  };
  std::sort(entries.begin(), entries.end(), [&](const Keyed& a, const Keyed& b) { return slot(a) < slot(b); });

  uint32_t prio = 0;
  for (const Keyed& entry : entries) prio = std::max(prio, entry.prio);
  const uint32_t base = store_.AllocateNodes(window.bits);
  const uint32_t size = static_cast<uint32_t>(entries.size());
  hg_node inner{.base = base,
                .rest = 0,
                .prio = prio,
                .word = window.word,
                .shift = window.shift,
                .bits = window.bits,
                .count = 0};
  size_t from = 0;
  for (uint32_t child = 0; child < (1U << window.bits); ++child) {
    size_t to = from;
    while (to < entries.size() && slot(entries[to]) == child) ++to;
    BuildAt(base + child, entries.subspan(from, to - from), depth + 1);
    from = to;
  }
  if (from < entries.size()) {
    inner.rest = store_.AllocateNodes(0);
    BuildAt(inner.rest, entries.subspan(from), depth);
  }
  store_.nodes.Write(node) = inner;
  store_.sizes[node] = {size, size};
}

template <unsigned kWords>
uint32_t Tree<kWords>::Build(absl::Span<const uint32_t> entries) {
  if (entries.empty()) return 0;
  std::vector<Keyed> keyed;
  keyed.reserve(entries.size());
  for (const uint32_t entry : entries) keyed.push_back(Load(entry));
  const uint32_t root = store_.AllocateNodes(0);
  BuildAt(root, absl::MakeSpan(keyed), 0);
  return root;
}

template <unsigned kWords>
uint32_t Tree<kWords>::Own(uint32_t run, unsigned order) {
  if (store_.nodes.IsFresh(run)) return run;
  const uint32_t copy = store_.AllocateNodes(order);
  for (uint32_t i = 0; i < (1U << order); ++i) {
    store_.nodes.Write(copy + i) = store_.nodes[run + i];
    store_.sizes[copy + i] = store_.sizes[run + i];
  }
  store_.nodes.Release(run, order);
  return copy;
}

template <unsigned kWords>
void Tree<kWords>::Collect(uint32_t node, std::vector<Keyed>& out) const {
  ForEachEntry(node, [&](uint32_t entry) { out.push_back(Load(entry)); });
}

template <unsigned kWords>
void Tree<kWords>::FreeBelow(uint32_t node) {
  for (bool own = false;; own = true) {
    const hg_node n = store_.nodes[node];
    if (n.bits != 0) {
      for (uint32_t i = 0; i < (1U << n.bits); ++i) FreeBelow(n.base + i);
      store_.nodes.Release(n.base, n.bits);
    } else if (n.count != 0) {
      store_.items.Release(n.base, OrderFor(n.count));
    }
    if (own) store_.nodes.Release(node, 0);
    if (n.rest == 0) return;
    node = n.rest;
  }
}

template <unsigned kWords>
void Tree<kWords>::RebuildAt(uint32_t node, unsigned depth, const Keyed* extra) {
  std::vector<Keyed> entries;
  entries.reserve(store_.sizes[node].entries + 1);
  Collect(node, entries);
  if (extra) entries.push_back(*extra);
  FreeBelow(node);
  BuildAt(node, absl::MakeSpan(entries), depth);
}

// `node` is in a fresh run.
template <unsigned kWords>
void Tree<kWords>::InsertAt(uint32_t node, const Keyed& entry, unsigned depth) {
  hg_node n = store_.nodes[node];
  TreeStore::Size& size = store_.sizes[node];
  const bool leaf = n.bits == 0;
  if (leaf ? size.entries >= HG_LEAF_ITEMS || n.rest != 0
           : size.entries >= size.built * kRebuildFactor + kRebuildSlack) {
    // A long leaf that could not be split is tried again when it has grown by half.
    if (!leaf || size.entries <= HG_LEAF_ITEMS || size.entries >= size.built + size.built / 2) {
      RebuildAt(node, depth, &entry);
      return;
    }
  }
  ++size.entries;
  if (leaf) {
    std::vector<Keyed> entries;
    Collect(node, entries);
    entries.push_back(entry);
    const uint32_t built = size.built;
    FreeBelow(node);
    WriteLeaf(node, absl::MakeSpan(entries));
    store_.sizes[node].built = built;
    return;
  }
  uint32_t child = 0;
  if (Selects(entry.key, WindowOf(n), child)) {
    n.base = Own(n.base, n.bits);
    child += n.base;
    ++depth;
  } else {
    n.rest = n.rest != 0 ? Own(n.rest, 0) : store_.AllocateNodes(0);
    if (store_.nodes[n.rest].prio == 0) store_.sizes[n.rest] = {};
    child = n.rest;
  }
  n.prio = std::max(n.prio, entry.prio);
  store_.nodes.Write(node) = n;
  InsertAt(child, entry, depth);
}

template <unsigned kWords>
uint32_t Tree<kWords>::Insert(uint32_t root, uint32_t entry) {
  if (root == 0) return Build(absl::MakeConstSpan(&entry, 1));
  root = Own(root, 0);
  InsertAt(root, Load(entry), 0);
  return root;
}

template <unsigned kWords>
void Tree<kWords>::UpdatePriority(uint32_t node) {
  hg_node n = store_.nodes[node];
  n.prio = n.rest != 0 ? store_.nodes[n.rest].prio : 0;
  for (uint32_t i = 0; i < (1U << n.bits); ++i) n.prio = std::max(n.prio, store_.nodes[n.base + i].prio);
  store_.nodes.Write(node) = n;
}

// `node` is in a fresh run and holds the entry.
template <unsigned kWords>
void Tree<kWords>::EraseAt(uint32_t node, const Keyed& entry, unsigned depth) {
  hg_node n = store_.nodes[node];
  TreeStore::Size& size = store_.sizes[node];
  --size.entries;
  if (n.bits == 0 || size.entries <= kLeafTarget) {
    std::vector<Keyed> entries;
    Collect(node, entries);
    std::erase_if(entries, [&](const Keyed& e) { return e.entry == entry.entry; });
    FreeBelow(node);
    WriteLeaf(node, absl::MakeSpan(entries));
    return;
  }
  if (size.entries * kRebuildFactor + kRebuildSlack < size.built) {
    std::vector<Keyed> entries;
    Collect(node, entries);
    std::erase_if(entries, [&](const Keyed& e) { return e.entry == entry.entry; });
    FreeBelow(node);
    BuildAt(node, absl::MakeSpan(entries), depth);
    return;
  }
  uint32_t child = 0;
  if (Selects(entry.key, WindowOf(n), child)) {
    n.base = Own(n.base, n.bits);
    store_.nodes.Write(node) = n;
    EraseAt(n.base + child, entry, depth + 1);
  } else {
    n.rest = Own(n.rest, 0);
    store_.nodes.Write(node) = n;
    EraseAt(n.rest, entry, depth);
    if (store_.nodes[n.rest].prio == 0) {
      store_.nodes.Release(n.rest, 0);
      store_.nodes.Write(node).rest = 0;
    }
  }
  if (entry.prio == n.prio) UpdatePriority(node);
}

template <unsigned kWords>
uint32_t Tree<kWords>::Erase(uint32_t root, uint32_t entry) {
  if (store_.sizes[root].entries == 1) {
    Free(root);
    return 0;
  }
  root = Own(root, 0);
  EraseAt(root, Load(entry), 0);
  return root;
}

template <unsigned kWords>
void Tree<kWords>::Free(uint32_t root) {
  if (root == 0) return;
  FreeBelow(root);
  store_.nodes.Release(root, 0);
}

template uint32_t Tree<HG_WORDS_USED>::Build(absl::Span<const uint32_t>);
template uint32_t Tree<HG_WORDS_USED>::Insert(uint32_t, uint32_t);
template uint32_t Tree<HG_WORDS_USED>::Erase(uint32_t, uint32_t);
template void Tree<HG_WORDS_USED>::Free(uint32_t);
template uint32_t Tree<4>::Build(absl::Span<const uint32_t>);
template uint32_t Tree<4>::Insert(uint32_t, uint32_t);
template uint32_t Tree<4>::Erase(uint32_t, uint32_t);
template void Tree<4>::Free(uint32_t);

}  // namespace headgate
