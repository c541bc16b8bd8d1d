// SPDX-License-Identifier: Apache-2.0
//
// Numbers and checksums of IGMP and MLD.
#pragma once

#include <absl/types/span.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "agent/base/address.h"

namespace headgate::wire {

inline constexpr uint8_t kIgmp = 2;
inline constexpr uint8_t kIcmp6 = 58;
inline constexpr size_t kIp6Header = 40;

inline constexpr uint8_t kIgmpQuery = 0x11, kIgmpReport1 = 0x12, kIgmpReport2 = 0x16, kIgmpLeave = 0x17,
                         kIgmpReport3 = 0x22;
inline constexpr uint8_t kMldQuery = 130, kMldReport1 = 131, kMldDone = 132, kMldReport2 = 143;

inline constexpr IpAddress kAllHosts4{{0xe0000001}, Family::kIpv4};
inline constexpr IpAddress kAllRouters4{{0xe0000002}, Family::kIpv4};
inline constexpr IpAddress kAllIgmp3Routers{{0xe0000016}, Family::kIpv4};
inline constexpr IpAddress kAllNodes6{{0xff020000, 0, 0, 1}, Family::kIpv6};

inline uint16_t Word(const uint8_t* at) { return static_cast<uint16_t>(at[0] << 8 | at[1]); }
inline uint32_t Word32(const uint8_t* at) { return uint32_t{Word(at)} << 16 | Word(at + 2); }

constexpr size_t AddressBytes(Family family) { return family == Family::kIpv4 ? 4 : 16; }

inline IpAddress ReadAddress(const uint8_t* at, Family family) {
  IpAddress address{.family = family};
  for (size_t i = 0; i < AddressBytes(family) / 4; ++i) address.words[i] = Word32(at + 4 * i);
  return address;
}

// Of bytes on their way to a ones' complement sum (RFC 1071).
inline uint32_t Sum(absl::Span<const uint8_t> bytes, uint32_t sum = 0) {
  for (size_t i = 0; i + 1 < bytes.size(); i += 2) sum += Word(&bytes[i]);
  if (bytes.size() % 2 != 0) sum += uint32_t{bytes.back()} << 8;
  return (sum & 0xffff) + (sum >> 16);
}

inline uint16_t Fold(uint32_t sum) {
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}

// Of ICMPv6 with its pseudo-header (RFC 8200, section 8.1). `addresses`: source and destination as in the header.
inline uint16_t Icmp6Checksum(absl::Span<const uint8_t> addresses, absl::Span<const uint8_t> message) {
  return Fold(Sum(message, Sum(addresses) + static_cast<uint32_t>(message.size()) + kIcmp6));
}

// A number as RFC 3376, section 4.1.1, and RFC 3810, section 5.1.3, write it: from 2^(mantissa + 3) on as a
// mantissa with a hidden one and a 3-bit exponent; rounded down.
constexpr uint32_t Encode(uint32_t value, int mantissa) {
  const uint32_t linear = 1U << (mantissa + 3), hidden = 1U << mantissa;
  if (value < linear) return value;
  value = std::min(value, (2 * hidden - 1) << 10);
  const int exponent = std::bit_width(value) - mantissa - 1 - 3;
  return linear | static_cast<uint32_t>(exponent) << mantissa | (value >> (exponent + 3) & (hidden - 1));
}

constexpr uint32_t Decode(uint32_t code, int mantissa) {
  const uint32_t linear = 1U << (mantissa + 3), hidden = 1U << mantissa;
  if (code < linear) return code;
  return ((code & (hidden - 1)) | hidden) << ((code >> mantissa & 7) + 3);
}

inline constexpr int kByteMantissa = 4;   // IGMP's response time, and the query interval of both
inline constexpr int kWordMantissa = 12;  // MLD's response time
inline constexpr std::chrono::milliseconds kIgmpTick{100};

}  // namespace headgate::wire
