// SPDX-License-Identifier: Apache-2.0
//
// What persistent_map.h is made of: nodes that hold the number of their references, and pointers of one word to
// them. A node is destroyed with its last reference, on whichever thread that is.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>

namespace headgate {

// Node has an atomic `references` and a static Destroy().
template <typename Node>
class NodeRef {
 public:
  NodeRef() = default;
  explicit NodeRef(Node* fresh) : node_(fresh) { Add(); }
  NodeRef(const NodeRef& other) : node_(other.node_) { Add(); }
  NodeRef(NodeRef&& other) noexcept : node_(std::exchange(other.node_, nullptr)) {}
  NodeRef& operator=(NodeRef other) noexcept {
    std::swap(node_, other.node_);
    return *this;
  }
  ~NodeRef() {
    if (node_ && node_->references.fetch_sub(1, std::memory_order_acq_rel) == 1) Node::Destroy(node_);
  }

  Node* get() const { return node_; }
  Node* operator->() const { return node_; }
  explicit operator bool() const { return node_ != nullptr; }
  // Whether nobody else holds the node. Whoever did has let go of it: its reads come before our writes.
  bool IsOnly() const { return node_->references.load(std::memory_order_acquire) == 1; }

 private:
  void Add() const {
    if (node_) node_->references.fetch_add(1, std::memory_order_relaxed);
  }

  Node* node_ = nullptr;
};

// An inner node.
template <typename Child, size_t kFan>
struct SharedInner {
  SharedInner() = default;
  SharedInner(const SharedInner& other) : slots(other.slots) {}
  SharedInner& operator=(const SharedInner&) = delete;
  static void Destroy(SharedInner* node) { delete node; }

  std::atomic<uint32_t> references = 0;
  std::array<NodeRef<Child>, kFan> slots;
};

// A leaf: values in the block that has the count of them.
template <typename V>
class SharedLeaf {
 public:
  static NodeRef<SharedLeaf> Make(size_t capacity) {
    return NodeRef<SharedLeaf>(new (::operator new(kHeader + capacity * sizeof(V)))
                                   SharedLeaf(static_cast<uint32_t>(capacity)));
  }
  static void Destroy(SharedLeaf* leaf) {
    std::destroy_n(leaf->begin(), leaf->size_);
    leaf->~SharedLeaf();
    ::operator delete(leaf);
  }

  size_t size() const { return size_; }
  size_t capacity() const { return capacity_; }
  V* begin() { return std::launder(reinterpret_cast<V*>(reinterpret_cast<std::byte*>(this) + kHeader)); }
  V* end() { return begin() + size_; }
  const V* begin() const { return const_cast<SharedLeaf*>(this)->begin(); }
  const V* end() const { return begin() + size_; }

  // There must be room.
  void Append(V value) {
    std::construct_at(begin() + size_, std::move(value));
    ++size_;
  }
  // Puts the last in its place.
  void Remove(V* value) {
    if (value != end() - 1) *value = std::move(end()[-1]);
    std::destroy_at(end() - 1);
    --size_;
  }

  std::atomic<uint32_t> references = 0;

 private:
  explicit SharedLeaf(uint32_t capacity) : capacity_(capacity) {}

  static constexpr size_t kHeader = (3 * sizeof(uint32_t) + alignof(V) - 1) / alignof(V) * alignof(V);

  uint32_t size_ = 0;
  const uint32_t capacity_;
};

}  // namespace headgate
