// SPDX-License-Identifier: Apache-2.0
#include "agent/base/log.h"

#include <absl/strings/str_cat.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <chrono>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>

namespace headgate {
namespace {

constexpr const char* kLevels[] = {"trace", "debug", "info", "warn", "error"};

std::string Time(std::chrono::system_clock::time_point time) {
  const auto since = time.time_since_epoch();
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(since).count();
  const std::time_t seconds = ms / 1000;
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  char text[64];
  const size_t length = std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &utc);
  return absl::StrCat(absl::string_view(text, length), fmt::format(".{:03}Z", ms % 1000));
}

// What Log() is writing on this thread: formatters run within the call.
struct Structured {
  absl::string_view event;
  std::initializer_list<LogField> fields;
};
thread_local const Structured* current = nullptr;

// spdlog's patterns cannot escape and know no fields, so JSON lines are made here.
class JsonFormatter : public spdlog::formatter {
 public:
  void format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& out) override {
    nlohmann::ordered_json line = {
        {"time", Time(message.time)},
        {"level", kLevels[std::min<size_t>(static_cast<size_t>(message.level), std::size(kLevels) - 1)]},
        {"message",
         current ? std::string(current->event) : std::string(message.payload.data(), message.payload.size())}};
    if (current != nullptr) {
      for (const LogField& field : current->fields) {
        line[field.name] =
            field.quoted ? nlohmann::ordered_json(field.text) : nlohmann::ordered_json::parse(field.text);
      }
    }
    const std::string text = line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + '\n';
    out.append(text.data(), text.data() + text.size());
  }
  std::unique_ptr<spdlog::formatter> clone() const override { return std::make_unique<JsonFormatter>(); }
};

}  // namespace

void SetUpLog(LogFormat format) {
  auto sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
  auto logger = std::make_shared<spdlog::logger>("headgated", sink);
  if (format == LogFormat::kJson) {
    logger->set_formatter(std::make_unique<JsonFormatter>());
  } else {
    logger->set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %l %v", spdlog::pattern_time_type::utc);
  }
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
}

void Log(spdlog::level::level_enum level, absl::string_view event, std::initializer_list<LogField> fields) {
  if (!spdlog::should_log(level)) return;
  std::string text(event);
  for (const LogField& field : fields) {
    const bool quote = field.quoted && field.text.find_first_of(" \"=") != std::string::npos;
    absl::StrAppend(&text, " ", field.name, "=",
                    quote
                        ? nlohmann::json(field.text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)
                        : field.text);
  }
  const Structured structured{event, fields};
  current = &structured;
  spdlog::log(level, "{}", text);
  current = nullptr;
}

absl::Status SetLogLevel(absl::string_view level) {
  for (size_t i = 0; i < std::size(kLevels); ++i) {
    if (level == kLevels[i]) {
      spdlog::set_level(static_cast<spdlog::level::level_enum>(i));
      return absl::OkStatus();
    }
  }
  return absl::InvalidArgumentError(
      absl::StrCat("\"", level, "\" is not a log level: trace, debug, info, warn or error"));
}

std::string LogLevel() {
  return kLevels[std::min<size_t>(static_cast<size_t>(spdlog::get_level()), std::size(kLevels) - 1)];
}

}  // namespace headgate
