// SPDX-License-Identifier: Apache-2.0
#include "bench/geneve.h"

#include <absl/strings/ascii.h>
#include <absl/strings/escaping.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>
#include <arpa/inet.h>

#include <algorithm>
#include <cstring>

namespace headgate::bench {
namespace {

// RFC 8926, section 3.4: lengths are in words of 4 bytes; of all options 6 bits, of one option's data 5.
constexpr size_t kWord = 4, kBaseBytes = 8, kOptionHeader = 4, kMaxOptions = kMaxGeneveBytes - kBaseBytes,
                 kMaxData = 124;
constexpr uint8_t kCritical = 0x80;     // in an option's type
constexpr uint8_t kHasCritical = 0x40;  // in the base header
constexpr uint8_t kLengthMask = 0x1f;   // in an option's fourth byte
constexpr uint32_t kMaxVni = 0xffffff;

bool HasCritical(const std::vector<uint8_t>& options) {
  for (size_t at = 0; at + kOptionHeader <= options.size();) {
    if ((options[at + 2] & kCritical) != 0) return true;
    at += kOptionHeader + kWord * (options[at + 3] & kLengthMask);
  }
  return false;
}

}  // namespace

absl::StatusOr<std::vector<uint8_t>> ParseGeneveOption(const std::string& text) {
  const std::vector<std::string> parts = absl::StrSplit(text, ':');
  uint32_t number = 0, type = 0;
  if (parts.size() != 3 || !absl::SimpleHexAtoi(parts[0], &number) || number > 0xffff ||
      !absl::SimpleHexAtoi(parts[1], &type) || type > 0xff) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\": CLASS:TYPE:DATA in hexadecimal, as 0108:01:0123456789abcdef"));
  }
  const std::string& hex = parts[2];
  if (hex.size() % (2 * kWord) != 0 || hex.size() > 2 * kMaxData ||
      !std::all_of(hex.begin(), hex.end(), [](char digit) { return absl::ascii_isxdigit(digit); })) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\": the data are hexadecimal digits of a multiple of 4 bytes up to 124"));
  }
  const std::string data = absl::HexStringToBytes(hex);
  std::vector<uint8_t> option = {static_cast<uint8_t>(number >> 8), static_cast<uint8_t>(number),
                                 static_cast<uint8_t>(type), static_cast<uint8_t>(data.size() / kWord)};
  option.insert(option.end(), data.begin(), data.end());
  return option;
}

uint32_t GeneveBytes(const GeneveSpec& spec) { return static_cast<uint32_t>(kBaseBytes + spec.options.size()); }

absl::Status ValidateGeneve(const GeneveSpec& spec) {
  if (spec.source.family != spec.destination.family) {
    return absl::InvalidArgumentError("GENEVE's source and destination are not of one address family");
  }
  if (spec.vni > kMaxVni) return absl::InvalidArgumentError(absl::StrCat("VNI ", spec.vni, ": it has 24 bits"));
  if (spec.options.size() > kMaxOptions) {
    return absl::InvalidArgumentError(absl::StrCat("GENEVE options of ", spec.options.size(),
                                                   " bytes with their headers: at most ", kMaxOptions));
  }
  return absl::OkStatus();
}

void WriteGeneve(const GeneveSpec& spec, uint16_t type, uint8_t* header) {
  const uint16_t wire_type = htons(type);
  const uint32_t wire_vni = htonl(spec.vni << 8);
  header[0] = static_cast<uint8_t>(spec.options.size() / kWord);
  header[1] = HasCritical(spec.options) ? kHasCritical : 0;
  std::memcpy(header + 2, &wire_type, sizeof(wire_type));
  std::memcpy(header + 4, &wire_vni, sizeof(wire_vni));
  std::copy(spec.options.begin(), spec.options.end(), header + kBaseBytes);
}

}  // namespace headgate::bench
