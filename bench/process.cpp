// SPDX-License-Identifier: Apache-2.0
#include "bench/process.h"

#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "agent/base/status.h"

namespace headgate::bench {
namespace {

// The processes or threads that a directory of /proc lists.
std::vector<pid_t> List(const std::string& path) {
  std::vector<pid_t> ids;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(path, error)) {
    pid_t id = 0;
    if (absl::SimpleAtoi(entry.path().filename().string(), &id)) ids.push_back(id);
  }
  return ids;
}

bool IsThere(pid_t thread) { return access(absl::StrCat("/proc/", thread).c_str(), F_OK) == 0; }

absl::Status NoThreads() { return absl::NotFoundError("its threads have all ended"); }

}  // namespace

std::vector<pid_t> ThreadsOfProcess(pid_t process) { return List(absl::StrCat("/proc/", process, "/task")); }

std::vector<pid_t> ThreadsOfGroup(pid_t group) {
  std::vector<pid_t> threads;
  for (const pid_t process : List("/proc")) {
    if (getpgid(process) != group) continue;
    const std::vector<pid_t> of_process = ThreadsOfProcess(process);
    threads.insert(threads.end(), of_process.begin(), of_process.end());
  }
  return threads;
}

std::vector<pid_t> ThreadsNamed(const std::vector<pid_t>& threads, const std::string& prefix) {
  std::vector<pid_t> named;
  for (const pid_t thread : threads) {
    std::ifstream file(absl::StrCat("/proc/", thread, "/comm"));
    std::string name;
    if (std::getline(file, name) && absl::StartsWith(name, prefix)) named.push_back(thread);
  }
  return named;
}

absl::Status ScheduleThreads(const std::vector<pid_t>& threads, const Scheduling& scheduling) {
  bool any = false;
  for (const pid_t thread : threads) {
    absl::Status status = Schedule(thread, scheduling);
    if (!status.ok() && IsThere(thread)) return status;
    any = any || status.ok();
  }
  return any ? absl::OkStatus() : NoThreads();
}

absl::StatusOr<uint64_t> ReadCpuTime(const std::vector<pid_t>& threads) {
  uint64_t sum = 0;
  bool any = false;
  for (const pid_t thread : threads) {
    const absl::StatusOr<uint64_t> time = ReadCpuTime(thread);
    if (!time.ok() && IsThere(thread)) return time.status();
    any = any || time.ok();
    sum += time.value_or(0);
  }
  if (!any) return NoThreads();
  return sum;
}

}  // namespace headgate::bench
