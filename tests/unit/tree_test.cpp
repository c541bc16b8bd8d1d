// SPDX-License-Identifier: Apache-2.0
#include "agent/control/tree.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "agent/control/compile_rules.h"
#include "tests/harness/classbench.h"
#include "tests/harness/random.h"
#include "tests/harness/walk.h"

namespace headgate {
namespace {

using testing::DrawHeader;
using testing::Header;
using testing::LinearSearch;
using testing::MakeRandom;

// A rule table on its own, with the means to look a header up in it and to change rules one by one.
class Rules {
 public:
  Rules() : table_(trees_, actions_) {}

  void Set(const std::vector<Rule>& rules) {
    State next;
    for (const Rule& rule : rules) next.rules.Set(rule);
    table_.Apply(state_, next);
    state_ = next;
    Publish();
  }
  void Put(const Rule& rule) {
    State next = state_;
    next.rules.Set(rule);
    table_.Apply(state_, next);
    state_ = next;
    Publish();
  }
  void Erase(const std::string& name) {
    State next = state_;
    next.rules.Erase(absl::string_view(name));
    table_.Apply(state_, next);
    state_ = next;
    Publish();
  }
  // Id of the rule that matches, 0 for none.
  uint32_t Lookup(const Header& header) {
    const auto key = KeyOf(header);
    const auto result = testing::Walk(trees_, table_.root(), key, [&](uint32_t index) {
      const hg_rule& entry = table_.cells[index];
      uint32_t differs = (key[HG_WORD_SRC] ^ entry.src) & entry.src_mask;
      differs |= (key[HG_WORD_DST] ^ entry.dst) & entry.dst_mask;
      differs |= (key[HG_WORD_PROTO] ^ entry.proto) & entry.proto_mask;
      for (int i = 0; i < 3; ++i) {
        differs |= (key[HG_WORD_SRC + 1 + i] ^ entry.src_low[i]) & entry.src_low_mask[i];
        differs |= (key[HG_WORD_DST + 1 + i] ^ entry.dst_low[i]) & entry.dst_low_mask[i];
      }
      const uint32_t sport = key[HG_WORD_PORTS] >> 16, dport = key[HG_WORD_PORTS] & 0xffff;
      return differs == 0 && sport >= entry.sport_min && sport <= entry.sport_max && dport >= entry.dport_min &&
             dport <= entry.dport_max;
    });
    steps_ += result.steps;
    return result.entry == 0 ? 0 : table_.cells[result.entry].id;
  }
  uint64_t steps() const { return steps_; }
  TreeShape shape() const { return table_.Shape(); }
  // Every cell in use is reached from the root, and nothing else is in use.
  void CheckAccounts() {
    Publish();
    const TreeShape now = table_.Shape();
    EXPECT_EQ(now.entries, table_.cells.used());
    uint64_t items = 0;
    uint64_t nodes = 0;
    Count(table_.root(), nodes, items);
    EXPECT_EQ(trees_.nodes.used(), nodes);
    EXPECT_EQ(trees_.items.used(), items);
  }

 private:
  void Publish() {
    ++epoch_;
    trees_.nodes.Publish(epoch_);
    trees_.items.Publish(epoch_);
    table_.cells.Publish(epoch_);
    actions_.cells.Publish(epoch_);
    trees_.nodes.Reclaim(epoch_);
    trees_.items.Reclaim(epoch_);
    table_.cells.Reclaim(epoch_);
    actions_.cells.Reclaim(epoch_);
  }
  void Count(uint32_t node, uint64_t& nodes, uint64_t& items) {
    if (node == 0) return;
    ++nodes;
    CountBelow(node, nodes, items);
  }
  void CountBelow(uint32_t node, uint64_t& nodes, uint64_t& items) {
    const hg_node& n = trees_.nodes[node];
    if (n.bits != 0) {
      nodes += 1U << n.bits;
      for (uint32_t i = 0; i < (1U << n.bits); ++i) CountBelow(n.base + i, nodes, items);
    } else if (n.count != 0) {
      items += std::bit_ceil(static_cast<uint32_t>(n.count));
    }
    Count(n.rest, nodes, items);
  }

