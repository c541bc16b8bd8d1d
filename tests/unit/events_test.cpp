// SPDX-License-Identifier: Apache-2.0
//
// The bus of events, and counters by name.
#include "agent/control/events.h"

#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>

#include <thread>

#include "agent/control/stats.h"
#include "agent/dataplane/fake_dataplane.h"
#include "tests/harness/model.h"

namespace headgate::testing {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(EventBus, AWatcherGetsItsTypesInOrderFromThenOn) {
  EventBus bus;
  bus.Publish({.type = EventType::kGenerationApplied, .generation = 1});
  const auto watcher = bus.Watch({EventType::kGenerationApplied, EventType::kRolledBack});
  for (uint64_t i = 2; i < 6; ++i) {
    bus.Publish({.type = i % 2 == 0 ? EventType::kGenerationApplied : EventType::kSample, .generation = i});
  }
  bus.Publish({.type = EventType::kRolledBack, .generation = 6});
  for (const uint64_t expected : {2, 4, 6}) EXPECT_EQ(watcher->Next(seconds(10))->generation, expected);
  EXPECT_EQ(watcher->Next(milliseconds(0)), std::nullopt);
}

TEST(EventBus, WhoIsTooSlowIsToldHowManyWereMissedWhereTheyWere) {
  EventBus bus;
  const auto slow = bus.Watch({EventType::kSample}), quick = bus.Watch({EventType::kSample});
  for (uint64_t i = 0; i < 5000; ++i) {
    bus.Publish({.type = EventType::kSample, .generation = i});
    EXPECT_EQ(quick->Next(milliseconds(0))->generation, i);
  }
  uint64_t next = 0;
  while (const auto event = slow->Next(milliseconds(0))) {
    EXPECT_EQ(event->generation, next + event->missed);
    if (event->missed != 0) {
      EXPECT_EQ(event->generation, 4999u) << "only the newest stands for others";
    }
    next = event->generation + 1;
  }
  EXPECT_EQ(next, 5000u) << "the newest is always told";
  bus.Publish({.type = EventType::kSample});
  EXPECT_EQ(slow->Next(milliseconds(0))->missed, 0u);
}

TEST(EventBus, OneThatIsClosedWakesItsWatchers) {
  EventBus bus;
  const auto watcher = bus.Watch({EventType::kSample});
  std::thread waiting([&] { EXPECT_FALSE(watcher->Next(seconds(600))); });
  bus.Close();
  waiting.join();
  EXPECT_FALSE(bus.Watch({EventType::kSample})->Next(seconds(600)));
}

TEST(EventBus, AnEventWakesItsWatcher) {
  EventBus bus;
  const auto watcher = bus.Watch({EventType::kSample});
  std::thread waiting([&] { EXPECT_TRUE(watcher->Next(seconds(600))); });
  bus.Publish({.type = EventType::kSample});
  waiting.join();
}

TEST(EventBus, WatchersMayComeAndGoWhileEventsDo) {
  EventBus bus;
  std::vector<std::jthread> threads;
  threads.reserve(3);
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&](const std::stop_token& stop) {
      while (!stop.stop_requested()) {
        const auto watcher = bus.Watch({EventType::kSample});
        for (int i = 0; i < 5; ++i) (void)watcher->Next(milliseconds(0));
      }
    });
  }
  for (int i = 0; i < 20'000; ++i) bus.Publish({.type = EventType::kSample});
}

class StatsTest : public ::testing::Test {
 protected:
  static constexpr uint32_t kRules = 100;
  StatsTest() {
    std::string yaml = "interfaces: [{name: wan}, {name: lan}]\nrules:\n";
    for (uint32_t i = 0; i < kRules; ++i) {
      absl::StrAppend(&yaml, "  - {name: r", i, ", priority: ", i + 1, ", action: {pass: {}",
                      i % 2 == 0 ? ", count: {counter: even}" : "", i == 1 ? ", count: {counter: one}" : "",
                      "}}\n");
    }
    desired_.Must(Config(yaml));
  }
  Stats Read(const StatsFilter& filter = {}) {
    const auto stats = ReadStats(fake_, *desired_, filter);
    EXPECT_TRUE(stats.ok()) << stats.status();
    return *stats;
  }

  Desired desired_;
  FakeDataplane fake_{4096};
};

