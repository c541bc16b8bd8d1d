// SPDX-License-Identifier: Apache-2.0
#include "bench/netns.h"

#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "agent/base/fd.h"
#include "agent/base/status.h"

namespace headgate::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr char kThreadNamePrefix[] = "napi/";
constexpr std::chrono::milliseconds kPoll(10), kTimeout(10'000);

absl::Status WriteFile(const std::string& path, absl::string_view text) {
  const Fd file(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file || write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    return ErrnoStatus("write ", text, " to ", path);
  }
  return absl::OkStatus();
}

absl::Status WriteThreaded(const std::string& netns, const std::string& device, absl::string_view value) {
  return InNamespace(netns, [&]() -> absl::Status {
    // A sysfs shows the devices of the namespace it was mounted in: this thread gets one of its own.
    if (unshare(CLONE_NEWNS) != 0 || mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("sysfs", "/sys", "sysfs", 0, nullptr) != 0) {
      return ErrnoStatus("mount a sysfs for network namespace ", netns);
    }
    return WriteFile(absl::StrCat("/sys/class/net/", device, "/threaded"), value);
  });
}

// Kernel threads whose names begin so.
std::vector<pid_t> FindThreads(const std::string& prefix) {
  std::vector<pid_t> threads;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    pid_t pid = 0;
    if (!absl::SimpleAtoi(entry.path().filename().string(), &pid)) continue;
    std::ifstream comm(entry.path() / "comm");
    std::string name;
    if (std::getline(comm, name) && absl::StartsWith(name, prefix)) threads.push_back(pid);
  }
  return threads;
}

}  // namespace

absl::Status EnterNamespace(const std::string& netns) {
  if (netns.empty()) return absl::OkStatus();
  const std::string path = absl::StrContains(netns, '/') ? netns : absl::StrCat("/run/netns/", netns);
  const Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd || setns(fd.get(), CLONE_NEWNET) != 0) return ErrnoStatus("enter network namespace ", path);
  return absl::OkStatus();
}

absl::Status InNamespace(const std::string& netns, absl::FunctionRef<absl::Status()> work) {
  absl::Status status;
  std::thread([&] {
    status = EnterNamespace(netns);
    if (status.ok()) status = work();
  }).join();
  return status;
}

absl::StatusOr<Device> FindDevice(const std::string& name) {
  const Fd socket_fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  if (name.size() >= sizeof(request.ifr_name)) return absl::NotFoundError(absl::StrCat("no device ", name));
  std::copy(name.begin(), name.end(), request.ifr_name);
  Device device{.name = name};
  const auto ask = [&](unsigned long what) { return ioctl(socket_fd.get(), what, &request) == 0; };
  if (!ask(SIOCGIFINDEX)) return ErrnoStatus("find device ", name);
  device.ifindex = static_cast<uint32_t>(request.ifr_ifindex);
  if (!ask(SIOCGIFHWADDR)) return ErrnoStatus("read the address of ", name);
  std::memcpy(device.mac.data(), request.ifr_hwaddr.sa_data, device.mac.size());
  if (!ask(SIOCGIFMTU)) return ErrnoStatus("read the MTU of ", name);
  device.mtu = static_cast<uint32_t>(request.ifr_mtu);
  if (!ask(SIOCGIFFLAGS)) return ErrnoStatus("read the state of ", name);
  device.up = (request.ifr_flags & IFF_UP) != 0 && (request.ifr_flags & IFF_RUNNING) != 0;
  return device;
}

absl::Status Schedule(pid_t thread, const Scheduling& scheduling) {
  if (scheduling.cpu) {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(static_cast<size_t>(*scheduling.cpu), &cpus);
    if (sched_setaffinity(thread, sizeof(cpus), &cpus) != 0) return ErrnoStatus("run on CPU ", *scheduling.cpu);
  }
  const sched_param parameters{.sched_priority = scheduling.realtime};
  const int policy = scheduling.realtime > 0 ? SCHED_FIFO : SCHED_OTHER;
  if (sched_setscheduler(thread, policy, &parameters) != 0) {
    return ErrnoStatus("run with real-time priority ", scheduling.realtime);
  }
  if (scheduling.nice && setpriority(PRIO_PROCESS, static_cast<id_t>(thread), *scheduling.nice) != 0) {
    return ErrnoStatus("run with a nice value of ", *scheduling.nice);
  }
  return absl::OkStatus();
}

// They are named napi/DEVICE-ID.
absl::StatusOr<std::vector<pid_t>> FindNapiThreads(const std::string& device) {
  const std::vector<pid_t> threads = FindThreads(absl::StrCat(kThreadNamePrefix, device, "-"));
  if (!threads.empty()) return threads;
  return absl::NotFoundError(absl::StrCat("no kernel thread ", kThreadNamePrefix, device,
                                          "-*: the device has no NAPI (attach a program first)"));
}

absl::StatusOr<pid_t> FindSoftirqThread(int cpu) {
  // With the end of the name, or that of CPU 1 would be that of 10, too.
  const std::string name = absl::StrCat("ksoftirqd/", cpu);
  for (const pid_t thread : FindThreads(name)) {
    std::ifstream comm(absl::StrCat("/proc/", thread, "/comm"));
    std::string whole;
    if (std::getline(comm, whole) && whole == name) return thread;
  }
  return absl::NotFoundError(absl::StrCat("no kernel thread ", name));
}

absl::Status AwaitNoProgram(const std::string& netns, const std::string& device) {
  return InNamespace(netns, [&]() -> absl::Status {
    const int ifindex = static_cast<int>(if_nametoindex(device.c_str()));
    uint32_t program = 0;
    for (const auto end = Clock::now() + kTimeout; Clock::now() < end; std::this_thread::sleep_for(kPoll)) {
      const int error = bpf_xdp_query_id(ifindex, 0, &program);
      if (error != 0) return ErrnoStatusOf(-error, "ask for the XDP program of ", device);
      if (program == 0) return absl::OkStatus();
    }
    return absl::DeadlineExceededError(absl::StrCat(device, " still has XDP program ", program));
  });
}

absl::StatusOr<uint64_t> ReadCpuTime(pid_t thread) {
  // Its first number (Documentation/scheduler/sched-stats.rst).
  const std::string path = absl::StrCat("/proc/", thread, "/schedstat");
  std::ifstream file(path);
  uint64_t nanoseconds = 0;
  if (!(file >> nanoseconds)) return ErrnoStatus("read ", path);
  return nanoseconds;
}

absl::Status RunNapiInThreads(const std::string& netns, const std::string& device, const Scheduling& scheduling) {
  HG_RETURN_IF_ERROR(WriteThreaded(netns, device, "1"));
  HG_ASSIGN_OR_RETURN(const std::vector<pid_t> threads, FindNapiThreads(device));
  for (const pid_t thread : threads) {
    HG_RETURN_IF_ERROR(Annotate(Schedule(thread, scheduling), kThreadNamePrefix, device));
  }
  return absl::OkStatus();
}

absl::Status RunNapiInSoftirqs(const std::string& netns, const std::string& device) {
  return WriteThreaded(netns, device, "0");
}

}  // namespace headgate::bench
