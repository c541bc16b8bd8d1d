// SPDX-License-Identifier: Apache-2.0
//
// The calling thread on a CPU of the test's choice: test runs use what that CPU remembers.
#pragma once

#include <sched.h>

#include <cerrno>
#include <system_error>
#include <vector>

namespace headgate::testing {

// Those that the thread may run on.
inline std::vector<int> AllowedCpus() {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0)
    throw std::system_error(errno, std::generic_category(), "sched_getaffinity");
  std::vector<int> cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &allowed)) cpus.push_back(cpu);
  }
  return cpus;
}

class OnCpu {
 public:
  explicit OnCpu(int cpu) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    if (sched_getaffinity(0, sizeof(before_), &before_) != 0 || sched_setaffinity(0, sizeof(one), &one) != 0)
      throw std::system_error(errno, std::generic_category(), "sched_setaffinity");
  }
  ~OnCpu() { sched_setaffinity(0, sizeof(before_), &before_); }
  OnCpu(const OnCpu&) = delete;
  OnCpu& operator=(const OnCpu&) = delete;

 private:
  cpu_set_t before_{};
};

}  // namespace headgate::testing
