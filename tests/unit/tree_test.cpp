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
  // Cells that a change wrote anew, at most.
  struct Written {
    uint64_t nodes = 0, records = 0;
  };
  Written Put(const Rule& rule) {
    State next = state_;
    next.rules.Set(rule);
    return Change(next);
  }
  Written Erase(const std::string& name) {
    State next = state_;
    next.rules.Erase(absl::string_view(name));
    return Change(next);
  }
  // Id of the rule that matches, 0 for none.
  uint32_t Lookup(const Header& header) {
    const auto key = KeyOf(header);
    const auto result = testing::Walk(
        trees_, table_, key, [&](const hg_rule& rule) { return testing::MatchesKey(table_.EntryOf(rule), key); });
    steps_ += result.steps;
    return result.rule ? result.rule->id : 0;
  }
  uint64_t steps() const { return steps_; }
  TreeShape shape() const { return table_.Shape(); }
  // Every cell in use is reached from the root, and nothing else is in use.
  void CheckAccounts() {
    Publish();
    const TreeShape now = table_.Shape();
    Cells cells;
    table_.roots().ForEach([&](uint32_t, const hg_slot& root) { CountCells(root.ref, cells); });
    for (const uint32_t run : {table_.roots().source_slots(), table_.roots().destination_slots()}) {
      if (run != 0) cells.slots += HG_SETS;
    }
    EXPECT_EQ(now.records, cells.records);
    EXPECT_EQ(trees_.nodes.used(), cells.nodes);
    EXPECT_EQ(trees_.slots.used(), cells.slots);
    EXPECT_EQ(table_.rules.used(), cells.runs);
    EXPECT_EQ(table_.matches.used(), cells.matches);
  }

 private:
  Written Change(const State& next) {
    const uint64_t nodes = trees_.nodes.used(), runs = table_.rules.used();
    table_.Apply(state_, next);
    state_ = next;
    // Nothing is free again before it is published.
    const Written written{trees_.nodes.used() - nodes, table_.rules.used() - runs};
    Publish();
    return written;
  }
  struct Cells {
    uint64_t nodes = 0, slots = 0, records = 0, runs = 0, matches = 0;
  };
  void Publish() {
    ++epoch_;
    const auto end = [this](auto& arena) {
      arena.Publish(epoch_);
      arena.Reclaim(epoch_);
    };
    end(trees_.nodes);
    end(trees_.slots);
    end(table_.rules);
    end(table_.matches);
    end(actions_.cells);
  }
  // Returns the highest priority in the subtree.
  uint32_t CountCells(uint32_t ref, Cells& cells) {
    if (ref == 0) return 0;
    if (TreeRef::IsNode(ref)) {
      const hg_node& n = trees_.nodes[TreeRef::Index(ref)];
      ++cells.nodes;
      cells.slots += 1U << n.bits;
      uint32_t highest = 0;
      for (uint32_t i = 0; i < (1U << n.bits); ++i) {
        const hg_slot& slot = trees_.slots[n.base + i];
        EXPECT_EQ(CountCells(slot.ref, cells), slot.prio);
        highest = std::max(highest, slot.prio);
      }
      EXPECT_EQ(CountCells(n.rest, cells), n.rest_prio);
      return std::max(highest, n.rest_prio);
    }
    cells.records += TreeRef::Count(ref);
    cells.runs += std::bit_ceil(TreeRef::Count(ref));
    for (uint32_t i = 0; i < TreeRef::Count(ref); ++i) {
      if ((table_.rules[TreeRef::Index(ref) + i].flags & HG_RULE_MATCH) != 0) ++cells.matches;
    }
    return table_.rules[TreeRef::Index(ref)].prio;
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

// Of such a list a change copies one leaf and the nodes before it; leaves may be uneven, but not without bound.
TEST(TreeTest, ChangesToRulesThatNoBitTellsApart) {
  std::mt19937_64 random = MakeRandom();
  std::vector<Rule> pool = testing::LoadClassBench("acl1_1k");
  for (size_t i = 0; i < pool.size(); ++i) {
    pool[i].match = Match{};
    pool[i].match.protocol = 17;
    pool[i].match.destination_ports = {
        PortRange{static_cast<uint16_t>(30000 - 20 * i), static_cast<uint16_t>(33000 + 20 * i)}};
  }
  Rules tree;
  std::vector<Rule> present;
  const auto by_priority = [](const Rule& a, const Rule& b) { return a.priority > b.priority; };
  for (int step = 0; step < 6000; ++step) {
    const bool grow = step % 2000 < 1000 ? random() % 8 != 0 : random() % 8 == 0;
    if (present.empty() || (grow && !pool.empty())) {
      // Anywhere, or for a while in falling or in rising order of priority.
      const auto next = step / 300 % 3 == 0   ? pool.begin() + static_cast<long>(random() % pool.size())
                        : step / 300 % 3 == 1 ? std::min_element(pool.begin(), pool.end(), by_priority)
                                              : std::max_element(pool.begin(), pool.end(), by_priority);
      present.insert(std::upper_bound(present.begin(), present.end(), *next, by_priority), *next);
      const uint32_t below = static_cast<uint32_t>(std::count_if(
          present.begin(), present.end(), [&](const Rule& r) { return r.priority >= next->priority; }));
      const Rules::Written written = tree.Put(*next);
      if (present.size() > 100) {
        EXPECT_TRUE(written.records <= 2 * HG_LEAF_ENTRIES || written.records >= present.size())
            << written.records;
        EXPECT_TRUE(written.nodes <= below + 3 || written.records >= present.size()) << written.nodes;
      }
      pool.erase(next);
    } else {
      const size_t i = random() % present.size();
      const Rules::Written written = tree.Erase(present[i].name);
      if (present.size() > 100) {
        EXPECT_TRUE(written.records <= HG_LEAF_ENTRIES || written.records + 1 >= present.size())
            << written.records;
      }
      pool.push_back(present[i]);
      present.erase(present.begin() + static_cast<long>(i));
    }
    if (step % 20 == 0 && !present.empty()) ExpectSameAsLinearSearch(tree, present, 10, random);
    if (step % 50 == 0) {
      tree.CheckAccounts();
      // A node and a leaf for every eight records when they are even; half as full when leaves split, and what is
      // left where most of them went.
      const size_t most = step % 2000 < 1000 && step % 2000 > 100 ? present.size() / 2 : present.size();
      EXPECT_LE(tree.shape().longest_walk, most + 8) << present.size() << " at step " << step;
    }
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace headgate
