// SPDX-License-Identifier: Apache-2.0
//
// The controller when nothing fails: what is answered and when, batches, restarts, confirmation and rollback, ids
// and their counters, drift.
#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <future>
#include <thread>

#include "tests/harness/control_node.h"
#include "tests/harness/random.h"
#include "tests/harness/tables.h"

namespace headgate::testing {
namespace {

constexpr char kDocument[] = R"(
interfaces: [{name: wan, device: eth0}, {name: lan, device: eth1}]
default_action: drop
prefix_sets: [{name: bad, prefixes: [10.0.0.0/8, "fc00::/7"]}]
next_hops: [{name: up, interface: wan, mac: 02:00:00:00:00:01}]
steer_targets: [{name: app}]
rules:
  - {name: a, priority: 10, match: {source_set: bad}, action: {drop: {}, count: {counter: hits}}}
  - {name: b, priority: 20, match: {interface: lan, protocol: udp}, action: {next_hop: {name: up}}}
  - {name: c, priority: 30, match: {protocol: tcp, destination_ports: ["80", "443"]}, action: {steer: {target: app}}}
)";

std::string RuleNamed(const std::string& name, uint32_t priority) {
  return absl::StrCat("upsert: {rules: [{name: ", name, ", priority: ", priority, ", action: {pass: {}}}]}");
}

class ControllerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    node_.SetDevices({MakeDevice(5, "eth0"), MakeDevice(6, "eth1")});
    const absl::Status status = node_.Start();
    ASSERT_TRUE(status.ok()) << status;
  }
  void Must(Change change) {
    const ChangeOutcome outcome = node_.Apply(std::move(change));
    ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  }
  // All is as the desired state says, and a process that starts now would find it so.
  void ExpectInForce() {
    node_.Sync();
    EXPECT_EQ(CompareWithModel(node_.fake(), node_.desired(), 100, random_), "");
    EXPECT_EQ(node_.Stored(),
              absl::StrCat("generation ", node_.desired().generation, "\n", Describe(node_.desired())));
    EXPECT_EQ(node_.controller().applied(), node_.controller().desired());
  }

  std::mt19937_64 random_ = MakeRandom();
  ControlNode node_{"controller"};
};

TEST_F(ControllerTest, WhatIsAppliedIsDurableAndInForceAndToldOf) {
  const ChangeOutcome outcome = node_.Apply(Config(kDocument));
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(outcome.generation, 1u);
  EXPECT_EQ(outcome.before->generation, 0u);
  EXPECT_EQ(outcome.after->generation, 1u);
  ExpectInForce();
  const auto events = node_.Events({EventType::kGenerationApplied});
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].generation, 1u);
  const ControllerStatus status = node_.controller().status();
  EXPECT_EQ(status.desired_generation, 1u);
  EXPECT_EQ(status.applied_generation, 1u);
  EXPECT_TRUE(status.apply_error.ok());
  EXPECT_EQ(status.drift_repaired, 0u);
  EXPECT_EQ(node_.interface("wan").status.state, ObjectState::kApplied);
  EXPECT_EQ(node_.interface("lan").device->ifindex, 6u);
  EXPECT_EQ(node_.fake().Bound().size(), 2u);
}

TEST_F(ControllerTest, WhatChangesNothingIsNoGeneration) {
  Must(Config(kDocument));
  const ChangeOutcome again = node_.Apply(Config(kDocument));
  EXPECT_TRUE(again.status.ok());
  EXPECT_EQ(again.generation, 1u);
  EXPECT_EQ(again.before, again.after);
  EXPECT_EQ(node_.Events({EventType::kGenerationApplied}).size(), 1u);
}

TEST_F(ControllerTest, RefusalsSayWhy) {
  Must(Config(kDocument));
  ChangeOutcome outcome = node_.Apply(Patch("delete_rules: [a]"), {.expected_generation = 7});
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(outcome.status.message(),
            "the desired state is at generation 1, not at the expected 7: read it again and "
            "repeat the change on it");
  outcome = node_.Apply(Patch("upsert: {rules: [{name: x, action: {steer: {target: y}}}]}"));
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(outcome.violations.size(), 2u);
  EXPECT_EQ(outcome.status.message().find("2 violations, the first: patch.upsert.rules[0].priority: "), 0u)
      << outcome.status;
  EXPECT_TRUE(node_.Apply(Patch("delete_rules: [a]"), {.expected_generation = 1}).status.ok());
  EXPECT_EQ(node_.desired().generation, 2u);
}

TEST_F(ControllerTest, ADryRunChangesNothing) {
  Must(Config(kDocument));
  const std::string stored = node_.Stored();
  const ChangeOutcome outcome = node_.Apply(
      Config("{}"), {.dry_run = true, .confirm_timeout = std::chrono::seconds(1), .want_states = true});
  EXPECT_TRUE(outcome.status.ok());
  EXPECT_EQ(outcome.generation, 2u);
  EXPECT_TRUE(outcome.after->rules.empty());
  EXPECT_EQ(node_.Stored(), stored);
  ExpectInForce();
}

