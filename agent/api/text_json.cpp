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

// Takes note of the first error and of nothing else.
class SyntaxChecker : public nlohmann::json_sax<nlohmann::json> {
 public:
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(size_t) override { return true; }
  bool key(string_t&) override { return true; }
  bool end_object() override { return true; }
  bool start_array(size_t) override { return true; }
  bool end_array() override { return true; }

  bool parse_error(size_t position, const std::string&, const nlohmann::json::exception& error) override {
    offset = position > 0 ? position - 1 : 0;
    // "[json.exception.parse_error.101] parse error at line 1, column 5: syntax error ..."
    what = error.what();
    const size_t prefix = what.find(": ") != std::string::npos ? what.find(": ") + 2 : what.find("] ") + 2;
    what = what.substr(prefix, 200);
    return false;
  }

  size_t offset = 0;
  std::string what;
};

absl::Status CheckJson(absl::string_view text, absl::string_view source) {
  SyntaxChecker checker;
  if (nlohmann::json::sax_parse(text.begin(), text.end(), &checker)) return absl::OkStatus();
  TextPosition position;
  for (const char c : text.substr(0, checker.offset)) {
    position = c == '\n' ? TextPosition{position.line + 1, 1} : TextPosition{position.line, position.column + 1};
  }
  return absl::InvalidArgumentError(
      absl::StrCat(source, ":", position.line, ":", position.column, ": not JSON: ", checker.what));
}

}  // namespace

absl::Status ParseJson(absl::string_view text, absl::string_view source_name, google::protobuf::Message& message,
                       SourceMap* positions) {
  message.Clear();
  if (text.size() > kMaxYamlBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(source_name, ":1:1: larger than ", kMaxYamlBytes >> 20, " MiB"));
  }
  HG_RETURN_IF_ERROR(CheckJson(text, source_name));
  // What is JSON is YAML but for the surrogates.
  return ParseYaml(text.find("\\u") == absl::string_view::npos ? std::string(text) : JoinSurrogates(text),
                   source_name, message, positions);
}

}  // namespace headgate
