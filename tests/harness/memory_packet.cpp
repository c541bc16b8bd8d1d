// SPDX-License-Identifier: Apache-2.0
#include "tests/harness/memory_packet.h"

#include <netinet/in.h>

#include <algorithm>
#include <span>

namespace headgate::testing {
namespace {

uint16_t Read16(const Bytes& frame, size_t at) {
  return static_cast<uint16_t>(frame.at(at) << 8 | frame.at(at + 1));
}

bool HasPorts(uint8_t protocol) {
  return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_UDPLITE ||
         protocol == IPPROTO_SCTP || protocol == IPPROTO_DCCP;
}

void ReadIpv4(const Bytes& frame, hg_steer_meta& meta) {
  meta.kind |= HG_KIND_IPV4 | HG_KIND_IP;
  meta.l4 = static_cast<uint16_t>(meta.l3 + (frame.at(meta.l3) & 15) * 4);
  const unsigned fragment = Read16(frame, meta.l3 + 6);
  const bool later = (fragment & 0x1fff) != 0;
  if ((fragment & 0x3fff) != 0) meta.kind |= HG_KIND_FRAGMENT;
  if (later) meta.kind |= HG_KIND_LATER;
  if (!later && HasPorts(frame.at(meta.l3 + 9))) meta.kind |= HG_KIND_PORTS;
}

void ReadIpv6(const Bytes& frame, hg_steer_meta& meta) {
  meta.kind |= HG_KIND_IPV6 | HG_KIND_IP;
  uint8_t next = frame.at(meta.l3 + 6);
  size_t at = meta.l3 + 40U;
  while (next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_DSTOPTS ||
         next == IPPROTO_FRAGMENT) {
    if (next == IPPROTO_FRAGMENT) {
      meta.kind |= HG_KIND_FRAGMENT;
      if ((Read16(frame, at + 2) & 0xfff8) != 0) meta.kind |= HG_KIND_LATER;
    }
    const size_t length = next == IPPROTO_FRAGMENT ? 8 : (frame.at(at + 1) + 1U) * 8;
    next = frame.at(at);
    at += length;
  }
  meta.l4 = static_cast<uint16_t>(at);
  if ((meta.kind & HG_KIND_LATER) == 0 && HasPorts(next)) meta.kind |= HG_KIND_PORTS;
}

}  // namespace

hg_steer_meta SteerMeta(const Bytes& frame) {
  hg_steer_meta meta{};
  size_t at = 12;
  uint16_t type = Read16(frame, at);
  for (at += 2; type == 0x8100 || type == 0x88a8; at += 4) type = Read16(frame, at + 2);
  meta.l3 = meta.l4 = static_cast<uint16_t>(at);
  if (type == 0x0800) ReadIpv4(frame, meta);
  if (type == 0x86dd) ReadIpv6(frame, meta);
  return meta;
}

MemoryPacket::MemoryPacket(const Bytes& frame, const std::vector<size_t>& splits) {
  std::vector<size_t> ends = splits;
  ends.push_back(frame.size());
  size_t begin = 0;
  for (const size_t end : ends) {
    const std::span<const uint8_t> part = std::span(frame).subspan(begin, end - begin);
    auto memory = std::make_unique<uint8_t[]>(part.size());
    std::copy(part.begin(), part.end(), memory.get());
    segments_.push_back({0, memory.get(), static_cast<uint32_t>(part.size())});
    memory_.push_back(std::move(memory));
    begin = end;
  }
  packet_.meta = SteerMeta(frame);
  packet_.segments = absl::MakeSpan(segments_);
  packet_.length = static_cast<uint32_t>(frame.size());
}

Bytes MemoryPacket::bytes() const {
  Bytes all;
  for (const Segment& segment : segments_) all.insert(all.end(), segment.data, segment.data + segment.length);
  return all;
}

}  // namespace headgate::testing
