// SPDX-License-Identifier: Apache-2.0
//
// What is done with the packets of a steer target: a batch of packets in, and for each what is to become of it.
// Each worker has a handler of its own for each target, so that none needs a lock. Handlers know no socket; tests
// give them packets from memory.
#pragma once

#include <absl/types/span.h>

#include <cstddef>
#include <cstdint>

#include "agent/slowpath/handler_setup.h"
#include "bpf/hg_abi.h"

namespace headgate {

// A part of a packet; packets larger than a frame have several.
struct Segment {
  uint64_t address = 0;  // in the frame pool
  uint8_t* data = nullptr;
  uint32_t length = 0;
};

enum class Disposition : uint8_t {
  kConsumed,  // done with
  kReply,     // to be sent out of the queue it came in by
  kDropped,   // not what the handler can deal with
  // The worker's alone:
  kUnhandled,    // the target has no handler
  kLent,         // another worker has it
  kShed,         // another was to have it, and has too much for the target's priority
  kNoRoom,       // another was to have it, and has no room for more
  kTransmitted,  // sent on behalf of another worker
  kTxFull,       // not sent on behalf of another worker
};

struct Packet {
  hg_steer_meta meta{};
  absl::Span<Segment> segments;  // at least one; headers are in the first
  uint32_t length = 0;           // bytes, of all segments
  bool borrowed = false;         // from another worker, in frames of its pool: may be changed, but not sent
  Disposition disposition = Disposition::kConsumed;
};

// Where handlers send frames of their own making.
class Output {
 public:
  virtual ~Output() = default;
  // An empty frame to be filled: `length` is what it has room for. False when none is free.
  virtual bool Take(Segment& segment) = 0;
  // Sends a frame, whose segments are in order, out of an interface. Takes the segments, whatever becomes of them;
  // false: it is not sent, there being no room or no way. `port`: the interface's id.
  virtual bool Transmit(uint32_t port, absl::Span<const Segment> segments) = 0;
  // Gives back what was taken for a frame that cannot be sent: it counts as dropped by the handler.
  virtual void Drop(absl::Span<const Segment> segments) = 0;
  // Has a segment, of a packet that came or one that was taken, be of one more frame. What several frames have
  // must not change any more.
  virtual void Refer(const Segment& segment) = 0;
  // Gives back what no frame has become of.
  virtual void Release(absl::Span<const Segment> segments) = 0;
  // There is a way to send out of the interface.
  virtual bool Sends(uint32_t port) const = 0;
  // Frames of several segments leave by the interface without being copied.
  virtual bool Gathers(uint32_t port) const = 0;
};

class Handler {
 public:
  virtual ~Handler() = default;
  // Sets the packets' dispositions; may change their bytes, and send frames made of them. No heap or lock; system
  // calls only where the handler exists for them (a TAP device).
  virtual void Handle(absl::Span<Packet> packets, Output& output) = 0;
  // Goes on with another setup, where it need not be made anew for that. (the worker's thread, between two rounds)
  virtual bool Reconfigure(const HandlerSetup&) { return false; }
  // For handlers that send frames of their own: becomes readable when Originate has something to do while the
  // worker sleeps. -1: none.
  virtual int fd() const { return -1; }
  // Sends what there is, at most about as much as a batch: called, if fd() is not -1, once a round; every few
  // rounds when there was nothing the last time, and whenever the worker has slept. How many frames.
  virtual size_t Originate(Output&) { return 0; }
  // What it needs of the system is gone: it is to be made anew. (any thread)
  virtual bool failed() const { return false; }
};

}  // namespace headgate