  TreeStore trees_;
  ActionTable actions_;
  RuleTable table_;
  State state_;
  uint64_t epoch_ = 0;
  uint64_t steps_ = 0;
};

void ExpectSameAsLinearSearch(Rules& tree, const std::vector<Rule>& rules, int headers, std::mt19937_64& random) {
  for (int i = 0; i < headers; ++i) {
    const Header header = DrawHeader(rules, random);
    const Rule* expected = LinearSearch(rules, header);
    ASSERT_EQ(tree.Lookup(header), expected ? expected->id : 0) << "header " << i;
  }
}

class ClassBenchTree : public ::testing::TestWithParam<const char*> {};

TEST_P(ClassBenchTree, FindsWhatLinearSearchFinds) {
  std::mt19937_64 random = MakeRandom();
  const std::vector<Rule> rules = testing::LoadClassBench(GetParam());
  Rules tree;
  tree.Set(rules);
  ExpectSameAsLinearSearch(tree, rules, 3000, random);
  tree.CheckAccounts();
  const TreeShape shape = tree.shape();
  std::printf("%s: %.2f steps, depth %u, longest walk %u, largest leaf %u\n", GetParam(), tree.steps() / 3000.0,
              shape.depth, shape.longest_walk, shape.largest_leaf);
}
INSTANTIATE_TEST_SUITE_P(Sets, ClassBenchTree,
                         ::testing::Values("acl1_1k", "fw1_1k", "ipc1_1k", "acl1_8k", "fw1_8k", "ipc1_8k"),
                         [](const auto& set) { return std::string(set.param); });

TEST(TreeTest, Ipv6RulesFindWhatLinearSearchFinds) {
  std::mt19937_64 random = MakeRandom();
  const std::vector<Rule> rules = testing::MakeIpv6Rules(3000, random);
  Rules tree;
  tree.Set(rules);
  ExpectSameAsLinearSearch(tree, rules, 5000, random);
  tree.CheckAccounts();
}

TEST(TreeTest, StaysRightThroughSingleChanges) {
  std::mt19937_64 random = MakeRandom();
  std::vector<Rule> pool = testing::LoadClassBench("fw1_1k");
  Rules tree;
  std::vector<Rule> present;
  const auto by_priority = [](const Rule& a, const Rule& b) { return a.priority > b.priority; };
  for (int step = 0; step < 4000; ++step) {
    // Grow, then shrink to nothing, then grow again.
    const bool grow = step % 2000 < 1000 ? random() % 4 != 0 : random() % 4 == 0;
    if (present.empty() || (grow && !pool.empty())) {
      const size_t i = random() % pool.size();
      std::swap(pool[i], pool.back());
      present.insert(std::upper_bound(present.begin(), present.end(), pool.back(), by_priority), pool.back());
      tree.Put(pool.back());
      pool.pop_back();
    } else {
      const size_t i = random() % present.size();
      tree.Erase(present[i].name);
      pool.push_back(present[i]);
      present.erase(present.begin() + static_cast<long>(i));
    }
    if (step % 20 == 0 && !present.empty()) ExpectSameAsLinearSearch(tree, present, 20, random);
    if (step % 100 == 0) tree.CheckAccounts();
  }
}

TEST(TreeTest, ManyRulesThatNoBitTellsApart) {
  std::mt19937_64 random = MakeRandom();
  std::vector<Rule> rules = testing::LoadClassBench("acl1_1k");
  for (size_t i = 0; i < rules.size(); ++i) {
    rules[i].match = Match{};
    rules[i].match.protocol = 17;
    rules[i].match.destination_ports = {
        PortRange{static_cast<uint16_t>(30000 - 20 * i), static_cast<uint16_t>(33000 + 20 * i)}};
  }
  Rules tree;
  tree.Set(rules);
  ExpectSameAsLinearSearch(tree, rules, 500, random);
  for (const Rule& rule : rules) tree.Erase(rule.name);
  for (const Rule& rule : rules) tree.Put(rule);
  ExpectSameAsLinearSearch(tree, rules, 500, random);
  tree.CheckAccounts();
}

}  // namespace
}  // namespace headgate
