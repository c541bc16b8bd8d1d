// SPDX-License-Identifier: Apache-2.0
//
// The redirect benchmark: Headgate and the bare program take turns between the same two veth pairs.
#pragma once

#include <absl/functional/function_ref.h>
#include <absl/status/statusor.h>

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "bench/placement.h"
#include "bench/result.h"

namespace headgate::bench {

struct RedirectOptions {
  int rounds = 5;
  double seconds = 2;  // of each measurement
  std::vector<uint32_t> sizes = {64, 1400};
  Placement placement = Placement::kSame;
  uint32_t flows = 256;
  bool realtime = false;  // before all other work of the machine
  bool wait = false;      // for the end of another benchmark
};

// One gateway over one measurement.
struct RedirectSample {
  double rate = 0;     // frames a second at the receiver
  double offered = 0;  // frames a second that the gateway's ingress took
  double refused = 0;  // frames a second that it had no room for: above 0 when the sender is not the bottleneck
  double lost = 0;     // frames of all that the ingress took, counted by Headgate, that the egress had no room for
  double program_nanoseconds = 0;
};

struct RedirectRow {
  uint32_t size = 0;
  std::vector<RedirectSample> bare, headgate;  // by round
};

// Calls `progress` with a line a measurement. Ends early, with an error, when `stop` is set.
absl::StatusOr<std::vector<RedirectRow>> RunRedirect(const RedirectOptions& options, const std::atomic<bool>& stop,
                                                     absl::FunctionRef<void(const std::string&)> progress);

Result ToResult(const RedirectOptions& options, const std::vector<RedirectRow>& rows);

}  // namespace headgate::bench
