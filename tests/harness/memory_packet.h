// SPDX-License-Identifier: Apache-2.0
//
// A steered packet from memory, for handlers: with the metadata the data path would give it, in as many segments
// as a test asks for. Each segment is an allocation of its own, so that sanitizers see every byte read beyond it.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "agent/slowpath/handler.h"
#include "tests/harness/packet.h"

namespace headgate::testing {

class MemoryPacket {
 public:
  // `splits`: rising offsets at which a new segment begins.
  explicit MemoryPacket(const Bytes& frame, const std::vector<size_t>& splits = {});

  headgate::Packet& packet() { return packet_; }
  // What is in the segments now.
  Bytes bytes() const;

 private:
  std::vector<std::unique_ptr<uint8_t[]>> memory_;
  std::vector<Segment> segments_;
  headgate::Packet packet_;
};

// Of a frame that is well-formed up to its transport header: what the program's parser says.
hg_steer_meta SteerMeta(const Bytes& frame);

}  // namespace headgate::testing
