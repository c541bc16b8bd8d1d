// SPDX-License-Identifier: Apache-2.0
//
// The bit-selection decision tree that classify.bpf.c walks (ADR 2): built, changed and checked here.
//
// Every entry is in exactly one leaf. An inner node selects a child by a window of key bits; an entry that fixes
// all bits of the window lives below that child, any other below `rest`. So one insertion or removal touches one
// path, and memory is linear in the number of entries whatever they overlap. Changed paths are copied, never
// written where a packet may look.
#pragma once

#include <absl/types/span.h>

#include <array>
#include <bit>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "agent/control/arena.h"
#include "bpf/hg_abi.h"

namespace headgate {

// The bits of the key that an entry fixes, and their values. A range counts as the bits its ends share.
template <unsigned kWords>
struct Ternary {
  std::array<uint32_t, kWords> value{};
  std::array<uint32_t, kWords> mask{};
};

// What a tree needs to know of the entries its leaves refer to.
template <unsigned kWords>
class EntrySource {
 public:
  virtual ~EntrySource() = default;
  virtual Ternary<kWords> Key(uint32_t entry) const = 0;
  virtual uint32_t Priority(uint32_t entry) const = 0;
};

// The nodes and items of all trees.
struct TreeStore {
  // Of a node's subtree.
  struct Size {
    uint32_t entries = 0;  // now
    uint32_t built = 0;    // when its shape was last chosen
  };

  Arena<hg_node, HG_NODES_PER_PAGE> nodes;
  Arena<hg_item, HG_ITEMS_PER_PAGE> items;
  std::vector<Size> sizes;  // by node

  uint32_t AllocateNodes(unsigned order) {
    const uint32_t first = nodes.Allocate(order);
    CoverNodes();
    return first;
  }
  // References to sizes hold until the next call.
  void CoverNodes() { sizes.resize(nodes.size()); }
};

struct TreeShape {
  uint32_t entries = 0;
  uint32_t depth = 0;
  uint32_t longest_walk = 0;  // nodes visited at most
  uint32_t largest_leaf = 0;  // entries
};

// A tree is named by its root node; 0 is the empty tree. Functions that change a tree return its new root.
// Windows are of the first kWords words of the key.
template <unsigned kWords>
class Tree {
 public:
  Tree(TreeStore& store, const EntrySource<kWords>& entries) : store_(store), entries_(entries) {}

  uint32_t Build(absl::Span<const uint32_t> entries);
  uint32_t Insert(uint32_t root, uint32_t entry);
  uint32_t Erase(uint32_t root, uint32_t entry);
  void Free(uint32_t root);

  // The entry with this key for which `is_it` holds; 0 when there is none.
  uint32_t Find(uint32_t root, const Ternary<kWords>& key, const std::function<bool(uint32_t)>& is_it) const;
  void ForEachEntry(uint32_t root, const std::function<void(uint32_t)>& visit) const;
  TreeShape Shape(uint32_t root) const;

  // Takes over a tree that was read back from the kernel: claims its runs and restores sizes. False when it
  // is not one this class could have made; then the whole image must be built anew.
  bool Adopt(uint32_t root, const std::function<bool(uint32_t)>& claim_entry);

 private:
  struct Keyed {
    uint32_t entry;
    uint32_t prio;
    Ternary<kWords> key;
  };
  struct Window {
    uint8_t word = 0, shift = 0, bits = 0;
  };

  // A node passed on the way to a leaf, by one of its children or by its rest.
  struct Step {
    Window window;
    std::optional<uint32_t> child;
  };
  using Path = std::vector<Step>;

  // Whether the key fixes all bits of the window, and then their value.
  static bool Selects(const Ternary<kWords>& key, const Window& window, uint32_t& child) {
    const uint32_t bits = ((1U << window.bits) - 1) << window.shift;
    if ((key.mask[window.word] & bits) != bits) return false;
    child = (key.value[window.word] & bits) >> window.shift;
    return true;
  }
  // Of the run that holds so many cells.
  static unsigned OrderFor(size_t cells) { return static_cast<unsigned>(std::bit_width(cells - 1)); }
  static Window WindowOf(const hg_node& node) { return {node.word, node.shift, node.bits}; }

  Keyed Load(uint32_t entry) const { return {entry, entries_.Priority(entry), entries_.Key(entry)}; }
  // Shapes the subtree at a fresh node. `depth`: child selections on the way here, which bounds the walk's stack.
  void BuildAt(uint32_t node, absl::Span<Keyed> entries, unsigned depth);
  void WriteLeaf(uint32_t node, absl::Span<Keyed> entries);
  bool ChooseWindow(absl::Span<const Keyed> entries, Window& window) const;

  void InsertAt(uint32_t node, const Keyed& entry, unsigned depth);
  void EraseAt(uint32_t node, const Keyed& entry, unsigned depth);
  void RebuildAt(uint32_t node, unsigned depth, const Keyed* extra);
  void Collect(uint32_t node, std::vector<Keyed>& out) const;
  // Frees what hangs below the node, not the node.
  void FreeBelow(uint32_t node);
  // The run itself when fresh, else a fresh copy in its place.
  uint32_t Own(uint32_t run, unsigned order);
  void UpdatePriority(uint32_t node);
  void ShapeOf(uint32_t node, uint32_t depth, TreeShape& shape, uint32_t& walk) const;
  bool AdoptAt(uint32_t node, unsigned depth, Path& path, const std::function<bool(uint32_t)>& claim_entry);
  bool AdoptLeaf(uint32_t node, const Path& path, const std::function<bool(uint32_t)>& claim_entry);
  // Whether an insertion of the key would have come this way.
  static bool LeadsTo(const Path& path, const Ternary<kWords>& key);

  TreeStore& store_;
  const EntrySource<kWords>& entries_;
};

using RuleTree = Tree<HG_WORDS_USED>;
using PrefixTree = Tree<4>;

}  // namespace headgate
