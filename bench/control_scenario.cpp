// SPDX-License-Identifier: Apache-2.0
#include "bench/control_scenario.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_replace.h>
#include <linux/bpf.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <optional>
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

using Clock = VerdictWatch::Clock;

constexpr char kNetns[] = "hgb-ctl", kDevice[] = "hgb-ctl0", kPeer[] = "hgb-ctl1";
constexpr uint64_t kSeed = 1;
// Rules that are away while updates are measured: one that was deleted comes back four times as many changes
// later, so that no group of changes that is made durable at once contains both.
constexpr size_t kAway = 2000;
// Of a kind of change that turns a verdict round, frames that are tried.
constexpr size_t kTriesPerChange = 1000;
constexpr uint32_t kMinShown = 100;
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

  RunningAgent& agent() { return *agent_; }
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
  std::vector<double> durable;          // from sending to the arrival of the acknowledgement
  std::vector<double> visible;          // from that to the first frame with the new verdict
  std::vector<double> sent_to_visible;  // from sending to that frame
};

// Changes that turn a shown frame's verdict round, as many of each kind.
class VisibleChanges {
 public:
  VisibleChanges(RuleSet& rules, const std::vector<ShownHeader>& shown) : rules_(rules), shown_(shown) {}

  struct Change {
    v1::UpdateRequest request;
    const ShownHeader* shown = nullptr;
  };
  absl::StatusOr<Change> Next() {
    const auto kind = static_cast<ChangeKind>(made_++ % kChangeKinds);
    for (size_t i = 0; i < kTriesPerChange; ++i) {
      // What was deleted comes back for the frame that it was deleted for.
      const ShownHeader& shown = kind == ChangeKind::kInsert ? *deleted_for_ : shown_[next_++ % shown_.size()];
      std::optional<v1::UpdateRequest> request = rules_.TurnRound(kind, shown.header);
      if (!request) continue;
      if (kind == ChangeKind::kDelete) deleted_for_ = &shown;
      return Change{*std::move(request), &shown};
    }
    return absl::InvalidArgumentError("the rule set has too few rules that turn a frame's verdict round");
  }

 private:
  RuleSet& rules_;
  const std::vector<ShownHeader>& shown_;
  size_t made_ = 0, next_ = 0;
  const ShownHeader* deleted_for_ = nullptr;
};

// Each is sent when the one before is in the data path.
absl::StatusOr<ChangeLatencies> MeasureChanges(Gateway& gateway, RuleSet& rules,
                                               const std::vector<ShownHeader>& shown, size_t count,
                                               const std::atomic<bool>& stop) {
  ChangeLatencies latencies;
  VisibleChanges changes(rules, shown);
  const auto stream = gateway.client().Update();
  for (size_t i = 0; i < count; ++i) {
    if (stop.load(std::memory_order_relaxed)) return absl::CancelledError("interrupted");
    HG_ASSIGN_OR_RETURN(const VisibleChanges::Change change, changes.Next());
    HG_RETURN_IF_ERROR(gateway.watch().Watch(change.shown->frame, rules.VerdictOf(change.shown->header)));
    const auto sent = Clock::now();
    HG_RETURN_IF_ERROR(stream->Send(change.request));
    HG_RETURN_IF_ERROR(stream->Receive().status());
    const auto acknowledged = Clock::now();
    HG_ASSIGN_OR_RETURN(const Clock::time_point seen, gateway.watch().AwaitSeen());
    latencies.durable.push_back(Milliseconds(acknowledged - sent));
    latencies.visible.push_back(Milliseconds(seen - acknowledged));
    latencies.sent_to_visible.push_back(Milliseconds(seen - sent));
  }
  return latencies;
}

// That what was acknowledged is in force.
absl::Status CheckShown(Gateway& gateway, const RuleSet& rules, const std::vector<ShownHeader>& shown) {
  for (const ShownHeader& some : shown) {
    HG_RETURN_IF_ERROR(gateway.watch().AwaitVerdict(some.frame, rules.VerdictOf(some.header)));
  }
  return absl::OkStatus();
}

