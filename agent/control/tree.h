// SPDX-License-Identifier: Apache-2.0
//
// The bit-selection decision tree that classify.bpf.c walks (ADR 2): built, changed and checked here.
//
// Every record is in exactly one leaf. A node selects a child by a window of key bits; a record that fixes all
// bits of the window lives below that child, any other below `rest`. So one insertion or removal touches one path,
// and memory is linear in the number of records whatever they overlap. Changed paths are copied, never written
// where a packet may look.
#pragma once

#include <absl/functional/function_ref.h>
#include <absl/types/span.h>

#include <array>
#include <bit>
#include <cstdint>
#include <optional>
#include <vector>

#include "agent/control/arena.h"
#include "bpf/hg_abi.h"

namespace headgate {

// The bits of the key that a record fixes, and their values. A range counts as the bits its ends share.
template <unsigned kWords>
struct Ternary {
  std::array<uint32_t, kWords> value{};
  std::array<uint32_t, kWords> mask{};
};

// What a tree needs to know of the records in its leaves.
template <typename Record, unsigned kWords>
class RecordSource {
 public:
  virtual ~RecordSource() = default;
  virtual Ternary<kWords> KeyOf(const Record& record) const = 0;
  virtual uint32_t PriorityOf(const Record& record) const = 0;
};

// The nodes and slots of all trees.
struct TreeStore {
  // Of a node's subtree.
  struct Size {
    uint32_t records = 0;  // now
    uint32_t built = 0;    // when its shape was last chosen
  };

  Arena<hg_node, HG_NODES_PER_PAGE> nodes;
  Arena<hg_slot, HG_SLOTS_PER_PAGE> slots;
  std::vector<Size> sizes;  // by node

  uint32_t AllocateNode() {
    const uint32_t node = nodes.Allocate(0);
    CoverNodes();
    return node;
  }
  // References to sizes hold until the next call.
  void CoverNodes() { sizes.resize(nodes.size()); }
  // The run of slots itself when fresh, else a fresh copy in its place.
  uint32_t OwnSlots(uint32_t base, unsigned order);
};

// A subtree as nodes and slots name it.
struct TreeRef {
  static uint32_t OfNode(uint32_t node) { return node << HG_REF_SHIFT; }
  static uint32_t OfLeaf(uint32_t first, size_t count) {
    return first << HG_REF_SHIFT | static_cast<uint32_t>(count);
  }
  static uint32_t Index(uint32_t ref) { return ref >> HG_REF_SHIFT; }
  // Records of a leaf; 0: a node, or empty.
  static uint32_t Count(uint32_t ref) { return ref & HG_REF_COUNT_MASK; }
  static bool IsNode(uint32_t ref) { return ref != 0 && Count(ref) == 0; }
};

struct TreeShape {
  uint32_t records = 0;
  uint32_t depth = 0;
  uint32_t longest_walk = 0;  // nodes and leaves visited at most
  uint32_t largest_leaf = 0;  // records, of chained leaves together
};

// Whether so many changes to a tree of `records` cost more than a new one, which is better shaped besides.
constexpr bool RebuildPays(uint64_t changes, uint64_t records) { return changes > 64 && changes * 4 > records; }

// A tree is named by its root: a subtree, 0 for the empty one, with the highest priority in it. Functions that
// change a tree return its new root. Windows are of the first kWords words of the key.
template <typename Record, unsigned kWords, uint32_t kPerPage>
class Tree {
 public:
  using Records = Arena<Record, kPerPage>;
  using Source = RecordSource<Record, kWords>;

  Tree(TreeStore& store, Records& records, const Source& source)
      : store_(store), records_(records), source_(source) {}

  hg_slot Build(absl::Span<const Record> records);
  hg_slot Insert(hg_slot root, const Record& record);
  // Takes out the record with this key and priority for which `is_it` holds; it must be there.
  hg_slot Erase(hg_slot root, const Ternary<kWords>& key, uint32_t prio,
                absl::FunctionRef<bool(const Record&)> is_it);
  void Free(uint32_t root);

  // The record with this key for which `is_it` holds, until the tree changes; null when there is none.
  const Record* Find(uint32_t root, const Ternary<kWords>& key,
                     absl::FunctionRef<bool(const Record&)> is_it) const;
  void ForEach(uint32_t root, absl::FunctionRef<void(const Record&)> visit) const;
  TreeShape Shape(uint32_t root) const;

  // Takes over a tree that was read back from the kernel: claims its runs and restores sizes. False when it is not
  // one this class could have made; then the whole image must be built anew.
  bool Adopt(hg_slot root, absl::FunctionRef<bool(const Record&)> claim);
  // The root of a tree that was read back and whose priority is nowhere written; any, when the tree is garbage.
  hg_slot RootOf(uint32_t ref) const;

