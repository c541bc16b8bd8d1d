// SPDX-License-Identifier: Apache-2.0
//
// Delivers packets to a TUN or TAP device, and sends what its software answers by the interface that packets from
// there last came in by (proto TapHandler). A TUN's answers get the Ethernet header of those packets, turned
// round.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <vector>

#include "agent/slowpath/handler.h"
#include "agent/slowpath/slow_path_config.h"
#include "agent/slowpath/source_table.h"
#include "agent/slowpath/tap_device.h"

namespace headgate {

class TapHandler : public Handler {
 public:
  // `seed`: any number that is not to be known outside.
  TapHandler(const TapSetup& setup, TapDevice device, uint64_t seed);

  void Handle(absl::Span<Packet> packets, Output&) override;
  int fd() const override { return device_.fd(); }
  size_t Originate(Output& output) override;
  bool failed() const override { return failed_.load(std::memory_order_relaxed); }

 private:
  static constexpr size_t kBatch = 64;     // packets that are read at once
  static constexpr size_t kSegments = 64;  // of a packet, either way
  // No packet is larger: a device's MTU is at most 65,535, and a TAP's frame has a header.
  static constexpr size_t kBuffer = 65536 + 64;

  // What is to be written of the packet, from the offset on.
  bool Deliver(const Packet& packet, uint32_t offset);
  void Forward(absl::Span<const uint8_t> frame, Output& output);
  void ForwardPacket(absl::Span<const uint8_t> packet, Output& output);
  // Both parts, one after the other, as one frame.
  void Send(uint32_t port, absl::Span<const uint8_t> header, absl::Span<const uint8_t> payload, Output& output);
  void NoteFailure();

  const TapSetup setup_;
  TapDevice device_;
  SourceTable sources_;
  std::vector<uint8_t> buffer_;
  std::array<Segment, kSegments> segments_;
  std::atomic<bool> failed_ = false;
};

}  // namespace headgate
