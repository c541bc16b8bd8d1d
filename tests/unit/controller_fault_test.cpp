// SPDX-License-Identifier: Apache-2.0
//
// Every call of the data plane failing at every position, once and several times in a row: what was acknowledged
// is durable, callers get the documented answer, and in the end all is in force.
#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "tests/harness/control_node.h"
#include "tests/harness/random.h"
#include "tests/harness/tables.h"

namespace headgate::testing {
namespace {

// Counts calls and fails those from `first` on, `count` of them.
class Countdown {
 public:
  Countdown(int first, int count) : first_(first), count_(count) {}
  absl::Status operator()(absl::string_view call) {
    const int now = calls_++;
    if (now < first_ || now >= first_ + count_) return absl::OkStatus();
    ++failed_;
    return absl::UnavailableError(absl::StrCat("injected into ", call));
  }
  int calls() const { return calls_; }
  int failed() const { return failed_; }

 private:
  const int first_, count_;
  std::atomic<int> calls_{0}, failed_{0};
};

constexpr char kFirst[] = R"(
interfaces: [{name: wan, device: eth0}, {name: lan, device: eth1}, {name: late, device: eth9}]
prefix_sets: [{name: bad, prefixes: [10.0.0.0/8, "fc00::/7"]}]
next_hops: [{name: up, interface: wan, mac: 02:00:00:00:00:01}]
steer_targets: [{name: app}]
rules:
  - {name: a, priority: 10, match: {source_set: bad}, action: {drop: {}, count: {counter: hits}}}
  - {name: b, priority: 20, match: {interface: lan, protocol: udp}, action: {next_hop: {name: up}}}
)";

class FaultTest : public ::testing::Test {
 protected:
  // Changes of all kinds, and devices that come, go and are exchanged. Returns the answers.
  static std::vector<absl::Status> Scenario(ControlNode& node) {
    std::vector<absl::Status> answers;
    const auto apply = [&](Change change) {
      answers.push_back(node.Apply(std::move(change), {.wait_applied = answers.size() % 3 != 2}).status);
    };
    apply(Config(kFirst));
    apply(Patch("{delete_rules: [b], delete_interfaces: [wan], delete_next_hops: [up]}"));
    node.SetDevices({MakeDevice(6, "eth1"), MakeDevice(9, "eth9")});
    apply(
        Patch("upsert: {rules: [{name: c, priority: 1, match: {interface: late}, action: {redirect: {interface: "
              "lan}}}]}"));
    apply(Patch("{prefix_set_changes: [{name: bad, add: [11.0.0.0/8]}], upsert: {default_action: drop}}"));
    node.SetDevices({MakeDevice(7, "eth1"), MakeDevice(9, "eth9")});
    apply(
        Patch("upsert: {interfaces: [{name: lan, device: eth1, mode: generic}], steer_targets: [{name: app, "
              "fallback: drop}]}"));
    node.SetDevices({MakeDevice(7, "eth1")});
    apply(Patch("{delete_rules: [a]}"));
    return answers;
  }

  static void ExpectAsAsked(ControlNode& node, std::mt19937_64& random) {
    ASSERT_TRUE(node.Eventually([&] {
      const auto interfaces = node.controller().interfaces();
      return node.controller().applied() == node.controller().desired() &&
             node.controller().status().apply_error.ok() && interfaces.size() == 2 &&
             interfaces.at("lan").status.state == ObjectState::kApplied &&
             interfaces.at("late").status.state == ObjectState::kPending;
    }));
    node.Sync();
    ASSERT_EQ(CompareWithModel(node.fake(), node.desired(), 40, random), "");
    ASSERT_EQ(node.Stored(),
              absl::StrCat("generation ", node.desired().generation, "\n", Describe(node.desired())));
    ASSERT_EQ(node.fake().Bound(),
              (std::vector<std::pair<uint32_t, uint32_t>>{{node.desired().interfaces.Get("lan")->id, 7}}));
    ASSERT_EQ(node.interface("lan").mode, DriverMode::kGeneric);
  }

  // They wait most of the time, for retries.
  static void InParallel(const std::vector<std::function<void()>>& runs) {
    std::atomic<size_t> next{0};
    constexpr int kThreads = 12;
    std::vector<std::jthread> threads;
    threads.reserve(kThreads);
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&] {
        for (size_t run = next++; run < runs.size() && !HasFailure(); run = next++) runs[run]();
      });
    }
  }

  std::mt19937_64 random_ = MakeRandom();
};

