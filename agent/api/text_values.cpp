// SPDX-License-Identifier: Apache-2.0
#include "agent/api/text_values.h"

#include <absl/strings/ascii.h>
#include <absl/strings/escaping.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>
#include <absl/strings/strip.h>
#include <google/protobuf/descriptor.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <numeric>
#include <utility>

namespace headgate {
namespace {

constexpr int64_t kMaxDurationSeconds = 315'576'000'000;  // google/protobuf/duration.proto
constexpr char kTimeFormat[] = "%E4Y-%m-%dT%H:%M:%E*SZ";

// AttachMode: "ATTACH_MODE_".
std::string EnumPrefix(const google::protobuf::EnumDescriptor& type) {
  std::string prefix;
  for (const char c : type.name()) {
    if (absl::ascii_isupper(static_cast<unsigned char>(c)) && !prefix.empty()) prefix += '_';
    prefix += absl::ascii_toupper(static_cast<unsigned char>(c));
  }
  return prefix + "_";
}

// The number of single-character edits between two words (Levenshtein), transpositions counted as one.
size_t EditDistance(absl::string_view a, absl::string_view b) {
  std::vector<size_t> before(b.size() + 1), row(b.size() + 1), next(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    next[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      next[j] = std::min({row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        next[j] = std::min(next[j], before[j - 2] + 1);
    }
    std::swap(before, row);
    std::swap(row, next);
  }
  return row[b.size()];
}

// sourcePorts and source-ports are source_ports to whoever looks for the nearest key.
std::string Normalised(absl::string_view text) {
  std::string result;
  for (const char c : text) {
    if (absl::ascii_isupper(static_cast<unsigned char>(c)) && !result.empty() && result.back() != '_' &&
        absl::ascii_islower(static_cast<unsigned char>(text[0]))) {
      result += '_';
    }
    result += c == '-' || c == ' ' ? '_' : absl::ascii_tolower(static_cast<unsigned char>(c));
  }
  return result;
}

}  // namespace

std::string EnumText(const google::protobuf::EnumValueDescriptor& value) {
  absl::string_view name = value.name();
  absl::ConsumePrefix(&name, EnumPrefix(*value.type()));
  return absl::AsciiStrToLower(name);
}

const google::protobuf::EnumValueDescriptor* FindEnumText(const google::protobuf::EnumDescriptor& type,
                                                          absl::string_view text) {
  for (int i = 0; i < type.value_count(); ++i) {
    if (EnumText(*type.value(i)) == text) return type.value(i);
  }
  return nullptr;
}

std::vector<std::string> EnumTexts(const google::protobuf::EnumDescriptor& type) {
  std::vector<std::string> texts;
  for (int i = 0; i < type.value_count(); ++i) {
    if (type.value(i)->number() != 0) texts.push_back(EnumText(*type.value(i)));
  }
  return texts;
}

absl::StatusOr<absl::Duration> ParseDurationText(absl::string_view text) {
  absl::Duration duration;
  if (!absl::ParseDuration(text, &duration) || duration == absl::InfiniteDuration() ||
      duration == -absl::InfiniteDuration()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "\"", text, "\" is not a duration: write a number and a unit, like 60s, 1.5s, 500ms, 2m or 1h"));
  }
  if (absl::AbsDuration(duration) > absl::Seconds(kMaxDurationSeconds)) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\": at most ", kMaxDurationSeconds, "s are possible"));
  }
  return absl::Trunc(duration, absl::Nanoseconds(1));
}

std::string DurationText(absl::Duration duration) {
  const char* sign = duration < absl::ZeroDuration() ? "-" : "";
  duration = absl::AbsDuration(duration);
  const int64_t seconds = absl::IDivDuration(duration, absl::Seconds(1), &duration);
  const int64_t nanos = absl::ToInt64Nanoseconds(duration);
  if (nanos == 0) return absl::StrCat(sign, seconds, "s");
  if (seconds == 0 && nanos % 1'000'000 == 0) return absl::StrCat(sign, nanos / 1'000'000, "ms");
  const std::string fraction = absl::StrFormat("%09d", nanos);
  return absl::StrCat(sign, seconds, ".", fraction.substr(0, fraction.find_last_not_of('0') + 1), "s");
}

absl::StatusOr<absl::Time> ParseTimeText(absl::string_view text) {
  absl::Time time;
  std::string error;
  if (!absl::ParseTime(absl::RFC3339_full, text, &time, &error) || time == absl::InfiniteFuture() ||
      time == absl::InfinitePast()) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\" is not a time: write it by RFC 3339, like 2026-01-31T12:00:00Z"));
  }
  const int64_t year = absl::ToCivilYear(time, absl::UTCTimeZone()).year();
  if (year < 1 || year > 9999) {
    return absl::InvalidArgumentError(absl::StrCat("\"", text, "\": years are 1 to 9999"));
  }
  return absl::FromUnixSeconds(0) + absl::Floor(time - absl::UnixEpoch(), absl::Nanoseconds(1));
}

std::string TimeText(absl::Time time) { return absl::FormatTime(kTimeFormat, time, absl::UTCTimeZone()); }

absl::StatusOr<std::string> ParseHex(absl::string_view text) {
  const auto fail = [&] {
    return absl::InvalidArgumentError("bytes are written as pairs of hex digits, like 0200 00ff");
  };
  std::string digits;
  for (const char c : text) {
    if (absl::ascii_isxdigit(static_cast<unsigned char>(c))) {
      digits += c;
    } else if ((c != ':' && c != '-' && !absl::ascii_isspace(static_cast<unsigned char>(c))) ||
               digits.size() % 2 != 0) {
      return fail();
    }
  }
  if (digits.size() % 2 != 0) return fail();
  return absl::HexStringToBytes(digits);
}

std::string Nearest(absl::string_view text, const std::vector<std::string>& candidates) {
  if (text.empty() || text.size() > 64) return "";
  const std::string wanted = Normalised(text);
  std::string best;
  size_t best_distance = 0;
  for (const std::string& candidate : candidates) {
    const size_t distance = EditDistance(wanted, candidate);
    if (best.empty() || distance < best_distance) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best_distance <= std::max<size_t>(1, std::min(wanted.size(), best.size()) / 3) ? best : "";
}

std::string Suggest(absl::string_view text, absl::string_view what, const std::vector<std::string>& candidates) {
  const std::string nearest = Nearest(text, candidates);
  return absl::StrCat(nearest.empty() ? "" : absl::StrCat("; did you mean \"", nearest, "\"?"),
                      nearest.empty() ? "; " : " ", what, ": ",
                      candidates.empty() ? "none" : absl::StrJoin(candidates, ", "));
}

}  // namespace headgate
