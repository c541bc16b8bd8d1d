// SPDX-License-Identifier: Apache-2.0
//
// When how many frames are to be sent. Pure arithmetic on times in nanoseconds.
#pragma once

#include <algorithm>
#include <cstdint>

namespace headgate::bench {

class Pacer {
 public:
  static constexpr uint64_t kBatch = 64;
  static constexpr uint64_t kNanosecondsPerSecond = 1000000000;

  // Frame k is due k / `packets_per_second` seconds after `start`.
  Pacer(uint64_t packets_per_second, uint64_t start) : rate_(packets_per_second), start_(start) {}

  // Frames sent at once: of a millisecond, at most a batch.
  uint64_t Burst() const { return std::clamp<uint64_t>(rate_ / 1000, 1, kBatch); }

  // Frames that are due by now and were not taken. Those more than a tenth of a second late are given up: a
  // sender that was held back must not make up for it by a flood.
  uint64_t Due(uint64_t now) {
    const uint64_t total = FramesIn(now - start_);
    const uint64_t most = std::max(rate_ / 10, Burst());
    if (total > taken_ + most) {
      given_up_ += total - taken_ - most;
      taken_ = total - most;
    }
    return total > taken_ ? total - taken_ : 0;
  }
  void Take(uint64_t frames) { taken_ += frames; }

  // When a burst will be due.
  uint64_t NextBurst() const {
    const unsigned __int128 frames = taken_ + Burst();
    return start_ + static_cast<uint64_t>((frames * kNanosecondsPerSecond + rate_ - 1) / rate_);
  }
  uint64_t given_up() const { return given_up_; }

 private:
  uint64_t FramesIn(uint64_t nanoseconds) const {
    return static_cast<uint64_t>(static_cast<unsigned __int128>(nanoseconds) * rate_ / kNanosecondsPerSecond);
  }

  uint64_t rate_;
  uint64_t start_;
  uint64_t taken_ = 0;  // sent or given up
  uint64_t given_up_ = 0;
};

}  // namespace headgate::bench
