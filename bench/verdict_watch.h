// SPDX-License-Identifier: Apache-2.0
//
// Sees when a change reaches the data path: a thread that runs a frame through the program in force, over and
// over, from before the change until the verdict is the new one.
#pragma once

#include <absl/status/statusor.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "agent/base/fd.h"

namespace headgate::bench {

class VerdictWatch {
 public:
  using Clock = std::chrono::steady_clock;

  // Runs come in by a device, which may be in any namespace.
  static absl::StatusOr<std::unique_ptr<VerdictWatch>> Start(const std::string& netns, const std::string& device,
                                                             Fd program);
  ~VerdictWatch();
  VerdictWatch(const VerdictWatch&) = delete;
  VerdictWatch& operator=(const VerdictWatch&) = delete;

  // Begins. When it returns the frame has been run once; that the verdict was `awaited` already is an error.
  absl::Status Watch(std::vector<uint8_t> frame, uint32_t awaited);
  // The end of the first run that had the awaited verdict.
  absl::StatusOr<Clock::time_point> AwaitSeen();
  // Begins and waits; OK whenever the verdict was there.
  absl::Status AwaitVerdict(std::vector<uint8_t> frame, uint32_t awaited);

 private:
  enum class State : uint8_t { kIdle, kArmed, kWatching, kSeen, kFailed };

  VerdictWatch() = default;
  void Run(const std::string& netns, uint32_t ifindex);
  void WatchOne(uint32_t ifindex);
  void Enter(State state);
  void WaitWhile(State state) const { state_.wait(state, std::memory_order_acquire); }

  Fd program_;
  std::atomic<State> state_ = State::kIdle;
  std::atomic<bool> stop_ = false;
  // Of whoever's turn the state says it is.
  std::vector<uint8_t> frame_;
  uint32_t awaited_ = 0;
  bool seen_at_first_ = false;
  Clock::time_point seen_;
  absl::Status error_;
  std::thread thread_;
};

}  // namespace headgate::bench
