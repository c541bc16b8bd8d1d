// SPDX-License-Identifier: Apache-2.0
//
// What the controller does when time passes: changes that wait for confirmation, over restarts too; the comparison
// of the kernel's tables with what was written.
#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>

#include "tests/harness/control_node.h"
#include "tests/harness/random.h"
#include "tests/harness/tables.h"

namespace headgate::testing {
namespace {

using std::chrono::milliseconds;

constexpr char kBefore[] = R"(
interfaces: [{name: wan}]
prefix_sets: [{name: bad, prefixes: [10.0.0.0/8]}]
rules:
  - {name: kept, priority: 10, match: {source_set: bad}, action: {drop: {}}}
  - {name: gone, priority: 20, action: {pass: {}, count: {counter: hits}}}
)";
constexpr char kAfter[] = R"(
interfaces: [{name: wan}, {name: lan}]
prefix_sets: [{name: bad, prefixes: [11.0.0.0/8]}]
rules:
  - {name: kept, priority: 11, match: {source_set: bad}, action: {pass: {}}}
  - {name: come, priority: 21, action: {drop: {}, count: {counter: misses}}}
)";
constexpr milliseconds kLong{3'600'000};

class ConfirmTest : public ::testing::Test {
 protected:
  void SetUp() override {
    node_.SetDevices({MakeDevice(5, "wan"), MakeDevice(6, "lan")});
    ASSERT_TRUE(node_.Start().ok());
    ASSERT_TRUE(node_.Apply(Config(kBefore)).status.ok());
    before_ = Describe(node_.desired());
  }
  Snapshot ApplyUnconfirmed(milliseconds timeout) {
    const ChangeOutcome outcome =
        node_.Apply(Config(kAfter), {.wait_applied = true, .confirm_timeout = timeout, .want_states = true});
    EXPECT_TRUE(outcome.status.ok()) << outcome.status;
    EXPECT_EQ(outcome.generation, 2u);
    return outcome.after;
  }
  void ExpectRolledBack() {
    ASSERT_TRUE(node_.Eventually([&] { return node_.controller().applied()->generation == 3; }));
    node_.Sync();
    EXPECT_EQ(Describe(node_.desired()), before_) << "ids too";
    EXPECT_EQ(CompareWithModel(node_.fake(), node_.desired(), 100, random_), "");
    EXPECT_EQ(node_.Stored(), "generation 3\n" + before_);
    EXPECT_EQ(node_.controller().status().unconfirmed_generation, 0u);
    EXPECT_EQ(node_.fake().Bound().size(), 1u);
    const auto events = node_.Events({EventType::kRolledBack});
    ASSERT_EQ(events.size(), 1u);
    EXPECT_EQ(events[0].generation, 3u);
    EXPECT_EQ(events[0].message, "generation 2 was not confirmed in time");
  }

  std::mt19937_64 random_ = MakeRandom();
  ControlNode node_{"confirm"};
  std::string before_;
};

TEST_F(ConfirmTest, AConfirmedChangeStays) {
  ApplyUnconfirmed(kLong);
  EXPECT_EQ(node_.controller().status().unconfirmed_generation, 2u);
  ASSERT_TRUE(node_.controller().status().unconfirmed);
  EXPECT_EQ(node_.Confirm(7).status().message(), "generation 2 waits for confirmation, not 7");
  const auto confirmed = node_.Confirm(2);
  ASSERT_TRUE(confirmed.ok());
  EXPECT_EQ(*confirmed, 2u);
  EXPECT_EQ(node_.controller().status().unconfirmed_generation, 0u);
  EXPECT_EQ(node_.Confirm().status().code(), absl::StatusCode::kFailedPrecondition);
  ASSERT_TRUE(node_.Restart().ok());
  EXPECT_EQ(node_.desired().generation, 2u);
  EXPECT_TRUE(node_.Events({EventType::kRolledBack}).empty());
}

TEST_F(ConfirmTest, OneThatIsNotConfirmedInTimeIsRolledBack) {
  ApplyUnconfirmed(milliseconds(50));
  ExpectRolledBack();
  // Nothing waits any more, and nothing is refused.
  EXPECT_EQ(node_.Confirm().status().message(),
            "nothing waits for confirmation: it was confirmed, or rolled back");
  EXPECT_TRUE(node_.Apply(Config(kAfter)).status.ok());
}

