// SPDX-License-Identifier: Apache-2.0
//
// Ids of deleted objects: not another's before no packet can use them and their counters are cleared, and never
// lost.
#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <condition_variable>
#include <csignal>
#include <future>
#include <set>

#include "tests/harness/control_node.h"

namespace headgate::testing {
namespace {

std::string RuleNamed(const std::string& name, uint32_t priority) {
  return absl::StrCat("upsert: {rules: [{name: ", name, ", priority: ", priority, ", action: {pass: {}}}]}");
}

// Lets no call of Quiesce through while it is closed.
class Gate {
 public:
  absl::Status Pass(absl::string_view call) {
    if (call != "Quiesce") return absl::OkStatus();
    std::unique_lock lock(mutex_);
    ++waiting_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return open_ || let_ > 0; });
    --waiting_;
    if (!open_) --let_;
    return absl::OkStatus();
  }
  // One caller that is there may pass.
  void LetOne() {
    const std::lock_guard lock(mutex_);
    ++let_;
    changed_.notify_all();
  }
  void Set(bool open) {
    const std::lock_guard lock(mutex_);
    open_ = open;
    changed_.notify_all();
  }
  void AwaitCaller() {
    std::unique_lock lock(mutex_);
    ASSERT_TRUE(changed_.wait_for(lock, std::chrono::seconds(60), [this] { return waiting_ > 0; }));
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = true;
  int waiting_ = 0, let_ = 0;
};

// Room for four rules, so eight ids.
class IdsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    node_.SetFault([this](absl::string_view call) { return gate_.Pass(call); });
    ASSERT_TRUE(node_.Start().ok());
  }
  void TearDown() override {
    gate_.Set(true);
    node_.Stop();
  }
  void Must(const std::string& patch) {
    const ChangeOutcome outcome = node_.Apply(Patch(patch));
    ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  }
  uint32_t IdOf(const std::string& rule) { return node_.desired().rules.Get(rule)->id; }
  uint64_t PacketsOf(uint32_t id) { return (*node_.fake().ReadCounters(CounterId::kRules, id, 1))[0]; }

  Gate gate_;
  ControlNode node_{"ids", {.limits = {.max_entries = 4}, .drift_interval = std::chrono::hours(1)}};
};

TEST_F(IdsTest, AreFreeWhenNoPacketCanUseThem) {
  Must(RuleNamed("a", 1));
  const uint32_t id = IdOf("a");
  node_.fake().Count(CounterId::kRules, id, 0, 5);
  gate_.Set(false);
  Must("delete_rules: [a]");
  gate_.AwaitCaller();
  node_.Sync();
  // Packets that matched it are still on their way: they may count yet.
  EXPECT_EQ(PacketsOf(id), 5u);
  node_.fake().Count(CounterId::kRules, id, 0, 1);
  for (const char* name : {"b", "c", "d", "e"}) {
    Must(RuleNamed(name, static_cast<uint32_t>(name[0])));
    EXPECT_NE(IdOf(name), id);
  }
  EXPECT_EQ(PacketsOf(id), 6u);
  gate_.Set(true);
  EXPECT_TRUE(node_.Eventually([&] { return PacketsOf(id) == 0; }));
  // All eight in turn; whoever gets it begins at nothing.
  std::set<uint32_t> given;
  for (int i = 0; i < 40 && !given.contains(id); ++i) {
    Must("delete_rules: [b]");
    node_.Sync();
    Must(RuleNamed("b", 1));
    given.insert(IdOf("b"));
    EXPECT_EQ(PacketsOf(IdOf("b")), 0u);
  }
  EXPECT_TRUE(given.contains(id));
}

// That packets of an earlier generation have left says nothing of those that may use the id.
TEST_F(IdsTest, AreNotFreeForAnEarlierGenerationsSake) {
  Must(RuleNamed("a", 1));
  node_.Sync();
  const uint32_t id = IdOf("a");
  node_.fake().Count(CounterId::kRules, id, 0, 5);
  gate_.Set(false);
  Must(RuleNamed("b", 2));
  gate_.AwaitCaller();
  Must("delete_rules: [a]");
  gate_.LetOne();
  // The next call is for the generation without the rule.
  node_.Sync();
  gate_.AwaitCaller();
  node_.Sync();
  EXPECT_EQ(PacketsOf(id), 5u);
  gate_.Set(true);
  EXPECT_TRUE(node_.Eventually([&] { return PacketsOf(id) == 0; }));
}

// What is deleted but still in force, because nothing can be written, still uses its id.
TEST_F(IdsTest, AreNotFreeBeforeTheDeletionIsApplied) {
  Must(RuleNamed("a", 1));
  const uint32_t id = IdOf("a");
  node_.fake().Count(CounterId::kRules, id, 0, 5);
  node_.Sync();
  std::atomic<bool> broken{true};
  node_.SetFault([&](absl::string_view call) {
    return broken && call == "Write" ? absl::InternalError("injected") : absl::OkStatus();
  });
  ASSERT_TRUE(node_.Apply(Patch("delete_rules: [a]"), {}).status.ok());
  absl::Status status;
  for (int i = 0; i < 20 && status.ok(); ++i) {
    status = node_.Apply(Patch(RuleNamed("b", 1)), {}).status;
    if (!status.ok()) break;
    EXPECT_NE(IdOf("b"), id);
    status = node_.Apply(Patch("delete_rules: [b]"), {}).status;
  }
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_EQ(PacketsOf(id), 5u);
  broken = false;
  Must("{}");  // which has what waits be tried again
  ASSERT_TRUE(node_.Eventually([&] { return PacketsOf(id) == 0; }));
  Must(RuleNamed("b", 1));
}

