// SPDX-License-Identifier: Apache-2.0
#include "bench/replace_scenario.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <map>
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
constexpr milliseconds kDrained(50), kDrainTimeout(5000);
constexpr double kMicrosecond = 1e3;  // ns

// Frames by the agent's counters.
struct Account {
  uint64_t came = 0, left = 0, dropped = 0;
};

struct Sample {
  Histogram latency;   // ns
  Histogram lateness;  // of the sender, ns
  SendReport sent;
  uint64_t lost = 0;  // dropped at the egress, and counted
  uint64_t replacements = 0;
};

double Microseconds(const Histogram& histogram, double percent) {
  const uint64_t nanoseconds = percent < 100 ? histogram.Percentile(percent) : histogram.Max();
  return static_cast<double>(nanoseconds) / kMicrosecond;
}

std::vector<double> Percentiles(const std::vector<Sample>& samples, Histogram Sample::*histogram, double percent) {
  std::vector<double> values;
  values.reserve(samples.size());
  for (const Sample& sample : samples) values.push_back(Microseconds(sample.*histogram, percent));
  return values;
}

// What the agent's CPU does meanwhile. A CPU that sleeps wakes up slowly, which shows on the path's CPU too: so
// there are two turns in which nothing is replaced.
enum class Turn : uint8_t { kReplacing, kIdle, kBusy };
constexpr std::array kTurns = {Turn::kReplacing, Turn::kIdle, Turn::kBusy};

const char* NameOf(Turn turn) {
  switch (turn) {
    case Turn::kReplacing:
      return "replacing";
    case Turn::kIdle:
      return "idle";
    case Turn::kBusy:
      return "busy";
  }
  return "";
}

std::string Line(int round, Turn turn, const Sample& sample) {
  const auto us = [&sample](double percent) { return Microseconds(sample.latency, percent); };
  return absl::StrFormat(
      "round %d, %-9s p50 %5.1f us, p99 %5.1f, p99.9 %5.1f, max %6.1f; sender late p99.9 %5.1f, "
      "max %6.1f; %d replacements, %d frames, %d lost, %d given up",
      round, NameOf(turn), us(50), us(99), us(99.9), us(100), Microseconds(sample.lateness, 99.9),
      Microseconds(sample.lateness, 100), sample.replacements, sample.sent.sent, sample.lost,
      sample.sent.given_up);
}

class Scenario {
 public:
  Scenario(const ReplaceOptions& options, const std::atomic<bool>& stop,
           absl::FunctionRef<void(const std::string&)> progress)
      : options_(options), stop_(stop), progress_(progress) {}

  absl::Status Prepare() {
    const ReplacePath path = {
        .in = kIn, .out = kOut, .source_mac = "02:00:00:00:01:01", .destination_mac = "02:00:00:00:01:02"};
    HG_ASSIGN_OR_RETURN(cycle_, MakeReplaceCycle(options_.rule_set, path, ReplaceFrames(options_.flows)));
    HG_ASSIGN_OR_RETURN(agent_, RunningAgent::Start({.binary = options_.agent,
                                                     .netns = kGatewayNs,
                                                     .directory = options_.directory,
                                                     .cpu = AgentCpu(),
                                                     .flow_cache = options_.flow_cache},
                                                    stop_));
    return absl::OkStatus();
  }

  // On the one CPU there may be, the path comes first by its priority.
  static int AgentCpu() { return std::thread::hardware_concurrency() > 1 ? kAgentCpu : kPathCpu; }

  absl::Status RunRound(int round) {
    for (size_t i = 0; i < kTurns.size(); ++i) {
      const Turn turn = kTurns[(static_cast<size_t>(round) + i) % kTurns.size()];
      // From the same state: the set in force, and the agent at rest.
      HG_RETURN_IF_ERROR(agent_->Apply(cycle_.requests.front()).status());
      HG_RETURN_IF_ERROR(agent_->AwaitRest());
      HG_ASSIGN_OR_RETURN(Sample sample, Measure(turn));
      progress_(Line(round, turn, sample));
      samples_[turn].push_back(std::move(sample));
    }
    return agent_->process().CheckRunning();
  }

  Result result() const;

 private:
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

