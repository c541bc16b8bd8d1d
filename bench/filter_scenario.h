// SPDX-License-Identifier: Apache-2.0
//
// The filter benchmark: what classification costs a packet as rules grow in number, beside DPDK's rte_acl on the
// same rules and headers; and packets a second beside nftables. What its rows mean is said in hgbench(1).
#pragma once

#include <absl/functional/function_ref.h>
#include <absl/status/statusor.h>

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "bench/result.h"

namespace headgate::bench {

struct FilterOptions {
  int rounds = 5;
  double seconds = 1;  // of each measurement of a packet rate
  uint32_t headers = 1'000'000;
  std::vector<std::string> sets = {"acl1", "fw1", "ipc1"};
  std::vector<std::string> sizes = {"100", "1k", "8k", "100k"};
  std::vector<std::string> rate_sizes = {"1k", "8k"};  // at which packet rates are measured
  bool flow_cache = true;    // of the gateway; every header is new to it, so that this shows what it costs
  uint32_t churn = 100'000;  // changes before the first set's last size is measured once more; 0: it is not
  uint64_t seed = 1;
  bool realtime = false;  // before all other work of the machine
  bool wait = false;      // for the end of another benchmark
};

// Calls `progress` with a line a measurement. Ends early, with an error, when `stop` is set.
absl::StatusOr<Result> RunFilter(const FilterOptions& options, const std::atomic<bool>& stop,
                                 absl::FunctionRef<void(const std::string&)> progress);

}  // namespace headgate::bench
