// SPDX-License-Identifier: Apache-2.0
//
// How the steer benchmark looks for the highest rate that is kept up with.
#include <gtest/gtest.h>

#include "bench/rate_search.h"

namespace headgate::bench {
namespace {

// Of what keeps up with `capacity` when nobody can send more than `most`.
struct Found {
  uint64_t best = 0;
  int tries = 0;
};

Found Search(uint64_t start, uint64_t capacity, uint64_t most = UINT64_MAX) {
  RateSearch search(start);
  Found found;
  while (const auto rate = search.Next()) {
    if (++found.tries > 100) break;
    if (*rate > capacity) {
      search.Failed();
    } else if (*rate > most) {
      search.HeldAtTheMost();
    } else {
      search.Held();
    }
  }
  found.best = search.best();
  return found;
}

TEST(RateSearchTest, ComesCloseFromBothSides) {
  for (const uint64_t capacity : {1'000ULL, 1'001ULL, 250'000ULL, 999'999ULL, 1'000'000ULL, 7'000'000ULL}) {
    for (const uint64_t start : {0ULL, 1'000ULL, 900'000ULL, 1'000'000ULL, 20'000'000ULL}) {
      const Found found = Search(start, capacity);
      EXPECT_LE(found.best, capacity) << start;
      EXPECT_GE(static_cast<double>(found.best) * RateSearch::kClose, static_cast<double>(capacity)) << start;
    }
  }
}

TEST(RateSearchTest, IsShortNearItsStart) {
  EXPECT_LE(Search(1'000'000, 1'100'000).tries, 6);
  EXPECT_LE(Search(1'000'000, 900'000).tries, 6);
}

TEST(RateSearchTest, EndsWhereNothingHoldsAndWhereNoMoreIsSent) {
  const Found nothing = Search(1'000'000, 999);
  EXPECT_EQ(nothing.best, 0u);
  EXPECT_LE(nothing.tries, 40);
  const Found most = Search(1'000'000, 9'000'000, 1'500'000);
  EXPECT_GE(most.best, 1'500'000u);
  EXPECT_LE(most.tries, 4);
}

}  // namespace
}  // namespace headgate::bench