 private:
  struct Keyed {
    Record record;
    uint32_t prio;
    Ternary<kWords> key;
  };
  struct Window {
    uint8_t word = 0, shift = 0, bits = 0;
  };
  struct Erasure {
    const Ternary<kWords>& key;
    uint32_t prio;
    absl::FunctionRef<bool(const Record&)> is_it;
  };

  // A node passed on the way to a leaf, by one of its children or by its rest.
  struct Step {
    Window window;
    std::optional<uint32_t> child;
  };
  using Path = std::vector<Step>;

  // A leaf of a chain and what is behind it.
  struct Link {
    hg_slot leaf, rest;
  };

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
  // A node of a chain of leaves, as long lists are.
  static bool IsChain(const hg_node& node) { return node.bits == 0; }

  Keyed Load(const Record& record) const { return {record, source_.PriorityOf(record), source_.KeyOf(record)}; }
  uint32_t RecordsOf(uint32_t ref) const {
    return TreeRef::IsNode(ref) ? store_.sizes[TreeRef::Index(ref)].records : TreeRef::Count(ref);
  }

  // tree_build.cpp. `depth`: child selections on the way here, which bounds the walk's stack.
  hg_slot BuildAt(absl::Span<Keyed> records, unsigned depth);
  hg_slot BuildNode(absl::Span<Keyed> records, const Window& window, unsigned depth);
  hg_slot WriteLeaf(absl::Span<Keyed> records);
  hg_slot WriteOneLeaf(absl::Span<const Keyed> records);
  hg_slot WriteChainNode(const hg_slot& leaf, const hg_slot& rest);
  bool ChooseWindow(absl::Span<const Keyed> records, Window& window) const;
  double CostOf(absl::Span<const Ternary<kWords>* const> sample, double scale, const Window& window) const;

  // tree.cpp. Each takes over a subtree and gives the one that is in its place from now on.
  hg_slot InsertAt(hg_slot slot, const Keyed& record, unsigned depth);
  hg_slot EraseAt(hg_slot slot, const Erasure& erasure, unsigned depth);
  hg_slot RebuildAt(uint32_t ref, unsigned depth, const Keyed* extra, const Erasure* erasure);
  // Changes what the node has below it where the key belongs, by `change_below`, which gets that subtree and its
  // depth. Returns the node that is in its place.
  uint32_t ChangeBelow(uint32_t node, const Ternary<kWords>& key, int added, unsigned depth,
                       absl::FunctionRef<hg_slot(const hg_slot&, unsigned)> change_below);
  void Collect(uint32_t ref, std::vector<Keyed>& out) const;
  // The node itself when fresh, else a fresh copy in its place, with slots that are fresh too if asked for.
  uint32_t Own(uint32_t node, bool with_slots);
  uint32_t Highest(const hg_node& node) const;

  // tree_chain.cpp. A chain is named by its first node, with the highest priority in it.
  hg_slot InsertInChain(const hg_slot& chain, const Keyed& record);
  hg_slot EraseFromChain(const hg_slot& chain, const Erasure& erasure);
  Link TakeLeaf(const hg_slot& chain);
  hg_slot SkipAbove(hg_slot chain, uint32_t prio, std::vector<uint32_t>& passed) const;
  hg_slot WriteBefore(std::vector<Keyed>& records, const hg_slot& rest);
  hg_slot Relink(std::vector<uint32_t>& passed, hg_slot behind, uint32_t built);

  // tree_read.cpp
  void ShapeOf(uint32_t ref, uint32_t depth, TreeShape& shape, uint32_t& walk) const;
  bool AdoptAt(const hg_slot& slot, unsigned depth, Path& path, absl::FunctionRef<bool(const Record&)> claim);
  bool AdoptLeaf(const hg_slot& slot, const Path& path, absl::FunctionRef<bool(const Record&)> claim);
  bool AdoptChain(hg_slot slot, const Path& path, absl::FunctionRef<bool(const Record&)> claim);
  bool AdoptNode(const hg_slot& slot, unsigned depth, Path& path, absl::FunctionRef<bool(const Record&)> claim);
  bool ClaimNode(uint32_t node);
  // Whether an insertion of the key would have come this way.
  static bool LeadsTo(const Path& path, const Ternary<kWords>& key);

  TreeStore& store_;
  Records& records_;
  const Source& source_;
};

using RuleTree = Tree<hg_rule, HG_WORDS_USED, HG_RULES_PER_PAGE>;
using PrefixTree = Tree<hg_prefix, 4, HG_PREFIXES_PER_PAGE>;

}  // namespace headgate
