// SPDX-License-Identifier: Apache-2.0
//
// When captured frames are due that are sent again and again. Pure arithmetic on times in nanoseconds.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

namespace headgate::bench {

class Timetable {
 public:
  // The frames' times from the first, in order, at least one. `speed` times as fast, from `start` on. Between two
  // passes there is the mean of the gaps between frames.
  Timetable(std::vector<uint64_t> times, double speed, uint64_t start)
      : times_(std::move(times)), speed_(speed), start_(start) {
    period_ = times_.back() + (times_.size() > 1 ? times_.back() / (times_.size() - 1) : 0);
  }

  // When the frame of a number is due; numbers go on from pass to pass.
  uint64_t TimeOf(uint64_t number) const {
    const uint64_t time = number / times_.size() * period_ + times_[number % times_.size()];
    return start_ + static_cast<uint64_t>(static_cast<double>(time) / speed_);
  }

  // Frames that are due by now, in all. Frames without any time between them are all due at once.
  uint64_t Due(uint64_t now) const {
    if (now < start_) return 0;
    if (period_ == 0) return std::numeric_limits<uint64_t>::max();
    const auto time = static_cast<uint64_t>(static_cast<double>(now - start_) * speed_);
    const auto later = std::upper_bound(times_.begin(), times_.end(), time % period_);
    uint64_t due = time / period_ * times_.size() + static_cast<uint64_t>(later - times_.begin());
    while (TimeOf(due) <= now) ++due;  // what was rounded away
    return due;
  }

 private:
  std::vector<uint64_t> times_;
  double speed_;
  uint64_t start_;
  uint64_t period_ = 0;
};

}  // namespace headgate::bench
