// SPDX-License-Identifier: Apache-2.0
//
// What relays of the multicast benchmark have in common: their copies are counted at the sinks.
#pragma once

#include <chrono>
#include <thread>

#include "agent/base/status.h"
#include "bench/netns.h"
#include "bench/relay_service.h"

namespace headgate::bench {

class Relay : public Service {
 public:
  static constexpr std::chrono::milliseconds kPoll{10}, kTimeout{10'000};

  Relay(const RelaySite& site, const Sinks& sinks) : site_(site), sinks_(sinks) {}

  absl::Status Begin() override {
    HG_ASSIGN_OR_RETURN(frames_before_, sinks_.Frames());
    return absl::OkStatus();
  }
  absl::StatusOr<uint64_t> Delivered() override {
    HG_ASSIGN_OR_RETURN(const uint64_t frames, sinks_.Frames());
    return frames - frames_before_;
  }
  std::vector<pid_t> Threads() const override {
    std::vector<pid_t> threads = OwnThreads();
    threads.push_back(softirqs_);
    return threads;
  }

 protected:
  // No program of one that was here before takes the packets.
  absl::Status Prepare() {
    HG_ASSIGN_OR_RETURN(softirqs_, FindSoftirqThread(site_.cpu));
    HG_RETURN_IF_ERROR(AwaitNoProgram(site_.netns, site_.device));
    for (const RelayLeg& leg : site_.legs) HG_RETURN_IF_ERROR(AwaitNoProgram(site_.netns, leg.device));
    return absl::OkStatus();
  }
  // Until the account adds up; DATA_LOSS, with how it stands, when it does not in time.
  template <typename AddsUp, typename Describe>
  static absl::Status AwaitAccount(AddsUp adds_up, Describe describe) {
    using Clock = std::chrono::steady_clock;
    for (const auto end = Clock::now() + kTimeout; Clock::now() < end; std::this_thread::sleep_for(kPoll)) {
      HG_ASSIGN_OR_RETURN(const bool done, adds_up());
      if (done) return absl::OkStatus();
    }
    return absl::DataLossError("the account does not add up: " + describe());
  }
  virtual std::vector<pid_t> OwnThreads() const = 0;
  const RelaySite& site() const { return site_; }

 private:
  RelaySite site_;
  const Sinks& sinks_;
  uint64_t frames_before_ = 0;
  pid_t softirqs_ = 0;
};

}  // namespace headgate::bench
