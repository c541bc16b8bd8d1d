// SPDX-License-Identifier: Apache-2.0
#include "agent/api/field_text.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>
#include <netinet/in.h>

#include <array>
#include <limits>
#include <utility>
#include <vector>

#include "agent/base/number.h"

namespace headgate::api {
namespace {

constexpr std::pair<absl::string_view, uint8_t> kProtocols[] = {
    {"icmp", IPPROTO_ICMP}, {"igmp", IPPROTO_IGMP}, {"ipip", IPPROTO_IPIP},       {"tcp", IPPROTO_TCP},
    {"udp", IPPROTO_UDP},   {"dccp", IPPROTO_DCCP}, {"gre", IPPROTO_GRE},         {"esp", IPPROTO_ESP},
    {"ah", IPPROTO_AH},     {"sctp", IPPROTO_SCTP}, {"udplite", IPPROTO_UDPLITE}, {"icmpv6", IPPROTO_ICMPV6}};

// From the lowest bit of the header's flags byte up (RFC 9293, section 3.1).
constexpr absl::string_view kTcpFlags[] = {"fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"};

}  // namespace

absl::StatusOr<uint8_t> ParseProtocol(absl::string_view text) {
  for (const auto& [name, number] : kProtocols) {
    if (text == name) return number;
  }
  uint32_t number = 0;
  if (ParseDigits(text, number) && number <= 255) return static_cast<uint8_t>(number);
  std::vector<absl::string_view> names;
  for (const auto& known : kProtocols) names.push_back(known.first);
  return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is not a protocol: use one of ",
                                                 absl::StrJoin(names, ", "), " or a number 0 to 255"));
}

std::string ProtocolText(uint8_t protocol) {
  for (const auto& [name, number] : kProtocols) {
    if (protocol == number) return std::string(name);
  }
  return absl::StrCat(protocol);
}

absl::StatusOr<PortRange> ParseRange(absl::string_view text) {
  const std::pair<absl::string_view, absl::string_view> ends = absl::StrSplit(text, absl::MaxSplits('-', 1));
  uint32_t first = 0, last = 0;
  const bool single = text.find('-') == absl::string_view::npos;
  if (!ParseDigits(ends.first, first) || !ParseDigits(single ? ends.first : ends.second, last) ||
      first > std::numeric_limits<uint16_t>::max() || last > std::numeric_limits<uint16_t>::max()) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\" is not a number or range of 0 to 65535: write \"53\" or \"9000-9099\""));
  }
  return PortRange{static_cast<uint16_t>(first), static_cast<uint16_t>(last)};
}

std::string RangeText(const PortRange& range) {
  return range.first == range.last ? absl::StrCat(range.first) : absl::StrCat(range.first, "-", range.last);
}

absl::StatusOr<TcpFlagMatch> ParseTcpFlags(absl::string_view text) {
  TcpFlagMatch flags;
  for (absl::string_view part : absl::StrSplit(text, ',')) {
    part = absl::StripAsciiWhitespace(part);
    const bool clear = absl::ConsumePrefix(&part, "!");
    size_t bit = 0;
    while (bit < std::size(kTcpFlags) && kTcpFlags[bit] != part) ++bit;
    if (bit == std::size(kTcpFlags)) {
      return absl::InvalidArgumentError(absl::StrCat("\"", part, "\" is not a TCP flag: use ",
                                                     absl::StrJoin(kTcpFlags, ", "),
                                                     ", with ! for those that must be clear"));
    }
    const auto mask = static_cast<uint8_t>(1U << bit);
    if ((flags.mask & mask) != 0) {
      return absl::InvalidArgumentError(absl::StrCat("TCP flag ", part, " is given twice"));
    }
    flags.mask |= mask;
    if (!clear) flags.value |= mask;
  }
  return flags;
}

std::string TcpFlagsText(const TcpFlagMatch& flags) {
  std::vector<std::string> parts;
  for (size_t bit = 0; bit < std::size(kTcpFlags); ++bit) {
    if ((flags.mask >> bit & 1) == 0) continue;
    parts.push_back(absl::StrCat((flags.value >> bit & 1) != 0 ? "" : "!", kTcpFlags[bit]));
  }
  return absl::StrJoin(parts, ",");
}

}  // namespace headgate::api
