// SPDX-License-Identifier: Apache-2.0
#include "bench/replace_scenario.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "agent/base/status.h"
#include "bench/lab.h"
#include "bench/netns.h"
#include "bench/receiver.h"
#include "bench/replace_rules.h"
#include "bench/running_agent.h"
#include "bench/sender.h"

namespace headgate::bench {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr char kSenderNs[] = "hgb-gen", kGatewayNs[] = "hgb-gw", kSinkNs[] = "hgb-sink";
constexpr char kSenderDevice[] = "hgb-gen", kIn[] = "hgb-in", kOut[] = "hgb-out", kSink[] = "hgb-sink";
// What goes into a veth is received, redirected and received again on the sender's CPU.
constexpr int kPathCpu = 0, kAgentCpu = 1;
constexpr milliseconds kStopTime(100);
constexpr milliseconds kIdle(50), kIdleTimeout(5000);
// The agent gives memory back a second after a large change.
constexpr milliseconds kAgentIdle(1500), kAgentIdleTimeout(60'000);
constexpr double kMicrosecond = 1e3;  // ns

// Frames by the agent's counters.
struct Account {
  uint64_t came = 0, left = 0, dropped = 0;
};

struct Sample {
  Histogram latency;  // ns
  SendReport sent;
  uint64_t dropped = 0;
  uint64_t replacements = 0;
};

class Scenario {
 public:
  Scenario(const ReplaceOptions& options, const std::atomic<bool>& stop,
           absl::FunctionRef<void(const std::string&)> progress)
      : options_(options), stop_(stop), progress_(progress) {}

  absl::Status Prepare() {
    HG_ASSIGN_OR_RETURN(cycle_, MakeReplaceCycle(options_.rule_set, {.in = kIn,
                                                                     .out = kOut,
                                                                     .source_mac = "02:00:00:00:01:01",
                                                                     .destination_mac = "02:00:00:00:01:02"}));
    HG_ASSIGN_OR_RETURN(
        agent_,
        RunningAgent::Start(
            {.binary = options_.agent, .netns = kGatewayNs, .directory = options_.directory, .cpu = AgentCpu()},
            stop_));
    return absl::OkStatus();
  }

  // On the one CPU there may be, the path comes first by its priority.
  static int AgentCpu() { return std::thread::hardware_concurrency() > 1 ? kAgentCpu : kPathCpu; }

  absl::Status RunRound(int round) {
    for (int turn = 0; turn < 2; ++turn) {
      const bool replacing = (round + turn) % 2 == 0;
      // From the same state: the set in force, and the agent at rest.
      HG_RETURN_IF_ERROR(agent_->Apply(cycle_.requests.front()).status());
      HG_RETURN_IF_ERROR(agent_->process().AwaitIdle(kAgentIdle, kAgentIdleTimeout));
      HG_ASSIGN_OR_RETURN(Sample sample, Measure(replacing));
      progress_(Line(round, replacing, sample));
      (replacing ? replacing_ : quiet_).push_back(std::move(sample));
    }
    return agent_->process().CheckRunning();
  }

  Result result() const;

 private:
  static std::string Line(int round, bool replacing, const Sample& sample) {
    return absl::StrFormat(
        "round %d, %-9s p50 %6.1f us, p99 %6.1f, p99.9 %6.1f, max %7.1f; %d replacements, "
        "%d frames, %d dropped, %d given up",
        round, replacing ? "replacing" : "quiet", Microseconds(sample, 50), Microseconds(sample, 99),
        Microseconds(sample, 99.9), Microseconds(sample, 100), sample.replacements, sample.sent.sent,
        sample.dropped, sample.sent.given_up);
  }

  static double Microseconds(const Sample& sample, double percent) {
    const uint64_t nanoseconds = percent < 100 ? sample.latency.Percentile(percent) : sample.latency.Max();
    return static_cast<double>(nanoseconds) / kMicrosecond;
  }

  static std::vector<double> Values(const std::vector<Sample>& samples, double percent) {
    std::vector<double> values;
    for (const Sample& sample : samples) values.push_back(Microseconds(sample, percent));
    return values;
  }

  absl::StatusOr<Account> ReadAccount() {
    v1::StatsRequest request;
    request.add_kinds(v1::KIND_INTERFACE);
    HG_ASSIGN_OR_RETURN(const v1::StatsResponse stats, agent_->client().GetStats(request));
    Account account;
    for (const v1::InterfaceStats& interface : stats.interfaces()) {
      if (interface.name() == "in") account.came = interface.received_packets();
      if (interface.name() != "out") continue;
      account.left = interface.transmitted_packets();
      account.dropped = interface.transmit_dropped_packets() + interface.transmit_refused_packets();
    }
    return account;
  }

  // Replaces the rules all the time, or waits. How many replacements there were.
  absl::StatusOr<uint64_t> Occupy(bool replacing) {
    const auto end = Clock::now() +
                     std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(options_.seconds));
    uint64_t replacements = 0;
    while (Clock::now() < end) {
      if (stop_.load(std::memory_order_relaxed)) return absl::CancelledError("interrupted");
      if (replacing) {
        const size_t next = ++replacements % cycle_.requests.size();
        HG_RETURN_IF_ERROR(agent_->Apply(cycle_.requests[next]).status());
      } else {
        std::this_thread::sleep_for(std::min<Clock::duration>(kStopTime, end - Clock::now()));
      }
    }
    return replacements;
  }

  absl::StatusOr<Sample> Measure(bool replacing) {
    // Addresses for benchmarks (RFC 2544), which no ClassBench rule names.
    const FrameSpec frame = {.destination_mac = {2, 0, 0, 0, 0, 1},
                             .source_mac = {2, 0, 0, 0, 0, 2},
                             .source = {{0xc6120001}, Family::kIpv4},       // 198.18.0.1
                             .destination = {{0xc6130001}, Family::kIpv4},  // 198.19.0.1
                             .flows = options_.flows};
    HG_ASSIGN_OR_RETURN(const Account before, ReadAccount());
    HG_ASSIGN_OR_RETURN(const auto receiver, Receiver::Open({.device = kSink, .netns = kSinkNs}));
    HG_ASSIGN_OR_RETURN(const auto sender,
                        Sender::Open({.device = kSenderDevice,
                                      .netns = kSenderNs,
                                      .frame = frame,
                                      .packets_per_second = options_.packets_per_second,
                                      .scheduling = {.cpu = kPathCpu, .realtime = options_.realtime ? 1 : 0}}));
    sender->Start();
    Sample sample;
    HG_ASSIGN_OR_RETURN(sample.replacements, Occupy(replacing));
    HG_RETURN_IF_ERROR(sender->Stop());
    HG_RETURN_IF_ERROR(receiver->AwaitIdle(kIdle, kIdleTimeout));
    HG_ASSIGN_OR_RETURN(ReceiveReport received, receiver->Read());
    HG_ASSIGN_OR_RETURN(const Account after, ReadAccount());
    sample.sent = sender->Report();
    sample.dropped = after.dropped - before.dropped;
    HG_RETURN_IF_ERROR(CheckAccount(sample, received, before, after));
    sample.latency = std::move(received.latency);
    return sample;
  }

  // Every frame sent came to the rule that redirects, and left or was counted as dropped at the egress.
  static absl::Status CheckAccount(const Sample& sample, const ReceiveReport& received, const Account& before,
                                   const Account& after) {
    const uint64_t came = after.came - before.came, left = after.left - before.left;
    if (came == sample.sent.sent && left == received.Unique() && came == left + sample.dropped &&
        received.latency.Count() == received.packets) {
      return absl::OkStatus();
    }
    return absl::DataLossError(absl::StrCat("the account does not add up: ", sample.sent.sent, " frames sent, ",
                                            came, " came in, ", left, " left, ", sample.dropped,
                                            " were dropped at the egress, ", received.packets, " received"));
  }

  const ReplaceOptions& options_;
  const std::atomic<bool>& stop_;
  absl::FunctionRef<void(const std::string&)> progress_;
  ReplaceCycle cycle_;
  std::unique_ptr<RunningAgent> agent_;
  std::vector<Sample> quiet_, replacing_;  // by round
};

template <typename F>
double Sum(const std::vector<Sample>& samples, F value) {
  double sum = 0;
  for (const Sample& sample : samples) sum += static_cast<double>(value(sample));
  return sum;
}

Result Scenario::result() const {
  const auto dropped = [](const Sample& sample) { return sample.dropped; };
  const auto sent = [](const Sample& sample) { return sample.sent.sent; };
  const auto given_up = [](const Sample& sample) { return sample.sent.given_up; };
  const std::vector<std::pair<std::string, double>> details = {
      {"max_us", Summarize(Values(replacing_, 100)).max},
      {"baseline_max_us", Summarize(Values(quiet_, 100)).max},
      {"replacements", Sum(replacing_, [](const Sample& sample) { return sample.replacements; })},
      {"sent", Sum(replacing_, sent)},
      {"baseline_sent", Sum(quiet_, sent)},
      {"lost", Sum(replacing_, dropped)},
      {"baseline_lost", Sum(quiet_, dropped)},
      {"given_up", Sum(replacing_, given_up)},
      {"baseline_given_up", Sum(quiet_, given_up)}};
  Result result{.scenario = "replace",
                .settings = {{"rules", absl::StrCat(options_.rule_set, ", ", cycle_.rules)},
                             {"seconds", absl::StrCat(options_.seconds)},
                             {"rate", absl::StrCat(options_.packets_per_second)},
                             {"flows", absl::StrCat(options_.flows)},
                             {"realtime", options_.realtime ? "yes" : "no"},
                             {"state", options_.directory}}};
  for (const auto& [name, percent] : {std::pair("p50", 50.0), {"p99", 99.0}, {"p999", 99.9}}) {
    result.rows.push_back({.name = absl::StrCat("replace/", name),
                           .unit = "us",
                           .headgate = Values(replacing_, percent),
                           .baseline = "quiet",
                           .baseline_values = Values(quiet_, percent),
                           .details = details});
  }
  return result;
}

absl::StatusOr<Result> RunHere(const ReplaceOptions& options, const std::atomic<bool>& stop,
                               absl::FunctionRef<void(const std::string&)> progress) {
  // With all threads of the client's that start here.
  HG_RETURN_IF_ERROR(Schedule(0, {.cpu = Scenario::AgentCpu()}));
  Scenario scenario(options, stop, progress);
  HG_RETURN_IF_ERROR(scenario.Prepare());
  for (int round = 1; round <= options.rounds; ++round) HG_RETURN_IF_ERROR(scenario.RunRound(round));
  return scenario.result();
}

}  // namespace

absl::StatusOr<Result> RunReplace(const ReplaceOptions& options, const std::atomic<bool>& stop,
                                  absl::FunctionRef<void(const std::string&)> progress) {
  HG_ASSIGN_OR_RETURN(const Fd lock, LockBenchmarks(options.wait));
  HG_ASSIGN_OR_RETURN(const auto lab, Lab::Create({kSenderNs, kGatewayNs, kSinkNs}));
  HG_RETURN_IF_ERROR(lab->Connect({kSenderNs, kSenderDevice}, {kGatewayNs, kIn}));
  HG_RETURN_IF_ERROR(lab->Connect({kGatewayNs, kOut}, {kSinkNs, kSink}));
  absl::StatusOr<Result> result;
  std::thread([&] { result = RunHere(options, stop, progress); }).join();
  return result;
}

}  // namespace headgate::bench
