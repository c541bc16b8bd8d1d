// SPDX-License-Identifier: Apache-2.0
//
// What the verifier has to do for each program. A program that grows near its limit of a million instructions may
// be refused by another kernel: the budget is far below.
#include <bpf/bpf.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <optional>

#include "tests/harness/program.h"
#include "tools/verifier/program_cost.h"

namespace headgate::testing {
namespace {

constexpr uint32_t kBudget = 150'000;

TEST(Verifier, InstructionsWithinTheBudget) {
  HG_REQUIRE_BPF();
  const auto start = std::chrono::steady_clock::now();
  Program program("verifier", TableSizes{});
  const std::chrono::duration<double> load = std::chrono::steady_clock::now() - start;

  std::printf("%s\n", CostHeading().c_str());
  size_t programs = 0;
  for (const auto& entry : std::filesystem::directory_iterator(program.pins() + "/programs")) {
    const Fd pinned(bpf_obj_get(entry.path().c_str()));
    ASSERT_TRUE(pinned) << entry.path();
    const std::optional<ProgramCost> cost = CostOfProgram(pinned.get());
    ASSERT_TRUE(cost.has_value()) << entry.path();
    std::printf("%s\n", CostLine(*cost).c_str());
    EXPECT_GT(cost->verified, 0U) << entry.path();
    EXPECT_LT(cost->verified, kBudget) << entry.path();
    ++programs;
  }
  EXPECT_GE(programs, 5U) << "two for packets, three for egress";
  // Not a verdict: the machine has its say in it.
  std::printf("loading everything, with tables of the default sizes: %.2f s (bound: 2 s)\n", load.count());
}

}  // namespace
}  // namespace headgate::testing
