// SPDX-License-Identifier: Apache-2.0
//
// Whole processes with all their threads: how they are scheduled, and the processor time they take, to the
// nanosecond and with what the kernel did in their name (proc(5), schedstat).
#pragma once

#include <absl/status/statusor.h>

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "bench/netns.h"

namespace headgate::bench {

// The threads that a process has now, or all processes of a process group.
std::vector<pid_t> ThreadsOfProcess(pid_t process);
std::vector<pid_t> ThreadsOfGroup(pid_t group);

// Those whose names begin so.
std::vector<pid_t> ThreadsNamed(const std::vector<pid_t>& threads, const std::string& prefix);

// Threads that have ended meanwhile are left out; an error when that is all.
absl::Status ScheduleThreads(const std::vector<pid_t>& threads, const Scheduling& scheduling);
// Nanoseconds that they have run.
absl::StatusOr<uint64_t> ReadCpuTime(const std::vector<pid_t>& threads);

}  // namespace headgate::bench
