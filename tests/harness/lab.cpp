// SPDX-License-Identifier: Apache-2.0
#include "tests/harness/lab.h"

#include <absl/strings/str_cat.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <sstream>
#include <stdexcept>
#include <thread>

#include "tests/harness/program.h"

namespace headgate::testing {

std::string WhyNoLab() {
  if (std::string why = WhyNoBpf(); !why.empty()) return why;
  if (TryShell("ip netns add hgt-probe") != 0) return "ip netns add fails";
  TryShell("ip netns del hgt-probe");
  return "";
}

std::string Shell(const std::string& command) {
  FILE* pipe = popen(absl::StrCat("( ", command, " ) 2>&1").c_str(), "r");
  if (pipe == nullptr) throw std::runtime_error("cannot run: " + command);
  std::string output;
  std::array<char, 4096> buffer;
  while (const size_t size = fread(buffer.data(), 1, buffer.size(), pipe)) output.append(buffer.data(), size);
  const int status = pclose(pipe);
  if (status != 0) throw std::runtime_error(absl::StrCat(command, ": exit ", WEXITSTATUS(status), ": ", output));
  return output;
}

int TryShell(const std::string& command) {
  const int status = std::system(absl::StrCat("( ", command, " ) >/dev/null 2>&1").c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

bool WaitFor(const std::function<bool()>& condition, std::chrono::milliseconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  while (!condition()) {
    if (std::chrono::steady_clock::now() >= deadline) return condition();
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

Lab::Lab(const std::string& name, const std::vector<std::string>& namespaces)
    : prefix_(absl::StrCat("hgt-", name, "-")),
      directory_(absl::StrCat("/run/headgate-test/", name)),
      namespaces_(namespaces),
      next_index_(getpid() * 64) {
  Remove();
  std::filesystem::create_directories(directory_);
  for (const std::string& ns : namespaces_) {
    Shell(absl::StrCat("ip netns add ", Name(ns)));
    Ip(ns, "link set lo up");
  }
}

Lab::~Lab() { Remove(); }

void Lab::Remove() const {
  for (const std::string& ns : namespaces_) TryShell(absl::StrCat("ip netns del ", Name(ns)));
  std::error_code ignored;
  umount2(absl::StrCat(directory_, "/bpf").c_str(), MNT_DETACH);
  for (const auto& entry : std::filesystem::directory_iterator(directory_, ignored)) {
    umount2(absl::StrCat(entry.path().string(), "/bpf").c_str(), MNT_DETACH);  // of one of several agents
  }
  std::filesystem::remove_all(directory_, ignored);
}

void Lab::Link(const std::string& ns_a, const std::string& device_a, const std::string& ns_b,
               const std::string& device_b, int mtu) {
  const int index_a = next_index_++, index_b = next_index_++;
  Shell(absl::StrCat("ip link add ", device_a, " index ", index_a, " netns ", Name(ns_a), " mtu ", mtu,
                     " type veth peer name ", device_b, " index ", index_b, " netns ", Name(ns_b), " mtu ", mtu));
  const std::pair<const std::string&, const std::string&> ends[] = {{ns_a, device_a}, {ns_b, device_b}};
  for (const auto& [ns, device] : ends) {
    // Addresses of its own would have the kernel send things no test asked for.
    In(ns, absl::StrCat("sysctl -qw net.ipv6.conf.", device, ".disable_ipv6=1"));
    Ip(ns, absl::StrCat("link set ", device, " up"));
  }
  // Once both are up: veth says that it takes redirects only when receive offload is switched on while it runs.
  for (const auto& [ns, device] : ends) {
    In(ns, absl::StrCat("ethtool -K ", device, " gro on tx off tso off gso off"));
  }
}

std::string Lab::Ip(const std::string& ns, const std::string& arguments) {
  return Shell(absl::StrCat("ip -n ", Name(ns), " ", arguments));
}

std::string Lab::In(const std::string& ns, const std::string& command) {
  return Shell(absl::StrCat("nsenter --net=/run/netns/", Name(ns), " ", command));
}

std::string Lab::Mac(const std::string& ns, const std::string& device) {
  // Of `ip -br link`: NAME STATE ADDRESS FLAGS. (sysfs would show another namespace's devices.)
  std::istringstream line(Ip(ns, absl::StrCat("-br link show ", device)));
  std::string name, state, address;
  line >> name >> state >> address;
  return address;
}

InNetns::InNetns(const std::string& full_name) : before_(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)) {
  const int target = open(absl::StrCat("/run/netns/", full_name).c_str(), O_RDONLY | O_CLOEXEC);
  if (target < 0 || setns(target, CLONE_NEWNET) != 0) throw std::runtime_error("cannot enter " + full_name);
  close(target);
}

InNetns::~InNetns() {
  if (setns(before_, CLONE_NEWNET) != 0) std::abort();  // the thread would go on in the wrong place
  close(before_);
}

}  // namespace headgate::testing
