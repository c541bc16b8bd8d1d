// SPDX-License-Identifier: Apache-2.0
//
// Multicast replication by workers: what the kernel's path cannot do. Each packet becomes a copy a leg, the last
// of which is the packet itself; what follows the first segment is never copied, nor is the payload where the
// egress device gathers frames from several places.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "agent/slowpath/handler.h"
#include "agent/slowpath/leg_copy.h"
#include "agent/slowpath/multicast_account.h"
#include "agent/slowpath/multicast_plan.h"

namespace headgate {

class MulticastHandler final : public Handler {
 public:
  // `first`: from which packets for the copier are numbered; no two handlers', or agents', have the same numbers.
  MulticastHandler(const MulticastSetup& setup, const MulticastAccount& account, uint64_t first);

  void Handle(absl::Span<Packet> packets, Output& output) override;
  bool Reconfigure(const HandlerSetup& setup) override;

 private:
  // Of a frame that is being made.
  static constexpr size_t kSegments = 64;
  struct Frame {
    std::array<Segment, kSegments> segments;
    size_t count = 0;
    uint32_t length = 0;
    absl::Span<const Segment> all() const { return absl::MakeConstSpan(segments).first(count); }
    void Add(const Segment& segment) {
      segments[count++] = segment;
      length += segment.length;
    }
  };

  void Use(const MulticastSetup& setup);
  // Of packets that follow each other: those of one route.
  void ReplicateRun(absl::Span<Packet> packets, const PlannedRoute& route, Output& output);
  void Replicate(const Packet& packet, const PlannedRoute& route, Output& output);
  // Whether the kernel may make the copies of the bundle's legs.
  static bool Fits(const LegBundle& bundle, const Packet& packet, const LegPacket& read,
                   const PlannedRoute& route);
  // Has it make those of the bundle's legs, or counts why not. `last`: the packet's own bytes may change.
  void ServeBundle(const LegBundle& bundle, const Packet& packet, uint8_t protocol, bool last, Output& output);
  // Makes the leg's copy and sends it, or counts why not. `last`: the packet's own bytes may change.
  void Serve(const PlannedLeg& leg, const Packet& packet, const LegPacket& read, bool last, Output& output);
  // Which counter has it that there is to be no copy; null: there is.
  MulticastAccount::Counter Refusal(const PlannedLeg& leg, const Packet& packet, const LegPacket& read,
                                    uint8_t ttl);
  // False: there is no frame for it.
  bool Copy(const PlannedLeg& leg, const Packet& packet, const LegPacket& read, Output& output);
  // What follows the packet's first segment: as it is, or, of a borrowed packet, in frames of our own.
  bool ReferRest(const Packet& packet, Output& output);
  bool CopyRest(const Packet& packet, Output& output);
  void Reuse(const PlannedLeg& leg, const Packet& packet, const LegPacket& read, Output& output);
  void SendWhole(const PlannedLeg& leg, Output& output);
  // Sends frame_ in parts (RFC 791, section 3.2) and gives it back.
  void SendFragments(const PlannedLeg& leg, const LegPacket& read, Output& output);

  MulticastSetup setup_;
  uint64_t packet_;  // the last that was sent to the copier
  MulticastAccount account_;
  std::vector<hg_leg_count> counts_;  // of a run, by place of the leg in its route
  hg_leg_count* count_ = nullptr;     // of the leg that is being served
  Frame frame_;                       // the copy
  Frame fragment_;                    // of it
};

}  // namespace headgate
