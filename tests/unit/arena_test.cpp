// SPDX-License-Identifier: Apache-2.0
//
// The images of tables: runs of cells, what is fresh, released and reclaimed; and trees whose tables grow in the
// middle of a change.
#include "agent/control/arena.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "agent/control/compile_rules.h"
#include "agent/control/ids.h"
#include "tests/harness/classbench.h"
#include "tests/harness/random.h"
#include "tests/harness/walk.h"

namespace headgate {
namespace {

using testing::MakeRandom;

TEST(RunAllocator, RunsAreAlignedDisjointAndNeverCellZero) {
  std::mt19937_64 random = MakeRandom();
  RunAllocator allocator;
  std::map<uint32_t, unsigned> held;  // start and order
  std::set<uint32_t> cells;
  for (int step = 0; step < 20'000; ++step) {
    if (held.empty() || random() % 8 < (step % 4000 < 2000 ? 5u : 3u)) {
      const auto order = static_cast<unsigned>(random() % (kMaxOrder + 1));
      const uint32_t index = allocator.Allocate(order);
      ASSERT_EQ(index % (1U << order), 0u);
      ASSERT_LE(index + (1U << order), allocator.end());
      for (uint32_t i = 0; i < (1U << order); ++i) {
        ASSERT_NE(index + i, 0u);
        ASSERT_TRUE(cells.insert(index + i).second) << "cell " << index + i << " is given twice";
      }
      held.emplace(index, order);
    } else {
      auto run = held.lower_bound(static_cast<uint32_t>(random() % allocator.end()));
      if (run == held.end()) run = held.begin();
      allocator.Free(run->first, run->second);
      for (uint32_t i = 0; i < (1U << run->second); ++i) cells.erase(run->first + i);
      held.erase(run);
    }
    ASSERT_EQ(allocator.used(), cells.size());
  }
}

TEST(RunAllocator, FreedBuddiesBecomeWholeAgain) {
  RunAllocator allocator;
  std::vector<uint32_t> cells;
  while (allocator.end() == HG_RUN_CELLS) cells.push_back(allocator.Allocate(0));
  // The last one was the first of a second block; the first block has no cell 0 to give.
  EXPECT_EQ(cells.size(), HG_RUN_CELLS);
  for (const uint32_t cell : cells) allocator.Free(cell, 0);
  EXPECT_EQ(allocator.used(), 0u);
  const uint32_t whole = allocator.Allocate(kMaxOrder);
  EXPECT_EQ(whole, static_cast<uint32_t>(HG_RUN_CELLS));
  EXPECT_EQ(allocator.Allocate(kMaxOrder - 1), HG_RUN_CELLS / 2u);
  EXPECT_EQ(allocator.end(), 2u * HG_RUN_CELLS);
}

TEST(RunAllocator, ClaimsAreWhatAllocateNeverGives) {
  std::mt19937_64 random = MakeRandom();
  for (int round = 0; round < 100; ++round) {
    RunAllocator allocator;
    std::set<uint32_t> claimed;
    for (int i = 0; i < 50; ++i) {
      const auto order = static_cast<unsigned>(random() % (kMaxOrder + 1));
      const auto index = static_cast<uint32_t>(random() % 4096);
      bool free = index % (1U << order) == 0;
      for (uint32_t k = 0; k < (1U << order); ++k) free = free && index + k != 0 && !claimed.contains(index + k);
      ASSERT_EQ(allocator.IsFree(index, order), free) << index << " of order " << order;
      if (!free) continue;
      allocator.Claim(index, order);
      for (uint32_t k = 0; k < (1U << order); ++k) claimed.insert(index + k);
    }
    ASSERT_EQ(allocator.used(), claimed.size());
    for (int i = 0; i < 500; ++i) ASSERT_FALSE(claimed.contains(allocator.Allocate(0)));
  }
}

TEST(Arena, ReleasedCellsStayUntilNoPacketCanSeeThem) {
  Arena<uint64_t, 4> arena;
  const uint32_t a = arena.Allocate(0);
  arena.Write(a) = 7;
  EXPECT_TRUE(arena.IsFresh(a));
  arena.Publish(1);
  EXPECT_FALSE(arena.IsFresh(a));
  arena.Release(a, 0);
  const auto gives_a = [&] {
    // Whether any of the free cells is the released one.
    std::vector<uint32_t> taken;
    bool found = false;
    for (uint32_t i = 0; i < HG_RUN_CELLS; ++i) {
      taken.push_back(arena.Allocate(0));
      found = found || taken.back() == a;
    }
    for (const uint32_t cell : taken) arena.Release(cell, 0);
    return found;
  };
  EXPECT_FALSE(gives_a()) << "released, not yet superseded";
  arena.Publish(2);
  EXPECT_FALSE(gives_a()) << "packets of epoch 1 may be on their way";
  arena.Reclaim(1);
  EXPECT_FALSE(gives_a());
  EXPECT_EQ(arena[a], 7u);
  arena.Reclaim(2);
  EXPECT_TRUE(gives_a());
}

TEST(Arena, AFreshRunIsZeroAndFreeAtOnceWhenReleased) {
  Arena<uint64_t, 4> arena;
  const uint32_t run = arena.Allocate(3);
  for (uint32_t i = 0; i < 8; ++i) arena.Write(run + i) = ~0ULL;
  arena.Release(run, 3);
  EXPECT_EQ(arena.used(), 0u);
  const uint32_t again = arena.Allocate(3);
  EXPECT_EQ(again, run);
  for (uint32_t i = 0; i < 8; ++i) EXPECT_EQ(arena[again + i], 0u);
}

TEST(Arena, PagesWrittenAreListedOnceUntilFlushed) {
  Arena<uint64_t, 4> arena;
  const uint32_t run = arena.Allocate(3);  // two pages
  arena.Write(run) = 1;
  arena.Write(run) = 2;
  EXPECT_EQ(arena.dirty_pages(), (std::vector<uint32_t>{run / 4, run / 4 + 1}));
  arena.Flushed();
  EXPECT_TRUE(arena.dirty_pages().empty());
  arena.MarkDirty(run / 4 + 1);
  EXPECT_EQ(arena.dirty_pages(), (std::vector<uint32_t>{run / 4 + 1}));
  EXPECT_EQ(arena.page(run / 4)[run % 4], 2u);
}

TEST(IdAllocator, GivesNewIdsBeforeUsedOnesAndOldestFirst) {
  IdAllocator ids(1, 4);
  EXPECT_EQ(ids.capacity(), 4u);
  EXPECT_EQ(ids.Take(), 1u);
  EXPECT_EQ(ids.Take(), 2u);
  ids.Free(2);
  ids.Free(1);
  EXPECT_EQ(ids.available(), 4u);
  EXPECT_EQ(ids.Take(), 3u);
  EXPECT_EQ(ids.Take(), 4u);
  EXPECT_EQ(ids.Take(), 2u);
  EXPECT_EQ(ids.Take(), 1u);
  EXPECT_EQ(ids.available(), 0u);
  EXPECT_EQ(ids.Take(), std::nullopt);
}

TEST(IdAllocator, ClaimsInRisingOrderAndGivesWhatLiesBetween) {
  IdAllocator ids(1, 5);
  EXPECT_TRUE(ids.Claim(3));
  EXPECT_FALSE(ids.Claim(3));
  EXPECT_FALSE(ids.Claim(2)) << "only in rising order";
  EXPECT_FALSE(ids.Claim(6));
  EXPECT_EQ(ids.available(), 4u);
  std::set<uint32_t> rest;
  while (const auto id = ids.Take()) rest.insert(*id);
  EXPECT_EQ(rest, (std::set<uint32_t>{1, 2, 4, 5}));
}

TEST(IdAllocator, EveryKindHasTheRangeOfItsTable) {
  IdAllocators ids(100);
  const auto range = [&](Kind kind) {
    IdAllocator& of = ids.of(kind);
    const uint32_t first = *of.Take();
    return std::make_pair(first, first + of.capacity() - 1);
  };
  EXPECT_EQ(range(Kind::kInterface), std::make_pair(1u, 255u));
  EXPECT_EQ(range(Kind::kPrefixSet), std::make_pair(0u, 255u));
  EXPECT_EQ(range(Kind::kNextHop), std::make_pair(0u, 4095u));
  EXPECT_EQ(range(Kind::kSteerTarget), std::make_pair(0u, 63u));
  EXPECT_EQ(range(Kind::kCounter), std::make_pair(1u, 4095u));
  EXPECT_EQ(range(Kind::kRule), std::make_pair(1u, 100u));
}

// Leaves an arena with a few free runs: one of the next allocations makes it grow.
template <typename Arena>
void Fill(Arena& arena, std::mt19937_64& random) {
  const uint32_t size = arena.size();
  // To the end of what is there, and then all of the block that this adds but for some runs.
  while (arena.size() == size) arena.Allocate(kMaxOrder / 2);
  std::vector<std::pair<uint32_t, unsigned>> runs;
  while (arena.size() == size + HG_RUN_CELLS) {
    const auto order = static_cast<unsigned>(random() % 4);
    runs.emplace_back(arena.Allocate(order), order);
  }
  const uint32_t grown = arena.size();
  while (arena.size() == grown) arena.Allocate(0);
  for (uint32_t i = 1; i < HG_RUN_CELLS; ++i) arena.Allocate(0);
  for (uint64_t left = random() % 10; left > 0 && !runs.empty(); --left) {
    arena.Release(runs.back().first, runs.back().second);
    runs.pop_back();
  }
}

// A table that grows may move: nothing may hold on to where it was. Under the address sanitizer this fails when
// something does. Growth is made to come at each allocation of a change in turn.
TEST(TreeGrowth, MayHappenAtAnyAllocation) {
  std::mt19937_64 random = MakeRandom();
  std::vector<Rule> rules = testing::LoadClassBench("fw1_1k");
  std::shuffle(rules.begin(), rules.end(), random);
  rules.resize(400);
  // A hundred that no bit tells apart, for leaves of many nodes.
  for (size_t i = 0; i < 100; ++i) {
    rules[i].match = Match{};
    rules[i].match.destination_ports = {
        PortRange{static_cast<uint16_t>(30'000 - i), static_cast<uint16_t>(35'000 + i)}};
  }
  std::shuffle(rules.begin(), rules.end(), random);
  TreeStore trees;
  ActionTable actions;
  RuleTable table(trees, actions);
  State state;
  std::vector<Rule> present;
  uint64_t epoch = 0;
  const auto change = [&](auto&& edit) {
    Fill(trees.nodes, random);
    trees.CoverNodes();
    trees.sizes.shrink_to_fit();
    Fill(trees.slots, random);
    Fill(table.rules, random);
    Fill(table.matches, random);
    State next = state;
    edit(next);
    table.Apply(state, next);
    state = next;
    ++epoch;
    const auto end = [epoch](auto& arena) {
      arena.Publish(epoch);
      arena.Reclaim(epoch);
    };
    end(trees.nodes);
    end(trees.slots);
    end(table.rules);
    end(table.matches);
    end(actions.cells);
  };
  for (const Rule& rule : rules) {
    change([&](State& next) { next.rules.Set(rule); });
    present.push_back(rule);
    if (random() % 3 == 0) {
      const size_t i = random() % present.size();
      change([&](State& next) { next.rules.Erase(absl::string_view(present[i].name)); });
      present.erase(present.begin() + static_cast<ptrdiff_t>(i));
    }
  }
  EXPECT_EQ(table.Shape().records, present.size());
  std::sort(present.begin(), present.end(), [](const Rule& a, const Rule& b) { return a.priority > b.priority; });
  for (int i = 0; i < 1000; ++i) {
    const testing::Header header = testing::DrawHeader(present, random);
    const auto found = testing::Walk(trees, table, testing::KeyOf(header), [&](const hg_rule& candidate) {
      const auto* rule = state.rules.Find(absl::string_view("r" + std::to_string(candidate.id - 1)));
      return rule != nullptr && testing::Matches((*rule)->match, header);
    });
    const Rule* expected = testing::LinearSearch(present, header);
    ASSERT_EQ(found.rule ? found.rule->id : 0, expected ? expected->id : 0);
  }
}

TEST(ArenaTest, KeptClearUntilPublishedAndReclaimed) {
  using Cells = Arena<uint32_t, 16>;
  for (const auto& [first, end] :
       {std::pair(0U, 1000U), {0U, 16U}, {37U, 38U}, {0U, 256U}, {200U, 777U}, {0U, 0U}}) {
    Cells cells;
    cells.KeepClear(first, end);
    std::set<uint32_t> taken;
    for (unsigned order = 0; order <= kMaxOrder; ++order) {
      const uint32_t run = cells.Allocate(order);
      for (uint32_t i = run; i < run + (1U << order); ++i) taken.insert(i);
    }
    EXPECT_EQ(taken.lower_bound(first), taken.lower_bound(end)) << first << " to " << end;
    EXPECT_EQ(taken.count(0), 0U);
    cells.Publish(1);
    EXPECT_EQ(cells.used(), taken.size() + end - std::min(end, std::max(first, 1U)));
    cells.Reclaim(1);
    EXPECT_EQ(cells.used(), taken.size());
  }
}

}  // namespace
}  // namespace headgate