// Sends them as fast as the stream takes them. Seconds from the first message to the last acknowledgement.
absl::StatusOr<double> SendAll(Gateway& gateway, const std::vector<v1::UpdateRequest>& requests) {
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
  return seconds;
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
  const char* name;  // but for RULES and PREFIXES, which stand for their numbers
  const char* unit;
};
// In the order of the table.
constexpr Case kCases[] = {{"load_s", "s"},
                           {"apply_RULES_s", "s"},
                           {"visible_p50_ms", "ms"},
                           {"visible_p99_ms", "ms"},
                           {"sent_to_visible_p50_ms", "ms"},
                           {"sent_to_visible_p99_ms", "ms"},
                           {"durable_p99_ms", "ms"},
                           {"updates_per_s", "updates/s"},
                           {"update_cpu_us", "us"},
                           {"set_PREFIXES_load_s", "s"},
                           {"set_PREFIXES_replace_s", "s"},
                           {"set_PREFIXES_replace_verdicts", "frames"},
                           {"rss_mb", "MB"},
                           {"rss_applied_mb", "MB"},
                           {"rss_updated_mb", "MB"},
                           {"rss_settled_mb", "MB"},
                           {"rss_peak_mb", "MB"},
                           {"rss_updates_peak_mb", "MB"},
                           {"rss_max_mb", "MB"},
                           {"set_PREFIXES_rss_max_mb", "MB"},
                           {"map_mb", "MB"}};

std::string Short(uint32_t number) {
  if (number % 1'000'000 == 0) return absl::StrCat(number / 1'000'000, "m");
  if (number % 1000 == 0) return absl::StrCat(number / 1000, "k");
  return absl::StrCat(number);
}

double Megabytes(uint64_t bytes) { return static_cast<double>(bytes) / kMegabyte; }

class Scenario {
 public:
  Scenario(const ControlOptions& options, RuleSet rules, std::vector<ShownHeader> shown,
           const std::atomic<bool>& stop, absl::FunctionRef<void(const std::string&)> progress)
      : options_(options), rules_(std::move(rules)), shown_(std::move(shown)), stop_(stop), progress_(progress) {}

  absl::Status RunRound(int round) {
    random_.seed(kSeed + static_cast<uint64_t>(round));
    HG_RETURN_IF_ERROR(MeasureRules());
    HG_RETURN_IF_ERROR(MeasureSet());
    std::string line = absl::StrFormat("round %d:", round);
    for (const Case& c : kCases) absl::StrAppendFormat(&line, " %s %.3f", NameOf(c), values_[c.name].back());
    progress_(line);
    return absl::OkStatus();
  }

  Result result() const {
    Result result{
        .scenario = "control",
        .settings = {{"rules", absl::StrCat(options_.rule_set, ", ", rules_.size())},
                     {"changes", absl::StrCat(options_.changes, ", of each kind as many")},
                     {"updates", absl::StrCat(options_.updates, ", one a message, of each kind as many")},
                     {"visible", "from the arrival of the acknowledgement at the client"},
                     {"prefixes", absl::StrCat(options_.prefixes)},
                     {"seed", absl::StrCat(kSeed)},
                     {"state", options_.directory}}};
    for (const Case& c : kCases) {
      result.rows.push_back({.name = NameOf(c), .unit = c.unit, .headgate = values_.at(c.name)});
    }
    result.rows.back().details = maps_;
    return result;
  }

 private:
  std::string NameOf(const Case& c) const {
    // A set's name ends with its number: acl1_100k.
    const std::string rules = options_.rule_set.substr(options_.rule_set.rfind('_') + 1);
    return absl::StrReplaceAll(c.name, {{"RULES", rules}, {"PREFIXES", Short(options_.prefixes)}});
  }

  absl::Status MeasureRules() {
    rules_.Reset();
    HG_ASSIGN_OR_RETURN(const auto gateway, Gateway::Start(options_, stop_));
    Add("load_s", gateway->agent().start_seconds());
    HG_ASSIGN_OR_RETURN(const double apply_seconds, gateway->Apply(rules_.Config(kDevice)));
    Add("apply_RULES_s", apply_seconds);
    HG_RETURN_IF_ERROR(CheckShown(*gateway, rules_, shown_));
    HG_ASSIGN_OR_RETURN(const AgentProcess::Memory applied, SettledMemory(gateway->agent()));

    HG_ASSIGN_OR_RETURN(const ChangeLatencies latencies,
                        MeasureChanges(*gateway, rules_, shown_, options_.changes, stop_));
    Add("visible_p50_ms", Percentile(latencies.visible, 50));
    Add("visible_p99_ms", Percentile(latencies.visible, 99));
    Add("durable_p99_ms", Percentile(latencies.durable, 99));
    Add("sent_to_visible_p50_ms", Percentile(latencies.sent_to_visible, 50));
    Add("sent_to_visible_p99_ms", Percentile(latencies.sent_to_visible, 99));

    HG_ASSIGN_OR_RETURN(const AgentProcess::Memory changed, gateway->process().ReadMemory());
    HG_RETURN_IF_ERROR(MeasureUpdates(*gateway));
    HG_ASSIGN_OR_RETURN(const AgentProcess::Memory updated, gateway->process().ReadMemory());
    HG_RETURN_IF_ERROR(CheckShown(*gateway, rules_, shown_));
    HG_ASSIGN_OR_RETURN(const AgentProcess::Memory settled, SettledMemory(gateway->agent()));
    Add("rss_applied_mb", Megabytes(applied.resident));
    Add("rss_updated_mb", Megabytes(updated.resident));
    Add("rss_settled_mb", Megabytes(settled.resident));
    Add("rss_mb", Megabytes(std::max({applied.resident, updated.resident, settled.resident})));
    Add("rss_peak_mb", Megabytes(applied.peak));
    Add("rss_updates_peak_mb", Megabytes(updated.peak));
    Add("rss_max_mb", Megabytes(std::max({changed.peak, updated.peak, settled.peak})));
    HG_RETURN_IF_ERROR(ReadMaps(*gateway));
    return gateway->process().CheckRunning();
  }

