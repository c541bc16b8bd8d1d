// SPDX-License-Identifier: Apache-2.0
//
// The distribution of latencies in the receiver's buckets.
#pragma once

#include <cstdint>
#include <vector>

#include "bench/bpf/account.h"

namespace headgate::bench {

class Histogram {
 public:
  Histogram() : buckets_(HGB_BUCKETS) {}

  void Add(uint64_t value, uint64_t times = 1) { AddToBucket(hgb_bucket(value), times); }
  void Add(const Histogram& other);
  void AddToBucket(uint32_t bucket, uint64_t times);
  // The largest value is known exactly.
  void SetMax(uint64_t value) { max_ = value; }

  uint64_t Count() const { return count_; }
  uint64_t Max() const { return max_; }
  // The value that `percent` of all values do not exceed, to within half a bucket; 0 when there are none.
  uint64_t Percentile(double percent) const;

  // The lowest and the highest value of a bucket.
  static uint64_t Lowest(uint32_t bucket);
  static uint64_t Highest(uint32_t bucket) { return Lowest(bucket + 1) - 1; }

 private:
  std::vector<uint64_t> buckets_;
  uint64_t count_ = 0;
  uint64_t max_ = 0;
};

}  // namespace headgate::bench
