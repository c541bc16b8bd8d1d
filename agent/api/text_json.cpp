// SPDX-License-Identifier: Apache-2.0
//
// JSON read as the YAML it almost is, after checking that it is JSON.
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <google/protobuf/message.h>

#include <nlohmann/json.hpp>

#include "agent/api/text.h"
#include "agent/base/status.h"

namespace headgate {
namespace {

// JSON escapes what is beyond 16 bits as two surrogates, YAML as one \U.
std::string JoinSurrogates(absl::string_view json) {
  const auto unit = [&](size_t at) {
    uint32_t value = 0;
    return json.substr(at, 2) == "\\u" && absl::SimpleHexAtoi(json.substr(at + 2, 4), &value) ? value : 0;
  };
  std::string out;
  out.reserve(json.size());
  for (size_t i = 0; i < json.size();) {
    const uint32_t high = unit(i);
    const uint32_t low = high >= 0xd800 && high <= 0xdbff && i + 12 <= json.size() ? unit(i + 6) : 0;
    if (low >= 0xdc00 && low <= 0xdfff) {
      absl::StrAppend(&out, "\\U", absl::Hex(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00), absl::kZeroPad8));
      i += 12;
    } else {
      const size_t step = json[i] == '\\' && i + 1 < json.size() ? 2 : 1;
      absl::StrAppend(&out, json.substr(i, step));
      i += step;
    }
  }
  return out;
}

absl::Status CheckJson(absl::string_view text, absl::string_view source) {
  using nlohmann::json;
  try {
    // Every value is discarded as it comes: only the syntax is of interest.
    const json none = json::parse(text.begin(), text.end(), [](int, json::parse_event_t, json&) { return false; });
  } catch (const json::parse_error& error) {
    // "[json.exception.parse_error.101] parse error at line 1, column 5: syntax error ..."
    const absl::string_view what = error.what();
    const size_t colon = what.find(": ");
    TextPosition position;
    for (const char c : text.substr(0, error.byte > 0 ? error.byte - 1 : 0)) {
      position = c == '\n' ? TextPosition{position.line + 1, 1} : TextPosition{position.line, position.column + 1};
    }
    return absl::InvalidArgumentError(absl::StrCat(source, ":", position.line, ":", position.column, ": not JSON: ",
                                                   colon == absl::string_view::npos ? what : what.substr(colon + 2)));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ParseJson(absl::string_view text, absl::string_view source_name, google::protobuf::Message& message,
                       SourceMap* positions) {
  message.Clear();
  if (text.size() > kMaxYamlBytes) {
    return absl::InvalidArgumentError(absl::StrCat(source_name, ":1:1: larger than ", kMaxYamlBytes >> 20, " MiB"));
  }
  HG_RETURN_IF_ERROR(CheckJson(text, source_name));
  // What is JSON is YAML but for the surrogates.
  return ParseYaml(text.find("\\u") == absl::string_view::npos ? std::string(text) : JoinSurrogates(text), source_name,
                   message, positions);
}

}  // namespace headgate
