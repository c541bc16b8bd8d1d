// SPDX-License-Identifier: Apache-2.0
#include "bench/verdict_watch.h"

#include <absl/strings/str_cat.h>

#include <utility>

#include "agent/base/status.h"
#include "bench/netns.h"
#include "bench/program_run.h"

namespace headgate::bench {
namespace {

constexpr std::chrono::seconds kPatience(30);

}  // namespace

absl::StatusOr<std::unique_ptr<VerdictWatch>> VerdictWatch::Start(const std::string& netns,
                                                                  const std::string& device, Fd program) {
  uint32_t ifindex = 0;
  HG_RETURN_IF_ERROR(InNamespace(netns, [&]() -> absl::Status {
    HG_ASSIGN_OR_RETURN(const Device found, FindDevice(device));
    ifindex = found.ifindex;
    return absl::OkStatus();
  }));
  std::unique_ptr<VerdictWatch> watch(new VerdictWatch);
  watch->program_ = std::move(program);
  watch->thread_ = std::thread([self = watch.get(), netns, ifindex] { self->Run(netns, ifindex); });
  return watch;
}

VerdictWatch::~VerdictWatch() {
  if (!thread_.joinable()) return;
  stop_ = true;
  Enter(State::kIdle);  // wakes it
  thread_.join();
}

void VerdictWatch::Enter(State state) {
  state_.store(state, std::memory_order_release);
  state_.notify_all();
}

void VerdictWatch::Run(const std::string& netns, uint32_t ifindex) {
  error_ = EnterNamespace(netns);
  while (!stop_) {
    const State state = state_.load(std::memory_order_acquire);
    if (state != State::kArmed) {
      WaitWhile(state);
    } else if (error_.ok()) {
      WatchOne(ifindex);
    } else {
      Enter(State::kFailed);
    }
  }
}

void VerdictWatch::WatchOne(uint32_t ifindex) {
  const auto deadline = Clock::now() + kPatience;
  for (bool first = true; !stop_; first = false) {
    const absl::StatusOr<ProgramRun> run = RunProgram(program_.get(), ifindex, frame_);
    const auto now = Clock::now();
    if (!run.ok()) error_ = run.status();
    if (run.ok() && run->verdict != awaited_ && now > deadline) {
      error_ = absl::DeadlineExceededError(absl::StrCat("a change is not in the data path after ",
                                                        kPatience.count(), " s: verdict ", run->verdict));
    }
    if (!error_.ok()) return Enter(State::kFailed);
    seen_at_first_ = first;
    if (run->verdict == awaited_) {
      seen_ = now;
      return Enter(State::kSeen);
    }
    if (first) Enter(State::kWatching);
  }
}

absl::Status VerdictWatch::Watch(std::vector<uint8_t> frame, uint32_t awaited) {
  frame_ = std::move(frame);
  awaited_ = awaited;
  Enter(State::kArmed);
  WaitWhile(State::kArmed);
  if (state_.load(std::memory_order_acquire) == State::kFailed) return error_;
  if (state_.load(std::memory_order_acquire) == State::kSeen && seen_at_first_) {
    return absl::InternalError(absl::StrCat("the verdict was ", awaited, " before the change"));
  }
  return absl::OkStatus();
}

absl::StatusOr<VerdictWatch::Clock::time_point> VerdictWatch::AwaitSeen() {
  WaitWhile(State::kWatching);
  if (state_.load(std::memory_order_acquire) == State::kFailed) return error_;
  return seen_;
}

absl::Status VerdictWatch::AwaitVerdict(std::vector<uint8_t> frame, uint32_t awaited) {
  frame_ = std::move(frame);
  awaited_ = awaited;
  Enter(State::kArmed);
  WaitWhile(State::kArmed);
  return AwaitSeen().status();
}

}  // namespace headgate::bench