TEST_F(ControllerTest, ManyChangesShareATransaction) {
  Must(Config(kDocument));
  constexpr int kChanges = 500;
  std::vector<uint64_t> generations(kChanges);  // by change; answers come in any order
  std::vector<int> answers(kChanges);
  std::mutex mutex;
  {
    const auto held = node_.Hold();
    for (int i = 0; i < kChanges; ++i) {
      // One of them takes a priority that another has.
      node_.controller().Submit(Patch(RuleNamed(absl::StrCat("r", i), i == 400 ? 1000 : 1000 + i)), {},
                                [&, i](const ChangeOutcome& outcome) {
                                  const std::lock_guard lock(mutex);
                                  EXPECT_EQ(outcome.status.ok(), i != 400) << outcome.status;
                                  ++answers[i];
                                  if (outcome.status.ok()) generations[i] = outcome.generation;
                                });
    }
  }
  node_.Sync();
  const std::lock_guard lock(mutex);
  EXPECT_EQ(answers, std::vector<int>(kChanges, 1));
  for (int i = 0; i < kChanges; ++i) {
    EXPECT_EQ(generations[i], i == 400 ? 0u : static_cast<uint64_t>(i < 400 ? 2 + i : 1 + i)) << i;
  }
  EXPECT_EQ(node_.desired().generation, generations.back());
  ExpectInForce();
  // One generation for the document, one for the whole batch.
  EXPECT_EQ(node_.Events({EventType::kGenerationApplied}).size(), 2u);
}

