// SPDX-License-Identifier: Apache-2.0
//
// The multicast benchmark: packets of a group copied to many legs by Headgate, by the kernel's multicast routing
// and by a relay of the usual kind (recvmmsg, sendmmsg), in turn, on the same devices and CPUs.
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

struct MulticastOptions {
  static constexpr uint32_t kMaxKernelLegs = 200, kMaxUserspaceLegs = 1000;

  int rounds = 3;
  double seconds = 0.5;             // of each measurement, of which a case takes several
  std::string agent = "headgated";  // looked for in PATH
  std::vector<std::string> paths = {"kernel", "userspace"};
  std::vector<uint32_t> kernel_legs = {1, 8, 50};          // each behind a device of its own
  std::vector<uint32_t> userspace_legs = {1, 8, 50, 500};  // all behind one device, each with a group of its own
  std::vector<uint32_t> sizes = {64, 1400};                // bytes of a frame, without FCS
  std::vector<std::string> baselines = {"ip_mroute", "socket_relay"};
  Placement placement = Placement::kSame;
  bool latency = true;
  bool realtime = true;  // runs at a rate, before all other work of the machine
  std::string directory = "/var/tmp";
  std::string chart;  // files' names without .csv and .svg; empty: none
  bool wait = false;  // for the end of another benchmark
};

// Calls `progress` with a line a measurement. Ends early, with an error, when `stop` is set.
absl::StatusOr<Result> RunMulticast(const MulticastOptions& options, const std::atomic<bool>& stop,
                                    absl::FunctionRef<void(const std::string&)> progress);

}  // namespace headgate::bench
