// SPDX-License-Identifier: Apache-2.0
//
// Sees that a change is atomic: a thread that runs frames through the program in force, over and over, while the
// change is made, and counts verdicts that are right neither before nor after it, or that go back.
#pragma once

#include <absl/status/statusor.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "agent/base/fd.h"
#include "bench/control_rules.h"

namespace headgate::bench {

class ReplaceWatch {
 public:
  // Runs come in by a device of a namespace. All verdicts are those before the change, or this fails.
  static absl::StatusOr<std::unique_ptr<ReplaceWatch>> Start(const std::string& netns, const std::string& device,
                                                             Fd program, std::vector<JudgedFrame> frames);
  ~ReplaceWatch();
  ReplaceWatch(const ReplaceWatch&) = delete;
  ReplaceWatch& operator=(const ReplaceWatch&) = delete;

  // After the change: all frames are run once more, and must have the verdicts after it. How many runs there were;
  // an error when one was wrong.
  absl::StatusOr<uint64_t> Finish();

 private:
  ReplaceWatch() = default;
  void Run(const std::string& netns, const std::string& device);
  // Every frame once.
  absl::Status RunAll(uint32_t ifindex);

  Fd program_;
  std::vector<JudgedFrame> frames_;
  std::atomic<bool> begun_ = false, stop_ = false;
  // Of the thread, and after it.
  bool changed_ = false;
  uint64_t runs_ = 0, wrong_ = 0;
  absl::Status error_;
  std::thread thread_;
};

}  // namespace headgate::bench
