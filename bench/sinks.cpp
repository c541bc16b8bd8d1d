// SPDX-License-Identifier: Apache-2.0
#include "bench/sinks.h"

#include "agent/base/status.h"

namespace headgate::bench {

absl::Status Sinks::Open(bool latency) {
  receivers_.clear();
  for (const VethEnd& end : ends_) {
    HG_ASSIGN_OR_RETURN(auto receiver,
                        Receiver::Open({.device = end.device, .netns = end.netns, .count_only = !latency}));
    if (receiver->mode() != DriverMode::kNative) {
      return absl::FailedPreconditionError(end.device +
                                           " takes no native XDP program, and so no redirected frames");
    }
    receivers_.push_back(std::move(receiver));
  }
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> Sinks::Frames() const {
  uint64_t sum = 0;
  for (const auto& receiver : receivers_) {
    HG_ASSIGN_OR_RETURN(const uint64_t frames, receiver->Frames());
    sum += frames;
  }
  return sum;
}

absl::StatusOr<Histogram> Sinks::Latency() const {
  Histogram sum;
  for (const auto& receiver : receivers_) {
    HG_ASSIGN_OR_RETURN(const ReceiveReport report, receiver->Read());
    sum.Add(report.latency);
  }
  return sum;
}

}  // namespace headgate::bench
