// SPDX-License-Identifier: Apache-2.0
//
// Sends frames out of a device, by live-frame prog runs or by AF_XDP, and knows exactly how many the device took.
#pragma once

#include <absl/status/statusor.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "bench/bpf/header.h"
#include "bench/frame.h"
#include "bench/histogram.h"
#include "bench/netns.h"
#include "bench/pcap_file.h"
#include "bench/report.h"

namespace headgate::bench {

class Engine;

struct SendOptions {
  std::string device;
  std::string netns;  // of the device; see netns.h
  FrameSpec frame;
  // When there are any: frames have these in turn instead of the frame's addresses, protocol, ports and record,
  // and are of UDP over IPv4 but for that.
  std::vector<hgb_header> headers;
  // When there are any: these are sent in turn as they were captured, instead of frames of `frame`.
  std::vector<CapturedFrame> captured = {};
  // Captured frames keep their times, so many times as fast; `packets_per_second` is not looked at.
  std::optional<double> speed = {};
  EngineKind engine = EngineKind::kProg;
  uint32_t queue = 0;               // of the device, that AF_XDP sends by
  uint64_t packets_per_second = 0;  // 0: as fast as it goes
  uint64_t count = 0;               // frames the device is to take; 0: no limit
  std::optional<std::chrono::nanoseconds> duration;
  Scheduling scheduling;  // frames that go into a veth are received by its peer on the CPU the sender is on
};

// One thread that sends one stream. Frames are numbered 0, 1, 2 ...; a frame that the device refuses (its ring, or
// its peer's, is full) leaves its number to a later one, so that frames the device took have every number from 0
// to sent() - 1 once the sender has ended. By AF_XDP, a frame that is refused takes its number with it.
class Sender {
 public:
  // Everything is ready but nothing sent. The device's peer, if it is a veth, must have NAPI: an XDP program, or
  // generic receive offload.
  static absl::StatusOr<std::unique_ptr<Sender>> Open(const SendOptions& options);
  // Stops.
  ~Sender();
  Sender(const Sender&) = delete;
  Sender& operator=(const Sender&) = delete;

  // Begins to send in a thread of its own. Once in a sender's life.
  void Start();
  // Until the count or the duration is reached, or a stop; how it ended.
  absl::Status Wait();
  absl::Status Stop();
  absl::Status Run();  // Start and Wait

  bool running() const { return running_.load(std::memory_order_acquire); }
  // At any time. Frames in a prog run's hands are counted when the device has taken them.
  uint64_t sent() const;
  uint64_t refused() const;
  // Exact when the sender has ended.
  SendReport Report() const;
  // Once the sender has ended: how much later than they were due bursts at a rate were begun, in nanoseconds, up
  // to the tenth of a second after which they are given up. Frames bear the time at which they are made, so that a
  // sender held up does not show in their latency.
  const Histogram& lateness() const { return lateness_; }

 private:
  explicit Sender(const SendOptions& options);
  absl::Status Send();
  absl::Status SendPaced(uint64_t deadline);
  absl::Status SendUnpaced(uint64_t deadline);
  absl::Status SendTimed(uint64_t deadline);
  absl::Status Settle();
  absl::Status Try(uint64_t frames);
  bool Ended() const;

  SendOptions options_;
  std::unique_ptr<Engine> engine_;
  std::thread thread_;
  std::atomic<bool> stop_ = false;
  std::atomic<bool> running_ = false;
  uint64_t given_up_ = 0;
  uint64_t stuck_since_ = 0;          // ns; 0: the device takes frames
  uint64_t started_ = 0, ended_ = 0;  // ns
  Histogram lateness_;
  absl::Status status_;
};

}  // namespace headgate::bench
