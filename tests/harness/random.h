// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>

namespace headgate::testing {

// A generator whose seed is printed, and taken from HG_SEED when that is set: a failed run can be repeated.
inline std::mt19937_64 MakeRandom() {
  const char* given = std::getenv("HG_SEED");
  const uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 0) : std::random_device{}();
  std::printf("HG_SEED=%llu\n", static_cast<unsigned long long>(seed));
  return std::mt19937_64(seed);
}

}  // namespace headgate::testing