TEST_F(FaultTest, AnyCallMayFailAtAnyTime) {
  const auto run = [this](int first, int count, uint64_t seed) {
    std::mt19937_64 random(seed);
    ControlNode node(absl::StrCat("fault-", first, "-", count));
    node.SetDevices({MakeDevice(5, "eth0"), MakeDevice(6, "eth1")});
    EXPECT_TRUE(node.Start().ok());
    auto countdown = std::make_shared<Countdown>(first, count);
    node.SetFault([countdown](absl::string_view call) { return (*countdown)(call); });
    for (const absl::Status& status : Scenario(node)) {
      if (status.ok()) continue;
      EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
      EXPECT_NE(status.message().find(" is durable but not applied yet (it will be tried again): injected into "),
                absl::string_view::npos)
          << status;
    }
    ExpectAsAsked(node, random);
    EXPECT_FALSE(HasFailure()) << count << " calls from " << first << " on";
    return std::make_pair(countdown->calls(), Describe(node.desired(), false));
  };
  const auto [calls, wanted] = run(0, 0, random_());
  ASSERT_GT(calls, 30);
  std::vector<std::function<void()>> runs;
  for (const int count : {1, 4}) {
    for (int first = 0; first < calls; first += count) {
      runs.emplace_back(
          [=, seed = random_(), wanted = wanted] { EXPECT_EQ(run(first, count, seed).second, wanted); });
    }
  }
  InParallel(runs);
}

// A start that fails leaves things so that the next one succeeds, and what is in force meanwhile stays.
TEST_F(FaultTest, AnyCallOfAStartMayFail) {
  const auto run = [](int first, int count, uint64_t seed) {
    std::mt19937_64 random(seed);
    ControlNode node(absl::StrCat("fault-start-", first));
    node.SetDevices({MakeDevice(5, "eth0"), MakeDevice(7, "eth1")});
    EXPECT_TRUE(node.Start().ok());
    EXPECT_TRUE(node.Apply(Config(kFirst)).status.ok());
    EXPECT_TRUE(node.Apply(Patch("{delete_rules: [a]}")).status.ok());
    const std::string wanted = Describe(node.desired());
    node.Stop();
    // An interface of an earlier time, and a counter.
    EXPECT_TRUE(node.fake().Attach(200, MakeDevice(99, "old"), std::nullopt).ok());
    node.fake().Count(CounterId::kRules, 999, 0, 1);
    auto countdown = std::make_shared<Countdown>(first, count);
    node.SetFault([countdown](absl::string_view call) { return (*countdown)(call); });
    const absl::Status status = node.Start();
    if (!status.ok()) {
      EXPECT_NE(status.message().find("injected into "), absl::string_view::npos) << status;
      EXPECT_TRUE(node.Start().ok());
    }
    EXPECT_TRUE(node.Eventually([&] {
      return node.controller().applied()->generation == 2 && node.fake().Bound().size() == 2 &&
             node.interface("wan").status.state == ObjectState::kApplied;
    })) << "call "
        << first;
    EXPECT_EQ(Describe(node.desired()), wanted) << "call " << first;
    EXPECT_EQ(CompareWithModel(node.fake(), node.desired(), 40, random), "") << "call " << first;
    EXPECT_EQ((*node.fake().ReadCounters(CounterId::kRules, 999, 1))[0], 0u) << "call " << first;
    return countdown->calls();
  };
  const int calls = run(0, 0, random_());
  ASSERT_GT(calls, 10);
  std::vector<std::function<void()>> runs;
  runs.reserve(static_cast<size_t>(calls));
  for (int first = 0; first < calls; ++first) runs.emplace_back([=, seed = random_()] { run(first, 1, seed); });
  InParallel(runs);
}

// While nothing can be written, changes go on to be durable, and the last of them is what comes in force.
TEST_F(FaultTest, ChangesGoOnWhileNoneCanBeApplied) {
  ControlNode node("fault-long");
  ASSERT_TRUE(node.Start().ok());
  std::atomic<bool> broken{true};
  node.SetFault([&](absl::string_view call) {
    return broken && call == "Write" ? absl::InternalError("injected") : absl::OkStatus();
  });
  for (int i = 0; i < 4; ++i) {
    const ChangeOutcome outcome =
        node.Apply(Patch(absl::StrCat("{upsert: {rules: [{name: r", i % 3, ", priority: ", 1 + i,
                                      ", action: {pass: {}}}]}, delete_rules: [r", (i + 1) % 3, "]}")));
    EXPECT_EQ(
        outcome.status.message(),
        absl::StrCat("generation ", i + 1, " is durable but not applied yet (it will be tried again): injected"));
    // Who does not wait for it is not told.
    EXPECT_EQ(node.controller().status().desired_generation, static_cast<uint64_t>(i) + 1);
  }
  EXPECT_EQ(node.controller().status().applied_generation, 0u);
  EXPECT_EQ(node.controller().status().apply_error.message(), "injected");
  EXPECT_TRUE(node.Events({EventType::kGenerationApplied}).empty());
  broken = false;
  ASSERT_TRUE(node.Eventually([&] { return node.controller().status().applied_generation == 4; }));
  EXPECT_TRUE(node.controller().status().apply_error.ok());
  EXPECT_EQ(CompareWithModel(node.fake(), node.desired(), 40, random_), "");
  EXPECT_EQ(node.Events({EventType::kGenerationApplied}).size(), 1u);
}

