// SPDX-License-Identifier: Apache-2.0
//
// The peers of the steer benchmark. What they received is counted by the kernel's UDP, which does so when an
// application takes a datagram.
#include <absl/strings/ascii.h>
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>

#include <chrono>
#include <fstream>
#include <thread>

#include "agent/base/status.h"
#include "bench/netns.h"
#include "bench/peer_process.h"
#include "bench/proc_net.h"
#include "bench/steer_service.h"
#include "bench/udp_server.h"

namespace headgate::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kPoll(10), kTimeout(10'000);

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

class Peer : public Service {
 public:
  explicit Peer(const SteerSite& site) : site_(site) {}

  absl::Status Begin() override {
    HG_ASSIGN_OR_RETURN(before_, ReadUdpCounts(site_.netns));
    return absl::OkStatus();
  }
  absl::StatusOr<uint64_t> Delivered() override {
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
    process_.reset();
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
    HG_ASSIGN_OR_RETURN(process_, PeerProcess::Start({.words = words, .netns = site().netns, .cpu = site().cpu}));
    return AwaitSocket();
  }
  std::vector<pid_t> Threads() const override { return process_->Threads(); }

 private:
  absl::Status AwaitSocket() {
    for (const auto end = Clock::now() + kTimeout; Clock::now() < end; std::this_thread::sleep_for(kPoll)) {
      HG_RETURN_IF_ERROR(process_->CheckRunning());
      if (IsPortTaken(site())) return absl::OkStatus();
    }
    return absl::DeadlineExceededError("socat opens no socket");
  }

  std::unique_ptr<PeerProcess> process_;
};

template <typename Kind>
absl::StatusOr<std::unique_ptr<Service>> Started(const SteerSite& site) {
  HG_RETURN_IF_ERROR(AwaitNoProgram(site.netns, site.device));
  auto peer = std::make_unique<Kind>(site);
  HG_RETURN_IF_ERROR(peer->Start());
  return peer;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Service>> StartUdpServer(const SteerSite& site) {
  return Started<ServerPeer>(site);
}

absl::StatusOr<std::unique_ptr<Service>> StartSocat(const SteerSite& site) { return Started<SocatPeer>(site); }

}  // namespace headgate::bench
