// SPDX-License-Identifier: Apache-2.0
#include "tests/e2e/thousand_rules.h"

#include <absl/strings/str_cat.h>
#include <sys/wait.h>

#include <random>

#include "tests/harness/random.h"

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

void ThousandRulesTest::KillDuringStarts(const std::vector<std::string>& binaries) {
  constexpr int kKills = 12;
  std::mt19937_64 random = MakeRandom();
  agent().Kill();
  const auto begin = std::chrono::steady_clock::now();
  agent().Start({.binary = binaries[0]});
  const std::chrono::duration<double> start_time = std::chrono::steady_clock::now() - begin;
  agent().Kill();
  int came_up = 0;
  for (int i = 0; i < kKills; ++i) {
    const double life = std::uniform_real_distribution(0.0, 1.2 * start_time.count())(random);
    try {
      agent().Start(
          {.binary = binaries[random() % binaries.size()], .prefix = absl::StrCat("timeout -s KILL ", life)});
      ++came_up;
      siginfo_t ended{};
      waitid(P_PID, static_cast<id_t>(agent().pid()), &ended, WEXITED | WNOWAIT);
      agent().Kill();
    } catch (const std::runtime_error&) {
      // It did not come that far.
    }
  }
  EXPECT_LT(came_up, kKills) << "nothing was killed during its start: the test tests nothing";
  agent().Start({});
}

}  // namespace headgate::testing
