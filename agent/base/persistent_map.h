// SPDX-License-Identifier: Apache-2.0
//
// An immutable map: a copy costs one pointer and shares everything with the original until one of them
// changes, and the difference of two versions is found without visiting what they share. It is what makes
// every generation of the desired state a snapshot.
//
// A fixed tree of three levels of 32 slots over the hash of the key, with a small vector in each of its 32,768
// leaves: right for zero to a few million entries. One thread writes a given copy; any number read others.
#pragma once

#include <absl/hash/hash.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

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
    const Slots slots(key);
    if (!root_) return nullptr;
    const auto& mid = root_->slots[slots.top];
    if (!mid) return nullptr;
    const auto& low = mid->slots[slots.mid];
    if (!low) return nullptr;
    const auto& leaf = low->slots[slots.low];
    if (!leaf) return nullptr;
    for (const V& value : *leaf) {
      if (Traits::KeyOf(value) == key) return &value;
    }
    return nullptr;
  }

  // Inserts, or replaces the value of the same key.
  void Put(V value) {
    Leaf& leaf = MutableLeaf(Slots(Traits::KeyOf(value)));
    for (V& present : leaf) {
      if (Traits::KeyOf(present) == Traits::KeyOf(value)) {
        present = std::move(value);
        return;
      }
    }
    leaf.push_back(std::move(value));
    ++size_;
  }

  // True when the key was there.
  template <typename K>
  bool Erase(const K& key) {
    if (Find(key) == nullptr) return false;
    Leaf& leaf = MutableLeaf(Slots(key));
    for (V& present : leaf) {
      if (Traits::KeyOf(present) == key) {
        std::swap(present, leaf.back());
        leaf.pop_back();
        --size_;
        return true;
      }
    }
    return false;
  }

  // In no particular order.
  template <typename F>
  void ForEach(F&& visit) const {
    if (!root_) return;
    for (const auto& mid : root_->slots) {
      if (!mid) continue;
      for (const auto& low : mid->slots) {
        if (!low) continue;
        for (const auto& leaf : low->slots) {
          if (!leaf) continue;
          for (const V& value : *leaf) visit(value);
        }
      }
    }
  }

  // Calls visit(before, after) for each key whose value differs; one of the two is null when it is missing.
  template <typename F>
  static void ForEachDifference(const PersistentMap& before, const PersistentMap& after, F&& visit) {
    DiffInner(before.root_.get(), after.root_.get(), [&](const Mid* mid_before, const Mid* mid_after) {
      DiffInner(mid_before, mid_after, [&](const Low* low_before, const Low* low_after) {
        DiffInner(low_before, low_after, [&](const Leaf* leaf_before, const Leaf* leaf_after) {
          DiffLeaf(leaf_before, leaf_after, visit);
        });
      });
    });
  }

 private:
  static constexpr size_t kFan = 32;

  template <typename Child>
  struct Inner {
    std::array<std::shared_ptr<Child>, kFan> slots;
  };
  using Leaf = std::vector<V>;
  using Low = Inner<Leaf>;
  using Mid = Inner<Low>;
  using Top = Inner<Mid>;

  struct Slots {
    template <typename K>
    explicit Slots(const K& key) {
      const size_t hash = absl::Hash<Key>{}(key);
      top = hash % kFan;
      mid = hash / kFan % kFan;
      low = hash / kFan / kFan % kFan;
    }
    size_t top, mid, low;
  };

  // A node that only this copy holds may change in place; others are copied first.
  template <typename Node>
  static Node& Own(std::shared_ptr<Node>& node) {
    if (!node) {
      node = std::make_shared<Node>();
    } else if (node.use_count() > 1) {
      node = std::make_shared<Node>(*node);
    } else {
      // Whoever else held it has let go: its reads come before our writes.
      std::atomic_thread_fence(std::memory_order_acquire);
    }
    return *node;
  }

  Leaf& MutableLeaf(const Slots& slots) {
    Mid& mid = Own(Own(root_).slots[slots.top]);
    return Own(Own(mid.slots[slots.mid]).slots[slots.low]);
  }

  template <typename Child, typename F>
  static void DiffInner(const Inner<Child>* before, const Inner<Child>* after, F&& descend) {
    if (before == after) return;
    for (size_t i = 0; i < kFan; ++i) {
      const Child* a = before ? before->slots[i].get() : nullptr;
      const Child* b = after ? after->slots[i].get() : nullptr;
      if (a != b) descend(a, b);
    }
  }

  static const V* FindIn(const Leaf* leaf, const V& like) {
    if (!leaf) return nullptr;
    for (const V& value : *leaf) {
      if (Traits::KeyOf(value) == Traits::KeyOf(like)) return &value;
    }
    return nullptr;
  }

  template <typename F>
  static void DiffLeaf(const Leaf* before, const Leaf* after, F&& visit) {
    if (before) {
      for (const V& old : *before) {
        const V* now = FindIn(after, old);
        if (!now || !Traits::Same(old, *now)) visit(&old, now);
      }
    }
    if (after) {
      for (const V& now : *after) {
        if (!FindIn(before, now)) visit(static_cast<const V*>(nullptr), &now);
      }
    }
  }

  std::shared_ptr<Top> root_;
  size_t size_ = 0;
};

}  // namespace headgate
