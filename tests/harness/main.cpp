// SPDX-License-Identifier: Apache-2.0
//
// main() of every test program: as gtest's own, but a run in which every case was skipped says so to ctest, so
// that nothing that was skipped passes for tested.
#include <gtest/gtest.h>

int main(int argc, char** argv) {
  constexpr int kSkipped = 77;  // hg_test's SKIP_RETURN_CODE
  ::testing::InitGoogleTest(&argc, argv);
  const int result = RUN_ALL_TESTS();
  const ::testing::UnitTest& run = *::testing::UnitTest::GetInstance();
  const bool all_skipped = run.test_to_run_count() > 0 && run.skipped_test_count() == run.test_to_run_count();
  return result == 0 && all_skipped ? kSkipped : result;
}
