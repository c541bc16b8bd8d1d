// SPDX-License-Identifier: Apache-2.0
//
// The internet checksum (RFC 1071) over parts of a packet that may lie in several segments, and how one follows
// what changes of what it covers (RFC 1624).
#pragma once

#include <absl/types/span.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "agent/slowpath/handler.h"

namespace headgate {

class Checksum {
 public:
  // `length` bytes from `offset` of the packet on, which it must have. What was added before was of even length.
  Checksum& Add(absl::Span<const Segment> segments, uint32_t offset, uint32_t length) {
    for (const Segment& segment : segments) {
      if (length == 0) break;
      if (offset >= segment.length) {
        offset -= segment.length;
        continue;
      }
      const uint32_t part = std::min(length, segment.length - offset);
      AddBytes(segment.data + offset, part);
      length -= part;
      offset = 0;
    }
    odd_ = false;
    return *this;
  }
  // Of a pseudo-header; below 65,536, host order.
  Checksum& AddNumber(uint32_t number) {
    sum_ += htons(static_cast<uint16_t>(number));
    return *this;
  }
  // For the header field, as it lies there; over what has its checksum in it, 0 when that is right.
  uint16_t Finish() const {
    uint64_t sum = sum_;
    while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
    return static_cast<uint16_t>(~sum);
  }

 private:
  void AddBytes(const uint8_t* data, uint32_t length) {
    uint64_t sum = 0;
    uint32_t left = length;
    for (; left >= 8; left -= 8, data += 8) {
      uint64_t word = 0;
      std::memcpy(&word, data, 8);
      sum += (word & 0xffffffff) + (word >> 32);
    }
    for (; left >= 2; left -= 2, data += 2) {
      uint16_t word = 0;
      std::memcpy(&word, data, 2);
      sum += word;
    }
    if (left != 0) sum += htons(static_cast<uint16_t>(*data << 8));
    while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
    // After an odd number of bytes the halves of words are the other way round (RFC 1071, section 2 B).
    if (odd_) sum = (sum >> 8 | sum << 8) & 0xffff;
    sum_ += sum;
    odd_ = odd_ != ((length & 1) != 0);
  }

  uint64_t sum_ = 0;
  bool odd_ = false;
};

// 16 bits as they lie there.
inline uint16_t LoadWord(const uint8_t* from) {
  uint16_t word = 0;
  std::memcpy(&word, from, sizeof(word));
  return word;
}

// Overwrites 16 bits; what that changes the sum by (RFC 1624, equation 3), to be added up for AdjustedChecksum.
inline uint32_t ReplaceWord(uint8_t* field, uint16_t now) {
  const uint16_t before = LoadWord(field);
  std::memcpy(field, &now, sizeof(now));
  return static_cast<uint16_t>(~before) + uint32_t{now};
}

inline uint16_t AdjustedChecksum(uint16_t check, uint32_t off) {
  uint32_t sum = static_cast<uint16_t>(~check) + off;
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}

}  // namespace headgate
