// SPDX-License-Identifier: Apache-2.0
//
// Changes that roll back unless confirmed: in time, too late, with other changes in between, and over restarts
// before and after the deadline.
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>

#include "tests/harness/live_gateway.h"

namespace headgate::testing {
namespace {

constexpr int kInvalidArgument = 3, kFailedPrecondition = 9;

class ConfirmTest : public LiveGatewayTest {
 protected:
  ConfirmTest() : LiveGatewayTest("confirm") {}

  // Replaces "wire" by a pass, deletes a rule, a set and a next hop, adds a rule with a counter and a set.
  static pb::ApplyRequest Change(std::chrono::milliseconds timeout) {
    pb::ApplyRequest request = PatchRequest(R"(
upsert:
  default_action: drop
  prefix_sets: [{name: fresh, prefixes: [203.0.113.0/24]}]
  rules:
    - {name: wire, priority: 10, match: {interface: in}, action: {pass: {}}}
    - {name: fresh, priority: 60, match: {source_set: fresh}, action: {drop: {}, count: {counter: fresh}}}
delete_rules: [evil, hop]
delete_prefix_sets: [bogons]
delete_next_hops: [hop]
)");
    request.mutable_confirm_timeout()->set_seconds(timeout.count() / 1000);
    request.mutable_confirm_timeout()->set_nanos(static_cast<int32_t>(timeout.count() % 1000 * 1'000'000));
    return request;
  }
  void ExpectChangeInForce() {
    EXPECT_EQ(FateOfPort(53), "pass_rule");
    EXPECT_EQ(FateOfPort(7005), "pass_rule");
    EXPECT_EQ(FateOfPort(53, "198.51.100.7"), "pass_rule");
    EXPECT_EQ(FateOfPort(53, "203.0.113.5"), "drop_rule");
  }
  // Held without its first line, the generation.
  std::string Objects() {
    const std::string held = Held();
    return held.substr(held.find('\n'));
  }
  pb::ApplyResponse Applied(const pb::ApplyRequest& request) {
    pb::ApplyResponse response;
    const CallStatus status = api().Apply(request, &response);
    EXPECT_TRUE(status.ok()) << status.message;
    return response;
  }
};

TEST_F(ConfirmTest, ConfirmedInTimeItStays) {
  const pb::ApplyResponse response = Applied(Change(std::chrono::minutes(5)));
  const pb::StatusResponse waiting = api().Status();
  EXPECT_EQ(waiting.unconfirmed_generation(), response.generation());
  EXPECT_GT(waiting.confirm_deadline().seconds(), waiting.started().seconds() + 200);
  ExpectChangeInForce();
  EXPECT_EQ(api().Confirm(response.generation() + 1).code, kFailedPrecondition);
  EXPECT_TRUE(api().Confirm(response.generation()).ok());
  const std::string held = Held();
  NowAndAfterRestart([&] {
    EXPECT_EQ(api().Status().unconfirmed_generation(), 0U);
    ExpectChangeInForce();
    EXPECT_EQ(Held(), held);
    const CallStatus nothing = api().Confirm(0);
    EXPECT_EQ(nothing.code, kFailedPrecondition);
    EXPECT_TRUE(absl::StrContains(nothing.message, "nothing waits")) << nothing.message;
  });
}

TEST_F(ConfirmTest, NotConfirmedItRollsBack) {
  EXPECT_EQ(FateOfPort(9), "drop_rule");
  const std::string before = Objects();
  const auto watcher = api().Watch({pb::EVENT_TYPE_ROLLED_BACK});
  const pb::ApplyResponse response = Applied(Change(std::chrono::seconds(3)));
  ExpectChangeInForce();
  const auto event = watcher->Next([](const pb::Event&) { return true; });
  ASSERT_TRUE(event.has_value());
  EXPECT_EQ(event->generation(), response.generation() + 1);
  EXPECT_TRUE(absl::StrContains(event->message(), absl::StrCat(response.generation()))) << event->message();
  ASSERT_TRUE(WaitFor([&] { return api().Status().applied_generation() == response.generation() + 1; }));
  EXPECT_EQ(api().Confirm(0).code, kFailedPrecondition);
  uint64_t dropped = 1;
  NowAndAfterRestart([&] {
    EXPECT_EQ(Objects(), before);  // with the same ids
    EXPECT_EQ(api().Status().unconfirmed_generation(), 0U);
    ExpectDocumentInForce();
    EXPECT_EQ(api().Rule("drop-9").packets(), ++dropped);  // and the counters went on
  });
}

TEST_F(ConfirmTest, WhileOneWaitsOthersAreRefused) {
  const pb::ApplyResponse response = Applied(Change(std::chrono::minutes(5)));
  const std::string held = Held();
  NowAndAfterRestart([&] {
    for (const bool with_timeout : {false, true}) {
      pb::ApplyRequest second = PatchRequest("delete_rules: [drop-9]");
      if (with_timeout) second.mutable_confirm_timeout()->set_seconds(60);
      const CallStatus status = api().Apply(second);
      EXPECT_EQ(status.code, kFailedPrecondition);
      EXPECT_TRUE(absl::StrContains(status.message, absl::StrCat("generation ", response.generation())))
          << status.message;
      // What it would do may still be asked.
      second.set_dry_run(true);
      pb::ApplyResponse would;
      EXPECT_TRUE(api().Apply(second, &would).ok());
      EXPECT_EQ(would.difference_count(), 1U);
    }
    EXPECT_EQ(Held(), held);
    EXPECT_EQ(api().Status().unconfirmed_generation(), response.generation());
    ExpectChangeInForce();
  });
  EXPECT_TRUE(api().Confirm(0).ok());
  EXPECT_TRUE(api().Apply(PatchRequest("delete_rules: [drop-9]")).ok());
}

TEST_F(ConfirmTest, ARestartBeforeTheDeadlineKeepsTheTimer) {
  const std::string before = Objects();
  const pb::ApplyResponse response = Applied(Change(std::chrono::seconds(6)));
  agent().Restart();
  const pb::StatusResponse waiting = api().Status();
  EXPECT_EQ(waiting.unconfirmed_generation(), response.generation());
  ExpectChangeInForce();
  ASSERT_TRUE(WaitFor([&] { return api().Status().unconfirmed_generation() == 0; }));
  ASSERT_TRUE(WaitFor([&] { return api().Status().applied_generation() == response.generation() + 1; }));
  NowAndAfterRestart([&] {
    EXPECT_EQ(Objects(), before);
    ExpectDocumentInForce();
  });
}

TEST_F(ConfirmTest, ARestartBeforeTheDeadlineCanBeFollowedByTheConfirmation) {
  const pb::ApplyResponse response = Applied(Change(std::chrono::minutes(5)));
  agent().Restart();
  EXPECT_TRUE(api().Confirm(response.generation()).ok());
  NowAndAfterRestart([&] {
    EXPECT_EQ(api().Status().unconfirmed_generation(), 0U);
    EXPECT_EQ(api().Status().desired_generation(), response.generation());
    ExpectChangeInForce();
  });
}

TEST_F(ConfirmTest, ARestartAfterTheDeadlineRollsBack) {
  const std::string before = Objects();
  const pb::ApplyResponse response = Applied(Change(std::chrono::seconds(1)));
  const pb::StatusResponse waiting = api().Status();
  agent().Kill();
  // Nobody rolls back while there is no agent; the next one does before it serves.
  ASSERT_TRUE(WaitFor([&] { return time(nullptr) > waiting.confirm_deadline().seconds() + 1; }));
  agent().Start();
  EXPECT_EQ(api().Status().unconfirmed_generation(), 0U);
  EXPECT_EQ(api().Status().applied_generation(), response.generation() + 1);
  NowAndAfterRestart([&] {
    EXPECT_EQ(Objects(), before);
    ExpectDocumentInForce();
  });
}

TEST_F(ConfirmTest, IdsOfTheStateToReturnToAreNotGivenAway) {
  const uint32_t evil = api().GetObject(pb::KIND_RULE, "evil").id();
  EXPECT_EQ(FateOfPort(53, "198.51.100.7"), "drop_rule");
  const pb::ApplyResponse response = Applied(Change(std::chrono::seconds(3)));
  EXPECT_NE(api().GetObject(pb::KIND_RULE, "fresh").id(), evil);
  // What the waiting change counts is not what returns.
  EXPECT_EQ(FateOfPort(53, "203.0.113.5"), "drop_rule");
  ASSERT_TRUE(WaitFor([&] { return api().Status().applied_generation() == response.generation() + 1; }));
  NowAndAfterRestart([&] {
    EXPECT_EQ(api().GetObject(pb::KIND_RULE, "evil").id(), evil);
    EXPECT_EQ(api().Rule("evil").packets(), 1U);
    EXPECT_EQ(api().Counter("evil").packets(), 1U);
    EXPECT_THROW(api().Counter("fresh"), std::runtime_error);
  });
}

TEST_F(ConfirmTest, TimeoutsOutOfRangeAreRefused) {
  const std::pair<int64_t, int32_t> wrong[] = {{0, 0},
                                               {0, 999'000'000},
                                               {3600, 1'000'000},
                                               {-5, 0},
                                               {3601, 0},
                                               {0, 1'500'000'000},
                                               {100, -5},
                                               {10, 2'000'000'000},
                                               {18'446'744'073'709'554, 0},
                                               {INT64_MAX, 999'999'999},
                                               {INT64_MIN, 0}};
  for (const auto& [seconds, nanos] : wrong) {
    SCOPED_TRACE(absl::StrCat(seconds, " s ", nanos, " ns"));
    pb::ApplyRequest request = PatchRequest("delete_rules: [drop-9]");
    request.mutable_confirm_timeout()->set_seconds(seconds);
    request.mutable_confirm_timeout()->set_nanos(nanos);
    const CallStatus status = ExpectRefused(request, kInvalidArgument);
    ASSERT_EQ(status.violations.size(), 1U);
    EXPECT_EQ(status.violations[0].first, "confirm_timeout");
  }
}

TEST_F(ConfirmTest, ADryRunOrARefusalStartsNoTimer) {
  pb::ApplyRequest request = Change(std::chrono::minutes(5));
  request.set_dry_run(true);
  Applied(request);
  EXPECT_EQ(api().Status().unconfirmed_generation(), 0U);
  request.set_dry_run(false);
  request.mutable_patch()->add_delete_interfaces("in");
  EXPECT_EQ(ExpectRefused(request, kInvalidArgument).violations.size(), 1U);
  EXPECT_EQ(api().Status().unconfirmed_generation(), 0U);
  // One that changes nothing has nothing to roll back.
  pb::ApplyRequest same = ConfigRequest(kDocument);
  same.mutable_confirm_timeout()->set_seconds(60);
  EXPECT_EQ(Applied(same).difference_count(), 0U);
  NowAndAfterRestart([&] {
    EXPECT_EQ(api().Status().unconfirmed_generation(), 0U);
    ExpectDocumentInForce();
  });
}

}  // namespace
}  // namespace headgate::testing
