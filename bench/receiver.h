// SPDX-License-Identifier: Apache-2.0
//
// Counts what arrives at a device, by an XDP program.
#pragma once

#include <absl/status/statusor.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "agent/base/fd.h"
#include "agent/dataplane/dataplane.h"
#include "bench/report.h"

struct receive_bpf;  // the skeleton

namespace headgate::bench {

struct ReceiveOptions {
  std::string device;
  std::string netns;        // of the device; see netns.h
  bool pass = false;        // let frames go on to the stack; else they are dropped
  bool count_only = false;  // count frames without looking into them: no streams, no latency
};

class Receiver {
 public:
  // Attached and counting; until it is destroyed.
  static absl::StatusOr<std::unique_ptr<Receiver>> Open(const ReceiveOptions& options);
  ~Receiver();
  Receiver(const Receiver&) = delete;
  Receiver& operator=(const Receiver&) = delete;

  DriverMode mode() const { return mode_; }

  // Everything since it was opened.
  absl::StatusOr<ReceiveReport> Read() const;
  // All frames, foreign ones too.
  absl::StatusOr<uint64_t> Frames() const;

  // Until that many frames in all have come, or the time is over: DEADLINE_EXCEEDED.
  absl::Status AwaitFrames(uint64_t frames, std::chrono::milliseconds timeout) const;
  // Until none has come for `idle`.
  absl::Status AwaitIdle(std::chrono::milliseconds idle, std::chrono::milliseconds timeout) const;

 private:
  explicit Receiver(const ReceiveOptions& options) : options_(options) {}
  absl::Status Load();
  absl::Status Attach();
  absl::Status ReadStreams(ReceiveReport& report) const;

  ReceiveOptions options_;
  receive_bpf* skeleton_ = nullptr;
  DriverMode mode_ = DriverMode::kNative;
  Fd link_;
};

}  // namespace headgate::bench
