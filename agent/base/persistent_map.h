// SPDX-License-Identifier: Apache-2.0
//
// An immutable map: a copy costs one pointer and shares everything with the original until one of them
// changes, and the difference of two versions is found without visiting what they share. It is what makes
// every generation of the desired state a snapshot.
//
// A fixed tree of five levels of 8 slots over the hash of the key, with a small array in each of its 32,768
// leaves: right for zero to a few million entries. A change copies one path, of 40 pointers. One thread writes a
// given copy; any number read others.
#pragma once

#include <absl/hash/hash.h>
#include <absl/strings/string_view.h>

#include <cstddef>
#include <type_traits>
#include <utility>

#include "agent/base/shared_node.h"

namespace headgate {

// Traits<V> has: KeyOf(const V&), the key; Same(const V&, const V&), whether two values of one key are the same
// version.
template <typename V, typename Traits>
class PersistentMap {
 public:
  using Key = std::decay_t<decltype(Traits::KeyOf(std::declval<const V&>()))>;

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }

  template <typename K>
  const V* Find(const K& key) const {
    return FindBelow(root_.get(), Hash(key), key);
  }

  // Inserts, or replaces the value of the same key.
  void Put(V value) {
    LeafRef& leaf = OwnPath(root_, Hash(Traits::KeyOf(value)));
    const V* present = FindIn(leaf.get(), Traits::KeyOf(value));
    const size_t at = present ? static_cast<size_t>(present - leaf->begin()) : 0;
    OwnLeaf(leaf, present ? 0 : 1);
    if (present) {
      leaf->begin()[at] = std::move(value);
    } else {
      leaf->Append(std::move(value));
      ++size_;
    }
  }

  // True when the key was there.
  template <typename K>
  bool Erase(const K& key) {
    if (Find(key) == nullptr) return false;
    LeafRef& leaf = OwnPath(root_, Hash(key));
    OwnLeaf(leaf, 0);
    leaf->Remove(const_cast<V*>(FindIn(leaf.get(), key)));
    if (leaf->size() == 0) leaf = LeafRef();
    --size_;
    return true;
  }

  // In no particular order.
  template <typename F>
  void ForEach(F&& visit) const {
    VisitBelow(root_.get(), visit);
  }

  // Calls visit(before, after) for each key whose value differs; one of the two is null when it is missing.
  template <typename F>
  static void ForEachDifference(const PersistentMap& before, const PersistentMap& after, F&& visit) {
    Differ(before.root_.get(), after.root_.get(), visit);
  }

 private:
  static constexpr size_t kFan = 8;

  using Leaf = SharedLeaf<V>;
  using LeafRef = NodeRef<Leaf>;
  template <typename Child>
  using Inner = SharedInner<Child, kFan>;
  using Root = Inner<Inner<Inner<Inner<Inner<Leaf>>>>>;

  // Of text, whatever holds it.
  template <typename K>
  static size_t Hash(const K& key) {
    if constexpr (std::is_convertible_v<const K&, absl::string_view>) {
      return absl::Hash<absl::string_view>{}(key);
    } else {
      return absl::Hash<Key>{}(key);
    }
  }

  template <typename K>
  static const V* FindIn(const Leaf* leaf, const K& key) {
    if (!leaf) return nullptr;
    for (const V& value : *leaf) {
      if (Traits::KeyOf(value) == key) return &value;
    }
    return nullptr;
  }
  template <typename K>
  static const V* FindBelow(const Leaf* leaf, size_t, const K& key) {
    return FindIn(leaf, key);
  }
  template <typename Child, typename K>
  static const V* FindBelow(const Inner<Child>* node, size_t hash, const K& key) {
    return node ? FindBelow(node->slots[hash % kFan].get(), hash / kFan, key) : nullptr;
  }

  // A node that only this copy holds may change in place; others are copied first.
  static LeafRef& OwnPath(LeafRef& leaf, size_t) { return leaf; }
  template <typename Child>
  static LeafRef& OwnPath(NodeRef<Inner<Child>>& node, size_t hash) {
    if (!node) {
      node = NodeRef<Inner<Child>>(new Inner<Child>);
    } else if (!node.IsOnly()) {
      node = NodeRef<Inner<Child>>(new Inner<Child>(*node.get()));
    }
    return OwnPath(node->slots[hash % kFan], hash / kFan);
  }

  // With room for `more` values.
  static void OwnLeaf(LeafRef& leaf, size_t more) {
    const size_t size = leaf ? leaf->size() : 0;
    const bool only = leaf && leaf.IsOnly();
    if (only && size + more <= leaf->capacity()) return;
    // Most leaves have a few values and no room to spare; large ones grow by steps.
    LeafRef fresh = Leaf::Make(size + more + (only ? size / 4 : 0));
    if (only) {
      for (V& value : *leaf.get()) fresh->Append(std::move(value));
    } else if (leaf) {
      for (const V& value : *leaf.get()) fresh->Append(value);
    }
    leaf = std::move(fresh);
  }

  template <typename F>
  static void VisitBelow(const Leaf* leaf, F& visit) {
    if (!leaf) return;
    for (const V& value : *leaf) visit(value);
  }
  template <typename Child, typename F>
  static void VisitBelow(const Inner<Child>* node, F& visit) {
    if (!node) return;
    for (const auto& child : node->slots) VisitBelow(child.get(), visit);
  }

  template <typename F>
  static void Differ(const Leaf* before, const Leaf* after, F& visit) {
    if (before == after) return;
    if (before) {
      for (const V& old : *before) {
        const V* now = FindIn(after, Traits::KeyOf(old));
        if (!now || !Traits::Same(old, *now)) visit(&old, now);
      }
    }
    if (after) {
      for (const V& now : *after) {
        if (!FindIn(before, Traits::KeyOf(now))) visit(static_cast<const V*>(nullptr), &now);
      }
    }
  }
  template <typename Child, typename F>
  static void Differ(const Inner<Child>* before, const Inner<Child>* after, F& visit) {
    if (before == after) return;
    for (size_t i = 0; i < kFan; ++i) {
      Differ(before ? before->slots[i].get() : nullptr, after ? after->slots[i].get() : nullptr, visit);
    }
  }

  NodeRef<Root> root_;
  size_t size_ = 0;
};

}  // namespace headgate
