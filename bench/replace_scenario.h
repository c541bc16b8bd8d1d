// SPDX-License-Identifier: Apache-2.0
//
// The replace benchmark: how long packets take through Headgate while all of its rules are replaced, over and
// over, beside how long they take while nothing changes.
#pragma once

#include <absl/functional/function_ref.h>
#include <absl/status/statusor.h>

#include <atomic>
#include <cstdint>
#include <string>

#include "bench/result.h"

namespace headgate::bench {

struct ReplaceOptions {
  int rounds = 5;
  double seconds = 5;               // of each measurement
  std::string agent = "headgated";  // looked for in PATH
  std::string rule_set = "acl1_100k";
  uint64_t packets_per_second = 100'000;
  uint32_t flows = 256;
  bool flow_cache = false;  // of the agent: it would hold all flows, and packets would not meet what is replaced
  std::string directory = "/var/tmp";
  bool realtime = true;  // the sender, and with it the packet path, before all other work of the machine
  bool wait = false;     // for the end of another benchmark
};

// Calls `progress` with a line a measurement. Ends early, with an error, when `stop` is set.
absl::StatusOr<Result> RunReplace(const ReplaceOptions& options, const std::atomic<bool>& stop,
                                  absl::FunctionRef<void(const std::string&)> progress);

}  // namespace headgate::bench
