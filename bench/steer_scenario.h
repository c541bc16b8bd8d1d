// SPDX-License-Identifier: Apache-2.0
//
// The steer benchmark: UDP datagrams received and answered by Headgate's AF_XDP workers, by a server of the usual
// kind (recvmmsg, sendmmsg) and by socat, in turn, on the same devices and CPUs.
#pragma once

#include <absl/functional/function_ref.h>
#include <absl/status/statusor.h>

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "bench/result.h"

namespace headgate::bench {

struct SteerOptions {
  int rounds = 3;
  double seconds = 1;               // of each measurement, of which a case takes several
  std::string agent = "headgated";  // looked for in PATH
  std::vector<std::string> handlers = {"count", "echo"};
  std::vector<uint32_t> sizes = {64, 1400};  // bytes of a frame, without FCS
  uint32_t flows = 256;
  bool socat = true;
  bool realtime = true;  // runs at a rate, before all other work of the machine
  std::string directory = "/var/tmp";
  bool wait = false;  // for the end of another benchmark
};

// Calls `progress` with a line a measurement. Ends early, with an error, when `stop` is set.
absl::StatusOr<Result> RunSteer(const SteerOptions& options, const std::atomic<bool>& stop,
                                absl::FunctionRef<void(const std::string&)> progress);

}  // namespace headgate::bench
