// SPDX-License-Identifier: Apache-2.0
#include "agent/slowpath/multicast_handler.h"

#include <linux/if_ether.h>

#include <algorithm>
#include <cstring>
#include <ctime>
#include <utility>

#include "agent/slowpath/fragment.h"
#include "agent/slowpath/frame_pool.h"

namespace headgate {
namespace {

// Smaller payloads are copied rather than gathered: a segment costs the device a descriptor.
constexpr uint32_t kGatherFrom = 256;
// A VLAN tag.
constexpr uint32_t kTag = 4;

// The largest network packet behind that link header: of tags, devices allow one beyond their MTU.
uint32_t MtuOf(const PlannedLeg& leg, uint32_t ethernet) {
  constexpr uint32_t kAllowed = ETH_HLEN + 4;
  const uint32_t beyond = ethernet > kAllowed ? ethernet - kAllowed : 0;
  return leg.mtu > beyond ? leg.mtu - beyond : 0;
}

// Whether the packet's own frames may leave for the leg.
bool IsLast(const Packet& packet, size_t leg, const PlannedRoute& route) {
  return leg + 1 == route.legs.size() && !packet.borrowed;
}

// A call into the vDSO.
uint64_t Now() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace

MulticastHandler::MulticastHandler(const MulticastSetup& setup, const MulticastAccount& account, uint64_t first)
    : packet_(first), account_(account) {
  Use(setup);
}

void MulticastHandler::Use(const MulticastSetup& setup) {
  setup_ = setup;
  size_t most = 0;
  for (const PlannedRoute& route : setup_.plan->routes) most = std::max(most, route.legs.size());
  counts_.assign(most, {});
}

void MulticastHandler::Handle(absl::Span<Packet> packets, Output& output) {
  static const PlannedRoute kNone;
  const std::vector<PlannedRoute>& routes = setup_.plan->routes;
  while (!packets.empty()) {
    const uint32_t id = packets[0].meta.rule_id;
    size_t count = 1;
    while (count < packets.size() && packets[count].meta.rule_id == id) ++count;
    // It may be gone, or newer than the plan.
    ReplicateRun(packets.first(count), id < routes.size() ? routes[id] : kNone, output);
    packets.remove_prefix(count);
  }
}

void MulticastHandler::ReplicateRun(absl::Span<Packet> packets, const PlannedRoute& route, Output& output) {
  const bool known = !route.legs.empty();
  for (Packet& packet : packets) {
    packet.disposition = known ? Disposition::kConsumed : Disposition::kDropped;
    if (known) Replicate(packet, route, output);
  }
  for (size_t i = 0; i < route.legs.size(); ++i) account_.Add(route.legs[i].id, std::exchange(counts_[i], {}));
}

bool MulticastHandler::Reconfigure(const HandlerSetup& setup) {
  const auto* multicast = std::get_if<MulticastSetup>(&setup);
  if (multicast == nullptr) return false;
  Use(*multicast);
  return true;
}

void MulticastHandler::Replicate(const Packet& packet, const PlannedRoute& route, Output& output) {
  const std::optional<LegPacket> read = ReadLegPacket(packet, route.protocol);
  auto bundle = read && output.Sends(HG_PORT_COPIER) ? route.bundles.begin() : route.bundles.end();
  for (size_t i = 0; i < route.legs.size(); ++i) {
    if (bundle != route.bundles.end() && bundle->first == i) {
      const LegBundle& legs = *bundle++;
      if (Fits(legs, packet, *read, route)) {
        i += legs.count - 1;
        ServeBundle(legs, packet, route.protocol, IsLast(packet, i, route), output);
        continue;
      }
    }
    count_ = &counts_[i];
    ++count_->offered;
    if (read && packet.segments.size() < kSegments) {
      Serve(route.legs[i], packet, *read, IsLast(packet, i, route), output);
    } else {
      ++count_->malformed;
    }
  }
}

static_assert(HG_COPIER_FRAME <= FramePool::kFrameSize, "there is room for what the copier takes");

// Whole, and within the device's MTU whatever tag is pushed. All that else may keep a copy from leaving is told at
// the egress.
bool MulticastHandler::Fits(const LegBundle& bundle, const Packet& packet, const LegPacket& read,
                            const PlannedRoute& route) {
  return packet.segments.size() == 1 && packet.length + sizeof(hg_bundle_meta) <= HG_COPIER_FRAME &&
         read.length <= MtuOf(route.legs[bundle.first], read.l3 + kTag);
}

void MulticastHandler::ServeBundle(const LegBundle& bundle, const Packet& packet, uint8_t protocol, bool last,
                                   Output& output) {
  const hg_bundle_meta meta{.packet = ++packet_,
                            .bundle = static_cast<uint16_t>(bundle.id),
                            .l3 = packet.meta.l3,
                            .l4 = packet.meta.l4,
                            .kind = static_cast<uint8_t>(packet.meta.kind),
                            .protocol = protocol};
  const Segment& whole = packet.segments[0];
  Segment frame;
  bool sent = false;
  if (last) {
    frame = whole;
    frame.data -= sizeof(meta);
    frame.address -= sizeof(meta);
    output.Refer(whole);
    sent = true;
  } else if (output.Take(frame)) {
    std::memcpy(frame.data + sizeof(meta), whole.data, whole.length);
    sent = true;
  }
  if (sent) {
    std::memcpy(frame.data, &meta, sizeof(meta));
    frame.length = whole.length + sizeof(meta);
    sent = output.Transmit(HG_PORT_COPIER, absl::MakeConstSpan(&frame, 1));
  }
  for (uint32_t i = bundle.first; i < bundle.first + bundle.count; ++i) {
    ++counts_[i].offered;
    if (!sent) ++counts_[i].tx_full;
  }
}

MulticastAccount::Counter MulticastHandler::Refusal(const PlannedLeg& leg, const Packet& packet,
                                                    const LegPacket& read, uint8_t ttl) {
  const hg_leg& cell = leg.leg;
  if (leg.trouble == LegTrouble::kNoNeighbour) return &hg_leg_count::no_neighbour;
  if ((cell.flags & HG_LEG_ON_JOIN) != 0) {
    const ListenerTable* const listeners = setup_.plan->listeners.get();
    if (listeners == nullptr || !IsListened(cell, read, packet.segments[0].data + read.l3, *listeners)) {
      return &hg_leg_count::no_listener;
    }
  }
  if ((cell.flags & HG_LEG_POLICE) != 0) {
    const uint64_t cost =
        (cell.flags & HG_LEG_POLICE_BITS) != 0 ? cell.police_cost * packet.length : cell.police_cost;
    if (!account_.Take(leg.id, Now(), cost, cell.police_depth)) return &hg_leg_count::limited;
  }
  if (ttl == 0) return &hg_leg_count::ttl;
  if (leg.trouble == LegTrouble::kNoSource) return &hg_leg_count::no_source;
  const uint8_t* const ip = packet.segments[0].data + read.l3;
  const uint32_t mtu = MtuOf(leg, LegEthernetLength(cell, read.l3));
  if (read.length > mtu && (read.ipv6 || !MayFragment(ip) || FragmentRoom(mtu, (ip[0] & 0xfU) * 4) == 0)) {
    return &hg_leg_count::too_big;
  }
  return nullptr;
}

void MulticastHandler::Serve(const PlannedLeg& leg, const Packet& packet, const LegPacket& read, bool last,
                             Output& output) {
  // Offered, and in no other counter.
  if (leg.trouble == LegTrouble::kNoDevice) return;
  const uint8_t ttl = LegTtl(leg.leg, read.ttl);
  if (const auto refusal = Refusal(leg, packet, read, ttl); refusal != nullptr) {
    ++(count_->*refusal);
    return;
  }
  frame_.count = 0;
  frame_.length = 0;
  if (last) {
    Reuse(leg, packet, read, output);
  } else if (!Copy(leg, packet, read, output)) {
    ++count_->tx_full;
    return;
  }
  const uint32_t ethernet = LegEthernetLength(leg.leg, read.l3);
  RewriteLeg(leg.leg, read, ttl, frame_.segments[0].data + ethernet);
  if (read.length > MtuOf(leg, ethernet)) {
    SendFragments(leg, read, output);
  } else {
    SendWhole(leg, output);
  }
}

bool MulticastHandler::Copy(const PlannedLeg& leg, const Packet& packet, const LegPacket& read, Output& output) {
  const Segment& first = packet.segments[0];
  const uint32_t ethernet = LegEthernetLength(leg.leg, read.l3);
  const bool gathers =
      first.length - read.headers >= kGatherFrom && !packet.borrowed && output.Gathers(leg.leg.port);
  const uint32_t copied = (gathers ? read.headers : first.length) - read.l3;
  Segment head;
  if (!output.Take(head)) return false;
  if (ethernet + copied > head.length) {
    output.Release(absl::MakeConstSpan(&head, 1));
    return false;
  }
  WriteLegEthernet(leg, first.data, read.l3, head.data);
  std::memcpy(head.data + ethernet, first.data + read.l3, copied);
  head.length = ethernet + copied;
  frame_.Add(head);
  if (gathers) {
    frame_.Add({first.address + read.headers, first.data + read.headers, first.length - read.headers});
    output.Refer(first);
  }
  return packet.borrowed ? CopyRest(packet, output) : ReferRest(packet, output);
}

bool MulticastHandler::ReferRest(const Packet& packet, Output& output) {
  for (const Segment& segment : packet.segments.subspan(1)) {
    frame_.Add(segment);
    output.Refer(segment);
  }
  return true;
}

bool MulticastHandler::CopyRest(const Packet& packet, Output& output) {
  for (const Segment& segment : packet.segments.subspan(1)) {
    Segment copy;
    if (!output.Take(copy)) {
      output.Release(frame_.all());
      return false;
    }
    std::memcpy(copy.data, segment.data, segment.length);
    copy.length = segment.length;
    frame_.Add(copy);
  }
  return true;
}

// A tag that is pushed goes into the headroom.
void MulticastHandler::Reuse(const PlannedLeg& leg, const Packet& packet, const LegPacket& read, Output& output) {
  const uint32_t ethernet = LegEthernetLength(leg.leg, read.l3);
  Segment head = packet.segments[0];
  head.data = head.data + read.l3 - ethernet;
  head.address = head.address + read.l3 - ethernet;
  head.length = head.length - read.l3 + ethernet;
  WriteLegEthernet(leg, packet.segments[0].data, read.l3, head.data);
  frame_.Add(head);
  for (const Segment& segment : packet.segments.subspan(1)) frame_.Add(segment);
  for (const Segment& segment : packet.segments) output.Refer(segment);
}

void MulticastHandler::SendWhole(const PlannedLeg& leg, Output& output) {
  if (!output.Transmit(leg.leg.port, frame_.all())) {
    ++count_->tx_full;
    return;
  }
  ++count_->packets;
  count_->bytes += frame_.length;
}

void MulticastHandler::SendFragments(const PlannedLeg& leg, const LegPacket& read, Output& output) {
  const uint32_t ethernet = LegEthernetLength(leg.leg, read.l3);
  const uint32_t header = (frame_.segments[0].data[ethernet] & 0xfU) * 4;
  const uint32_t payload = read.length - header, room = FragmentRoom(MtuOf(leg, ethernet), header);
  uint64_t sent = 0, bytes = 0;
  bool complete = true;
  for (FragmentPart part; complete && part.offset < payload; part.offset += room) {
    part.length = std::min(room, payload - part.offset);
    part.is_last = part.offset + part.length == payload;
    fragment_.count = 0;
    fragment_.length = 0;
    uint32_t left = ethernet + header + part.length, done = ethernet + header;
    Segment segment;
    while (left != 0 && fragment_.count < kSegments && output.Take(segment)) {
      // Headers, of the first segment alone; then payload.
      const uint32_t start = fragment_.count == 0 ? done : 0;
      if (start != 0) {
        std::memcpy(segment.data, frame_.segments[0].data, start);
        WriteFragmentHeader(part, segment.data + ethernet);
      }
      segment.length = std::min(segment.length, left);
      Gather(frame_.all(), done + part.offset, segment.length - start, segment.data + start);
      done += segment.length - start;
      left -= segment.length;
      fragment_.Add(segment);
    }
    complete = left == 0;
    if (!complete) {
      output.Release(fragment_.all());
    } else if (output.Transmit(leg.leg.port, fragment_.all())) {
      ++sent;
      bytes += fragment_.length;
    } else {
      complete = false;
    }
  }
  output.Release(frame_.all());
  // Frames sent are packets + fragments, even where some of one are missing.
  if (complete) --sent;
  ++(complete ? count_->packets : count_->tx_full);
  count_->fragments += sent;
  count_->bytes += bytes;
}

}  // namespace headgate
