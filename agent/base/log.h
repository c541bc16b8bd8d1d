// SPDX-License-Identifier: Apache-2.0
//
// The log: spdlog, one line an event, as text or as JSON, on standard error.
#pragma once

#include <absl/status/status.h>
#include <absl/strings/string_view.h>
#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>

#include <initializer_list>
#include <string>

template <>
struct fmt::formatter<absl::string_view> : fmt::formatter<fmt::string_view> {
  template <typename Context>
  auto format(absl::string_view text, Context& context) const {
    return fmt::formatter<fmt::string_view>::format({text.data(), text.size()}, context);
  }
};

// "NOT_FOUND: what was tried"
template <>
struct fmt::formatter<absl::Status> : fmt::formatter<fmt::string_view> {
  template <typename Context>
  auto format(const absl::Status& status, Context& context) const {
    return fmt::formatter<fmt::string_view>::format(status.ToString(absl::StatusToStringMode::kWithNoExtraData),
                                                    context);
  }
};

namespace headgate {

enum class LogFormat { kText, kJson };

void SetUpLog(LogFormat format);

// A field of a structured log line: numbers and strings.
struct LogField {
  LogField(const char* key, absl::string_view value) : name(key), text(value), quoted(true) {}
  LogField(const char* key, const std::string& value) : LogField(key, absl::string_view(value)) {}
  LogField(const char* key, const char* value) : LogField(key, absl::string_view(value)) {}
  LogField(const char* key, const absl::Status& value)
      : LogField(key, absl::string_view(value.ToString(absl::StatusToStringMode::kWithNoExtraData))) {}
  template <typename Number>
  LogField(const char* key, Number value) : name(key), text(std::to_string(value)) {}

  const char* name;
  std::string text;
  bool quoted = false;
};

// An event with its fields: "event key=value ..." as text, members of their own in JSON.
void Log(spdlog::level::level_enum level, absl::string_view event, std::initializer_list<LogField> fields = {});

// trace, debug, info, warn, error.
absl::Status SetLogLevel(absl::string_view level);
std::string LogLevel();

}  // namespace headgate
