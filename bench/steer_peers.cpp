// SPDX-License-Identifier: Apache-2.0
//
// The peers of the steer benchmark. What they received is counted by the kernel's UDP, which does so when an
// application takes a datagram.
#include <absl/strings/ascii.h>
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <thread>

#include "agent/base/fd.h"
#include "agent/base/status.h"
#include "bench/netns.h"
#include "bench/process.h"
#include "bench/steer_service.h"
#include "bench/udp_server.h"

namespace headgate::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kPoll(10), kTimeout(10'000);
constexpr int kExecFailed = 127;

// Of /proc/net/snmp.
struct UdpCounts {
  uint64_t taken = 0;    // by applications
  uint64_t dropped = 0;  // no room in the receive buffer, or no socket
};

absl::StatusOr<UdpCounts> ReadUdpCounts(const std::string& netns) {
  UdpCounts counts;
  HG_RETURN_IF_ERROR(InNamespace(netns, [&]() -> absl::Status {
    std::ifstream file("/proc/thread-self/net/snmp");
    std::vector<std::string> names;
    for (std::string line; std::getline(file, line);) {
      std::vector<std::string> words = absl::StrSplit(line, ' ');
      if (words[0] != "Udp:") continue;
      if (names.empty()) {
        names = std::move(words);
        continue;
      }
      for (size_t i = 1; i < std::min(names.size(), words.size()); ++i) {
        const uint64_t value = std::stoull(words[i]);
        if (names[i] == "InDatagrams") counts.taken = value;
        if (names[i] == "NoPorts" || names[i] == "InErrors") counts.dropped += value;
      }
      return absl::OkStatus();
    }
    return absl::NotFoundError("no UDP counters in /proc/net/snmp");
  }));
  return counts;
}

// Whether a UDP socket of the namespace has the port (proc(5), net/udp: addresses in hexadecimal).
bool IsPortTaken(const SteerSite& site) {
  const std::string port = absl::AsciiStrToUpper(absl::StrCat(":", absl::Hex(site.port, absl::kZeroPad4)));
  bool taken = false;
  InNamespace(site.netns, [&] {
    std::ifstream file("/proc/thread-self/net/udp");
    for (std::string line; std::getline(file, line);) {
      const std::vector<std::string> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
      taken = taken || (words.size() > 1 && absl::EndsWith(words[1], port));
    }
    return absl::OkStatus();
  }).IgnoreError();
  return taken;
}

class Peer : public SteerService {
 public:
  explicit Peer(const SteerSite& site) : site_(site) {}

  absl::Status Begin() override {
    HG_ASSIGN_OR_RETURN(before_, ReadUdpCounts(site_.netns));
    return absl::OkStatus();
  }
  absl::StatusOr<uint64_t> Received() override {
    HG_ASSIGN_OR_RETURN(const UdpCounts now, ReadUdpCounts(site_.netns));
    return now.taken - before_.taken;
  }
  absl::Status Check(uint64_t sent, uint64_t) override {
    UdpCounts now;
    for (const auto end = Clock::now() + kTimeout; Clock::now() < end; std::this_thread::sleep_for(kPoll)) {
      HG_ASSIGN_OR_RETURN(now, ReadUdpCounts(site_.netns));
      if (now.taken - before_.taken + now.dropped - before_.dropped == sent) return absl::OkStatus();
    }
    return absl::DataLossError(absl::StrCat("the kernel's account does not add up: ", sent, " sent, ",
                                            now.taken - before_.taken, " taken, ", now.dropped - before_.dropped,
                                            " dropped"));
  }

 protected:
  const SteerSite& site() const { return site_; }

 private:
  SteerSite site_;
  UdpCounts before_;
};

class ServerPeer : public Peer {
 public:
  using Peer::Peer;
  absl::Status Start() {
    HG_ASSIGN_OR_RETURN(
        server_,
        UdpServer::Start({.netns = site().netns, .port = site().port, .echo = site().echo, .cpus = {site().cpu}}));
    return absl::OkStatus();
  }
  std::vector<pid_t> Threads() const override { return server_->threads(); }

 private:
  std::unique_ptr<UdpServer> server_;
};

class SocatPeer : public Peer {
 public:
  using Peer::Peer;
  ~SocatPeer() override {
    if (pid_ <= 0) return;
    kill(-pid_, SIGKILL);  // with the children it has for its clients, whose end cannot be waited for
    waitpid(pid_, nullptr, 0);
    for (const auto end = Clock::now() + kTimeout; IsPortTaken(site()) && Clock::now() < end;) {
      std::this_thread::sleep_for(kPoll);
    }
  }

  absl::Status Start() {
    // For answers it needs a child a client: the socket that all datagrams come by knows only where the last one
    // came from.
    const std::string port = absl::StrCat(site().port);
    std::vector<std::string> words =
        site().echo
            ? std::vector<std::string>{"socat", absl::StrCat("UDP4-LISTEN:", port, ",fork,reuseaddr"), "PIPE"}
            : std::vector<std::string>{"socat", "-u", absl::StrCat("UDP4-RECV:", port), "OPEN:/dev/null"};
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    HG_RETURN_IF_ERROR(Spawn(argv));
    return AwaitSocket();
  }
  std::vector<pid_t> Threads() const override { return ThreadsOfGroup(pid_); }

 private:
  absl::Status Spawn(const std::vector<char*>& argv) {
    const Fd netns(open(absl::StrCat("/run/netns/", site().netns).c_str(), O_RDONLY | O_CLOEXEC));
    const Fd null(open("/dev/null", O_RDWR | O_CLOEXEC));
    if (!netns || !null) return ErrnoStatus("prepare socat");
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(static_cast<size_t>(site().cpu), &cpus);
    pid_ = fork();
    if (pid_ < 0) return ErrnoStatus("start socat");
    if (pid_ > 0) return absl::OkStatus();
    // Nothing but system calls: other threads' locks were copied as they were.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setpgid(0, 0);
    for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) dup2(null.get(), fd);
    if (sched_setaffinity(0, sizeof(cpus), &cpus) == 0 && setns(netns.get(), CLONE_NEWNET) == 0) {
      execvp(argv[0], argv.data());
    }
    _exit(kExecFailed);
  }

  absl::Status AwaitSocket() {
    for (const auto end = Clock::now() + kTimeout; Clock::now() < end; std::this_thread::sleep_for(kPoll)) {
      int status = 0;
      if (waitpid(pid_, &status, WNOHANG) != 0) {
        pid_ = -1;
        if (WIFEXITED(status) && WEXITSTATUS(status) == kExecFailed) return absl::NotFoundError("no socat");
        return absl::InternalError("socat has ended");
      }
      if (IsPortTaken(site())) return absl::OkStatus();
    }
    return absl::DeadlineExceededError("socat opens no socket");
  }

  pid_t pid_ = -1;
};

