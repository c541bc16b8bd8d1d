// SPDX-License-Identifier: Apache-2.0
//
// Room for bytes that many want: never more than there is, in turn, and nobody left waiting.
#include "agent/api/byte_budget.h"

#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>
#include <vector>

namespace headgate::testing {
namespace {

using api::ByteBudget;

void AwaitWaiting(const ByteBudget& budget, uint64_t number) {
  while (budget.waiting() != number) std::this_thread::yield();
}

TEST(ByteBudgetTest, WhoFindsNoRoomWaitsForIt) {
  ByteBudget budget(100);
  budget.Take(60);
  budget.Take(40);
  EXPECT_EQ(budget.waiting(), 0u);
  std::thread third([&] { budget.Take(41); });
  AwaitWaiting(budget, 1);
  budget.Give(40);  // 40 of 41
  EXPECT_EQ(budget.waiting(), 1u);
  EXPECT_EQ(budget.taken(), 60u);
  budget.Give(60);
  third.join();
  EXPECT_EQ(budget.taken(), 41u);
}

TEST(ByteBudgetTest, SmallOnesDoNotOvertakeALargeOne) {
  ByteBudget budget(100);
  budget.Take(50);
  std::thread large([&] { budget.Take(1000); });
  AwaitWaiting(budget, 1);
  std::thread small([&] { budget.Take(1); });
  AwaitWaiting(budget, 2);
  EXPECT_EQ(budget.taken(), 50u);
  budget.Give(50);
  large.join();
  // More than the limit, and alone.
  EXPECT_EQ(budget.taken(), 1000u);
  AwaitWaiting(budget, 1);
  budget.Give(1000);
  small.join();
  EXPECT_EQ(budget.taken(), 1u);
}

TEST(ByteBudgetTest, ManyShareItAndNobodyIsForgotten) {
  ByteBudget budget(1000);
  std::atomic<size_t> held = 0;
  std::vector<std::thread> threads;
  threads.reserve(8);
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 random(static_cast<uint64_t>(t));
      for (int i = 0; i < 2000; ++i) {
        const size_t bytes = random() % 600;
        budget.Take(bytes);
        EXPECT_LE(held += bytes, 1000u);
        held -= bytes;
        budget.Give(bytes);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(budget.taken(), 0u);
  EXPECT_EQ(budget.waiting(), 0u);
}

}  // namespace
}  // namespace headgate::testing
