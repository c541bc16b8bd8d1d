// SPDX-License-Identifier: Apache-2.0
//
// The memory that one worker's sockets share with the kernel: frames of one size, counted by reference, because
// one frame may be in several transmit rings. A frame that is neither free nor referenced does not exist: free +
// held = total at all times.
//
// Threads: one at a time; free() and total() from any.
#pragma once

#include <absl/status/statusor.h>

#include <atomic>
#include <cassert>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

namespace headgate {

class FramePool {
 public:
  // Holds a full Ethernet frame after the kernel's headroom of 256 bytes; larger packets take several.
  static constexpr uint32_t kFrameSize = 2048;

  // In huge pages where the host has some left, which spares TLB misses. `cpu`: of whose NUMA node the memory is
  // to be, where there is some left.
  static absl::StatusOr<std::unique_ptr<FramePool>> Create(uint32_t frames, std::optional<unsigned> cpu = {});
  ~FramePool();
  FramePool(const FramePool&) = delete;
  FramePool& operator=(const FramePool&) = delete;

  // Takes a frame, with one reference. False when none is free.
  bool Take(uint64_t& address) {
    if (free_list_.empty()) return false;
    address = uint64_t{free_list_.back()} * kFrameSize;
    free_list_.pop_back();
    references_[address / kFrameSize] = 1;
    ShowFree();
    return true;
  }
  // `address` may be anywhere within the frame.
  void Refer(uint64_t address) {
    assert(references_[address / kFrameSize] != 0);
    ++references_[address / kFrameSize];
  }
  void Release(uint64_t address) {
    const auto frame = static_cast<uint32_t>(address / kFrameSize);
    assert(references_[frame] != 0);
    if (--references_[frame] != 0) return;
    free_list_.push_back(frame);
    ShowFree();
  }

  uint8_t* Data(uint64_t address) { return memory_ + address; }
  uint8_t* memory() { return memory_; }
  uint64_t bytes() const { return uint64_t{total_} * kFrameSize; }
  uint32_t total() const { return total_; }
  uint32_t free() const { return shown_free_.load(std::memory_order_relaxed); }
  bool huge_pages() const { return huge_pages_; }
  // Of the frame of that number; see frame_audit.h.
  uint32_t references(uint32_t frame) const { return references_[frame]; }

 private:
  FramePool() = default;
  void ShowFree() { shown_free_.store(static_cast<uint32_t>(free_list_.size()), std::memory_order_relaxed); }

  uint8_t* memory_ = nullptr;
  size_t mapped_ = 0;  // bytes, a whole number of pages
  uint32_t total_ = 0;
  bool huge_pages_ = false;
  std::vector<uint16_t> references_;  // by frame
  std::vector<uint32_t> free_list_;   // never beyond its first capacity
  std::atomic<uint32_t> shown_free_ = 0;
};

}  // namespace headgate
