// SPDX-License-Identifier: Apache-2.0
//
// Headgate as the steer benchmark has it: a headgated with a rule that steers, whose counters have to add up.
#include <absl/strings/str_cat.h>

#include <chrono>
#include <thread>

#include "agent/base/status.h"
#include "bench/proc_net.h"
#include "bench/process.h"
#include "bench/running_agent.h"
#include "bench/steer_service.h"

namespace headgate::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr char kWorkerName[] = "hg-worker-";
constexpr char kInterface[] = "in", kTarget[] = "app";
constexpr std::chrono::milliseconds kPoll(10), kTimeout(10'000);

v1::GatewayConfig MakeConfig(const SteerSite& site) {
  v1::GatewayConfig config;
  v1::Interface& interface = *config.add_interfaces();
  interface.set_name(kInterface);
  interface.set_device(site.device);
  interface.set_mode(v1::ATTACH_MODE_NATIVE);
  v1::SteerTarget& target = *config.add_steer_targets();
  target.set_name(kTarget);
  target.set_fallback(v1::FALLBACK_DROP);
  if (site.echo) {
    target.mutable_handler()->mutable_echo();
  } else {
    target.mutable_handler()->mutable_count();
  }
  v1::Rule& rule = *config.add_rules();
  rule.set_name("app");
  rule.set_priority(1);
  rule.mutable_match()->set_protocol("udp");
  rule.mutable_match()->add_destination_ports(absl::StrCat(site.port));
  rule.mutable_action()->mutable_steer()->set_target(kTarget);
  return config;
}

struct Counts {
  uint64_t came = 0;         // by the device
  uint64_t steered = 0;      // of these
  uint64_t received = 0;     // by workers
  uint64_t in_kernel = 0;    // steered, and dropped for want of a worker in time
  uint64_t consumed = 0;     // by the handler
  uint64_t transmitted = 0;  // handed to the kernel as an answer
  uint64_t dropped = 0;      // by workers
  uint64_t not_sent = 0;     // answers that the device dropped

  Counts operator-(const Counts& other) const {
    return {came - other.came,           steered - other.steered,   received - other.received,
            in_kernel - other.in_kernel, consumed - other.consumed, transmitted - other.transmitted,
            dropped - other.dropped,     not_sent - other.not_sent};
  }
};

class HeadgateService : public Service {
 public:
  explicit HeadgateService(const SteerSite& site) : site_(site) {}

  absl::Status Start(const std::atomic<bool>& stop) {
    HG_ASSIGN_OR_RETURN(
        agent_,
        RunningAgent::Start(
            {.binary = site_.agent, .netns = site_.netns, .directory = site_.directory, .cpu = site_.cpu}, stop));
    HG_RETURN_IF_ERROR(agent_->Apply(ApplyUntilInForce(MakeConfig(site_))).status());
    return AwaitWorker(stop);
  }

  absl::Status Begin() override {
    HG_RETURN_IF_ERROR(agent_->process().CheckRunning());
    HG_ASSIGN_OR_RETURN(before_, Read());
    return absl::OkStatus();
  }

  absl::StatusOr<uint64_t> Delivered() override {
    HG_ASSIGN_OR_RETURN(const v1::StatsResponse stats, agent_->client().GetStats({}));
    uint64_t received = 0;
    for (const v1::WorkerStats& worker : stats.workers()) received += worker.received_packets();
    return received - before_.received;
  }

  absl::Status Check(uint64_t sent, uint64_t replies) override {
    Counts counts;
    for (const auto end = Clock::now() + kTimeout; Clock::now() < end; std::this_thread::sleep_for(kPoll)) {
      HG_ASSIGN_OR_RETURN(const Counts now, Read());
      counts = now - before_;
      if (AddsUp(counts, sent, replies)) return absl::OkStatus();
    }
    return absl::DataLossError(
        absl::StrCat("the account does not add up: ", sent, " sent, ", counts.came, " came, ", counts.steered,
                     " steered, ", counts.received, " received, ", counts.in_kernel, " dropped before, ",
                     counts.consumed, " counted, ", counts.dropped, " dropped by workers, ", counts.transmitted,
                     " answered, ", counts.not_sent, " answers dropped, ", replies, " came back"));
  }

  std::vector<pid_t> Threads() const override { return ThreadsOfProcess(agent_->process().pid()); }
  std::vector<pid_t> PacketThreads() const override { return ThreadsNamed(Threads(), kWorkerName); }

 private:
  bool AddsUp(const Counts& counts, uint64_t sent, uint64_t replies) const {
    return counts.came == sent && counts.steered == sent && counts.received + counts.in_kernel == sent &&
           counts.consumed + counts.transmitted + counts.dropped == counts.received &&
           counts.transmitted == replies + counts.not_sent;
  }

  // The queue's socket is opened in the background once the rule is in force.
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
      counts.came += interface.received_packets();
      for (const v1::ReasonStats& reason : interface.reasons()) {
        if (reason.reason() == "forward_steer") counts.steered += reason.packets();
      }
    }
    for (const v1::WorkerStats& worker : stats.workers()) {
      counts.received += worker.received_packets();
      counts.in_kernel += worker.kernel_rx_ring_full_packets() + worker.kernel_fill_ring_empty_packets() +
                          worker.kernel_other_packets();
      counts.consumed += worker.consumed_packets();
      counts.transmitted += worker.transmitted_packets();
      counts.dropped += worker.dropped_handler_packets() + worker.dropped_no_handler_packets() +
                        worker.dropped_tx_full_packets();
    }
    HG_ASSIGN_OR_RETURN(counts.not_sent, ReadTransmitDrops(site_.netns, site_.device));
    return counts;
  }

  SteerSite site_;
  std::unique_ptr<RunningAgent> agent_;
  Counts before_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Service>> StartHeadgateService(const SteerSite& site,
                                                              const std::atomic<bool>& stop) {
  auto service = std::make_unique<HeadgateService>(site);
  HG_RETURN_IF_ERROR(service->Start(stop));
  return service;
}

}  // namespace headgate::bench
