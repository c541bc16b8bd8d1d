// SPDX-License-Identifier: Apache-2.0
//
// A bounded ring between two threads, one that writes and one that reads, without locks.
#pragma once

#include <absl/types/span.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace headgate {

template <typename T>
class SpscRing {
 public:
  // `size`: a power of two.
  explicit SpscRing(uint32_t size) : entries_(size), mask_(size - 1) {}
  SpscRing(const SpscRing&) = delete;
  SpscRing& operator=(const SpscRing&) = delete;

  uint32_t size() const { return mask_ + 1; }

  // All of them or none. (writer)
  bool Push(absl::Span<const T> values) {
    const uint32_t head = head_.load(std::memory_order_relaxed);
    if (size() - (head - seen_tail_) < values.size()) {
      seen_tail_ = tail_.load(std::memory_order_acquire);
      if (size() - (head - seen_tail_) < values.size()) return false;
    }
    for (uint32_t i = 0; i < values.size(); ++i) entries_[(head + i) & mask_] = values[i];
    head_.store(head + static_cast<uint32_t>(values.size()), std::memory_order_release);
    return true;
  }

  // Copies the oldest, which stay until Release; how many. (reader)
  size_t Peek(absl::Span<T> values) const {
    const uint32_t tail = tail_.load(std::memory_order_relaxed);
    const size_t count = std::min<size_t>(values.size(), head_.load(std::memory_order_acquire) - tail);
    for (uint32_t i = 0; i < count; ++i) values[i] = entries_[(tail + i) & mask_];
    return count;
  }
  void Release(size_t count) {
    tail_.store(tail_.load(std::memory_order_relaxed) + static_cast<uint32_t>(count), std::memory_order_release);
  }
  bool empty() const { return head_.load(std::memory_order_acquire) == tail_.load(std::memory_order_relaxed); }

 private:
  // Each side's words on cache lines of their own.
  static constexpr size_t kLine = 64;
  std::vector<T> entries_;
  const uint32_t mask_;
  alignas(kLine) std::atomic<uint32_t> head_ = 0;
  uint32_t seen_tail_ = 0;  // the writer's: spares it looking
  alignas(kLine) std::atomic<uint32_t> tail_ = 0;
};

}  // namespace headgate
