// SPDX-License-Identifier: Apache-2.0
//
// What the verifier has to do for each program. A program that grows near its limit of a million instructions may
// be refused by another kernel: the budget is far below.
#include <bpf/bpf.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>

#include "tests/harness/program.h"

namespace headgate::testing {
namespace {

constexpr uint32_t kBudget = 150'000;

TEST(Verifier, InstructionsWithinTheBudget) {
  HG_REQUIRE_BPF();
  const auto start = std::chrono::steady_clock::now();
  Program program("verifier", TableSizes{});
  const std::chrono::duration<double> load = std::chrono::steady_clock::now() - start;

  std::printf("%-20s %12s %12s %12s\n", "program", "verified", "instructions", "JIT bytes");
  size_t programs = 0;
  for (const auto& entry : std::filesystem::directory_iterator(program.pins() + "/programs")) {
    const Fd pinned(bpf_obj_get(entry.path().c_str()));
    ASSERT_TRUE(pinned) << entry.path();
    bpf_prog_info info{};
    uint32_t length = sizeof(info);
    ASSERT_EQ(bpf_obj_get_info_by_fd(pinned.get(), &info, &length), 0);
    std::printf("%-20s %12u %12zu %12u\n", entry.path().filename().c_str(), info.verified_insns,
                info.xlated_prog_len / sizeof(bpf_insn), info.jited_prog_len);
    EXPECT_GT(info.verified_insns, 0U) << entry.path();
    EXPECT_LT(info.verified_insns, kBudget) << entry.path();
    ++programs;
  }
  EXPECT_GE(programs, 5U) << "two for packets, three for egress";
  // Not a verdict: the machine has its say in it.
  std::printf("loading everything, with tables of the default sizes: %.2f s (bound: 2 s)\n", load.count());
}

}  // namespace
}  // namespace headgate::testing