TEST_F(ControllerTest, ManyClientsAtOnce) {
  Must(Config(kDocument));
  std::atomic<int> good{0};
  std::vector<std::thread> clients;
  for (int client = 0; client < 4; ++client) {
    clients.emplace_back([&, client] {
      for (int i = 0; i < 50; ++i) {
        const ChangeOutcome outcome =
            node_.Apply(Patch(RuleNamed(absl::StrCat("r", client, "-", i), 1000 + client * 100 + i)),
                        {.wait_applied = i % 2 == 0});
        good += outcome.status.ok() ? 1 : 0;
        (void)node_.controller().status();
        (void)node_.controller().interfaces();
      }
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(good, 200);
  EXPECT_EQ(node_.desired().rules.size(), 203u);
  ExpectInForce();
}

TEST_F(ControllerTest, ARestartFindsAllAsItWas) {
  Must(Config(kDocument));
  const std::string before = Describe(node_.desired());
  node_.fake().Count(CounterId::kRules, node_.desired().rules.Get("a")->id, 0, 7);
  node_.SetFault([](absl::string_view call) {
    return call == "Detach" || call == "ClearCounters" ? absl::InternalError("not to be called")
                                                       : absl::OkStatus();
  });
  ASSERT_TRUE(node_.Restart().ok());
  EXPECT_EQ(Describe(node_.desired()), before);
  EXPECT_EQ(node_.controller().status().drift_repaired, 0u);
  EXPECT_EQ((*node_.fake().ReadCounters(CounterId::kRules, node_.desired().rules.Get("a")->id, 1))[0], 7u);
  ExpectInForce();
  // Ids are claimed again: a new rule does not get one of those.
  node_.SetFault(nullptr);
  Must(Patch(RuleNamed("new", 99)));
  std::set<uint32_t> ids;
  node_.desired().rules.ForEach([&](const auto& rule) { EXPECT_TRUE(ids.insert(rule->id).second); });
}

TEST_F(ControllerTest, ARestartPutsRightWhatHasChangedMeanwhile) {
  Must(Config(kDocument));
  node_.Stop();
  node_.fake().Scribble(TableId::kActions, 1);
  ASSERT_TRUE(node_.Start().ok());
  EXPECT_GT(node_.controller().status().drift_repaired, 0u);
  ExpectInForce();
  // Tables that no agent could have left.
  node_.Stop();
  for (const TableId table : {TableId::kNodes, TableId::kRules}) node_.fake().Scribble(table, 0);
  node_.fake().Scribble(TableId::kRoots, *node_.fake().Active());
  ASSERT_TRUE(node_.Start().ok());
  ExpectInForce();
}

// Counters of ids that nobody has: the agent was killed before it came to clear them.
TEST_F(ControllerTest, ARestartClearsCountersWithoutOwners) {
  Must(Config(kDocument));
  const State& state = node_.desired();
  const uint32_t rule = state.rules.Get("a")->id, wan = state.interfaces.Get("wan")->id;
  auto& fake = node_.fake();
  fake.Count(CounterId::kRules, rule, 0, 1);
  fake.Count(CounterId::kRules, 77, 0, 1);
  fake.Count(CounterId::kNamed, 78, 1, 1);
  fake.Count(CounterId::kPorts, wan * HG_REASON_SLOTS + 3, 0, 1);
  fake.Count(CounterId::kPorts, 200 * HG_REASON_SLOTS + 3, 0, 1);
  fake.Count(CounterId::kPorts, HG_REASON_PASS_UNCONFIGURED, 0, 1);
  fake.Count(CounterId::kEgress, 200, 0, 1);
  ASSERT_TRUE(node_.Restart().ok());
  const auto value = [&](CounterId table, uint32_t row, uint32_t field) {
    return (*fake.ReadCounters(table, row, 1))[field];
  };
  EXPECT_EQ(value(CounterId::kRules, rule, 0), 1u);
  EXPECT_EQ(value(CounterId::kRules, 77, 0), 0u);
  EXPECT_EQ(value(CounterId::kNamed, 78, 1), 0u);
  EXPECT_EQ(value(CounterId::kPorts, wan * HG_REASON_SLOTS + 3, 0), 1u);
  EXPECT_EQ(value(CounterId::kPorts, 200 * HG_REASON_SLOTS + 3, 0), 0u);
  EXPECT_EQ(value(CounterId::kPorts, HG_REASON_PASS_UNCONFIGURED, 0), 1u);
  EXPECT_EQ(value(CounterId::kEgress, 200, 0), 0u);
}

// No space: nothing changes, the caller is told, and it works again when there is some.
TEST_F(ControllerTest, WhatCannotBeMadeDurableDoesNotHappen) {
  Must(Config(kDocument));
  const std::string stored = node_.Stored(), desired = Describe(node_.desired());
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit limit{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &limit), 0);
  const rlimit none{100, limit.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &none), 0);
  for (int i = 0; i < 3; ++i) {
    const ChangeOutcome outcome = node_.Apply(Patch(RuleNamed("x", 99)));
    EXPECT_FALSE(outcome.status.ok());
    EXPECT_NE(outcome.status.message().find("state database"), absl::string_view::npos) << outcome.status;
    EXPECT_FALSE(
        node_.Apply(Patch(RuleNamed("y", 99)), {.confirm_timeout = std::chrono::seconds(100)}).status.ok());
  }
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  EXPECT_EQ(node_.Stored(), stored);
  EXPECT_EQ(Describe(node_.desired()), desired);
  EXPECT_EQ(node_.controller().status().unconfirmed_generation, 0u);
  Must(Patch(RuleNamed("x", 99)));
  EXPECT_EQ(node_.desired().generation, 2u);
  ExpectInForce();
}

TEST_F(ControllerTest, ADatabaseThatCannotBeServedIsRefusedWithAdvice) {
  node_.Stop();
  const auto start_with = [&](uint32_t first, uint32_t second) {
    ControlNode node("controller-refused", {.limits = {.max_entries = 10}});
    State state;
    for (const auto& [name, id] : {std::make_pair("a", first), std::make_pair("b", second)}) {
      Rule rule{.name = name, .priority = id, .id = id};
      rule.action = std::make_shared<const Action>(Action{.verdict = Pass{}});
      state.rules.Set(rule);
    }
    EXPECT_TRUE((*Store::Open(node.path(), node.codec()))->Commit(State{}, state).ok());
    return node.Start();
  };
  EXPECT_TRUE(start_with(19, 20).ok());
  EXPECT_EQ(start_with(20, 21).ToString(),
            "RESOURCE_EXHAUSTED: the state has a rule with id 21, beyond the limits given: "
            "start headgated with a higher --max-rules");
  EXPECT_EQ(start_with(5, 5).ToString(), "DATA_LOSS: state database: two objects of kind rule have the id 5");
}

// Whatever is in the file: it is refused, or what it says is in force.
TEST_F(ControllerTest, AScribbledDatabaseIsRefusedOrServed) {
  Must(Config(kDocument));
  node_.Stop();
  std::ifstream file(node_.path(), std::ios::binary);
  const std::string good((std::istreambuf_iterator<char>(file)), {});
  int served = 0;
  for (int round = 0; round < 100; ++round) {
    std::string bad = good;
    for (uint64_t flips = 1 + random_() % 12; flips > 0; --flips)
      bad[random_() % bad.size()] = static_cast<char>(random_());
    std::filesystem::remove(node_.path() + "-wal");
    std::ofstream(node_.path(), std::ios::binary | std::ios::trunc) << bad;
    if (!node_.Start().ok()) continue;
    ++served;
    ASSERT_EQ(CompareWithModel(node_.fake(), node_.desired(), 20, random_), "");
    node_.Stop();
  }
  EXPECT_GT(served, 5);
}

}  // namespace
}  // namespace headgate::testing
