// SPDX-License-Identifier: Apache-2.0
//
// Where handlers send to in tests.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "agent/slowpath/frame_pool.h"
#include "agent/slowpath/handler.h"
#include "tests/harness/packet.h"

namespace headgate::testing {

// For handlers that make frames of nothing else: what each test does with those is its own.
class SimpleOutput : public Output {
 public:
  void Refer(const Segment&) override { std::abort(); }
  void Release(absl::Span<const Segment> segments) override { Drop(segments); }
  bool Sends(uint32_t) const override { return true; }
  bool Gathers(uint32_t) const override { return false; }
};

// Frames of a pool, counted by reference as a worker's are. What was sent is kept as bytes, its frames let go.
class MemoryOutput : public Output {
 public:
  struct Sent {
    uint32_t port = 0;
    Bytes frame;
    size_t segments = 0;
  };

  explicit MemoryOutput(uint32_t frames = 64) : pool_(*FramePool::Create(frames)) {}

  bool Take(Segment& segment) override {
    if (!pool_->Take(segment.address)) return false;
    segment.data = pool_->Data(segment.address);
    segment.length = FramePool::kFrameSize;
    return true;
  }
  bool Transmit(uint32_t port, absl::Span<const Segment> segments) override {
    const bool room =
        full_ports_.empty() || std::find(full_ports_.begin(), full_ports_.end(), port) == full_ports_.end();
    if (room) {
      Sent& sent = sent_.emplace_back(Sent{.port = port, .frame = {}, .segments = segments.size()});
      for (const Segment& segment : segments) {
        sent.frame.insert(sent.frame.end(), segment.data, segment.data + segment.length);
      }
    }
    Release(segments);
    return room;
  }
  void Drop(absl::Span<const Segment> segments) override {
    ++dropped_;
    Release(segments);
  }
  void Refer(const Segment& segment) override {
    pool_->Refer(segment.address);
    ++referred_;
  }
  void Release(absl::Span<const Segment> segments) override {
    for (const Segment& segment : segments) pool_->Release(segment.address);
  }
  bool Sends(uint32_t port) const override {
    return std::find(unknown_ports_.begin(), unknown_ports_.end(), port) == unknown_ports_.end();
  }
  bool Gathers(uint32_t) const override { return gathers_; }

  FramePool& pool() { return *pool_; }

  std::vector<Sent> sent_;
  size_t dropped_ = 0;
  size_t referred_ = 0;  // segments
  bool gathers_ = false;
  std::vector<uint32_t> full_ports_;  // that have no room
  std::vector<uint32_t> unknown_ports_;

 private:
  std::unique_ptr<FramePool> pool_;
};

}  // namespace headgate::testing