TEST_F(ConfirmTest, NothingElseMayChangeMeanwhile) {
  ApplyUnconfirmed(kLong);
  const ChangeOutcome outcome = node_.Apply(Patch("delete_rules: [kept]"));
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(outcome.status.message(), "generation 2 waits for confirmation: confirm it or let it roll back first");
  EXPECT_EQ(node_.Apply(Config(kAfter), {.confirm_timeout = kLong}).status.code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(node_.Apply(Patch("delete_rules: [kept]"), {.dry_run = true}).status.ok());
  EXPECT_EQ(node_.desired().generation, 2u);
}

TEST_F(ConfirmTest, OneThatIsNotValidOrChangesNothingWaitsForNothing) {
  const ChangeOutcome invalid =
      node_.Apply(Patch("upsert: {rules: [{name: x, priority: 1}]}"), {.confirm_timeout = kLong});
  EXPECT_EQ(invalid.status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(invalid.violations.size(), 1u);
  EXPECT_TRUE(node_.Apply(Config(kBefore), {.confirm_timeout = kLong}).status.ok());
  EXPECT_EQ(node_.controller().status().unconfirmed_generation, 0u);
  EXPECT_TRUE(node_.Apply(Patch("delete_rules: [gone]")).status.ok());
}

// What was asked for before it is a change of its own, which stays.
TEST_F(ConfirmTest, ChangesBeforeItStay) {
  std::promise<ChangeOutcome> waits;
  {
    const auto held = node_.Hold();
    node_.controller().Submit(Patch("upsert: {rules: [{name: early, priority: 1, action: {pass: {}}}]}"), {},
                              [](auto) {});
    node_.controller().Submit(Patch("delete_rules: [kept, early]"), {.confirm_timeout = milliseconds(50)},
                              [&](ChangeOutcome outcome) { waits.set_value(std::move(outcome)); });
  }
  EXPECT_TRUE(waits.get_future().get().status.ok());
  ASSERT_TRUE(node_.Eventually([&] { return node_.controller().applied()->generation == 4; }));
  node_.Sync();
  EXPECT_NE(node_.desired().rules.Get("early"), nullptr);
  EXPECT_NE(node_.desired().rules.Get("kept"), nullptr);
}

TEST_F(ConfirmTest, ItRollsBackAfterARestartToo) {
  ApplyUnconfirmed(milliseconds(400));
  ASSERT_TRUE(node_.Restart().ok());
  ExpectRolledBack();
}

TEST_F(ConfirmTest, TheTimeMayPassWhileNoAgentRuns) {
  ApplyUnconfirmed(milliseconds(1));
  node_.Stop();
  ASSERT_TRUE(node_.Start().ok());
  ExpectRolledBack();
}

TEST_F(ConfirmTest, ItCanBeConfirmedAfterARestart) {
  ApplyUnconfirmed(kLong);
  ASSERT_TRUE(node_.Restart().ok());
  EXPECT_EQ(node_.controller().status().unconfirmed_generation, 2u);
  EXPECT_EQ(node_.Apply(Patch("delete_rules: [kept]")).status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(*node_.Confirm(), 2u);
  ASSERT_TRUE(node_.Restart().ok());
  EXPECT_EQ(node_.controller().status().unconfirmed_generation, 0u);
  EXPECT_EQ(node_.desired().generation, 2u);
}

// An object that waits to come back keeps its id, and with it what it has counted.
TEST_F(ConfirmTest, CountersGoOnAfterARollback) {
  const uint32_t rule = node_.desired().rules.Get("gone")->id;
  const uint32_t hits = node_.desired().counters.Get("hits")->id;
  node_.fake().Count(CounterId::kRules, rule, 0, 5);
  node_.fake().Count(CounterId::kNamed, hits, 0, 6);
  const uint32_t come = ApplyUnconfirmed(milliseconds(200))->rules.Get("come")->id;
  EXPECT_NE(come, rule);
  ASSERT_TRUE(node_.Restart().ok());
  ExpectRolledBack();
  EXPECT_EQ((*node_.fake().ReadCounters(CounterId::kRules, rule, 1))[0], 5u);
  EXPECT_EQ((*node_.fake().ReadCounters(CounterId::kNamed, hits, 1))[0], 6u);
}

class DriftTest : public ::testing::Test {
 protected:
  void SetUp() override {
    node_.SetDevices({MakeDevice(5, "wan")});
    ASSERT_TRUE(node_.Start().ok());
    ASSERT_TRUE(node_
                    .Apply(Config(R"(
interfaces: [{name: wan}, {name: lan}]
prefix_sets: [{name: bad, prefixes: [10.0.0.0/8]}]
next_hops: [{name: up, interface: wan, mac: 02:00:00:00:00:01}]
steer_targets: [{name: app}]
multicast_routes: [{name: feed, input: {interfaces: [wan], group: 239.1.1.1}, legs: [{interface: lan}]}]
rules:
  - {name: a, priority: 10, match: {source_set: bad}, action: {next_hop: {name: up}}}
  - {name: b, priority: 20, match: {protocol: tcp}, action: {steer: {target: app}}}
)"))
                    .status.ok());
    // More than a leaf has room for.
    std::string many = "upsert: {rules: [";
    for (int i = 0; i < 2 * HG_LEAF_ENTRIES; ++i) {
      absl::StrAppend(&many, "{name: r", i, ", priority: ", 100 + i, ", match: {destination: 192.0.2.", i,
                      "}, action: {drop: {}}},");
    }
    ASSERT_TRUE(node_.Apply(Patch(many + "]}")).status.ok());
  }

  std::mt19937_64 random_ = MakeRandom();
  ControlNode node_{"drift", {.drift_interval = milliseconds(20)}};
};

TEST_F(DriftTest, WhatOthersWroteIsPutRightAndToldOf) {
  for (const TableId table : {TableId::kRoots, TableId::kNodes, TableId::kSlots, TableId::kRules,
                              TableId::kMatches, TableId::kPrefixes, TableId::kActions, TableId::kNextHops,
                              TableId::kTargets, TableId::kMroutes, TableId::kLegs, TableId::kFanouts}) {
    ASSERT_TRUE(node_.Eventually([&] { return node_.controller().status().last_drift_check.has_value(); }));
    const uint64_t before = node_.controller().status().drift_repaired;
    (void)node_.Events({EventType::kDriftRepaired});
    const uint32_t index = table == TableId::kRoots ? *node_.fake().Active() : 0;
    node_.fake().Scribble(table, index);
    ASSERT_TRUE(node_.Eventually([&] { return node_.controller().status().drift_repaired > before; }))
        << node_.fake().Info(table).name;
    EXPECT_EQ(node_.controller().status().drift_repaired, before + 1);
    EXPECT_EQ(CompareWithModel(node_.fake(), node_.desired(), 50, random_), "");
    const auto events = node_.Events({EventType::kDriftRepaired});
    ASSERT_EQ(events.size(), 1u);
    EXPECT_EQ(events[0].message, "values that were not as written: " + node_.fake().Info(table).name + ": 1");
  }
}

TEST_F(DriftTest, AnotherRootInForceIsPutBack) {
  const uint32_t root = *node_.fake().Active();
  ASSERT_TRUE(node_.fake().Activate(root + 5).ok());
  ASSERT_TRUE(node_.Eventually([&] { return node_.fake().Active() == root; }));
  ASSERT_TRUE(node_.Eventually([&] { return node_.controller().status().drift_repaired == 1; }));
  ASSERT_TRUE(node_.fake().Activate(0).ok());
  ASSERT_TRUE(node_.Eventually([&] { return node_.fake().Active() == root; }));
}

TEST_F(DriftTest, AProgramTakenOffADeviceIsPutBack) {
  node_.fake().TakeOff(node_.desired().interfaces.Get("wan")->id);
  ASSERT_TRUE(node_.Eventually([&] { return node_.controller().status().drift_repaired == 1; }));
  EXPECT_EQ(node_.Events({EventType::kDriftRepaired}).size(), 1u);
  EXPECT_EQ(node_.interface("wan").status.state, ObjectState::kApplied);
}

TEST_F(DriftTest, NothingIsFoundWhereNothingIs) {
  const auto first = node_.controller().status().last_drift_check;
  ASSERT_TRUE(node_.Eventually([&] {
    const auto last = node_.controller().status().last_drift_check;
    return last && (!first || *last > *first + milliseconds(100));
  }));
  EXPECT_EQ(node_.controller().status().drift_repaired, 0u);
  EXPECT_TRUE(node_.Events({EventType::kDriftRepaired}).empty());
}

TEST_F(DriftTest, FailuresOfTheCheckAreOvercome) {
  std::atomic<int> failures{0};
  node_.SetFault([&](absl::string_view call) {
    if (call != "Read" && call != "Write" && call != "Activate") return absl::OkStatus();
    ++failures;
    return absl::InternalError("injected");
  });
  node_.fake().Scribble(TableId::kRules, 1);
  ASSERT_TRUE(node_.fake().Activate(77).ok());
  ASSERT_TRUE(node_.Eventually([&] { return failures > 10; }));
  EXPECT_EQ(node_.controller().status().drift_repaired, 0u);
  node_.SetFault(nullptr);
  ASSERT_TRUE(node_.Eventually([&] { return node_.controller().status().drift_repaired == 2; }));
  EXPECT_EQ(CompareWithModel(node_.fake(), node_.desired(), 50, random_), "");
}

}  // namespace
}  // namespace headgate::testing
