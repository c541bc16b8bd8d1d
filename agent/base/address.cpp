// SPDX-License-Identifier: Apache-2.0
#include "agent/base/address.h"

#include <absl/strings/ascii.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_split.h>
#include <arpa/inet.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "agent/base/number.h"

namespace headgate {

bool Contains(const Prefix& prefix, const IpAddress& address) {
  if (prefix.address.family != address.family) return false;
  for (int i = 0; i < 4; ++i) {
    if (((prefix.address.words[i] ^ address.words[i]) & WordMask(prefix.length, i)) != 0) return false;
  }
  return true;
}

absl::StatusOr<IpAddress> ParseAddress(absl::string_view text) {
  const std::string copy(text);
  IpAddress address;
  // What follows a zero byte would not be looked at.
  const bool whole = text.find('\0') == absl::string_view::npos;
  if (in_addr v4{}; whole && inet_pton(AF_INET, copy.c_str(), &v4) == 1) {
    address.words[0] = ntohl(v4.s_addr);
    return address;
  }
  if (in6_addr v6{}; whole && inet_pton(AF_INET6, copy.c_str(), &v6) == 1) {
    if (IN6_IS_ADDR_V4MAPPED(&v6)) {
      return absl::InvalidArgumentError(
          absl::StrCat("\"", text, "\" is an IPv4-mapped address: write the IPv4 address itself"));
    }
    address.family = Family::kIpv6;
    for (int i = 0; i < 4; ++i) {
      uint32_t word = 0;
      std::memcpy(&word, v6.s6_addr + 4 * i, sizeof(word));
      address.words[i] = ntohl(word);
    }
    return address;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("\"", text, "\" is not an IP address: write one like 192.0.2.1 or 2001:db8::1"));
}

absl::StatusOr<Prefix> ParsePrefix(absl::string_view text) {
  const std::pair<absl::string_view, absl::string_view> parts = absl::StrSplit(text, absl::MaxSplits('/', 1));
  absl::StatusOr<IpAddress> address = ParseAddress(parts.first);
  if (!address.ok()) return address.status();
  Prefix prefix{*address, static_cast<uint8_t>(AddressBits(address->family))};
  if (text.find('/') == absl::string_view::npos) return prefix;

  uint32_t length = 0;
  if (!ParseDigits(parts.second, length) || length > prefix.length) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\": the prefix length must be 0 to ", prefix.length));
  }
  prefix.length = static_cast<uint8_t>(length);
  for (int i = 0; i < 4; ++i) prefix.address.words[i] &= WordMask(prefix.length, i);
  if (prefix.address != *address) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\" has bits set beyond its length: did you mean ", ToString(prefix), "?"));
  }
  return prefix;
}

absl::StatusOr<MacAddress> ParseMac(absl::string_view text) {
  const std::string copy(text);
  MacAddress mac{};
  const bool form = copy.size() == 17 && std::all_of(copy.begin(), copy.end(), [](char c) {
                      return c == ':' || absl::ascii_isxdigit(static_cast<unsigned char>(c));
                    });
  int used = 0;
  if (!form ||
      std::sscanf(copy.c_str(), "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", &mac[0], &mac[1], &mac[2], &mac[3],
                  &mac[4], &mac[5], &used) != 6 ||
      static_cast<size_t>(used) != copy.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\" is not an Ethernet address: write one like 02:00:00:00:00:01"));
  }
  return mac;
}

std::string ToString(const IpAddress& address) {
  char buffer[INET6_ADDRSTRLEN];
  uint32_t words[4];
  for (int i = 0; i < 4; ++i) words[i] = htonl(address.words[i]);
  inet_ntop(address.family == Family::kIpv4 ? AF_INET : AF_INET6, words, buffer, sizeof(buffer));
  return buffer;
}

std::string ToString(const Prefix& prefix) { return absl::StrCat(ToString(prefix.address), "/", prefix.length); }

std::string ToString(const MacAddress& mac) {
  return absl::StrFormat("%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
}

}  // namespace headgate
