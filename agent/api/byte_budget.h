// SPDX-License-Identifier: Apache-2.0
//
// A bound on bytes held for others: who wants more than is left waits until some are given back.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>

namespace headgate::api {

// Any thread.
class ByteBudget {
 public:
  explicit ByteBudget(size_t limit) : limit_(limit) {}

  // Waits for its turn, in the order of the calls, and for room. More than the limit gets room when nothing else
  // is taken: nobody waits for ever, and what is held exceeds the limit by one such request at most.
  void Take(size_t bytes) {
    std::unique_lock lock(mutex_);
    const uint64_t turn = next_turn_++;
    changed_.wait(lock, [&] { return turn == served_ && (taken_ == 0 || taken_ + bytes <= limit_); });
    ++served_;
    taken_ += bytes;
    changed_.notify_all();
  }
  void Give(size_t bytes) {
    const std::lock_guard lock(mutex_);
    taken_ -= bytes;
    changed_.notify_all();
  }

  size_t taken() const {
    const std::lock_guard lock(mutex_);
    return taken_;
  }
  uint64_t waiting() const {
    const std::lock_guard lock(mutex_);
    return next_turn_ - served_;
  }

 private:
  const size_t limit_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  size_t taken_ = 0;
  uint64_t next_turn_ = 0, served_ = 0;
};

}  // namespace headgate::api
