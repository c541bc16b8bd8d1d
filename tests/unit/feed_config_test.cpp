// SPDX-License-Identifier: Apache-2.0
//
// Sequence numbers and deduplication of multicast routes: what may be configured, and what becomes of it in the
// tables.
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>

#include <ostream>
#include <set>

#include "agent/control/compile_multicast.h"
#include "agent/control/compiler.h"
#include "agent/dataplane/fake_dataplane.h"
#include "tests/harness/model.h"
#include "tests/harness/random.h"
#include "tests/harness/tables.h"

namespace headgate::testing {
namespace {

constexpr char kInterfaces[] = "interfaces: [{name: in}, {name: out}, {name: side}]\n";

// A route of the group 239.1.1.`number`, and what it has beside.
std::string Route(int number, const std::string& how, const std::string& legs = "[{interface: out}]") {
  return absl::StrCat("{name: r", number, ", input: {interfaces: [in], group: 239.1.1.", number, "}, legs: ", legs,
                      how.empty() ? "" : ", ", how, "}");
}
Change Routes(const std::vector<std::string>& routes) {
  std::string text = absl::StrCat(kInterfaces, "multicast_routes:", routes.empty() ? " []" : "", "\n");
  for (const std::string& route : routes) absl::StrAppend(&text, "  - ", route, "\n");
  return Config(text);
}

struct Case {
  const char* name;
  std::string route;
  std::vector<std::pair<std::string, std::string>> expected;  // field, and part of the description
  friend void PrintTo(const Case& one, std::ostream* out) { *out << one.name; }
};

std::vector<Case> Cases() {
  const auto esp = [](const char* how) {
    return absl::StrCat(
        "{name: r1, input: {interfaces: [in], group: 239.1.1.1, protocol: esp}, legs: [{interface: "
        "out}], ",
        how, "}");
  };
  return {
      {"Least", Route(1, "sequence: {width: 1}"), {}},
      {"Most",
       Route(1, "sequence: {offset: 1400, width: 8, little_endian: true}, deduplicate: {feed: g, window: 4096}"),
       {}},
      {"ContentMost", Route(1, "deduplicate: {window: 10000}"), {}},
      {"ContentMore", Route(1, "deduplicate: {window: 10001}"), {{"deduplicate.window", "at most 10000"}}},
      {"ContentOfEsp", esp("deduplicate: {}"), {}},
      {"SequenceOfEsp", esp("sequence: {width: 4}"), {{"sequence", "only packets of UDP"}}},
      {"NoWidth", Route(1, "sequence: {offset: 4}"), {{"sequence.width", "1, 2, 4 or 8"}}},
      {"OddWidth", Route(1, "sequence: {width: 3}"), {{"sequence.width", "3 bytes: 1, 2, 4 or 8"}}},
      {"MoreWidth", Route(1, "sequence: {width: 16}"), {{"sequence.width", "1, 2, 4 or 8"}}},
      {"HugeWidth", Route(1, "sequence: {width: 260}"), {{"sequence.width", "at most 255"}}},
      {"FarOffset", Route(1, "sequence: {offset: 1401, width: 4}"), {{"sequence.offset", "0 to 1400"}}},
      {"HugeOffset", Route(1, "sequence: {offset: 65540, width: 4}"), {{"sequence.offset", "at most 65535"}}},
      {"WideWindow",
       Route(1, "sequence: {width: 2}, deduplicate: {window: 4097}"),
       {{"deduplicate.window", "at most 4096"}}},
      {"HugeWindow",
       Route(1, "sequence: {width: 2}, deduplicate: {window: 65537}"),
       {{"deduplicate.window", "at most 65535"}}},
      {"WindowOfOneByte", Route(1, "sequence: {width: 1}, deduplicate: {window: 128}"), {}},
      {"WideWindowOfOneByte",
       Route(1, "sequence: {width: 1}, deduplicate: {window: 129}"),
       {{"deduplicate.window", "at most 128"}}},
      {"FeedsName", Route(1, "deduplicate: {feed: a/b}"), {{"deduplicate.feed", "names are"}}},
      {"SameFeed", Route(1, "sequence: {offset: 2, width: 4}, deduplicate: {feed: f}"), {}},
      {"SameWindow", Route(1, "sequence: {offset: 2, width: 4}, deduplicate: {feed: f, window: 1024}"), {}},
      {"OtherFeed", Route(1, "sequence: {offset: 3, width: 4}, deduplicate: {feed: g}"), {}},
      {"OtherOffset",
       Route(1, "sequence: {offset: 3, width: 4}, deduplicate: {feed: f}"),
       {{"sequence", "route \"r2\" of feed \"f\" has another"}}},
      {"OtherOrder",
       Route(1, "sequence: {offset: 2, width: 4, little_endian: true}, deduplicate: {feed: f}"),
       {{"sequence", "has another"}}},
      {"NoSequence", Route(1, "deduplicate: {feed: f}"), {{"sequence", "has another"}}},
      {"OtherWindow",
       Route(1, "sequence: {offset: 2, width: 4}, deduplicate: {feed: f, window: 1023}"),
       {{"deduplicate.window", "1023, and route \"r2\" of feed \"f\" has 1024"}}},
      {"NotOfIt", Route(1, "sequence: {offset: 9, width: 8}"), {}},
  };
}

class FeedRules : public ::testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(Feed, FeedRules, ::testing::ValuesIn(Cases()),
                         [](const auto& one) { return one.param.name; });

TEST_P(FeedRules, AreChecked) {
  Desired desired;
  desired.Must(Routes({Route(2, "sequence: {offset: 2, width: 4}, deduplicate: {feed: f}")}));
  const ChangeResult result = desired.Apply(Patch("upsert: {multicast_routes: [" + GetParam().route + "]}"));
  ASSERT_EQ(result.violations.size(), GetParam().expected.size()) << Describe(result.violations);
  for (size_t i = 0; i < result.violations.size(); ++i) {
    EXPECT_TRUE(absl::EndsWith(result.violations[i].field, "multicast_routes[0]." + GetParam().expected[i].first))
        << result.violations[i].field;
    EXPECT_TRUE(absl::StrContains(result.violations[i].description, GetParam().expected[i].second))
        << result.violations[i].description;
  }
}

hg_feed_key KeyOf(const Desired& desired, const std::string& route) {
  return CompileFeed(*desired->multicast_routes.Get(route), *desired);
}

TEST(FeedKeys, HaveWhatWasConfigured) {
  Desired desired;
  desired.Must(Routes({Route(1, ""), Route(2, "sequence: {offset: 7, width: 2, little_endian: true}"),
                       Route(3, "sequence: {width: 1}, deduplicate: {}"), Route(4, "deduplicate: {}"),
                       Route(5, "sequence: {width: 8}, deduplicate: {feed: f, window: 99}"),
                       Route(6, "sequence: {width: 8}, deduplicate: {feed: f, window: 99}")}));
  const auto expect = [&](const char* route, uint16_t offset, uint8_t width, uint16_t window, uint8_t flags) {
    SCOPED_TRACE(route);
    const hg_feed_key key = KeyOf(desired, route);
    EXPECT_NE(key.feed, 0);
    EXPECT_EQ(key.offset, offset);
    EXPECT_EQ(key.width, width);
    EXPECT_EQ(key.window, window);
    EXPECT_EQ(key.flags, flags);
  };
  EXPECT_EQ(KeyOf(desired, "r1").feed, 0);
  expect("r2", 7, 2, 1024, HG_FEED_LITTLE_ENDIAN);
  expect("r3", 0, 1, 128, HG_FEED_DROP);
  expect("r4", 0, 0, 100, HG_FEED_DROP);
  expect("r5", 0, 8, 99, HG_FEED_DROP);
  std::set<uint16_t> ids;
  for (const char* route : {"r2", "r3", "r4", "r5", "r6"}) ids.insert(KeyOf(desired, route).feed);
  EXPECT_EQ(ids.size(), 4U);
  EXPECT_EQ(KeyOf(desired, "r5").feed, KeyOf(desired, "r6").feed);
}

// As long as a route has it and its numbers are where they were.
TEST(FeedIds, StayWithTheFeed) {
  Desired desired;
  const std::string how = "sequence: {width: 4}, deduplicate: {feed: f}";
  desired.Must(Routes({Route(1, how), Route(2, how), Route(3, "sequence: {width: 4}")}));
  const uint16_t id = KeyOf(desired, "r2").feed, own = KeyOf(desired, "r3").feed;
  desired.Must(Patch("delete_multicast_routes: [r1]"));
  EXPECT_EQ(KeyOf(desired, "r2").feed, id);
  desired.Must(Patch("upsert: {multicast_routes: [" + Route(1, how) + "]}"));
  EXPECT_EQ(KeyOf(desired, "r1").feed, id);
  desired.Must(
      Patch("upsert: {multicast_routes: [" + Route(3, "sequence: {width: 4}, deduplicate: {window: 5}") + "]}"));
  EXPECT_EQ(KeyOf(desired, "r3").feed, own);
  desired.Must(Patch("upsert: {multicast_routes: [" + Route(3, "sequence: {width: 4, offset: 1}") + "]}"));
  EXPECT_EQ(desired->multicast_feeds.Get("route/r3/0/4/big"), nullptr);
  EXPECT_NE(desired->multicast_feeds.Get("route/r3/1/4/big"), nullptr);
  size_t retired = 0;
  const Snapshot before = desired.state();
  desired.Must(Patch("delete_multicast_routes: [r1, r2, r3]"));
  ForEachRetiredId(*before, *desired, [&](Kind kind, uint32_t) { retired += kind == Kind::kMulticastFeed; });
  EXPECT_EQ(retired, 2U);
  size_t left = 0;
  desired->multicast_feeds.ForEach([&](const auto&) { ++left; });
  EXPECT_EQ(left, 0U);
}

// Workers' routes have a record for their feed alone, which comes and goes with it.
TEST(FeedTables, FollowTheRoutes) {
  const std::string workers = "[{name: x, interface: out}, {name: y, interface: out, port: 6}]",
                    kernel = "[{interface: out}]";
  const std::string feed = "deduplicate: {feed: f}";
  const std::vector<std::vector<std::string>> steps = {{Route(1, "", kernel), Route(2, "", workers)},
                                                       {Route(1, feed, kernel), Route(2, feed, workers)},
                                                       {Route(1, feed, workers), Route(2, feed, kernel)},
                                                       {Route(1, feed, workers), Route(2, "", workers)},
                                                       {Route(1, "", workers)},
                                                       {Route(1, "sequence: {width: 2}", workers)},
                                                       {Route(1, "sequence: {width: 4}", workers)},
                                                       {}};
  std::mt19937_64 random = MakeRandom();
  for (size_t from = 0; from < steps.size(); ++from) {
    for (size_t to = 0; to < steps.size(); ++to) {
      SCOPED_TRACE(absl::StrCat(from, " to ", to));
      Desired desired;
      FakeDataplane dataplane(4096);
      Compiler compiler;
      const auto put = [&](Compiler& by) {
        EXPECT_TRUE(by.Flush(dataplane).ok());
        EXPECT_TRUE(dataplane.Activate(by.root()).ok());
        by.Published(1);
      };
      desired.Must(Routes(steps[from]));
      compiler.Compile(*desired);
      put(compiler);
      EXPECT_EQ(CompareWithModel(dataplane, *desired, 0, random), "");
      Compiler fresh;
      EXPECT_EQ(*fresh.Adopt(dataplane, *desired), 0U);
      // By the one that knows, and by one that finds it.
      desired.Must(Routes(steps[to]));
      Compiler finder;
      const auto differences = finder.Adopt(dataplane, *desired);
      ASSERT_TRUE(differences.ok());
      EXPECT_EQ(*differences == 0, from == to);
      compiler.Compile(*desired);
      put(compiler);
      EXPECT_EQ(CompareWithModel(dataplane, *desired, 0, random), "");
      put(finder);
      EXPECT_EQ(CompareWithModel(dataplane, *desired, 0, random), "");
    }
  }
}

}  // namespace
}  // namespace headgate::testing
