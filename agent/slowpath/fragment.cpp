// SPDX-License-Identifier: Apache-2.0
#include "agent/slowpath/fragment.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/ip.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>

#include "agent/slowpath/checksum.h"

namespace headgate {
namespace {

constexpr uint32_t kUnit = 8;  // of offsets

// Options that only the first fragment has are filled in the others (RFC 791, section 3.1): so the header keeps
// its length, as Linux does it. `changed`: the checksum's change.
uint32_t FillOptions(uint8_t* options, uint32_t length) {
  uint32_t off = 0;
  for (uint32_t at = 0; at < length;) {
    const uint8_t type = options[at];
    if (type == IPOPT_EOL) break;
    const uint32_t size = type == IPOPT_NOP ? 1U : at + 1 < length ? options[at + 1] : 0U;
    if (size == 0 || at + size > length) break;  // malformed: left to the receiver
    if (type != IPOPT_NOP && !IPOPT_COPIED(type)) {
      for (uint32_t i = at; i < at + size; ++i) {
        uint8_t* const word = options + (i & ~1U);
        std::array<uint8_t, 2> now = {word[0], word[1]};
        now[i & 1U] = IPOPT_NOP;
        uint16_t value = 0;
        std::memcpy(&value, now.data(), sizeof(value));
        off += ReplaceWord(word, value);
      }
    }
    at += size;
  }
  return off;
}

}  // namespace

bool MayFragment(const uint8_t* ip) { return (ntohs(LoadWord(ip + offsetof(iphdr, frag_off))) & IP_DF) == 0; }

uint32_t FragmentRoom(uint32_t mtu, uint32_t header) {
  return mtu < header + kUnit ? 0 : (mtu - header) / kUnit * kUnit;
}

void WriteFragmentHeader(const FragmentPart& part, uint8_t* ip) {
  const uint32_t header = (ip[0] & 0xfU) * 4;
  const uint16_t before = ntohs(LoadWord(ip + offsetof(iphdr, frag_off)));
  auto now = static_cast<uint16_t>(before + part.offset / kUnit);
  // Of a fragment's fragments, the last is not the datagram's.
  if (!part.is_last) now |= IP_MF;
  uint32_t off = ReplaceWord(ip + offsetof(iphdr, frag_off), htons(now));
  off += ReplaceWord(ip + offsetof(iphdr, tot_len), htons(static_cast<uint16_t>(header + part.length)));
  if (part.offset != 0) off += FillOptions(ip + sizeof(iphdr), header - sizeof(iphdr));
  uint8_t* const check = ip + offsetof(iphdr, check);
  const uint16_t adjusted = AdjustedChecksum(LoadWord(check), off);
  std::memcpy(check, &adjusted, sizeof(adjusted));
}

void Gather(absl::Span<const Segment> segments, uint32_t offset, uint32_t length, uint8_t* to) {
  for (const Segment& segment : segments) {
    if (length == 0) return;
    if (offset >= segment.length) {
      offset -= segment.length;
      continue;
    }
    const uint32_t part = std::min(length, segment.length - offset);
    std::memcpy(to, segment.data + offset, part);
    to += part;
    length -= part;
    offset = 0;
  }
}

}  // namespace headgate
