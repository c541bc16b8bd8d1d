// SPDX-License-Identifier: Apache-2.0
//
// IPv4 fragmentation (RFC 791, section 3.2), of packets that may be fragments themselves.
#pragma once

#include <absl/types/span.h>

#include <cstdint>

#include "agent/slowpath/handler.h"

namespace headgate {

// Whether it may be fragmented. `ip`: its header.
bool MayFragment(const uint8_t* ip);

// One fragment of a packet: its part of the payload.
struct FragmentPart {
  uint32_t offset = 0;  // from the first byte after the header, a multiple of 8
  uint32_t length = 0;
  bool is_last = false;  // of this packet's
};

// Largest part of a payload that goes into a packet of `mtu` bytes with a header of `header`; 0: none does.
uint32_t FragmentRoom(uint32_t mtu, uint32_t header);

// Turns a copy of the packet's header into that of one of its fragments.
void WriteFragmentHeader(const FragmentPart& part, uint8_t* ip);

// Copies `length` bytes from `offset` on, which the segments have.
void Gather(absl::Span<const Segment> segments, uint32_t offset, uint32_t length, uint8_t* to);

}  // namespace headgate
