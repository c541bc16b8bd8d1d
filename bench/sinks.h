// SPDX-License-Identifier: Apache-2.0
//
// Receivers at the far ends of many devices, counted as one.
#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "bench/histogram.h"
#include "bench/lab.h"
#include "bench/receiver.h"

namespace headgate::bench {

class Sinks {
 public:
  explicit Sinks(std::vector<VethEnd> ends) : ends_(std::move(ends)) {}

  // Anew: frames are only counted, the cheapest that there is, or looked into for their latency.
  absl::Status Open(bool latency);
  // All frames since then.
  absl::StatusOr<uint64_t> Frames() const;
  // Nanoseconds on the way, of hgbench's frames.
  absl::StatusOr<Histogram> Latency() const;

 private:
  std::vector<VethEnd> ends_;
  std::vector<std::unique_ptr<Receiver>> receivers_;
};

}  // namespace headgate::bench
