// SPDX-License-Identifier: Apache-2.0
//
// Work inside network namespaces: by threads that enter them alone, so that the process and its mounts stay where
// they are.
#pragma once

#include <absl/functional/function_ref.h>
#include <absl/status/statusor.h>

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "agent/dataplane/device.h"

namespace headgate::bench {

// Moves the calling thread. A name below /run/netns, or a path; empty: stay.
absl::Status EnterNamespace(const std::string& netns);

// Runs `work` in a thread of its own that has entered the namespace, and waits for it.
absl::Status InNamespace(const std::string& netns, absl::FunctionRef<absl::Status()> work);

// A device of the calling thread's namespace.
absl::StatusOr<Device> FindDevice(const std::string& name);

// Where a thread runs, and whether before all ordinary work of the machine, so that a measurement shows nothing of
// it: `realtime` 1 and above, a priority of SCHED_FIFO; or `nice`, -20 (the most) to 19, by a larger share of
// time.
struct Scheduling {
  std::optional<int> cpu;
  int realtime = 0;
  std::optional<int> nice = {};
};

// 0: the calling thread.
absl::Status Schedule(pid_t thread, const Scheduling& scheduling);

// Runs a device's NAPI in kernel threads (/sys/class/net/DEV/threaded), or in softirqs again. A veth has NAPI only
// while a program is attached to it: to be called after that.
absl::Status RunNapiInThreads(const std::string& netns, const std::string& device, const Scheduling& scheduling);
absl::Status RunNapiInSoftirqs(const std::string& netns, const std::string& device);

// The kernel's threads that run a device's NAPI.
absl::StatusOr<std::vector<pid_t>> FindNapiThreads(const std::string& device);
// The one that runs a CPU's softirqs when they become many.
absl::StatusOr<pid_t> FindSoftirqThread(int cpu);

// The kernel lets go of an agent's program some time after that has ended and its pins are gone; until then the
// program has all packets.
absl::Status AwaitNoProgram(const std::string& netns, const std::string& device);

// Nanoseconds that a thread has run.
absl::StatusOr<uint64_t> ReadCpuTime(pid_t thread);

}  // namespace headgate::bench
