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
  MulticastHandler(const MulticastSetup& setup, const MulticastAccount& account);

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
  // Makes the leg's copy and sends it, or counts why not. `last`: the packet's own bytes may change.
  void Serve(const PlannedLeg& leg, const Packet& packet, const LegPacket& read, bool last, Output& output);
  // Which counter has it that there is to be no copy; null: there is.
  MulticastAccount::Counter Refusal(const PlannedLeg& leg, const Packet& packet, const LegPacket& read,
                                    uint8_t ttl);
  // False: there is no frame for it.
  bool Copy(const PlannedLeg& leg, const Packet& packet, const LegPacket& read, Output& output);
  void Reuse(const PlannedLeg& leg, const Packet& packet, const LegPacket& read, Output& output);
  void SendWhole(const PlannedLeg& leg, Output& output);
  // Sends frame_ in parts (RFC 791, section 3.2) and gives it back.
  void SendFragments(const PlannedLeg& leg, const LegPacket& read, Output& output);

  MulticastSetup setup_;
  MulticastAccount account_;
  std::vector<hg_leg_count> counts_;  // of a run, by place of the leg in its route
  hg_leg_count* count_ = nullptr;     // of the leg that is being served
  Frame frame_;                       // the copy
  Frame fragment_;                    // of it
};

}  // namespace headgate
