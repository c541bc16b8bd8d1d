// SPDX-License-Identifier: Apache-2.0
//
// What the checks of all kinds of objects share.
#pragma once

#include <absl/strings/ascii.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/string_view.h>

#include <algorithm>
#include <optional>
#include <string>

#include "agent/control/change.h"
#include "agent/control/model.h"

namespace headgate {

inline constexpr char kMissing[] = "there is no ";
inline constexpr uint16_t kMaxVlan = 4094;

// Collects violations of one object, with paths below the object's.
class Checker {
 public:
  Checker(const std::string& path, Violations& violations) : path_(path), violations_(violations) {}

  static constexpr size_t kMaxName = 63;
  static constexpr size_t kMaxPortRanges = 32;

  template <typename... Parts>
  void Fail(absl::string_view field, const Parts&... description) {
    violations_.push_back({field.empty() ? path_ : absl::StrCat(path_, ".", field), absl::StrCat(description...)});
  }

  void Name(absl::string_view name, absl::string_view field = "name") {
    if (name.empty()) {
      Fail(field, "a name is needed");
    } else if (name.size() > kMaxName || !std::all_of(name.begin(), name.end(), [](char c) {
                 return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '.' || c == '-';
               })) {
      Fail(field, "\"", name, "\": names are 1 to ", kMaxName, " characters of A-Z a-z 0-9 _ . -");
    }
  }

  template <typename Table>
  void Exists(absl::string_view field, absl::string_view kind, const Table& table, absl::string_view name) {
    if (!name.empty() && !table.Get(name)) Fail(field, kMissing, kind, " \"", name, "\"");
  }

  void Vlan(absl::string_view field, const std::optional<uint16_t>& vlan) {
    if (vlan && *vlan > kMaxVlan) Fail(field, *vlan, ": VLAN ids are 0 to ", kMaxVlan);
  }

  void Unicast(absl::string_view field, const MacAddress& mac) {
    if (IsGroup(mac) || IsZero(mac)) Fail(field, ToString(mac), " is not a unicast Ethernet address");
  }

  void Ports(absl::string_view field, const PortRanges& ranges) {
    if (ranges.size() > kMaxPortRanges) {
      Fail(field, ranges.size(), " ranges: at most ", kMaxPortRanges, " are possible; use several rules");
    }
    for (const PortRange& range : ranges) {
      if (range.first > range.last) {
        Fail(field, "\"", range.first, "-", range.last, "\": the first port must not be above the last");
      }
    }
  }

 private:
  const std::string& path_;
  Violations& violations_;
};

inline void CheckRateLimit(const RateLimit& limit, const std::string& field, Checker& check) {
  constexpr uint64_t kMaxPacketsPerSecond = 1'000'000'000;
  constexpr uint64_t kMinBitsPerSecond = 1'000;
  constexpr uint64_t kMaxBitsPerSecond = 1'000'000'000'000;
  constexpr uint64_t kMaxBurstSeconds = 3600;
  if ((limit.packets_per_second != 0) == (limit.bits_per_second != 0)) {
    check.Fail(field, "exactly one of packets_per_second and bits_per_second is needed");
    return;
  }
  if (limit.packets_per_second > kMaxPacketsPerSecond) {
    check.Fail(field + ".packets_per_second", "must be 1 to ", kMaxPacketsPerSecond);
  }
  if (limit.bits_per_second != 0 &&
      (limit.bits_per_second < kMinBitsPerSecond || limit.bits_per_second > kMaxBitsPerSecond)) {
    check.Fail(field + ".bits_per_second", "must be ", kMinBitsPerSecond, " to ", kMaxBitsPerSecond);
  }
  const uint64_t rate = std::min(std::max(limit.packets_per_second, limit.bits_per_second), kMaxBitsPerSecond);
  if (limit.burst > rate * kMaxBurstSeconds) {
    check.Fail(field + ".burst", "more than the rate gives in an hour");
  }
}

}  // namespace headgate
