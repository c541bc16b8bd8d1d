// SPDX-License-Identifier: Apache-2.0
//
// IP addresses, prefixes and Ethernet addresses as values, with their text forms.
#pragma once

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

#include <array>
#include <compare>
#include <cstdint>
#include <string>
#include <utility>

namespace headgate {

enum class Family : uint8_t { kIpv4 = 4, kIpv6 = 6 };

// An address in host-order words, most significant first, as in the match key; IPv4 uses the first word.
struct IpAddress {
  std::array<uint32_t, 4> words{};
  Family family = Family::kIpv4;

  friend auto operator<=>(const IpAddress&, const IpAddress&) = default;
};

// A prefix whose bits beyond the length are zero.
struct Prefix {
  [[no_unique_address]] IpAddress address;  // its padding has room for the length
  uint8_t length = 0;                       // bits

  friend auto operator<=>(const Prefix&, const Prefix&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const Prefix& p) {
    return H::combine(std::move(h), p.address.words, p.address.family, p.length);
  }
};
static_assert(sizeof(Prefix) == 20, "a million of them are kept");

using MacAddress = std::array<uint8_t, 6>;

constexpr int AddressBits(Family family) { return family == Family::kIpv4 ? 32 : 128; }

// The mask of one word of an address for a prefix length: word 0 is the most significant.
constexpr uint32_t WordMask(int length, int word) {
  const int bits = length - 32 * word;
  if (bits <= 0) return 0;
  return bits >= 32 ? 0xffffffffU : ~(0xffffffffU >> bits);
}

bool Contains(const Prefix& prefix, const IpAddress& address);

// Errors say what was wrong with the text and what would be right.
absl::StatusOr<IpAddress> ParseAddress(absl::string_view text);
// An address alone is a prefix of full length. Bits beyond the length must be zero.
absl::StatusOr<Prefix> ParsePrefix(absl::string_view text);
absl::StatusOr<MacAddress> ParseMac(absl::string_view text);

std::string ToString(const IpAddress& address);
// Always with a length.
std::string ToString(const Prefix& prefix);
std::string ToString(const MacAddress& mac);

constexpr bool IsGroup(const MacAddress& mac) { return (mac[0] & 1) != 0; }
constexpr bool IsZero(const MacAddress& mac) { return mac == MacAddress{}; }

}  // namespace headgate
