// SPDX-License-Identifier: Apache-2.0
//
// The command lines of hgbench's benchmarks.
#include <gtest/gtest.h>

#include "tests/unit/bench_options.h"

namespace headgate::bench {
namespace {

TEST(BenchScenarioOptionsTest, Redirect) {
  const auto defaults = Get<RedirectOptions>({"redirect"});
  EXPECT_EQ(defaults.sizes, (std::vector<uint32_t>{64, 1400}));
  EXPECT_EQ(defaults.placement, Placement::kSame);
  EXPECT_GE(defaults.rounds, 3);
  const auto given = Get<RedirectOptions>({"redirect", "--sizes", "64,128", "--placement", "split", "--rounds",
                                           "2", "--seconds", "0.5", "--flows", "9", "--realtime", "--wait"});
  EXPECT_EQ(given.sizes, (std::vector<uint32_t>{64, 128}));
  EXPECT_EQ(given.placement, Placement::kSplit);
  EXPECT_EQ(given.rounds, 2);
  EXPECT_EQ(given.seconds, 0.5);
  EXPECT_EQ(given.flows, 9u);
  EXPECT_TRUE(given.realtime);
  EXPECT_FALSE(defaults.wait);
  EXPECT_TRUE(given.wait);
}

TEST(BenchScenarioOptionsTest, Control) {
  const auto defaults = Get<ControlOptions>({"control"});
  EXPECT_EQ(defaults.agent, "headgated");
  EXPECT_EQ(defaults.rule_set, "acl1_100k");
  EXPECT_EQ(defaults.prefixes, 1'000'000u);
  // scripts/bench gives the tree's own first; the user's counts.
  const auto given =
      Get<ControlOptions>({"control", "--agent", "a", "--agent", "b", "--rules", "acl1_1k", "--changes", "5",
                           "--updates", "6", "--prefixes", "7", "--directory", "/d", "--wait"});
  EXPECT_EQ(given.agent, "b");
  EXPECT_EQ(given.rule_set, "acl1_1k");
  EXPECT_EQ(given.changes, 5u);
  EXPECT_EQ(given.updates, 6u);
  EXPECT_EQ(given.prefixes, 7u);
  EXPECT_EQ(given.directory, "/d");
  EXPECT_FALSE(defaults.wait);
  EXPECT_TRUE(given.wait);
}

TEST(BenchScenarioOptionsTest, Filter) {
  const auto defaults = Get<FilterOptions>({"filter"});
  EXPECT_EQ(defaults.headers, 1'000'000u);
  EXPECT_EQ(defaults.sizes, (std::vector<std::string>{"100", "1k", "8k", "100k"}));
  EXPECT_EQ(defaults.churn, 100'000u);
  EXPECT_TRUE(defaults.flow_cache);
  const auto given = Get<FilterOptions>({"filter", "--rounds", "2", "--headers", "200", "--sets", "fw1", "--sizes",
                                         "1k,8k", "--rate-sizes", "none", "--churn", "0", "--no-flow-cache"});
  EXPECT_EQ(given.rounds, 2);
  EXPECT_EQ(given.headers, 200u);
  EXPECT_EQ(given.sets, (std::vector<std::string>{"fw1"}));
  EXPECT_EQ(given.sizes, (std::vector<std::string>{"1k", "8k"}));
  EXPECT_TRUE(given.rate_sizes.empty());
  EXPECT_EQ(given.churn, 0u);
  EXPECT_FALSE(given.flow_cache);
  EXPECT_EQ(Get<FilterOptions>({"filter", "--headers", "16384"}).headers, 16384u);
}

TEST(BenchScenarioOptionsTest, Replace) {
  const auto defaults = Get<ReplaceOptions>({"replace"});
  EXPECT_EQ(defaults.agent, "headgated");
  EXPECT_EQ(defaults.rule_set, "acl1_100k");
  EXPECT_EQ(defaults.packets_per_second, 100'000u);
  EXPECT_GE(defaults.rounds, 3);
  EXPECT_TRUE(defaults.realtime);
  EXPECT_FALSE(defaults.flow_cache);
  EXPECT_FALSE(defaults.wait);
  EXPECT_TRUE(Get<ReplaceOptions>({"replace", "--flow-cache"}).flow_cache);
  const auto given = Get<ReplaceOptions>({"replace", "--agent", "a", "--agent", "b", "--rules", "acl1_1k",
                                          "--rounds", "2", "--seconds", "0.5", "--rate", "5000", "--flows", "9",
                                          "--directory", "/d", "--no-realtime", "--wait"});
  EXPECT_EQ(given.agent, "b");
  EXPECT_EQ(given.rule_set, "acl1_1k");
  EXPECT_EQ(given.rounds, 2);
  EXPECT_EQ(given.seconds, 0.5);
  EXPECT_EQ(given.packets_per_second, 5000u);
  EXPECT_EQ(given.flows, 9u);
  EXPECT_EQ(given.directory, "/d");
  EXPECT_FALSE(given.realtime);
  EXPECT_TRUE(given.wait);
}

TEST(BenchScenarioOptionsTest, Steer) {
  const auto defaults = Get<SteerOptions>({"steer"});
  EXPECT_EQ(defaults.agent, "headgated");
  EXPECT_EQ(defaults.handlers, (std::vector<std::string>{"count", "echo"}));
  EXPECT_EQ(defaults.sizes, (std::vector<uint32_t>{64, 1400}));
  EXPECT_GE(defaults.rounds, 3);
  EXPECT_TRUE(defaults.socat);
  EXPECT_TRUE(defaults.realtime);
  EXPECT_FALSE(defaults.wait);
  const auto given = Get<SteerOptions>({"steer", "--agent", "a", "--handlers", "echo", "--sizes", "60,1514",
                                        "--rounds", "2", "--seconds", "0.5", "--flows", "9", "--directory", "/d",
                                        "--no-socat", "--no-realtime", "--wait"});
  EXPECT_EQ(given.agent, "a");
  EXPECT_EQ(given.handlers, (std::vector<std::string>{"echo"}));
  EXPECT_EQ(given.sizes, (std::vector<uint32_t>{60, 1514}));
  EXPECT_EQ(given.rounds, 2);
  EXPECT_EQ(given.seconds, 0.5);
  EXPECT_EQ(given.flows, 9u);
  EXPECT_EQ(given.directory, "/d");
  EXPECT_FALSE(given.socat);
  EXPECT_FALSE(given.realtime);
  EXPECT_TRUE(given.wait);
  for (const std::vector<const char*>& wrong :
       std::vector<std::vector<const char*>>{{"steer", "--handlers", "tap"},
                                             {"steer", "--sizes", "59"},
                                             {"steer", "--sizes", "1515"},
                                             {"steer", "--flows", "0"}}) {
    EXPECT_EQ(Parse(wrong).exit_code, 2) << wrong[2];
  }
}

TEST(BenchScenarioOptionsTest, Multicast) {
  const auto defaults = Get<MulticastOptions>({"multicast"});
  EXPECT_EQ(defaults.agent, "headgated");
  EXPECT_EQ(defaults.paths, (std::vector<std::string>{"kernel", "userspace"}));
  EXPECT_EQ(defaults.kernel_legs, (std::vector<uint32_t>{1, 8, 50}));
  EXPECT_EQ(defaults.userspace_legs, (std::vector<uint32_t>{1, 8, 50, 500}));
  EXPECT_EQ(defaults.sizes, (std::vector<uint32_t>{64, 1400}));
  EXPECT_EQ(defaults.baselines, (std::vector<std::string>{"ip_mroute", "socket_relay"}));
  EXPECT_GE(defaults.rounds, 3);
  EXPECT_EQ(defaults.placement, Placement::kSame);
  EXPECT_TRUE(defaults.latency);
  EXPECT_TRUE(defaults.realtime);
  EXPECT_EQ(defaults.chart, "");
  EXPECT_FALSE(defaults.wait);
  const auto given = Get<MulticastOptions>(
      {"multicast",   "--agent", "a",   "--paths",      "userspace", "--kernel-legs", "2,3", "--userspace-legs",
       "4",           "--sizes", "60",  "--baselines",  "ip_mroute", "--rounds",      "2",   "--seconds",
       "0.1",         "--chart", "d/c", "--no-latency", "--wait",    "--directory",   "/d",  "--no-realtime",
       "--placement", "split"});
  EXPECT_EQ(given.agent, "a");
  EXPECT_EQ(given.paths, (std::vector<std::string>{"userspace"}));
  EXPECT_EQ(given.kernel_legs, (std::vector<uint32_t>{2, 3}));
  EXPECT_EQ(given.userspace_legs, (std::vector<uint32_t>{4}));
  EXPECT_EQ(given.sizes, (std::vector<uint32_t>{60}));
  EXPECT_EQ(given.baselines, (std::vector<std::string>{"ip_mroute"}));
  EXPECT_EQ(given.rounds, 2);
  EXPECT_EQ(given.seconds, 0.1);
  EXPECT_EQ(given.chart, "d/c");
  EXPECT_EQ(given.directory, "/d");
  EXPECT_EQ(given.placement, Placement::kSplit);
  EXPECT_FALSE(given.latency);
  EXPECT_FALSE(given.realtime);
  EXPECT_TRUE(given.wait);
  EXPECT_TRUE(Get<MulticastOptions>({"multicast", "--baselines", "none"}).baselines.empty());
  for (const std::vector<const char*>& wrong :
       std::vector<std::vector<const char*>>{{"multicast", "--paths", "generic"},
                                             {"multicast", "--kernel-legs", "0"},
                                             {"multicast", "--kernel-legs", "201"},
                                             {"multicast", "--userspace-legs", "1001"},
                                             {"multicast", "--sizes", "1515"},
                                             {"multicast", "--baselines", "dpdk"}}) {
    EXPECT_EQ(Parse(wrong).exit_code, 2) << wrong[2];
  }
}

}  // namespace
}  // namespace headgate::bench
