// SPDX-License-Identifier: Apache-2.0
//
// Rules that name prefix sets, up to 100,000 of them: the program's verdict on real frames against a linear search
// over the model, and how many nodes and leaves it visits.
#include <gtest/gtest.h>
#include <linux/bpf.h>

#include "tests/harness/header_frame.h"
#include "tests/harness/program.h"
#include "tests/harness/random.h"
#include "tests/harness/set_rules.h"

namespace headgate::testing {
namespace {

constexpr uint64_t kComparisons = 300'000'000;  // of a header with a rule
constexpr int kMostHeaders = 20'000;
constexpr int kTraced = 500;

struct Mix {
  const char* name;
  size_t rules;
  SetRules (*make)(size_t rules, std::mt19937_64& random);
};
void PrintTo(const Mix& mix, std::ostream* out) { *out << mix.name; }

std::vector<Rule> LoadRules(size_t count) {
  std::vector<Rule> rules = LoadClassBench(count > 8000 ? "acl1_100k" : "acl1_8k");
  rules.resize(std::min(rules.size(), count));
  return rules;
}
SetRules MakeMixed(size_t rules, std::mt19937_64& random) {
  return NameSets(LoadRules(rules), 50, 25, SetOverlap::kDealt, random);
}
SetRules MakeAllInSets(size_t rules, std::mt19937_64& random) {
  return NameSets(LoadRules(rules), 200, 100, SetOverlap::kOverlapping, random);
}
SetRules MakePorts(size_t rules, std::mt19937_64& random) { return MakeSetPortRules(rules, 50, random); }

class SetRulesTest : public ::testing::TestWithParam<Mix> {};

TEST_P(SetRulesTest, VerdictsEqualLinearSearch) {
  HG_REQUIRE_BPF();
  std::mt19937_64 random = MakeRandom();
  const SetRules made = GetParam().make(GetParam().rules, random);
  const auto size = static_cast<uint32_t>(made.rules.size());
  Program program(std::string("set-rules-") + GetParam().name, {.max_entries = size, .max_prefixes = 16384});
  State state = made.MakeState();
  state.interfaces.Set({.name = "in", .device = "in", .id = 1});
  program.Apply(state);
  const SetScan scan(made);
  std::vector<uint64_t> expected_counts(size + 1), counts;
  int by_source = 0, by_destination = 0, by_neither = 0, wrong = 0;
  uint64_t steps = 0;
  const int headers = static_cast<int>(std::min<uint64_t>(kMostHeaders, kComparisons / size));
  for (int i = 0; i < headers; ++i) {
    const Header header = DrawUsableHeader(made.drawn, random);
    const Rule* expected = scan.Find(header);
    if (expected != nullptr) {
      ++expected_counts[expected->id];
      const Match& match = expected->match;
      ++(!match.source_set.empty() ? by_source : !match.destination_set.empty() ? by_destination : by_neither);
    }
    const bool drop = expected != nullptr && std::holds_alternative<Drop>(expected->action->verdict);
    if (program.Verdict(FrameOf(header)) != (drop ? XDP_DROP : XDP_PASS) && ++wrong < 5) {
      ADD_FAILURE() << "header " << i << " expected " << (expected ? expected->name : "no rule");
    }
    if (i >= kTraced) continue;
    const auto trace = program.dataplane().Trace(1, FrameOf(header));
    ASSERT_TRUE(trace.ok()) << trace.status();
    EXPECT_EQ(trace->record.rule_id, expected ? expected->id : 0);
    steps += trace->record.steps;
  }
  EXPECT_EQ(wrong, 0);
  std::printf("%d by source set, %d by destination set, %d by neither; %.1f steps\n", by_source, by_destination,
              by_neither, static_cast<double>(steps) / kTraced);
  EXPECT_GT(by_source, headers / 20);
  const auto rows = *program.dataplane().ReadCounters(CounterId::kRules, 0, size + 1);
  for (size_t i = 0; i < rows.size(); i += 3) counts.push_back(rows[i]);
  EXPECT_TRUE(counts == expected_counts);
}
INSTANTIATE_TEST_SUITE_P(Mixes, SetRulesTest,
                         ::testing::Values(Mix{"mixed_100", 100, MakeMixed}, Mix{"mixed_8k", 8000, MakeMixed},
                                           Mix{"mixed_100k", 100'000, MakeMixed},
                                           Mix{"all_8k", 8000, MakeAllInSets},
                                           Mix{"all_100k", 100'000, MakeAllInSets},
                                           Mix{"ports_100", 100, MakePorts}, Mix{"ports_8k", 8000, MakePorts},
                                           Mix{"ports_100k", 100'000, MakePorts}),
                         [](const auto& mix) { return std::string(mix.param.name); });

}  // namespace
}  // namespace headgate::testing
