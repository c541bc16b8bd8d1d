// SPDX-License-Identifier: Apache-2.0
//
// The peers of the multicast benchmark: the kernel's multicast routing, and a relay by sockets.
#include <absl/strings/str_cat.h>
#include <linux/mroute.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "bench/peer_process.h"
#include "bench/proc_net.h"
#include "bench/relay.h"
#include "bench/socket_relay.h"

namespace headgate::bench {
namespace {

using Clock = std::chrono::steady_clock;

class SocketRelayService : public Relay {
 public:
  using Relay::Relay;

  absl::Status Start() {
    HG_RETURN_IF_ERROR(Prepare());
    SocketRelayOptions options{.netns = site().netns,
                               .device = site().device,
                               .group = site().group,
                               .port = site().port,
                               .legs = {},
                               .cpu = site().cpu};
    for (const RelayLeg& leg : site().legs) options.legs.push_back({.device = leg.device, .group = leg.group});
    HG_ASSIGN_OR_RETURN(relay_, SocketRelay::Start(options));
    return absl::OkStatus();
  }

  absl::Status Begin() override {
    HG_ASSIGN_OR_RETURN(before_, Read());
    return Relay::Begin();
  }
  // What came was taken or dropped by UDP; what was taken was sent by each leg or refused by the kernel.
  absl::Status Check(uint64_t sent, uint64_t) override {
    Counts now;
    uint64_t delivered = 0;
    return AwaitAccount(
        [&]() -> absl::StatusOr<bool> {
          HG_ASSIGN_OR_RETURN(now, Read());
          HG_ASSIGN_OR_RETURN(delivered, Delivered());
          const uint64_t received = now.received - before_.received;
          return now.udp.taken - before_.udp.taken + now.udp.dropped - before_.udp.dropped == sent &&
                 received == now.udp.taken - before_.udp.taken &&
                 now.sent - before_.sent + now.refused - before_.refused == received * site().legs.size() &&
                 delivered <= now.sent - before_.sent;
        },
        [&] {
          return absl::StrCat(sent, " sent, ", now.udp.taken - before_.udp.taken, " taken, ",
                              now.udp.dropped - before_.udp.dropped, " dropped, ", now.received - before_.received,
                              " received, ", now.sent - before_.sent, " copies sent, ",
                              now.refused - before_.refused, " refused, ", delivered, " delivered");
        });
  }
  std::vector<pid_t> OwnThreads() const override { return {relay_->thread()}; }
  std::vector<pid_t> PacketThreads() const override { return OwnThreads(); }

 private:
  struct Counts {
    UdpCounts udp;
    uint64_t received = 0, sent = 0, refused = 0;
  };
  absl::StatusOr<Counts> Read() const {
    HG_ASSIGN_OR_RETURN(const UdpCounts udp, ReadUdpCounts(site().netns));
    return Counts{
        .udp = udp, .received = relay_->received(), .sent = relay_->sent(), .refused = relay_->refused()};
  }

  std::unique_ptr<SocketRelay> relay_;
  Counts before_;
};

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

class IpMroute : public Relay {
 public:
  using Relay::Relay;
  ~IpMroute() override {
    daemon_.reset();
    std::error_code ignored;
    if (!directory_.empty()) std::filesystem::remove_all(directory_, ignored);
  }

  absl::Status Start() {
    if (site().legs.size() + 1 > MAXVIFS) {
      return absl::OutOfRangeError(absl::StrCat("the kernel routes multicast among ", MAXVIFS,
                                                " interfaces at most, of which one is the input"));
    }
    HG_RETURN_IF_ERROR(Prepare());
    HG_RETURN_IF_ERROR(InNamespace(site().netns, [this] { return AllowForwarding(); }));
    std::string pattern = absl::StrCat(site().directory, "/hgbench.XXXXXX");
    if (mkdtemp(pattern.data()) == nullptr) return ErrnoStatus("make a directory below ", site().directory);
    directory_ = pattern;
    std::ofstream(Path("conf")) << Configuration();
    HG_ASSIGN_OR_RETURN(
        daemon_, PeerProcess::Start({.words = {"smcrouted", "-n", "-N", "-i", "hgbench", "-f", Path("conf"), "-P",
                                               Path("pid"), "-u", Path("socket")},
                                     .netns = site().netns,
                                     .cpu = site().cpu,
                                     .log = Path("log")}));
    return AwaitRoute();
  }

