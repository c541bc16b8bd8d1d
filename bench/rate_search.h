// SPDX-License-Identifier: Apache-2.0
//
// Looks for the highest rate that something keeps up with. Pure arithmetic: who asks tries the rates.
#pragma once

#include <cmath>
#include <cstdint>
#include <optional>

namespace headgate::bench {

class RateSearch {
 public:
  static constexpr uint64_t kLowest = 1000;  // packets a second; below, nothing is looked for
  static constexpr double kStep = 1.3;       // from a rate to the next while one bound is not known
  static constexpr double kClose = 1.06;     // between the bounds, at the end

  // Begins with that rate, in packets a second.
  explicit RateSearch(uint64_t start) : next_(start < kLowest ? kLowest : start) {}

  // The rate to try; nothing: the search has ended.
  std::optional<uint64_t> Next() const { return next_ == 0 ? std::nullopt : std::optional(next_); }

  // Of the rate that Next gave.
  void Held() {
    low_ = next_;
    Choose();
  }
  void Failed() {
    high_ = next_;
    Choose();
  }
  // It held, and there is no way to send faster.
  void HeldAtTheMost() {
    low_ = next_;
    next_ = 0;
  }

  // The highest rate that held; 0: none.
  uint64_t best() const { return low_; }

 private:
  void Choose() {
    const auto low = static_cast<double>(low_), high = static_cast<double>(high_);
    if (high_ == 0) {
      next_ = static_cast<uint64_t>(low * kStep);
    } else if (low_ == 0) {
      next_ = high_ <= kLowest ? 0 : static_cast<uint64_t>(high / kStep);
      if (next_ != 0 && next_ < kLowest) next_ = kLowest;
    } else {
      next_ = high / low <= kClose ? 0 : static_cast<uint64_t>(std::sqrt(low * high));
    }
  }

  uint64_t next_, low_ = 0, high_ = 0;
};

}  // namespace headgate::bench