std::string ManyRules(int count, const char* indent = "") {
  std::string yaml = absl::StrCat(indent, "rules:\n");
  for (int i = 0; i < count; ++i)
    absl::StrAppend(&yaml, indent, "  - {name: r", i, ", priority: ", i + 1, ", action: {pass: {}}}\n");
  return yaml;
}

// Too small tables, though the limits allow it: the change is refused whole, the answer says what is missing, and
// nothing has changed: not what is in force, nor what is durable, nor what fits.
TEST_F(FaultTest, WhatTheTablesHaveNoRoomForIsRefusedWhole) {
  ControlNode node("fault-full", {.drift_interval = std::chrono::milliseconds(10)}, 768);
  ASSERT_TRUE(node.Start().ok());
  ASSERT_TRUE(node.Apply(Config(ManyRules(300))).status.ok());
  const std::string stored = node.Stored();
  for (int round = 0; round < 4; ++round) {
    // As a document or as a patch, waiting for it or not.
    Change change = round < 2 ? Config(ManyRules(600)) : Patch("upsert:\n" + ManyRules(600, "  "));
    const ChangeOutcome outcome = node.Apply(std::move(change), {.wait_applied = round % 2 == 0});
    EXPECT_EQ(outcome.status.code(), absl::StatusCode::kResourceExhausted) << outcome.status;
    const std::string message(outcome.status.message());
    static constexpr char kTable[] = "table hg_rules: ";
    ASSERT_EQ(message.find(kTable), 0U) << message;
    EXPECT_GT(std::stoul(message.substr(sizeof(kTable) - 1)), 768U) << message;
    EXPECT_NE(message.find(" entries are needed"), std::string::npos) << message;
    EXPECT_NE(outcome.status.message().find("there is room for 768: start headgated with a higher --max-rules"),
              absl::string_view::npos)
        << outcome.status;
    const ControllerStatus status = node.controller().status();
    EXPECT_EQ(status.desired_generation, 1u);
    EXPECT_EQ(status.applied_generation, 1u);
    EXPECT_TRUE(status.apply_error.ok()) << status.apply_error;
    EXPECT_EQ(node.Stored(), stored);
    EXPECT_EQ(CompareWithModel(node.fake(), node.desired(), 40, random_), "");
  }
  // Nothing of it is found to be drift.
  const auto checked = node.controller().status().last_drift_check;
  ASSERT_TRUE(node.Eventually([&] { return node.controller().status().last_drift_check > checked; }));
  EXPECT_EQ(node.controller().status().drift_repaired, 0u);
  EXPECT_EQ(CompareWithModel(node.fake(), node.desired(), 40, random_), "");
  // A third more fit beside those in force, and their ids are not used up.
  ASSERT_TRUE(node.Apply(Config(ManyRules(400))).status.ok());
  ASSERT_TRUE(node.Apply(Config("rules: [{name: b, priority: 1, action: {drop: {}}}]")).status.ok());
  EXPECT_EQ(node.controller().status().applied_generation, 3u);
  EXPECT_EQ(CompareWithModel(node.fake(), node.desired(), 40, random_), "");
}

// Replacing many of the rules again and again fits into tables of twice their number, even when nobody says that
// packets have left.
TEST_F(FaultTest, ReplacingManyRulesAgainAndAgainFits) {
  constexpr int kRules = 1000;
  ControlNode node("fault-room", {.limits = {.max_entries = kRules}, .drift_interval = std::chrono::hours(1)},
                   2304);
  ASSERT_TRUE(node.Start().ok());
  // The controller's own waits end, the reclaimer's fail.
  std::atomic<std::thread::id> controller{};
  std::atomic<int> waits{0};
  node.SetFault([&](absl::string_view call) {
    if (call == "Write") controller = std::this_thread::get_id();
    if (call != "Quiesce") return absl::OkStatus();
    if (controller != std::this_thread::get_id()) return absl::InternalError("injected");
    ++waits;
    return absl::OkStatus();
  });
  for (int round = 0; round < 30; ++round) {
    std::string yaml = "rules:\n";
    for (int i = 0; i < kRules; ++i) {
      absl::StrAppend(&yaml, "  - {name: r", i, ", priority: ", i + 1,
                      ", match: {vlan: ", i % 10 < 3 ? i : (i + round) % 4000, "}, action: {pass: {}}}\n");
    }
    const ChangeOutcome outcome = node.Apply(Config(yaml));
    ASSERT_TRUE(outcome.status.ok()) << "round " << round << ": " << outcome.status;
  }
  EXPECT_GE(waits, 10) << "cells were written again that packets may have used";
  EXPECT_EQ(CompareWithModel(node.fake(), node.desired(), 40, random_), "");
}

}  // namespace
}  // namespace headgate::testing
