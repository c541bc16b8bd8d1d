// SPDX-License-Identifier: Apache-2.0
//
// How a sender's frames get out of a device. An engine numbers frames, makes them, and knows how many the device
// took; when, is the sender's to say.
#pragma once

#include <absl/status/statusor.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "bench/sender.h"

namespace headgate::bench {

// Threads: made in any; then the sender's alone, but for the counters.
class Engine {
 public:
  virtual ~Engine() = default;

  // Before the first frame: as many are to be taken by the device at most.
  virtual void SetLimit(uint64_t frames) = 0;
  // Makes up to `frames` frames, and waits for what becomes of them where that is known at once. The device may
  // take none, which is no error: then it is to be tried again.
  virtual absl::Status Send(uint64_t frames) = 0;
  // Called at the end, until it is 0: no new number is begun; so many frames are still to be sent for those that
  // were begun, so that there is no gap.
  virtual uint64_t Remaining() = 0;

  // At any time, by any thread.
  virtual uint64_t sent() const = 0;
  virtual uint64_t refused() const = 0;
  // Of AF_XDP: whether the device reads frames where they lie.
  virtual std::optional<bool> zero_copy() const { return std::nullopt; }
};

// Bytes of the largest frame there is to send.
inline size_t LargestFrame(const SendOptions& options) {
  if (options.captured.empty()) return options.frame.size;
  size_t largest = 0;
  for (const CapturedFrame& frame : options.captured) largest = std::max(largest, frame.bytes.size());
  return largest;
}

// By live-frame prog runs (see sender.h), and by AF_XDP. Opened in the calling thread; the device is of
// options.netns.
absl::StatusOr<std::unique_ptr<Engine>> OpenProgEngine(const SendOptions& options);
absl::StatusOr<std::unique_ptr<Engine>> OpenXdpEngine(const SendOptions& options);

}  // namespace headgate::bench