  absl::Status MeasureUpdates(Gateway& gateway) {
    const size_t away = std::min(kAway, rules_.size() / 4);
    const RuleSet::Updates updates = rules_.DrawUpdates(away, options_.updates, random_);
    HG_RETURN_IF_ERROR(SendAll(gateway, updates.before).status());
    HG_RETURN_IF_ERROR(gateway.process().ResetPeak());
    HG_ASSIGN_OR_RETURN(const double cpu_before, gateway.process().ReadCpuSeconds());
    HG_ASSIGN_OR_RETURN(const double seconds, SendAll(gateway, updates.requests));
    HG_ASSIGN_OR_RETURN(const double cpu_after, gateway.process().ReadCpuSeconds());
    Add("updates_per_s", options_.updates / seconds);
    Add("update_cpu_us", 1e6 * (cpu_after - cpu_before) / options_.updates);
    return absl::OkStatus();
  }

  // Kernel memory of the data path, as the agent reports it.
  absl::Status ReadMaps(Gateway& gateway) {
    HG_ASSIGN_OR_RETURN(const v1::StatusResponse status, gateway.client().GetStatus());
    uint64_t sum = 0;
    maps_.clear();
    for (const v1::TableStatus& table : status.tables()) {
      sum += table.bytes();
      maps_.emplace_back(absl::StrCat(table.name(), "_mb"), Megabytes(table.bytes()));
    }
    Add("map_mb", Megabytes(sum));
    return absl::OkStatus();
  }

  // When it has come to rest.
  static absl::StatusOr<AgentProcess::Memory> SettledMemory(RunningAgent& agent) {
    HG_RETURN_IF_ERROR(agent.AwaitRest());
    return agent.process().ReadMemory();
  }

  absl::Status MeasureSet() {
    HG_ASSIGN_OR_RETURN(const auto gateway, Gateway::Start(options_, stop_));
    HG_ASSIGN_OR_RETURN(const SetTimes times, MeasureLargeSet(*gateway, options_.prefixes, random_));
    HG_ASSIGN_OR_RETURN(const AgentProcess::Memory memory, gateway->process().ReadMemory());
    Add("set_PREFIXES_load_s", times.load_seconds);
    Add("set_PREFIXES_replace_s", times.replace_seconds);
    Add("set_PREFIXES_replace_verdicts", static_cast<double>(times.verdicts));
    Add("set_PREFIXES_rss_max_mb", Megabytes(memory.peak));
    return gateway->process().CheckRunning();
  }

  void Add(const std::string& name, double value) { values_[name].push_back(value); }

  const ControlOptions& options_;
  RuleSet rules_;
  const std::vector<ShownHeader> shown_;
  const std::atomic<bool>& stop_;
  absl::FunctionRef<void(const std::string&)> progress_;
  std::mt19937_64 random_;
  std::map<std::string, std::vector<double>> values_;
  std::vector<std::pair<std::string, double>> maps_;  // of the last round
};

}  // namespace

absl::StatusOr<Result> RunControl(const ControlOptions& options, const std::atomic<bool>& stop,
                                  absl::FunctionRef<void(const std::string&)> progress) {
  HG_ASSIGN_OR_RETURN(const Fd lock, LockBenchmarks(options.wait));
  HG_ASSIGN_OR_RETURN(const auto lab, Lab::Create({kNetns}));
  HG_RETURN_IF_ERROR(lab->Connect({kNetns, kDevice}, {kNetns, kPeer}));
  HG_ASSIGN_OR_RETURN(RuleSet rules, RuleSet::Load(options.rule_set));
  std::mt19937_64 random(kSeed);
  HG_ASSIGN_OR_RETURN(std::vector<ShownHeader> shown,
                      rules.DrawShown(std::max(options.changes, kMinShown), random));
  Scenario scenario(options, std::move(rules), std::move(shown), stop, progress);
  for (int round = 1; round <= options.rounds; ++round) HG_RETURN_IF_ERROR(scenario.RunRound(round));
  return scenario.result();
}

}  // namespace headgate::bench
