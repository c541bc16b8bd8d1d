// SPDX-License-Identifier: Apache-2.0
//
// What is done with the packets of a steer target: a batch of packets in, and for each what is to become of it.
// Each worker has a handler of its own for each target, so that none needs a lock. Handlers know no socket; tests
// give them packets from memory.
#pragma once

#include <absl/types/span.h>

#include <cstdint>

#include "bpf/hg_abi.h"

namespace headgate {

// A part of a packet; packets larger than a frame have several.
struct Segment {
  uint64_t address = 0;  // in the frame pool
  uint8_t* data = nullptr;
  uint32_t length = 0;
};

enum class Disposition : uint8_t {
  kConsumed,   // done with
  kReply,      // to be sent out of the queue it came in by
  kDropped,    // not what the handler can deal with
  kUnhandled,  // the worker's alone: the target has no handler
};

struct Packet {
  hg_steer_meta meta{};
  absl::Span<Segment> segments;  // at least one; headers are in the first
  uint32_t length = 0;           // bytes, of all segments
  Disposition disposition = Disposition::kConsumed;
};

class Handler {
 public:
  virtual ~Handler() = default;
  // Sets the packets' dispositions; may change their bytes. No heap, lock or system call.
  virtual void Handle(absl::Span<Packet> packets) = 0;
};

}  // namespace headgate