TEST_F(IdsTest, OfWhatCouldNotBeMadeDurableAreFreeAgain) {
  Must(RuleNamed("a", 1));
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit limit{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &limit), 0);
  const rlimit none{100, limit.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &none), 0);
  for (int i = 0; i < 10; ++i) {
    EXPECT_FALSE(node_.Apply(Patch(RuleNamed("b", 2))).status.ok());
    EXPECT_FALSE(node_.Apply(Patch(RuleNamed("b", 2)), {.confirm_timeout = std::chrono::hours(1)}).status.ok());
  }
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  for (const char* name : {"b", "c", "d"}) Must(RuleNamed(name, static_cast<uint32_t>(name[0])));
}

TEST_F(IdsTest, AreNotLostWhereRulesComeAndGoInOneBatch) {
  Must(RuleNamed("stays", 1));
  for (int round = 0; round < 30; ++round) {
    std::promise<absl::Status> last;
    {
      const auto held = node_.Hold();
      for (const std::string& patch :
           {RuleNamed("x", 2), std::string("delete_rules: [x, stays]"), RuleNamed("stays", 1),
            std::string("delete_rules: [stays]"), RuleNamed("stays", 3)}) {
        node_.controller().Submit(Patch(patch), {}, [](auto) {});
      }
      node_.controller().Submit(Patch("delete_rules: [nothing]"), {},
                                [&](const ChangeOutcome& outcome) { last.set_value(outcome.status); });
    }
    ASSERT_TRUE(last.get_future().get().ok());
    ASSERT_EQ(node_.desired().rules.size(), 1u) << "round " << round;
  }
  for (const char* name : {"b", "c", "d"}) Must(RuleNamed(name, static_cast<uint32_t>(name[0])));
}

TEST_F(IdsTest, ADocumentMayReplaceAllRulesByOthers) {
  for (int round = 0; round < 20; ++round) {
    std::string yaml = "rules:\n";
    for (int i = 0; i < 4; ++i)
      absl::StrAppend(&yaml, "  - {name: r", round, "-", i, ", priority: ", i + 1, ", action: {pass: {}}}\n");
    const ChangeOutcome outcome = node_.Apply(Config(yaml));
    ASSERT_TRUE(outcome.status.ok()) << "round " << round << ": " << outcome.status;
  }
}

// The other kinds have as many ids as there may be objects: what is deleted makes room, for which
// the next change waits.
TEST_F(IdsTest, OfOtherKindsComeBackToo) {
  const auto targets = [](const char* prefix) {
    std::string yaml = "steer_targets:\n";
    for (int i = 0; i < 64; ++i) absl::StrAppend(&yaml, "  - {name: ", prefix, i, "}\n");
    return yaml;
  };
  for (const char* prefix : {"a", "b", "c"}) {
    ASSERT_TRUE(node_.Apply(Config(targets(prefix))).status.ok()) << prefix;
    ASSERT_TRUE(node_.Apply(Config("{}")).status.ok());
  }
  // Also for a change that is to be confirmed.
  const ChangeOutcome outcome = node_.Apply(Config(targets("d")), {.confirm_timeout = std::chrono::hours(1)});
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  ASSERT_TRUE(node_.Confirm().ok());
}

TEST_F(IdsTest, WhoseCountersCannotBeClearedAreNotUsedAgain) {
  Must(RuleNamed("a", 1));
  const uint32_t bad = IdOf("a");
  node_.fake().Count(CounterId::kRules, bad, 0, 5);
  std::atomic<bool> failed{false};
  node_.SetFault([&](absl::string_view call) {
    if (call != "ClearCounters") return absl::OkStatus();
    failed = true;
    return absl::InternalError("injected");
  });
  Must("delete_rules: [a]");
  ASSERT_TRUE(node_.Eventually([&] { return failed.load(); }));
  node_.Sync();
  node_.SetFault(nullptr);
  for (int i = 0; i < 40; ++i) {
    Must(RuleNamed("b", 1));
    EXPECT_NE(IdOf("b"), bad);
    Must("delete_rules: [b]");
    node_.Sync();
  }
  // Until the next start, which clears what nobody owns.
  ASSERT_TRUE(node_.Restart().ok());
  EXPECT_EQ(PacketsOf(bad), 0u);
}

// What is only kept for a rollback still needs its ids.
TEST_F(IdsTest, OfWhatMayComeBackAreKept) {
  Must(RuleNamed("a", 1));
  const uint32_t id = IdOf("a");
  node_.fake().Count(CounterId::kRules, id, 0, 5);
  ASSERT_TRUE(node_.Apply(Patch("delete_rules: [a]"), {.confirm_timeout = std::chrono::hours(1)}).status.ok());
  node_.Sync();
  ASSERT_TRUE(node_.Restart().ok());
  node_.Sync();
  EXPECT_EQ(PacketsOf(id), 5u);
  ASSERT_TRUE(node_.Confirm().ok());
  EXPECT_TRUE(node_.Eventually([&] { return PacketsOf(id) == 0; }));
}

}  // namespace
}  // namespace headgate::testing