TEST_F(StatsTest, CountersAreFoundUnderTheNamesOfTheirObjects) {
  for (uint32_t i = 0; i < kRules; ++i) {
    const uint32_t id = desired_->rules.Get(absl::StrCat("r", i))->id;
    for (uint32_t field = 0; field < 3; ++field) fake_.Count(CounterId::kRules, id, field, 10 * i + field);
  }
  fake_.Count(CounterId::kNamed, desired_->counters.Get("one")->id, 0, 3);
  fake_.Count(CounterId::kNamed, desired_->counters.Get("one")->id, 1, 4);
  const uint32_t wan = desired_->interfaces.Get("wan")->id;
  const uint32_t lan = desired_->interfaces.Get("lan")->id;
  fake_.Count(CounterId::kPorts, wan * HG_REASON_SLOTS + HG_REASON_DROP_RULE, 0, 5);
  fake_.Count(CounterId::kPorts, wan * HG_REASON_SLOTS + HG_REASON_DROP_RULE, 1, 500);
  fake_.Count(CounterId::kPorts, wan * HG_REASON_SLOTS + HG_REASON_PASS_RULE, 0, 2);
  fake_.Count(CounterId::kPorts, wan * HG_REASON_SLOTS + HG_REASON_PASS_RULE, 1, 120);
  for (uint32_t field = 0; field < 3; ++field) fake_.Count(CounterId::kEgress, lan, field, 7 + field);
  fake_.Count(CounterId::kPorts, HG_REASON_PASS_UNCONFIGURED, 0, 11);
  fake_.Count(CounterId::kSamplesLost, 0, 0, 12);

  const Stats stats = Read();
  ASSERT_EQ(stats.rules.size(), kRules);
  for (uint32_t i = 0; i < kRules; ++i) {
    // By falling priority.
    const RuleStats& rule = stats.rules[kRules - 1 - i];
    EXPECT_EQ(rule.name, absl::StrCat("r", i));
    EXPECT_EQ(rule.count.packets, 10 * i);
    EXPECT_EQ(rule.count.bytes, 10 * i + 1);
    EXPECT_EQ(rule.count.limited, 10 * i + 2);
  }
  ASSERT_EQ(stats.counters.size(), 2u);
  EXPECT_EQ(stats.counters[0].name, "even");
  EXPECT_EQ(stats.counters[0].count.packets, 0u);
  EXPECT_EQ(stats.counters[1].count.packets, 3u);
  EXPECT_EQ(stats.counters[1].count.bytes, 4u);
  ASSERT_EQ(stats.interfaces.size(), 2u);
  EXPECT_EQ(stats.interfaces[0].name, "lan");
  EXPECT_TRUE(stats.interfaces[0].reasons.empty());
  EXPECT_EQ(stats.interfaces[0].egress.sent, 7u);
  EXPECT_EQ(stats.interfaces[0].egress.dropped, 8u);
  EXPECT_EQ(stats.interfaces[0].egress.refused, 9u);
  EXPECT_EQ(stats.interfaces[1].received.packets, 7u);
  EXPECT_EQ(stats.interfaces[1].received.bytes, 620u);
  ASSERT_EQ(stats.interfaces[1].reasons.size(), 2u);
  EXPECT_EQ(stats.interfaces[1].reasons[0].reason, static_cast<uint32_t>(HG_REASON_PASS_RULE));
  EXPECT_EQ(stats.interfaces[1].reasons[1].count.bytes, 500u);
  EXPECT_EQ(stats.unconfigured_packets, 11u);
  EXPECT_EQ(stats.samples_lost, 12u);
}

// Few rows are read one by one, many at once: the same counts.
TEST_F(StatsTest, FewAndManyAreTheSame) {
  for (uint32_t i = 0; i < kRules; ++i) {
    fake_.Count(CounterId::kRules, desired_->rules.Get(absl::StrCat("r", i))->id, 0, i);
  }
  for (const uint32_t wanted : {1U, 63U, 64U, 65U, kRules}) {
    const Stats stats = Read({.wanted = [&](const std::string& name) {
      return name[0] == 'r' && std::stoul(name.substr(1)) < wanted;
    }});
    ASSERT_EQ(stats.rules.size(), wanted);
    for (const RuleStats& rule : stats.rules) EXPECT_EQ(rule.count.packets, std::stoul(rule.name.substr(1)));
    EXPECT_TRUE(stats.interfaces.empty());
    EXPECT_TRUE(stats.counters.empty());
  }
}

TEST_F(StatsTest, OnlyTheKindsAskedFor) {
  EXPECT_TRUE(Read({.rules = false}).rules.empty());
  EXPECT_TRUE(Read({.interfaces = false}).interfaces.empty());
  EXPECT_TRUE(Read({.counters = false}).counters.empty());
}

TEST_F(StatsTest, WhatCannotBeReadIsAnError) {
  FaultyDataplane faulty(fake_);
  faulty.fault = [](absl::string_view call) {
    return call == "ReadCounters" ? absl::InternalError("injected") : absl::OkStatus();
  };
  EXPECT_EQ(ReadStats(faulty, *desired_, {}).status().message(), "injected");
}

TEST(Reasons, NamesAndClassesAreThoseOfTheList) {
  const char* const names[] = {
#define HG_NAME(e, name, class, text) name,
      HG_REASONS(HG_NAME)
#undef HG_NAME
  };
  static_assert(std::size(names) == HG_REASON_COUNT);
  std::set<std::string> seen;
  for (uint32_t reason = 0; reason < HG_REASON_COUNT; ++reason) {
    EXPECT_STREQ(ReasonOf(reason).name, names[reason]);
    EXPECT_TRUE(seen.insert(names[reason]).second);
    EXPECT_NE(ReasonOf(reason).text[0], '\0');
  }
  EXPECT_STREQ(ReasonOf(HG_REASON_COUNT).name, "unknown");
  EXPECT_STREQ(ReasonOf(~0U).name, "unknown");
  EXPECT_STREQ(ReasonClassName(ReasonOf(HG_REASON_PASS_RULE).reason_class), "pass");
  EXPECT_STREQ(ReasonClassName(ReasonOf(HG_REASON_FORWARD_TX).reason_class), "forward");
  EXPECT_STREQ(ReasonClassName(ReasonOf(HG_REASON_DROP_RULE).reason_class), "drop");
  EXPECT_STREQ(ReasonClassName(ReasonOf(HG_REASON_TCP_SHORT).reason_class), "malformed");
}

}  // namespace
}  // namespace headgate::testing