// The kernel lets go of a contender's program some time after its agent has ended and its pins are gone; until
// then the program has all packets.
absl::Status AwaitNoProgram(const SteerSite& site) {
  return InNamespace(site.netns, [&]() -> absl::Status {
    const int ifindex = static_cast<int>(if_nametoindex(site.device.c_str()));
    uint32_t program = 0;
    for (const auto end = Clock::now() + kTimeout; Clock::now() < end; std::this_thread::sleep_for(kPoll)) {
      const int error = bpf_xdp_query_id(ifindex, 0, &program);
      if (error != 0) return ErrnoStatusOf(-error, "ask for the XDP program of ", site.device);
      if (program == 0) return absl::OkStatus();
    }
    return absl::DeadlineExceededError(absl::StrCat(site.device, " still has XDP program ", program));
  });
}

template <typename Kind>
absl::StatusOr<std::unique_ptr<SteerService>> Started(const SteerSite& site) {
  HG_RETURN_IF_ERROR(AwaitNoProgram(site));
  auto peer = std::make_unique<Kind>(site);
  HG_RETURN_IF_ERROR(peer->Start());
  return peer;
}

}  // namespace

absl::StatusOr<std::unique_ptr<SteerService>> StartUdpServer(const SteerSite& site) {
  return Started<ServerPeer>(site);
}

absl::StatusOr<std::unique_ptr<SteerService>> StartSocat(const SteerSite& site) {
  return Started<SocatPeer>(site);
}

}  // namespace headgate::bench
