// SPDX-License-Identifier: Apache-2.0
//
// Headgate as the multicast benchmark has it: a headgated with a multicast route, whose counters have to add up.
#include <absl/strings/str_cat.h>

#include <algorithm>

#include "bench/proc_net.h"
#include "bench/process.h"
#include "bench/relay.h"
#include "bench/running_agent.h"

namespace headgate::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr char kWorkerName[] = "hg-worker-";
constexpr char kInput[] = "in", kRoute[] = "feed";
constexpr char kInKernel[] = "forward_multicast", kByWorker[] = "forward_multicast_worker";

// The devices of the legs, each once. Interfaces have their names.
std::vector<std::string> Outputs(const RelaySite& site) {
  std::vector<std::string> devices;
  for (const RelayLeg& leg : site.legs) {
    if (std::find(devices.begin(), devices.end(), leg.device) == devices.end()) devices.push_back(leg.device);
  }
  return devices;
}

v1::GatewayConfig MakeConfig(const RelaySite& site) {
  v1::GatewayConfig config;
  v1::Interface& input = *config.add_interfaces();
  input.set_name(kInput);
  input.set_device(site.device);
  input.set_mode(v1::ATTACH_MODE_NATIVE);
  for (const std::string& device : Outputs(site)) {
    v1::Interface& output = *config.add_interfaces();
    output.set_name(device);
    // A single leg would be the kernel's otherwise.
    output.set_mode(site.userspace && site.legs.size() == 1 ? v1::ATTACH_MODE_GENERIC : v1::ATTACH_MODE_NATIVE);
  }
  v1::MulticastRoute& route = *config.add_multicast_routes();
  route.set_name(kRoute);
  route.mutable_input()->add_interfaces(kInput);
  route.mutable_input()->set_group(site.group);
  route.mutable_input()->set_port(site.port);
  for (size_t i = 0; i < site.legs.size(); ++i) {
    v1::MulticastLeg& leg = *route.add_legs();
    leg.set_name(absl::StrCat("leg", i));
    leg.set_interface(site.legs[i].device);
    if (site.legs[i].group != site.group) leg.set_group(site.legs[i].group);
  }
  return config;
}

struct Counts {
  uint64_t came = 0;      // by the device
  uint64_t taken = 0;     // of these, by the route and the path that is measured
  uint64_t lost = 0;      // of these, on the way to a worker
  uint64_t offered = 0;   // to legs
  uint64_t no_room = 0;   // of these, for which a worker had no frame or its transmit ring no room
  uint64_t sent = 0;      // by legs
  uint64_t not_sent = 0;  // of these, that devices dropped

  Counts operator-(const Counts& other) const {
    return {came - other.came,       taken - other.taken, lost - other.lost,        offered - other.offered,
            no_room - other.no_room, sent - other.sent,   not_sent - other.not_sent};
  }
};

class HeadgateRelay : public Relay {
 public:
  using Relay::Relay;

  absl::Status Start(const std::atomic<bool>& stop) {
    HG_RETURN_IF_ERROR(Prepare());
    HG_ASSIGN_OR_RETURN(
        agent_,
        RunningAgent::Start(
            {.binary = site().agent, .netns = site().netns, .directory = site().directory, .cpu = site().cpu},
            stop));
    HG_RETURN_IF_ERROR(agent_->Apply(ApplyUntilInForce(MakeConfig(site()))).status());
    return site().userspace ? AwaitWorker(stop) : absl::OkStatus();
  }

