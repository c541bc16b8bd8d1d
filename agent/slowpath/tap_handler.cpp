// SPDX-License-Identifier: Apache-2.0
#include "agent/slowpath/tap_handler.h"

#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

namespace headgate {
namespace {

constexpr size_t kEtherType = 2 * ETH_ALEN;  // its offset without VLAN tags

bool IsGroup(const uint8_t* mac) { return (mac[0] & 1) != 0; }

SourceKey MacKey(const uint8_t* mac) {
  SourceKey key{};
  std::copy_n(mac, ETH_ALEN, key.begin());
  return key;
}

SourceKey AddressKey(const uint8_t* address, bool ipv6) {
  SourceKey key{};
  if (ipv6) {
    std::copy_n(address, sizeof(in6_addr), key.begin());
  } else {
    key[10] = key[11] = 0xff;
    std::copy_n(address, sizeof(in_addr), key.begin() + 12);
  }
  return key;
}

// The header of answers: addresses swapped, the same VLAN tags.
bool TurnRound(const Packet& packet, Origin& origin) {
  const uint8_t* frame = packet.segments[0].data;
  const size_t length = packet.meta.l3 - sizeof(uint16_t);
  if (length < kEtherType || length > origin.header.size() || IsGroup(frame + ETH_ALEN)) return false;
  std::copy_n(frame, length, origin.header.begin());
  std::swap_ranges(origin.header.begin(), origin.header.begin() + ETH_ALEN, origin.header.begin() + ETH_ALEN);
  origin.header_length = static_cast<uint8_t>(length);
  return true;
}

void LearnMac(const Packet& packet, SourceTable& sources) {
  const uint8_t* source = packet.segments[0].data + ETH_ALEN;
  if (!IsGroup(source)) sources.Learn(MacKey(source), {.port = packet.meta.port});
}

void LearnAddress(const Packet& packet, SourceTable& sources) {
  const bool ipv6 = (packet.meta.kind & HG_KIND_IPV6) != 0;
  Origin origin{.port = packet.meta.port};
  if (!TurnRound(packet, origin)) return;
  const uint8_t* ip = packet.segments[0].data + packet.meta.l3;
  sources.Learn(AddressKey(ip + (ipv6 ? offsetof(ipv6hdr, saddr) : offsetof(iphdr, saddr)), ipv6), origin);
}

// An IP packet whose header is in the first segment.
bool IsIp(const Packet& packet) {
  const uint32_t header = (packet.meta.kind & HG_KIND_IPV6) != 0   ? sizeof(ipv6hdr)
                          : (packet.meta.kind & HG_KIND_IPV4) != 0 ? sizeof(iphdr)
                                                                   : 0;
  return header != 0 && packet.meta.l3 >= ETH_HLEN && packet.meta.l3 + header <= packet.segments[0].length;
}

}  // namespace

TapHandler::TapHandler(const TapSetup& setup, TapDevice device, uint64_t seed)
    : setup_(setup), device_(std::move(device)), sources_(seed), buffer_(kBuffer) {}

void TapHandler::Handle(absl::Span<Packet> packets, Output&) {
  sources_.Advance();
  for (Packet& packet : packets) {
    packet.disposition = Disposition::kDropped;
    if (setup_.tun) {
      if (!IsIp(packet)) continue;
      LearnAddress(packet, sources_);
    } else {
      if (packet.segments[0].length < ETH_HLEN) continue;
      LearnMac(packet, sources_);
    }
    if (Deliver(packet, setup_.tun ? packet.meta.l3 : 0)) packet.disposition = Disposition::kConsumed;
  }
  NoteFailure();
}

bool TapHandler::Deliver(const Packet& packet, uint32_t offset) {
  std::array<iovec, kSegments> parts;
  if (packet.segments.size() > parts.size()) return false;
  for (size_t i = 0; i < packet.segments.size(); ++i) {
    parts[i] = {packet.segments[i].data, packet.segments[i].length};
  }
  parts[0] = {packet.segments[0].data + offset, packet.segments[0].length - offset};
  return device_.Write(absl::MakeConstSpan(parts).first(packet.segments.size()));
}

size_t TapHandler::Originate(Output& output) {
  size_t count = 0;
  for (; count < kBatch; ++count) {
    const size_t length = device_.Read(absl::MakeSpan(buffer_));
    if (length == 0) break;
    const absl::Span<const uint8_t> packet = absl::MakeConstSpan(buffer_).first(length);
    if (setup_.tun) {
      ForwardPacket(packet, output);
    } else {
      Forward(packet, output);
    }
  }
  NoteFailure();
  return count;
}

void TapHandler::Forward(absl::Span<const uint8_t> frame, Output& output) {
  if (frame.size() < ETH_HLEN) return output.Drop({});
  const Origin* origin = sources_.Find(MacKey(frame.data()));  // none of a group's
  const uint32_t port = origin != nullptr ? origin->port : setup_.port;
  if (port == 0) return output.Drop({});
  Send(port, {}, frame, output);
}

void TapHandler::ForwardPacket(absl::Span<const uint8_t> packet, Output& output) {
  const bool ipv6 = packet[0] >> 4 == 6;
  if (packet.size() < (ipv6 ? sizeof(ipv6hdr) : sizeof(iphdr))) return output.Drop({});
  const size_t address = ipv6 ? offsetof(ipv6hdr, daddr) : offsetof(iphdr, daddr);
  const Origin* origin = sources_.Find(AddressKey(packet.data() + address, ipv6));
  if (origin == nullptr) return output.Drop({});
  std::array<uint8_t, sizeof(origin->header) + sizeof(uint16_t)> header;
  std::copy_n(origin->header.begin(), origin->header_length, header.begin());
  const uint16_t type = htons(ipv6 ? ETH_P_IPV6 : ETH_P_IP);
  std::memcpy(&header[origin->header_length], &type, sizeof(type));
  Send(origin->port, absl::MakeConstSpan(header).first(origin->header_length + sizeof(type)), packet, output);
}

void TapHandler::Send(uint32_t port, absl::Span<const uint8_t> header, absl::Span<const uint8_t> payload,
                      Output& output) {
  size_t count = 0;
  while (!payload.empty()) {
    if (count == segments_.size() || !output.Take(segments_[count])) {
      return output.Drop(absl::MakeConstSpan(segments_).first(count));
    }
    Segment& segment = segments_[count++];
    const size_t part = std::min<size_t>(payload.size(), segment.length - header.size());
    std::copy(header.begin(), header.end(), segment.data);
    std::copy_n(payload.begin(), part, segment.data + header.size());
    segment.length = static_cast<uint32_t>(header.size() + part);
    payload.remove_prefix(part);
    header = {};
  }
  output.Transmit(port, absl::MakeConstSpan(segments_).first(count));
}

void TapHandler::NoteFailure() {
  if (device_.is_gone()) failed_.store(true, std::memory_order_relaxed);
}

}  // namespace headgate
