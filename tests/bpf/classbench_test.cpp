// SPDX-License-Identifier: Apache-2.0
//
// The program's verdict on real frames against a linear search over the model, for every ClassBench set.
#include <gtest/gtest.h>
#include <linux/bpf.h>

#include "tests/harness/header_frame.h"
#include "tests/harness/linear_scan.h"
#include "tests/harness/program.h"
#include "tests/harness/random.h"

namespace headgate::testing {
namespace {

constexpr int kHeaders = 100'000;
// As many of them are searched for by the plain linear search, too: the one that is in no hurry.
constexpr int kPlain = 300;

void ExpectVerdicts(Program& program, const std::vector<Rule>& rules, std::mt19937_64& random) {
  State state;
  for (const Rule& rule : rules) state.rules.Set(rule);
  program.Apply(state);
  const LinearScan scan(rules);
  std::vector<uint64_t> expected_counts(rules.size() + 1), counts;
  int matched = 0, wrong = 0;
  for (int run = 0; run < kHeaders; ++run) {
    const Header header = DrawUsableHeader(rules, random);
    const Rule* expected = scan.Find(header);
    const std::string name = expected ? expected->name : "no rule";
    if (run < kPlain) {
      const Rule* plain = LinearSearch(rules, header);
      ASSERT_EQ(name, plain ? plain->name : "no rule") << "by the columnar search: this test is wrong";
    }
    const bool drop = expected != nullptr && std::holds_alternative<Drop>(expected->action->verdict);
    matched += expected != nullptr ? 1 : 0;
    if (expected != nullptr) ++expected_counts[expected->id];
    if (program.Verdict(FrameOf(header)) != (drop ? XDP_DROP : XDP_PASS) && ++wrong < 5) {
      ADD_FAILURE() << "header " << run << " expected " << name;
    }
  }
  EXPECT_EQ(wrong, 0);
  EXPECT_GT(matched, kHeaders / 2);
  // Each packet counted once, by the rule that the search names: what no rule matches is told from what a rule
  // passes by that.
  const auto rows =
      *program.dataplane().ReadCounters(CounterId::kRules, 0, static_cast<uint32_t>(rules.size()) + 1);
  for (size_t i = 0; i < rows.size(); i += 3) counts.push_back(rows[i]);
  EXPECT_TRUE(counts == expected_counts);
}

// Room for just these rules: what a set needs must be there.
TableSizes SizesFor(const std::vector<Rule>& rules) {
  return {.max_entries = static_cast<uint32_t>(rules.size()), .max_prefixes = 16};
}

class ClassBench : public ::testing::TestWithParam<const char*> {};

TEST_P(ClassBench, VerdictsEqualLinearSearch) {
  HG_REQUIRE_BPF();
  std::mt19937_64 random = MakeRandom();
  const std::vector<Rule> rules = LoadClassBench(GetParam());
  Program program(std::string("classbench-") + GetParam(), SizesFor(rules));
  ExpectVerdicts(program, rules, random);
}
INSTANTIATE_TEST_SUITE_P(Sets, ClassBench,
                         ::testing::Values("acl1_1k", "fw1_1k", "ipc1_1k", "acl1_8k", "fw1_8k", "ipc1_8k",
                                           "acl1_100k", "fw1_100k", "ipc1_100k"),
                         [](const auto& set) { return std::string(set.param); });

class GeneratedIpv6 : public ::testing::TestWithParam<int> {};

TEST_P(GeneratedIpv6, VerdictsEqualLinearSearch) {
  HG_REQUIRE_BPF();
  std::mt19937_64 random = MakeRandom();
  const std::vector<Rule> rules = MakeIpv6Rules(static_cast<size_t>(GetParam()), random);
  Program program("classbench-ipv6-" + std::to_string(GetParam()), SizesFor(rules));
  ExpectVerdicts(program, rules, random);
}
INSTANTIATE_TEST_SUITE_P(Sizes, GeneratedIpv6, ::testing::Values(1000, 8000, 100'000));

}  // namespace
}  // namespace headgate::testing
