// SPDX-License-Identifier: Apache-2.0
//
// The control benchmark: a real agent in a namespace of its own, driven over its gRPC socket. What its rows mean
// is said in hgbench(1).
#pragma once

#include <absl/functional/function_ref.h>
#include <absl/status/statusor.h>

#include <atomic>
#include <cstdint>
#include <string>

#include "bench/result.h"

namespace headgate::bench {

struct ControlOptions {
  int rounds = 5;
  std::string agent = "headgated";  // looked for in PATH
  std::string rule_set = "acl1_100k";
  uint32_t changes = 300;
  uint32_t updates = 200'000;
  uint32_t prefixes = 1'000'000;
  std::string directory = "/var/tmp";
  bool wait = false;  // for the end of another benchmark
};

// Calls `progress` with a line a measurement. Ends early, with an error, when `stop` is set.
absl::StatusOr<Result> RunControl(const ControlOptions& options, const std::atomic<bool>& stop,
                                  absl::FunctionRef<void(const std::string&)> progress);

}  // namespace headgate::bench
