// SPDX-License-Identifier: Apache-2.0
//
// Messages as YAML and JSON, by reflection, for every message of the API. Keys are the field names; enum values
// are lower case without their prefix; bytes are hex, google.protobuf.Duration is "1.5s", Timestamp is RFC 3339;
// 64-bit integers are numbers in JSON too. Fields at their default are left out unless their presence means
// something. ToYaml and ToJson write what ParseYaml and ParseJson read.
#pragma once

#include <absl/status/status.h>
#include <absl/strings/string_view.h>

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "agent/api/yaml_document.h"

namespace google::protobuf {
class Message;
}  // namespace google::protobuf

namespace headgate {

// Where the values of a parsed document stand.
class SourceMap {
 public:
  // The position of "rules[3].match.source", or of the innermost part of that path which the document has (an
  // error may be about a field that is missing). None when nothing was parsed.
  std::optional<TextPosition> Find(absl::string_view path) const;

 private:
  friend absl::Status ParseYaml(absl::string_view, absl::string_view, google::protobuf::Message&, SourceMap*);
  std::shared_ptr<const YamlDocument> document_;
};

// Replaces `message`. Strict: unknown and duplicate keys, values of another type or out of range and two members
// of a oneof are all refused. The error lists everything found, a line each: "SOURCE:LINE:COLUMN:
// path.to[2].field: what is wrong and what would be right". The message is then left with what could be read.
// `positions` is set whenever the text is YAML at all.
absl::Status ParseYaml(absl::string_view text, absl::string_view source_name, google::protobuf::Message& message,
                       SourceMap* positions = nullptr);

// The same, and the text must be JSON (RFC 8259).
absl::Status ParseJson(absl::string_view text, absl::string_view source_name, google::protobuf::Message& message,
                       SourceMap* positions = nullptr);

nlohmann::ordered_json ToJson(const google::protobuf::Message& message);
// Indented by two; with `indent` negative on one line.
std::string ToJsonText(const google::protobuf::Message& message, int indent = 2);
// Ends with a newline.
std::string ToYaml(const google::protobuf::Message& message);

}  // namespace headgate
