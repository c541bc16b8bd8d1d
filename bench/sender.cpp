// SPDX-License-Identifier: Apache-2.0
#include "bench/sender.h"

#include <absl/strings/str_cat.h>
#include <sys/prctl.h>
#include <time.h>

#include <algorithm>
#include <limits>

#include "agent/base/status.h"
#include "bench/engine.h"
#include "bench/pacer.h"
#include "bench/timetable.h"

namespace headgate::bench {
namespace {

// A prog run should last long enough to hide its cost (15 us), and end soon enough to notice a stop.
constexpr uint64_t kRunNanoseconds = 5'000'000;
constexpr uint64_t kMinRun = Pacer::kBatch, kMaxRun = 1 << 16;
// How long a device may refuse every frame.
constexpr uint64_t kPatienceNanoseconds = 2'000'000'000;
constexpr uint64_t kRetryNanoseconds = 100'000;
constexpr uint64_t kForever = std::numeric_limits<uint64_t>::max();

uint64_t Now() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * Pacer::kNanosecondsPerSecond + static_cast<uint64_t>(now.tv_nsec);
}

void SleepUntil(uint64_t time) {
  const timespec until{.tv_sec = static_cast<time_t>(time / Pacer::kNanosecondsPerSecond),
                       .tv_nsec = static_cast<long>(time % Pacer::kNanosecondsPerSecond)};
  clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr);
}

}  // namespace

Sender::Sender(const SendOptions& options) : options_(options) {}

Sender::~Sender() { Stop().IgnoreError(); }

absl::StatusOr<std::unique_ptr<Sender>> Sender::Open(const SendOptions& options) {
  std::unique_ptr<Sender> sender(new Sender(options));
  HG_ASSIGN_OR_RETURN(sender->engine_,
                      options.engine == EngineKind::kXdp ? OpenXdpEngine(options) : OpenProgEngine(options));
  return sender;
}

void Sender::Start() {
  running_.store(true, std::memory_order_release);
  thread_ = std::thread([this] {
    status_ = Send();
    running_.store(false, std::memory_order_release);
  });
}

absl::Status Sender::Wait() {
  if (thread_.joinable()) thread_.join();
  return status_;
}

absl::Status Sender::Stop() {
  stop_.store(true, std::memory_order_relaxed);
  return Wait();
}

absl::Status Sender::Run() {
  Start();
  return Wait();
}

uint64_t Sender::sent() const { return engine_->sent(); }
uint64_t Sender::refused() const { return engine_->refused(); }

SendReport Sender::Report() const {
  const uint64_t end = running() ? Now() : ended_;
  return {.sent = sent(),
          .refused = refused(),
          .given_up = given_up_,
          .seconds = static_cast<double>(end - started_) / static_cast<double>(Pacer::kNanosecondsPerSecond),
          .engine = options_.engine,
          .zero_copy = engine_->zero_copy()};
}

bool Sender::Ended() const {
  return stop_.load(std::memory_order_relaxed) || (options_.count != 0 && sent() >= options_.count);
}

// Fails when the device takes none for long. How many it took, sent() says.
absl::Status Sender::Try(uint64_t frames) {
  const uint64_t before = sent();
  HG_RETURN_IF_ERROR(engine_->Send(std::min(frames, kMaxRun)));
  if (sent() != before) {
    stuck_since_ = 0;
    return absl::OkStatus();
  }
  const uint64_t now = Now();
  if (stuck_since_ == 0) stuck_since_ = now;
  if (now - stuck_since_ > kPatienceNanoseconds) {
    return absl::UnavailableError(
        absl::StrCat(options_.device, " takes no frames: is it up, is a frame of ", LargestFrame(options_),
                     " bytes within its MTU, and if it is a veth, is its peer up and has NAPI (an XDP program, or "
                     "ethtool -K PEER gro on)?"));
  }
  SleepUntil(now + kRetryNanoseconds);
  return absl::OkStatus();
}

absl::Status Sender::Send() {
  HG_RETURN_IF_ERROR(Schedule(0, options_.scheduling));
  prctl(PR_SET_TIMERSLACK, 1UL);  // sleeps end when they are to
  engine_->SetLimit(options_.count != 0 ? options_.count : kForever);
  started_ = Now();
  const uint64_t deadline =
      options_.duration ? started_ + static_cast<uint64_t>(options_.duration->count()) : kForever;
  absl::Status status = options_.speed                     ? SendTimed(deadline)
                        : options_.packets_per_second != 0 ? SendPaced(deadline)
                                                           : SendUnpaced(deadline);
  if (status.ok()) status = Settle();
  ended_ = Now();
  return status;
}

absl::Status Sender::SendPaced(uint64_t deadline) {
  Pacer pacer(options_.packets_per_second, started_);
  while (!Ended()) {
    const uint64_t now = std::min(Now(), deadline);
    const uint64_t due = pacer.Due(now);
    given_up_ = pacer.given_up();
    if (due < pacer.Burst() && now < deadline) {
      SleepUntil(std::min(pacer.NextBurst(), deadline));
      continue;
    }
    if (due >= pacer.Burst()) lateness_.Add(now - pacer.NextBurst());
    const uint64_t before = sent();
    if (due != 0) HG_RETURN_IF_ERROR(Try(due));
    pacer.Take(sent() - before);
    if (now == deadline) return absl::OkStatus();
  }
  return absl::OkStatus();
}

absl::Status Sender::SendUnpaced(uint64_t deadline) {
  uint64_t run = kMinRun;
  for (uint64_t before = Now(); before < deadline && !Ended();) {
    const uint64_t left = options_.count != 0 ? options_.count - sent() : kForever;
    HG_RETURN_IF_ERROR(Try(std::min(run, left)));
    const uint64_t after = Now();
    if (after - before < kRunNanoseconds) run = std::min(2 * run, kMaxRun);
    if (after - before > 2 * kRunNanoseconds) run = std::max(run / 2, kMinRun);
    before = after;
  }
  return absl::OkStatus();
}

// At the times of their capture. What is late is sent as soon as it can be, nothing is given up.
absl::Status Sender::SendTimed(uint64_t deadline) {
  std::vector<uint64_t> times;
  for (const CapturedFrame& frame : options_.captured) times.push_back(frame.time);
  const Timetable timetable(std::move(times), *options_.speed, started_);
  while (!Ended()) {
    const uint64_t now = std::min(Now(), deadline), due = timetable.Due(now);
    if (due > sent()) {
      const uint64_t time = timetable.TimeOf(sent());
      lateness_.Add(now > time ? now - time : 0);
      HG_RETURN_IF_ERROR(Try(due - sent()));
    } else if (now < deadline) {
      SleepUntil(std::min({timetable.TimeOf(sent()), deadline, now + kRunNanoseconds}));
    }
    if (now == deadline) return absl::OkStatus();
  }
  return absl::OkStatus();
}

absl::Status Sender::Settle() {
  for (uint64_t frames = 0; (frames = engine_->Remaining()) != 0;) HG_RETURN_IF_ERROR(Try(frames));
  return absl::OkStatus();
}

}  // namespace headgate::bench
