// SPDX-License-Identifier: Apache-2.0
#include "bench/lab.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <fstream>

#include "agent/base/fd.h"
#include "agent/base/status.h"
#include "bench/netns.h"

namespace headgate::bench {
namespace {

constexpr char kLock[] = "/run/hgbench.lock";
constexpr int kFirstIndex = 1'000'000, kProcesses = 32768, kIndexesPerProcess = 4096;

// Runs a program. Its words are in the error.
absl::Status Run(const char* package, std::vector<std::string> arguments) {
  std::vector<char*> argv;
  argv.reserve(arguments.size() + 1);
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return ErrnoStatus("make a pipe");
  const Fd read_end(ends[0]);
  Fd write_end(ends[1]);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, write_end.get(), STDERR_FILENO);
  pid_t pid = 0;
  const int error = posix_spawnp(&pid, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return ErrnoStatusOf(-error, "run ", arguments[0], " (package ", package, ")");
  write_end = Fd();
  std::string words;
  std::array<char, 512> buffer;
  for (ssize_t size; (size = read(read_end.get(), buffer.data(), buffer.size())) > 0;) {
    words.append(buffer.data(), static_cast<size_t>(size));
  }
  int status = 0;
  waitpid(pid, &status, 0);
  if (status == 0) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(absl::StrJoin(arguments, " "), ": ", words));
}

absl::Status Ip(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "ip");
  return Run("iproute2", std::move(arguments));
}

// The kernel's XDP tracepoints name devices by index alone, and every namespace counts from 1: others' frames must
// not be taken for those between devices of a lab.
std::string NextIndex() {
  static std::atomic<int> last = kFirstIndex + getpid() % kProcesses * kIndexesPerProcess;
  return absl::StrCat(++last);
}

}  // namespace

absl::StatusOr<Fd> LockBenchmarks(bool wait) {
  Fd lock(open(kLock, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!lock) return ErrnoStatus("open ", kLock, " (needs root)");
  if (flock(lock.get(), LOCK_EX | (wait ? 0 : LOCK_NB)) == 0) return lock;
  if (errno == EINTR) return absl::CancelledError("interrupted while another benchmark was running");
  if (errno != EWOULDBLOCK) return ErrnoStatus("lock ", kLock);
  return absl::UnavailableError(
      absl::StrCat("another benchmark is running (", kLock, " is locked); --wait waits for its end"));
}

absl::StatusOr<std::unique_ptr<Lab>> Lab::Create(std::vector<std::string> namespaces) {
  std::unique_ptr<Lab> lab(new Lab(std::move(namespaces)));
  lab->Remove();
  for (const std::string& name : lab->namespaces_) {
    HG_RETURN_IF_ERROR(Ip({"netns", "add", name}));
    // The sysctl files are those of the thread's namespace.
    HG_RETURN_IF_ERROR(InNamespace(name, []() -> absl::Status {
      for (const char* scope : {"all", "default"}) {
        std::ofstream(absl::StrCat("/proc/sys/net/ipv6/conf/", scope, "/disable_ipv6")) << 1;
      }
      return absl::OkStatus();
    }));
    HG_RETURN_IF_ERROR(Ip({"-n", name, "link", "set", "lo", "up"}));
  }
  return lab;
}

Lab::~Lab() { Remove(); }

void Lab::Remove() {
  for (const std::string& name : namespaces_) {
    if (access(absl::StrCat("/run/netns/", name).c_str(), F_OK) != 0) continue;
    // A veth pair goes with either end, but a namespace goes when the last process lets go of it.
    Ip({"netns", "delete", name}).IgnoreError();
  }
}

absl::Status Lab::Connect(const VethEnd& a, const VethEnd& b) {
  HG_RETURN_IF_ERROR(Ip({"link", "add", "index", NextIndex(), "name", a.device, "netns", a.netns, "type", "veth",
                         "peer", "index", NextIndex(), "name", b.device, "netns", b.netns}));
  for (const VethEnd& end : {a, b}) {
    HG_RETURN_IF_ERROR(Ip({"-n", end.netns, "link", "set", "dev", end.device, "up"}));
  }
  return absl::OkStatus();
}

absl::Status Lab::SetMtu(const VethEnd& end, uint32_t mtu) {
  return Ip({"-n", end.netns, "link", "set", "dev", end.device, "mtu", absl::StrCat(mtu)});
}

absl::Status Lab::AddAddress(const VethEnd& end, const std::string& address) {
  return Ip({"-n", end.netns, "address", "add", address, "dev", end.device});
}

absl::Status Lab::AddNeighbor(const VethEnd& end, const std::string& address, const std::string& mac) {
  return Ip({"-n", end.netns, "neighbour", "add", address, "lladdr", mac, "dev", end.device, "nud", "permanent"});
}

absl::Status Lab::AddRoute(const VethEnd& end, const std::string& prefix, const std::string& next_hop) {
  return Ip({"-n", end.netns, "route", "add", prefix, "via", next_hop, "dev", end.device, "onlink"});
}

absl::Status Lab::EnableGro(const VethEnd& end) {
  return InNamespace(end.netns, [&] { return Run("ethtool", {"ethtool", "-K", end.device, "gro", "on"}); });
}

}  // namespace headgate::bench