  // Replaces the rules all the time, or computes or waits. How many replacements there were.
  absl::StatusOr<uint64_t> Occupy(Turn turn) {
    const auto end = Clock::now() +
                     std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(options_.seconds));
    uint64_t replacements = 0;
    while (Clock::now() < end) {
      if (stop_.load(std::memory_order_relaxed)) return absl::CancelledError("interrupted");
      if (turn == Turn::kReplacing) {
        const size_t next = ++replacements % cycle_.requests.size();
        HG_RETURN_IF_ERROR(agent_->Apply(cycle_.requests[next]).status());
      } else if (turn == Turn::kIdle) {
        std::this_thread::sleep_for(std::min<Clock::duration>(kStopTime, end - Clock::now()));
      }
    }
    return replacements;
  }

  absl::StatusOr<Sample> Measure(Turn turn) {
    HG_ASSIGN_OR_RETURN(const Account before, ReadAccount());
    HG_ASSIGN_OR_RETURN(const auto receiver, Receiver::Open({.device = kSink, .netns = kSinkNs}));
    HG_ASSIGN_OR_RETURN(const auto sender,
                        Sender::Open({.device = kSenderDevice,
                                      .netns = kSenderNs,
                                      .frame = ReplaceFrames(options_.flows),
                                      .packets_per_second = options_.packets_per_second,
                                      .scheduling = {.cpu = kPathCpu, .realtime = options_.realtime ? 1 : 0}}));
    sender->Start();
    Sample sample;
    HG_ASSIGN_OR_RETURN(sample.replacements, Occupy(turn));
    HG_RETURN_IF_ERROR(sender->Stop());
    HG_RETURN_IF_ERROR(receiver->AwaitIdle(kDrained, kDrainTimeout));
    HG_ASSIGN_OR_RETURN(ReceiveReport received, receiver->Read());
    HG_ASSIGN_OR_RETURN(const Account after, ReadAccount());
    sample.sent = sender->Report();
    sample.lost = after.dropped - before.dropped;
    HG_RETURN_IF_ERROR(CheckAccount(sample, received, before, after));
    sample.latency = std::move(received.latency);
    sample.lateness = sender->lateness();
    return sample;
  }

  // Every frame sent came to the rule that redirects, and left or was counted as dropped at the egress.
  static absl::Status CheckAccount(const Sample& sample, const ReceiveReport& received, const Account& before,
                                   const Account& after) {
    const uint64_t came = after.came - before.came, left = after.left - before.left;
    if (came == sample.sent.sent && left == received.Unique() && came == left + sample.lost &&
        received.latency.Count() == received.packets) {
      return absl::OkStatus();
    }
    return absl::DataLossError(absl::StrCat("the account does not add up: ", sample.sent.sent, " frames sent, ",
                                            came, " came in, ", left, " left, ", sample.lost,
                                            " were dropped at the egress, ", received.packets, " received"));
  }

  const ReplaceOptions& options_;
  const std::atomic<bool>& stop_;
  absl::FunctionRef<void(const std::string&)> progress_;
  ReplaceCycle cycle_;
  std::unique_ptr<RunningAgent> agent_;
  std::map<Turn, std::vector<Sample>> samples_;  // by round
};

// Of all rounds of a kind, each name with the prefix.
void AddDetails(const std::string& prefix, const std::vector<Sample>& samples,
                std::vector<std::pair<std::string, double>>& details) {
  uint64_t sent = 0, lost = 0, given_up = 0;
  for (const Sample& sample : samples) {
    sent += sample.sent.sent;
    lost += sample.lost;
    given_up += sample.sent.given_up;
  }
  const auto add = [&](const char* name, double value) { details.emplace_back(prefix + name, value); };
  add("max_us", Summarize(Percentiles(samples, &Sample::latency, 100)).max);
  add("late_p999_us", Summarize(Percentiles(samples, &Sample::lateness, 99.9)).median);
  add("late_max_us", Summarize(Percentiles(samples, &Sample::lateness, 100)).max);
  add("sent", static_cast<double>(sent));
  add("lost", static_cast<double>(lost));
  add("given_up", static_cast<double>(given_up));
}

Result Scenario::result() const {
  const std::vector<Sample>&replacing = samples_.at(Turn::kReplacing), &idle = samples_.at(Turn::kIdle),
        &busy = samples_.at(Turn::kBusy);
  uint64_t replacements = 0;
  for (const Sample& sample : replacing) replacements += sample.replacements;
  std::vector<std::pair<std::string, double>> details = {{"replacements", static_cast<double>(replacements)}};
  AddDetails("", replacing, details);
  AddDetails("idle_", idle, details);
  AddDetails("busy_", busy, details);
  Result result{.scenario = "replace",
                .settings = {{"rules", absl::StrCat(options_.rule_set, ", ", cycle_.rules)},
                             {"seconds", absl::StrCat(options_.seconds)},
                             {"rate", absl::StrCat(options_.packets_per_second)},
                             {"flows", absl::StrCat(options_.flows)},
                             {"flow_cache", options_.flow_cache ? "yes" : "no"},
                             {"realtime", options_.realtime ? "yes" : "no"},
                             {"state", options_.directory}}};
  for (const auto& [name, percent] : {std::pair("p50", 50.0), {"p99", 99.0}, {"p999", 99.9}}) {
    const std::vector<double> while_idle = Percentiles(idle, &Sample::latency, percent),
                              while_busy = Percentiles(busy, &Sample::latency, percent);
    ResultRow row{.name = absl::StrCat("replace/", name),
                  .unit = "us",
                  .headgate = Percentiles(replacing, &Sample::latency, percent),
                  .baseline = "quiet"};
    for (size_t i = 0; i < while_idle.size(); ++i)
      row.baseline_values.push_back(std::min(while_idle[i], while_busy[i]));
    row.details = {{"idle_us", Summarize(while_idle).median}, {"busy_us", Summarize(while_busy).median}};
    row.details.insert(row.details.end(), details.begin(), details.end());
    result.rows.push_back(std::move(row));
    details.clear();  // once
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
