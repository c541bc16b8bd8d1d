// SPDX-License-Identifier: Apache-2.0
#include "tests/e2e/thousand_rules.h"

#include <absl/strings/str_cat.h>

namespace headgate::testing {
namespace {

constexpr std::chrono::milliseconds kTimeout(60000);
constexpr size_t kBystanders = 999;
constexpr uint32_t kFlows = 1000;

}  // namespace

void ThousandRulesTest::SetUp() {
  HG_REQUIRE_LAB();
  lab_ = std::make_unique<Lab>(name_, std::vector<std::string>{"client", "gw", "server"});
  lab_->Link("client", "c0", "gw", "g0");
  lab_->Link("gw", "g1", "server", "s1");
  agent_ = std::make_unique<Agent>(*lab_, "gw");
  api().ApplyYaml(absl::StrCat(R"(
interfaces: [{name: in, device: g0}, {name: out, device: g1}]
rules:
)",
                               Bystanders(kBystanders), R"(
  - {name: wire, priority: 10, match: {interface: in}, action: {redirect: {interface: out}, count: {counter: seen}}}
)"));
  held_ = Holdings(api());
}

void ThousandRulesTest::StartTraffic() {
  receiver_ = OpenReceiver(*lab_, "server", "s1");
  sender_ = OpenSender(*lab_, FlowFrames(kFlows));
  sender_->Start();
  AwaitTraffic();
}

void ThousandRulesTest::AwaitTraffic() {
  arrived_ = Value(receiver_->Frames()) + kFrames;
  Ok(receiver_->AwaitFrames(arrived_, kTimeout));
}

void ThousandRulesTest::ExpectNothingLost() {
  Ok(sender_->Stop());
  const uint64_t sent = sender_->sent();
  WaitFor(
      [&] { return Value(receiver_->Frames()) + ReadAccount(api(), {"in"}, {"out"}).lost_at_egress() >= sent; });
  const bench::ReceiveReport report = Value(receiver_->Read());
  const Account account = ReadAccount(api(), {"in"}, {"out"});
  SCOPED_TRACE(::testing::PrintToString(account));
  EXPECT_EQ(report.packets, sent);
  EXPECT_EQ(report.Lost() + report.Duplicates() + report.Reordered(), 0u);
  EXPECT_EQ(account.received, sent);
  EXPECT_EQ(account.forwarded(), sent);
  EXPECT_EQ(account.transmitted, sent);
  EXPECT_EQ(account.lost_at_egress(), 0u);
  EXPECT_EQ(api().Rule("wire").packets(), sent);
  EXPECT_EQ(api().Rule("wire").bytes(), report.bytes);
  EXPECT_EQ(api().Counter("seen").packets(), sent);
}

void ThousandRulesTest::ExpectNothingChanged() {
  EXPECT_TRUE(api().Healthy());
  EXPECT_EQ(Holdings(api()), held_);
  const pb::StatusResponse status = api().Status();
  EXPECT_EQ(status.applied_generation(), status.desired_generation());
  EXPECT_EQ(status.apply_error(), "");
  EXPECT_EQ(status.drift_repaired(), 0u);
}

void ThousandRulesTest::ExpectCountersContinue() {
  EXPECT_GE(api().Rule("wire").packets(), arrived_);
  EXPECT_GE(api().Counter("seen").packets(), arrived_);
  const Account account = ReadAccount(api(), {"in"}, {"out"});
  EXPECT_GE(account.received, arrived_);
  EXPECT_GE(account.transmitted, arrived_);
}

}  // namespace headgate::testing
