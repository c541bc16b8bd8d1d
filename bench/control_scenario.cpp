// SPDX-License-Identifier: Apache-2.0
#include "bench/control_scenario.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <linux/bpf.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <numeric>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "agent/base/status.h"
#include "bench/control_rules.h"
#include "bench/lab.h"
#include "bench/program_run.h"
#include "bench/replace_watch.h"
#include "bench/running_agent.h"
#include "bench/verdict_watch.h"

namespace headgate::bench {
namespace {

using std::chrono::milliseconds;
using Clock = VerdictWatch::Clock;

constexpr char kNetns[] = "hgb-ctl", kDevice[] = "hgb-ctl0", kPeer[] = "hgb-ctl1";
constexpr uint64_t kSeed = 1;
// The agent gives memory back a second after a large change.
constexpr milliseconds kQuiet(1500), kQuietTimeout(60'000);
// Messages of an Update stream that go to the socket in one call.
constexpr size_t kSentTogether = 32;
constexpr int kSetSamples = 100;
constexpr double kMegabyte = 1e6;

double Seconds(Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }
double Milliseconds(Clock::duration duration) { return 1e3 * Seconds(duration); }

// An agent that serves, with nothing configured, and a watch on what it does to frames.
class Gateway {
 public:
  static absl::StatusOr<std::unique_ptr<Gateway>> Start(const ControlOptions& options,
                                                        const std::atomic<bool>& stop) {
    std::unique_ptr<Gateway> gateway(new Gateway);
    HG_ASSIGN_OR_RETURN(
        gateway->agent_,
        RunningAgent::Start({.binary = options.agent, .netns = kNetns, .directory = options.directory}, stop));
    HG_ASSIGN_OR_RETURN(Fd program, OpenHeadgateProgram());
    HG_ASSIGN_OR_RETURN(gateway->watch_, VerdictWatch::Start(kNetns, kDevice, std::move(program)));
    return gateway;
  }

  GatewayClient& client() { return agent_->client(); }
  AgentProcess& process() { return agent_->process(); }
  VerdictWatch& watch() { return *watch_; }

  // A whole configuration, until it is in force. The time the call took.
  absl::StatusOr<double> Apply(v1::GatewayConfig config) {
    return agent_->Apply(ApplyUntilInForce(std::move(config)));
  }

 private:
  Gateway() = default;

  std::unique_ptr<RunningAgent> agent_;
  std::unique_ptr<VerdictWatch> watch_;
};

// Latencies of single changes, in milliseconds.
struct ChangeLatencies {
  std::vector<double> durable;          // from sending to the durable acknowledgement
  std::vector<double> visible;          // from the acknowledgement to the first frame with the new verdict
  std::vector<double> sent_to_visible;  // from sending to that frame
};

// Each is sent when the one before is in the data path.
absl::StatusOr<ChangeLatencies> MeasureChanges(Gateway& gateway, RuleSet& rules,
                                               const std::vector<ShownRule>& shown,
                                               const std::atomic<bool>& stop) {
  ChangeLatencies latencies;
  const auto stream = gateway.client().Update();
  for (const ShownRule& rule : shown) {
    if (stop.load(std::memory_order_relaxed)) return absl::CancelledError("interrupted");
    const v1::UpdateRequest request = rules.Flip(rule.index);
    HG_RETURN_IF_ERROR(gateway.watch().Watch(rule.frame, rules.VerdictOf(rule.index)));
    const auto sent = Clock::now();
    HG_RETURN_IF_ERROR(stream->Send(request));
    HG_RETURN_IF_ERROR(stream->Receive().status());
    const auto durable = Clock::now();
    HG_ASSIGN_OR_RETURN(const Clock::time_point seen, gateway.watch().AwaitSeen());
    latencies.durable.push_back(Milliseconds(durable - sent));
    latencies.visible.push_back(Milliseconds(seen - durable));
    latencies.sent_to_visible.push_back(Milliseconds(seen - sent));
  }
  return latencies;
}

// Changes one a message, as fast as the stream takes them: to all rules in an order of chance, and again, so that
// a rule is changed a second time only when all others were. Changes a second, from the first message to the last
// acknowledgement.
absl::StatusOr<double> MeasureUpdates(Gateway& gateway, RuleSet& rules, const std::vector<ShownRule>& shown,
                                      size_t count, std::mt19937_64& random) {
  std::vector<size_t> indexes(rules.size());
  std::iota(indexes.begin(), indexes.end(), size_t{0});
  std::vector<v1::UpdateRequest> requests;
  requests.reserve(count);
  while (requests.size() < count) {
    std::shuffle(indexes.begin(), indexes.end(), random);
    const size_t some = std::min(count - requests.size(), indexes.size());
    for (size_t i = 0; i < some; ++i) requests.push_back(rules.Flip(indexes[i]));
  }

  const auto stream = gateway.client().Update();
  absl::Status sent;
  const auto start = Clock::now();
  std::thread sender([&] {
    for (size_t i = 1; i <= requests.size() && sent.ok(); ++i) {
      sent = stream->Send(requests[i - 1], i % kSentTogether != 0 && i < requests.size());
    }
  });
  absl::Status received;
  for (size_t i = 0; i < requests.size() && received.ok(); ++i) received = stream->Receive().status();
  const double seconds = Seconds(Clock::now() - start);
  sender.join();
  HG_RETURN_IF_ERROR(received);
  HG_RETURN_IF_ERROR(sent);
  // They did what they were acknowledged for.
  for (const ShownRule& rule : shown) {
    HG_RETURN_IF_ERROR(gateway.watch().AwaitVerdict(rule.frame, rules.VerdictOf(rule.index)));
  }
  return static_cast<double>(requests.size()) / seconds;
}

struct SetTimes {
  double load_seconds, replace_seconds;
  uint64_t verdicts;  // while it was replaced, none of them wrong
};

absl::StatusOr<SetTimes> MeasureLargeSet(Gateway& gateway, size_t prefixes, std::mt19937_64& random) {
  SetTimes times{};
  const v1::GatewayConfig config = LargeSetConfig(kDevice, prefixes, random);
  HG_ASSIGN_OR_RETURN(times.load_seconds, gateway.Apply(config));
  for (int i = 0; i < kSetSamples; ++i) {
    const v1::PrefixSet& set = config.prefix_sets(0);
    const int index = static_cast<int>(random() % static_cast<uint64_t>(set.prefixes_size()));
    HG_ASSIGN_OR_RETURN(std::vector<uint8_t> frame, FrameFrom(set, index));
    HG_RETURN_IF_ERROR(gateway.watch().AwaitVerdict(std::move(frame), XDP_DROP));
  }
  const v1::GatewayConfig replaced = HalfReplaced(config, random);
  HG_ASSIGN_OR_RETURN(std::vector<JudgedFrame> frames, JudgeBySets(config, replaced, kSetSamples, random));
  HG_ASSIGN_OR_RETURN(Fd program, OpenHeadgateProgram());
  HG_ASSIGN_OR_RETURN(const auto watch,
                      ReplaceWatch::Start(kNetns, kDevice, std::move(program), std::move(frames)));
  HG_ASSIGN_OR_RETURN(times.replace_seconds, gateway.Apply(replaced));
  HG_ASSIGN_OR_RETURN(times.verdicts, watch->Finish());
  return times;
}

struct Case {
  const char* name;
  const char* unit;
};
// In the order of the table.
constexpr Case kCases[] = {{"apply_100k_s", "s"},
                           {"visible_p50_ms", "ms"},
                           {"visible_p99_ms", "ms"},
                           {"durable_p99_ms", "ms"},
                           {"updates_per_s", "updates/s"},
                           {"set_1m_load_s", "s"},
                           {"rss_mb", "MB"},
                           {"sent_to_visible_p50_ms", "ms"},
                           {"sent_to_visible_p99_ms", "ms"},
                           {"update_cpu_us", "us"},
                           {"rss_applied_mb", "MB"},
                           {"rss_updated_mb", "MB"},
                           {"rss_settled_mb", "MB"},
                           {"rss_peak_mb", "MB"},
                           {"rss_updates_peak_mb", "MB"},
                           {"set_1m_replace_s", "s"},
                           {"set_1m_replace_verdicts", "frames"}};

class Scenario {
 public:
  Scenario(const ControlOptions& options, RuleSet rules, std::vector<ShownRule> shown,
           const std::atomic<bool>& stop, absl::FunctionRef<void(const std::string&)> progress)
      : options_(options), rules_(std::move(rules)), shown_(std::move(shown)), stop_(stop), progress_(progress) {}

  absl::Status RunRound(int round) {
    random_.seed(kSeed + static_cast<uint64_t>(round));
    HG_RETURN_IF_ERROR(MeasureRules());
    HG_RETURN_IF_ERROR(MeasureSet());
    std::string line = absl::StrFormat("round %d:", round);
    for (const Case& c : kCases) absl::StrAppendFormat(&line, " %s %.3f", c.name, values_[c.name].back());
    progress_(line);
    return absl::OkStatus();
  }

  Result result() const {
    Result result{.scenario = "control",
                  .settings = {{"rules", absl::StrCat(options_.rule_set, ", ", rules_.size())},
                               {"changes", absl::StrCat(options_.changes)},
                               {"updates", absl::StrCat(options_.updates, ", one change a message")},
                               {"prefixes", absl::StrCat(options_.prefixes)},
                               {"state", options_.directory}}};
    for (const Case& c : kCases) {
      result.rows.push_back({.name = c.name, .unit = c.unit, .headgate = values_.at(c.name)});
    }
    return result;
  }

 private:
  absl::Status MeasureRules() {
    rules_.Reset();
    HG_ASSIGN_OR_RETURN(const auto gateway, Gateway::Start(options_, stop_));
    HG_ASSIGN_OR_RETURN(const double apply_seconds, gateway->Apply(rules_.Config(kDevice)));
    Add("apply_100k_s", apply_seconds);
    for (const ShownRule& rule : shown_) {
      HG_RETURN_IF_ERROR(gateway->watch().AwaitVerdict(rule.frame, rules_.VerdictOf(rule.index)));
    }
    HG_ASSIGN_OR_RETURN(const AgentProcess::Memory applied, SettledMemory(gateway->process()));

    HG_ASSIGN_OR_RETURN(const ChangeLatencies latencies, MeasureChanges(*gateway, rules_, shown_, stop_));
    Add("visible_p50_ms", Percentile(latencies.visible, 50));
    Add("visible_p99_ms", Percentile(latencies.visible, 99));
    Add("durable_p99_ms", Percentile(latencies.durable, 99));
    Add("sent_to_visible_p50_ms", Percentile(latencies.sent_to_visible, 50));
    Add("sent_to_visible_p99_ms", Percentile(latencies.sent_to_visible, 99));

    HG_RETURN_IF_ERROR(gateway->process().ResetPeak());
    HG_ASSIGN_OR_RETURN(const double cpu_before, gateway->process().ReadCpuSeconds());
    HG_ASSIGN_OR_RETURN(const double rate, MeasureUpdates(*gateway, rules_, shown_, options_.updates, random_));
    HG_ASSIGN_OR_RETURN(const double cpu_after, gateway->process().ReadCpuSeconds());
    Add("updates_per_s", rate);
    Add("update_cpu_us", 1e6 * (cpu_after - cpu_before) / options_.updates);
    HG_ASSIGN_OR_RETURN(const AgentProcess::Memory updated, gateway->process().ReadMemory());
    HG_ASSIGN_OR_RETURN(const AgentProcess::Memory settled, SettledMemory(gateway->process()));
    Add("rss_applied_mb", static_cast<double>(applied.resident) / kMegabyte);
    Add("rss_updated_mb", static_cast<double>(updated.resident) / kMegabyte);
    Add("rss_settled_mb", static_cast<double>(settled.resident) / kMegabyte);
    Add("rss_mb",
        static_cast<double>(std::max({applied.resident, updated.resident, settled.resident})) / kMegabyte);
    Add("rss_peak_mb", static_cast<double>(applied.peak) / kMegabyte);
    Add("rss_updates_peak_mb", static_cast<double>(updated.peak) / kMegabyte);
    return gateway->process().CheckRunning();
  }

  // When it has come to rest.
  static absl::StatusOr<AgentProcess::Memory> SettledMemory(AgentProcess& process) {
    HG_RETURN_IF_ERROR(process.AwaitIdle(kQuiet, kQuietTimeout));
    return process.ReadMemory();
  }

  absl::Status MeasureSet() {
    HG_ASSIGN_OR_RETURN(const auto gateway, Gateway::Start(options_, stop_));
    HG_ASSIGN_OR_RETURN(const SetTimes times, MeasureLargeSet(*gateway, options_.prefixes, random_));
    Add("set_1m_load_s", times.load_seconds);
    Add("set_1m_replace_s", times.replace_seconds);
    Add("set_1m_replace_verdicts", static_cast<double>(times.verdicts));
    return gateway->process().CheckRunning();
  }

  void Add(const std::string& name, double value) { values_[name].push_back(value); }

  const ControlOptions& options_;
  RuleSet rules_;
  const std::vector<ShownRule> shown_;
  const std::atomic<bool>& stop_;
  absl::FunctionRef<void(const std::string&)> progress_;
  std::mt19937_64 random_;
  std::map<std::string, std::vector<double>> values_;
};

}  // namespace

absl::StatusOr<Result> RunControl(const ControlOptions& options, const std::atomic<bool>& stop,
                                  absl::FunctionRef<void(const std::string&)> progress) {
  HG_ASSIGN_OR_RETURN(const Fd lock, LockBenchmarks(options.wait));
  HG_ASSIGN_OR_RETURN(const auto lab, Lab::Create({kNetns}));
  HG_RETURN_IF_ERROR(lab->Connect({kNetns, kDevice}, {kNetns, kPeer}));
  HG_ASSIGN_OR_RETURN(RuleSet rules, RuleSet::Load(options.rule_set));
  std::mt19937_64 random(kSeed);
  HG_ASSIGN_OR_RETURN(std::vector<ShownRule> shown, rules.DrawShown(options.changes, random));
  Scenario scenario(options, std::move(rules), std::move(shown), stop, progress);
  for (int round = 1; round <= options.rounds; ++round) HG_RETURN_IF_ERROR(scenario.RunRound(round));
  return scenario.result();
}

}  // namespace headgate::bench