  absl::Status Begin() override {
    HG_ASSIGN_OR_RETURN(before_, ReadMulticastRoute(site().netns, site().group));
    return Relay::Begin();
  }
  // What came took the route; no more than a copy a leg was delivered.
  absl::Status Check(uint64_t sent, uint64_t) override {
    uint64_t routed = 0, delivered = 0;
    return AwaitAccount(
        [&]() -> absl::StatusOr<bool> {
          HG_ASSIGN_OR_RETURN(const MulticastRouteCounts now, ReadMulticastRoute(site().netns, site().group));
          HG_ASSIGN_OR_RETURN(delivered, Delivered());
          routed = now.packets - before_.packets;
          return routed == sent && delivered <= routed * site().legs.size();
        },
        [&] { return absl::StrCat(sent, " sent, ", routed, " routed, ", delivered, " delivered"); });
  }
  // It has nothing to do with packets.
  std::vector<pid_t> OwnThreads() const override { return {}; }
  std::vector<pid_t> PacketThreads() const override { return {}; }

 private:
  std::string Path(const char* name) const { return absl::StrCat(directory_, "/", name); }

  static absl::Status Write(const std::string& path, int value) {
    std::ofstream file(path);
    file << value << std::flush;
    return file ? absl::OkStatus() : ErrnoStatus("write ", value, " to ", path);
  }
  // The sysctl files are those of the thread's namespace.
  absl::Status AllowForwarding() const {
    HG_RETURN_IF_ERROR(Write("/proc/sys/net/ipv4/ip_forward", 1));
    for (const std::string& scope : {std::string("all"), site().device}) {
      HG_RETURN_IF_ERROR(Write(absl::StrCat("/proc/sys/net/ipv4/conf/", scope, "/rp_filter"), 0));
    }
    return absl::OkStatus();
  }

  std::string Configuration() const {
    std::string text = absl::StrCat("phyint ", site().device, " enable\n");
    std::string outputs;
    for (const RelayLeg& leg : site().legs) {
      absl::StrAppend(&text, "phyint ", leg.device, " enable\n");
      absl::StrAppend(&outputs, " ", leg.device);
    }
    return absl::StrCat(text, "mroute from ", site().device, " source ", site().source, " group ", site().group,
                        " to", outputs, "\n");
  }

  absl::Status AwaitRoute() {
    for (const auto end = Clock::now() + kTimeout; Clock::now() < end; std::this_thread::sleep_for(kPoll)) {
      if (const absl::Status status = daemon_->CheckRunning(); !status.ok()) {
        return absl::IsNotFound(status) ? status : Annotate(status, ReadFile(Path("log")));
      }
      const auto route = ReadMulticastRoute(site().netns, site().group);
      if (route.ok() && route->outputs == site().legs.size()) return absl::OkStatus();
    }
    return absl::DeadlineExceededError(absl::StrCat("smcrouted makes no route of ", site().legs.size(),
                                                    " legs; its log:\n", ReadFile(Path("log"))));
  }

  std::string directory_;
  std::unique_ptr<PeerProcess> daemon_;
  MulticastRouteCounts before_;
};

template <typename Kind>
absl::StatusOr<std::unique_ptr<Service>> Started(const RelaySite& site, const Sinks& sinks) {
  auto relay = std::make_unique<Kind>(site, sinks);
  HG_RETURN_IF_ERROR(relay->Start());
  return relay;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Service>> StartSocketRelay(const RelaySite& site, const Sinks& sinks) {
  return Started<SocketRelayService>(site, sinks);
}

absl::StatusOr<std::unique_ptr<Service>> StartIpMroute(const RelaySite& site, const Sinks& sinks) {
  return Started<IpMroute>(site, sinks);
}

}  // namespace headgate::bench
