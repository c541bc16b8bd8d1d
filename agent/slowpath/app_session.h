// SPDX-License-Identifier: Apache-2.0
//
// A process that has a target: the memory it shares with us, a channel for each worker, and whether it comes
// round.
//
// Threads: one; the channels are their workers'.
#pragma once

#include <absl/status/statusor.h>

#include <chrono>
#include <memory>
#include <vector>

#include "agent/base/fd.h"
#include "agent/slowpath/app_channel.h"

namespace headgate {

class AppSession {
 public:
  // Bytes of each ring at most: about 16,000 of the smallest frames, or 220 of 9,000 bytes. Many channels share
  // 32 MiB.
  static constexpr uint32_t kMostRingBytes = 2 << 20, kLeastRingBytes = 256 << 10;
  static constexpr uint32_t kAllBytes = 32 << 20;
  // A process that has not come round for this long hangs.
  static constexpr std::chrono::milliseconds kMaxSilence{1000};

  static absl::StatusOr<std::unique_ptr<AppSession>> Create(uint32_t channels);

  // Looks whether all channels have come round since the last look; often, so that "since" is exact.
  void Look(std::chrono::steady_clock::time_point now);
  // Every channel has come round lately.
  bool Beats(std::chrono::steady_clock::time_point now) const;
  // Why a channel is broken; null: none is.
  const char* broken() const;

  const std::vector<std::shared_ptr<AppChannel>>& channels() const { return channels_; }
  // What is to be handed over: the memory, then the process's ends of the channels' sockets.
  std::vector<int> ForProcess() const;
  void HandedOver();
  uint32_t ring_bytes() const { return ring_bytes_; }
  uint64_t memory_bytes() const {
    return hga_channel_offset(static_cast<uint32_t>(channels_.size()), ring_bytes_);
  }

 private:
  struct Beat {
    uint64_t seen = 0;  // 0: none yet
    std::chrono::steady_clock::time_point at;
  };
  uint32_t ring_bytes_ = 0;
  std::vector<std::shared_ptr<AppChannel>> channels_;
  std::vector<Beat> beats_;
  Fd file_;
  std::vector<Fd> ends_;
};

}  // namespace headgate
