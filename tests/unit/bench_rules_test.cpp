// SPDX-License-Identifier: Apache-2.0
//
// What benchmarks hold against a gateway: which rule each header matches, what its counters should say, and rule
// sets while they are changed.
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <algorithm>
#include <map>
#include <set>

#include "bench/answers.h"
#include "bench/headers.h"
#include "bench/rule_changes.h"
#include "tests/harness/random.h"

namespace headgate::bench {
namespace {

constexpr char kSet[] = "acl1_1k";
constexpr size_t kHeaders = 3000;

std::vector<Rule> LoadRules() {
  auto rules = LoadRuleSet(kSet);
  if (!rules.ok()) throw std::runtime_error(rules.status().ToString());
  return *std::move(rules);
}

std::vector<hgb_header> Draw(const std::vector<Rule>& rules, std::mt19937_64& random) {
  auto headers = DrawHeaders(rules, kHeaders, random);
  if (!headers.ok()) throw std::runtime_error(headers.status().ToString());
  return *std::move(headers);
}

TEST(BenchAnswersTest, AreThoseOfALinearSearch) {
  std::mt19937_64 random = testing::MakeRandom();
  const std::vector<Rule> rules = LoadRules();
  const std::vector<hgb_header> headers = Draw(rules, random);
  const Answers answers = SearchLinearly(rules, headers);
  ASSERT_EQ(answers.size(), headers.size());
  for (size_t i = 0; i < headers.size(); ++i) {
    const Rule* rule = testing::LinearSearch(rules, ToHeader(headers[i]));
    EXPECT_EQ(answers[i], rule != nullptr ? static_cast<uint32_t>(rule - rules.data()) + 1 : 0);
  }
}

TEST(BenchAnswersTest, APeersWrongOnesAreRefusedAndThoseWithoutPortsAreNotIts) {
  std::mt19937_64 random = testing::MakeRandom();
  const std::vector<Rule> rules = LoadRules();
  std::vector<hgb_header> headers = Draw(rules, random);
  hgb_header gre = headers.front();
  gre.protocol = IPPROTO_GRE;
  gre.source_port = gre.destination_port = 0;
  headers.push_back(gre);
  const Answers right = SearchLinearly(rules, headers);

  Answers found = right;
  found.back() = right.back() + 1;
  const auto completed = CompleteAnswers(rules, headers, found);
  ASSERT_TRUE(completed.ok()) << completed.status();
  EXPECT_EQ(*completed, right);

  const auto with_ports =
      std::find_if(headers.begin(), headers.end(), [](const hgb_header& h) { return h.protocol == IPPROTO_TCP; });
  found = right;
  ++found[static_cast<size_t>(with_ports - headers.begin())];
  EXPECT_FALSE(CompleteAnswers(rules, headers, found).ok());
}

TEST(BenchAnswersTest, CountersThatDifferAreRefusedByName) {
  std::mt19937_64 random = testing::MakeRandom();
  const std::vector<Rule> rules = LoadRules();
  const MatchCounts expected = CountAnswers(SearchLinearly(rules, Draw(rules, random)), rules.size());
  EXPECT_EQ(expected.Matched() + expected.unmatched, kHeaders);
  // Counters go on from what they had.
  MatchCounts before{.rules = std::vector<uint64_t>(rules.size(), 7), .unmatched = 3}, after = before;
  for (size_t i = 0; i < rules.size(); ++i) after.rules[i] += expected.rules[i];
  after.unmatched += expected.unmatched;
  EXPECT_TRUE(CompareCounts(rules, expected, before, after).ok());

  // Two rules that took each other's packet: no total shows it.
  MatchCounts exchanged = after;
  ++exchanged.rules[4];
  --exchanged.rules[5];
  const absl::Status status = CompareCounts(rules, expected, before, exchanged);
  EXPECT_FALSE(status.ok());
  EXPECT_NE(status.message().find(rules[4].name), std::string::npos) << status;

  ++after.unmatched;
  EXPECT_FALSE(CompareCounts(rules, expected, before, after).ok());
}

TEST(BenchRuleChangesTest, EveryKindAsOftenAndPrioritiesStayDifferent) {
  std::mt19937_64 random = testing::MakeRandom();
  const std::vector<Rule> loaded = LoadRules();
  std::set<uint32_t> first;
  for (const Rule& rule : loaded) first.insert(rule.priority);
  ChangingRules rules(loaded);
  RandomChanges changes(rules, random);
  constexpr size_t kAway = 50, kRound = 400;
  std::set<size_t> away;
  for (size_t i = 0; i < kAway; ++i) away.insert(changes.Delete().index);
  EXPECT_EQ(away.size(), kAway);
  std::map<ChangeKind, size_t> made;
  for (size_t i = 0; i < 40 * kRound; ++i) {
    const RandomChanges::Change change = changes.Next();
    ++made[change.kind];
    if (change.kind == ChangeKind::kInsert) {
      EXPECT_EQ(away.erase(change.index), 1u);
    } else {
      EXPECT_FALSE(away.contains(change.index));
    }
    if (change.kind == ChangeKind::kDelete) away.insert(change.index);
    EXPECT_EQ(rules.IsDeleted(change.index), away.contains(change.index));
    if (i % kRound != 0) continue;
    std::set<uint32_t> priorities;
    for (size_t index = 0; index < rules.size(); ++index) {
      const uint32_t priority = rules.rule(index).priority;
      priorities.insert(priority);
      // Every rule can go back to where it was.
      EXPECT_TRUE(priority == loaded[index].priority || !first.contains(priority)) << priority;
    }
    EXPECT_EQ(priorities.size(), rules.size());
    EXPECT_FALSE(priorities.contains(0));
  }
  EXPECT_EQ(made.size(), kChangeKinds);
  for (const auto& [kind, count] : made) EXPECT_EQ(count, 40 * kRound / kChangeKinds) << static_cast<int>(kind);
  EXPECT_EQ(away.size(), kAway);
}

TEST(BenchRuleChangesTest, AFreePriorityIsTheNextOneBelow) {
  ChangingRules rules(LoadRules());
  const uint32_t taken = rules.rule(0).priority;
  const uint32_t below = rules.FreePriorityBelow(taken);
  EXPECT_EQ(below, taken - 1);
  rules.Move(1, below);
  EXPECT_EQ(rules.FreePriorityBelow(taken), taken - 2);
  EXPECT_EQ(rules.FreePriorityBelow(1), 0u);
}

}  // namespace
}  // namespace headgate::bench
