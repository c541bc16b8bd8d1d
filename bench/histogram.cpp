// SPDX-License-Identifier: Apache-2.0
#include "bench/histogram.h"

#include <algorithm>
#include <cmath>

namespace headgate::bench {

void Histogram::AddToBucket(uint32_t bucket, uint64_t times) {
  if (times == 0) return;
  buckets_[bucket] += times;
  count_ += times;
  max_ = std::max(max_, Lowest(bucket));
}

void Histogram::Add(const Histogram& other) {
  for (uint32_t bucket = 0; bucket < buckets_.size(); ++bucket) buckets_[bucket] += other.buckets_[bucket];
  count_ += other.count_;
  max_ = std::max(max_, other.max_);
}

uint64_t Histogram::Percentile(double percent) const {
  if (count_ == 0) return 0;
  const auto rank =
      std::max<uint64_t>(1, static_cast<uint64_t>(std::ceil(percent / 100 * static_cast<double>(count_))));
  uint64_t seen = 0;
  for (uint32_t bucket = 0; bucket < buckets_.size(); ++bucket) {
    seen += buckets_[bucket];
    if (seen >= rank) return std::min(max_, Lowest(bucket) + (Highest(bucket) - Lowest(bucket)) / 2);
  }
  return max_;
}

uint64_t Histogram::Lowest(uint32_t bucket) {
  const uint32_t octave = bucket / HGB_BUCKETS_PER_OCTAVE;
  if (octave == 0) return bucket;
  return static_cast<uint64_t>(bucket % HGB_BUCKETS_PER_OCTAVE + HGB_BUCKETS_PER_OCTAVE) << (octave - 1);
}

}  // namespace headgate::bench
