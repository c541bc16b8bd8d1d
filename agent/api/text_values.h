// SPDX-License-Identifier: Apache-2.0
//
// Single values as text: how enum values are spelled, durations, times, bytes; and what somebody who wrote
// something else may have meant.
#pragma once

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>
#include <absl/time/time.h>

#include <string>
#include <vector>

namespace google::protobuf {
class EnumDescriptor;
class EnumValueDescriptor;
}  // namespace google::protobuf

namespace headgate {

// ATTACH_MODE_NATIVE of AttachMode: "native".
std::string EnumText(const google::protobuf::EnumValueDescriptor& value);
// Null when there is none of that spelling.
const google::protobuf::EnumValueDescriptor* FindEnumText(const google::protobuf::EnumDescriptor& type,
                                                          absl::string_view text);
// All spellings but that of "not given".
std::vector<std::string> EnumTexts(const google::protobuf::EnumDescriptor& type);

// "60s", "1.5s", "500ms", "2m", "1h30m"; a unit is needed. Written in seconds, or in milliseconds below one.
absl::StatusOr<absl::Duration> ParseDurationText(absl::string_view text);
std::string DurationText(absl::Duration duration);

// RFC 3339, years 1 to 9999; written in UTC.
absl::StatusOr<absl::Time> ParseTimeText(absl::string_view text);
std::string TimeText(absl::Time time);

// Pairs of hex digits; blanks, ':' and '-' may stand between pairs.
absl::StatusOr<std::string> ParseHex(absl::string_view text);

// The candidate that `text` is most likely a misspelling of; empty when none is near.
std::string Nearest(absl::string_view text, const std::vector<std::string>& candidates);

// "; did you mean \"device\"? Keys here: name, device, mode" for what = "Keys here".
std::string Suggest(absl::string_view text, absl::string_view what, const std::vector<std::string>& candidates);

}  // namespace headgate