  absl::Status Begin() override {
    HG_RETURN_IF_ERROR(agent_->process().CheckRunning());
    HG_ASSIGN_OR_RETURN(before_, Read());
    return Relay::Begin();
  }
  absl::Status Check(uint64_t sent, uint64_t) override {
    Counts counts;
    uint64_t delivered = 0;
    return AwaitAccount(
        [&]() -> absl::StatusOr<bool> {
          HG_ASSIGN_OR_RETURN(const Counts now, Read());
          HG_ASSIGN_OR_RETURN(delivered, Delivered());
          counts = now - before_;
          return AddsUp(counts, sent, delivered);
        },
        [&] {
          return absl::StrCat(sent, " sent, ", counts.came, " came, ", counts.taken, " for the ",
                              site().userspace ? "workers, " : "kernel, ", counts.lost, " lost before, ",
                              counts.offered, " copies offered to ", site().legs.size(), " legs, no room for ",
                              counts.no_room, ", ", counts.sent, " sent, ", counts.not_sent,
                              " dropped by devices, ", delivered, " delivered");
        });
  }
  std::vector<pid_t> OwnThreads() const override { return ThreadsOfProcess(agent_->process().pid()); }
  std::vector<pid_t> PacketThreads() const override { return ThreadsNamed(OwnThreads(), kWorkerName); }

 private:
  // What is lost on the way to a worker is offered to no leg. The kernel says of no copy why it did not make it.
  bool AddsUp(const Counts& counts, uint64_t sent, uint64_t delivered) const {
    return counts.came == sent && counts.taken == sent &&
           counts.offered == (sent - counts.lost) * site().legs.size() &&
           (!site().userspace || counts.offered == counts.sent + counts.no_room) &&
           counts.sent == delivered + counts.not_sent;
  }

  // A queue's socket is opened in the background once the route is in force.
  absl::Status AwaitWorker(const std::atomic<bool>& stop) {
    for (const auto end = Clock::now() + kTimeout; Clock::now() < end; std::this_thread::sleep_for(kPoll)) {
      if (stop.load(std::memory_order_relaxed)) return absl::CancelledError("interrupted");
      HG_ASSIGN_OR_RETURN(const v1::StatsResponse stats, agent_->client().GetStats({}));
      for (const v1::WorkerStats& worker : stats.workers()) {
        if (worker.queues_size() != 0) return absl::OkStatus();
      }
    }
    return absl::DeadlineExceededError("no worker of the agent's reads the device");
  }

  absl::StatusOr<Counts> Read() {
    Counts counts;
    HG_ASSIGN_OR_RETURN(const v1::StatsResponse stats, agent_->client().GetStats({}));
    for (const v1::InterfaceStats& interface : stats.interfaces()) {
      if (interface.name() != kInput) {
        // What workers send meets no program at the egress: its device alone knows.
        counts.not_sent += interface.transmit_dropped_packets();
        continue;
      }
      counts.came = interface.received_packets();
      for (const v1::ReasonStats& reason : interface.reasons()) {
        if (reason.reason() == (site().userspace ? kByWorker : kInKernel)) counts.taken = reason.packets();
      }
    }
    for (const v1::MulticastRouteStats& route : stats.multicast_routes()) {
      for (const v1::MulticastLegStats& leg : route.legs()) {
        counts.offered += leg.offered_packets();
        counts.sent += leg.sent_packets();
        counts.no_room += leg.dropped_tx_full_packets();
      }
    }
    if (!site().userspace) return counts;
    for (const v1::WorkerStats& worker : stats.workers()) {
      counts.lost += worker.kernel_rx_ring_full_packets() + worker.kernel_fill_ring_empty_packets() +
                     worker.kernel_other_packets();
    }
    for (const std::string& device : Outputs(site())) {
      HG_ASSIGN_OR_RETURN(const uint64_t drops, ReadTransmitDrops(site().netns, device));
      counts.not_sent += drops;
    }
    return counts;
  }

  std::unique_ptr<RunningAgent> agent_;
  Counts before_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Service>> StartHeadgateRelay(const RelaySite& site, const Sinks& sinks,
                                                            const std::atomic<bool>& stop) {
  auto relay = std::make_unique<HeadgateRelay>(site, sinks);
  HG_RETURN_IF_ERROR(relay->Start(stop));
  return relay;
}

}  // namespace headgate::bench
