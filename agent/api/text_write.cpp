// SPDX-License-Identifier: Apache-2.0
//
// From messages to JSON values by reflection, and from those to text. YAML is laid out for people: what fits on a
// line is written on one, strings are in quotes wherever some YAML reader would take them for something else.
#include <absl/strings/ascii.h>
#include <absl/strings/escaping.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/time/time.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <vector>

#include "agent/api/text.h"
#include "agent/api/text_values.h"

namespace headgate {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using nlohmann::ordered_json;

constexpr size_t kYamlColumns = 100;

int64_t IntegerField(const Message& message, const char* name) {
  const FieldDescriptor* field = message.GetDescriptor()->FindFieldByName(name);
  const Reflection& reflection = *message.GetReflection();
  return field->cpp_type() == FieldDescriptor::CPPTYPE_INT64 ? reflection.GetInt64(message, field)
                                                             : reflection.GetInt32(message, field);
}

ordered_json MessageValue(const Message& message) {
  const std::string& type = message.GetDescriptor()->full_name();
  if (type == "google.protobuf.Duration") {
    return DurationText(absl::Seconds(IntegerField(message, "seconds")) +
                        absl::Nanoseconds(IntegerField(message, "nanos")));
  }
  if (type == "google.protobuf.Timestamp") {
    return TimeText(absl::FromUnixSeconds(IntegerField(message, "seconds")) +
                    absl::Nanoseconds(IntegerField(message, "nanos")));
  }
  return ToJson(message);
}

// JSON has no number for these; ".inf" and so on as YAML spells them.
ordered_json RealValue(double value) {
  if (std::isnan(value)) return ".nan";
  if (std::isinf(value)) return value > 0 ? ".inf" : "-.inf";
  return value;
}

ordered_json EnumValue(const FieldDescriptor& field, int number) {
  const auto* value = field.enum_type()->FindValueByNumber(number);
  // A number this program does not know comes from a newer one.
  if (value == nullptr) return number;
  return EnumText(*value);
}

// The field's value, or its element `i` when it is repeated.
ordered_json FieldValue(const Message& m, const FieldDescriptor& field, int i) {
  const Reflection& r = *m.GetReflection();
  const FieldDescriptor* f = &field;
  const bool list = field.is_repeated();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return list ? r.GetRepeatedInt32(m, f, i) : r.GetInt32(m, f);
    case FieldDescriptor::CPPTYPE_INT64:
      return list ? r.GetRepeatedInt64(m, f, i) : r.GetInt64(m, f);
    case FieldDescriptor::CPPTYPE_UINT32:
      return list ? r.GetRepeatedUInt32(m, f, i) : r.GetUInt32(m, f);
    case FieldDescriptor::CPPTYPE_UINT64:
      return list ? r.GetRepeatedUInt64(m, f, i) : r.GetUInt64(m, f);
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return RealValue(list ? r.GetRepeatedDouble(m, f, i) : r.GetDouble(m, f));
    case FieldDescriptor::CPPTYPE_FLOAT:
      return RealValue(list ? r.GetRepeatedFloat(m, f, i) : r.GetFloat(m, f));
    case FieldDescriptor::CPPTYPE_BOOL:
      return list ? r.GetRepeatedBool(m, f, i) : r.GetBool(m, f);
    case FieldDescriptor::CPPTYPE_ENUM:
      return EnumValue(field, list ? r.GetRepeatedEnumValue(m, f, i) : r.GetEnumValue(m, f));
    case FieldDescriptor::CPPTYPE_STRING: {
      const std::string text = list ? r.GetRepeatedString(m, f, i) : r.GetString(m, f);
      return field.type() == FieldDescriptor::TYPE_BYTES ? absl::BytesToHexString(text) : text;
    }
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return MessageValue(list ? r.GetRepeatedMessage(m, f, i) : r.GetMessage(m, f));
  }
  return nullptr;
}

// ---- YAML ----------------------------------------------------------------------------------------------------

// What YAML 1.1 or 1.2 readers take for a null or a bool.
bool IsReservedWord(absl::string_view text) {
  static constexpr absl::string_view kWords[] = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"};
  return std::find(std::begin(kWords), std::end(kWords), absl::AsciiStrToLower(text)) != std::end(kWords);
}

// Digits first may be a number of some notation (0x1f, 1e5, 1_000) unless it has a '/', two dots or letters that
// no notation has: 10.0.0.0/8, 192.0.2.1, 60s.
bool LooksLikeNumber(absl::string_view text) {
  if (!absl::ascii_isdigit(static_cast<unsigned char>(text[0]))) return false;
  if (std::count(text.begin(), text.end(), '.') >= 2) return false;
  return std::none_of(text.begin(), text.end(), [](char c) {
    const char lower = absl::ascii_tolower(static_cast<unsigned char>(c));
    return c == '/' || (lower > 'f' && lower <= 'z' && lower != 'o' && lower != 'x');
  });
}

bool IsPlain(absl::string_view text) {
  if (text.empty() || IsReservedWord(text) || LooksLikeNumber(text)) return false;
  const auto word = [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '/';
  };
  return word(text[0]) &&
         std::all_of(text.begin(), text.end(), [&](char c) { return word(c) || c == '.' || c == '-'; });
}

std::string Quoted(absl::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      absl::StrAppend(&out, "\\", absl::string_view(&c, 1));
    } else if (byte < 0x20 || byte == 0x7f) {
      out += c == '\n' ? "\\n" : c == '\t' ? "\\t" : absl::StrFormat("\\x%02x", byte);
    } else {
      out += c;
    }
  }
  return out + "\"";
}

std::string Scalar(const ordered_json& value) {
  if (!value.is_string()) return value.dump();
  const auto& text = value.get_ref<const std::string&>();
  return IsPlain(text) ? text : Quoted(text);
}

// The value on one line, unless that takes more than `room` characters.
bool AppendFlow(const ordered_json& value, size_t room, std::string& out) {
  const size_t limit = out.size() + room;
  if (!value.is_structured()) {
    out += Scalar(value);
    return out.size() <= limit;
  }
  out += value.is_object() ? "{" : "[";
  bool first = true;
  for (const auto& item : value.items()) {
    if (!first) out += ", ";
    first = false;
    if (value.is_object()) absl::StrAppend(&out, item.key(), ": ");
    if (out.size() >= limit || !AppendFlow(item.value(), limit - out.size(), out)) return false;
  }
  out += value.is_object() ? "}" : "]";
  return out.size() <= limit;
}

void AppendBlock(const ordered_json& value, size_t indent, std::string& out);

// After "key:" or "-": on the same line where it fits, but objects of a list one a line.
void AppendValue(const ordered_json& value, size_t indent, bool in_list, std::string& out) {
  const size_t line = out.size() - (out.rfind('\n') == std::string::npos ? 0 : out.rfind('\n') + 1);
  const bool objects = value.is_array() && !value.empty() && value.front().is_object();
  std::string flow;
  if (!value.is_structured() || value.empty()) {
    absl::StrAppend(&out, " ", value.is_structured() ? (value.is_object() ? "{}" : "[]") : Scalar(value), "\n");
  } else if (!objects && AppendFlow(value, kYamlColumns > line ? kYamlColumns - line : 0, flow)) {
    absl::StrAppend(&out, " ", flow, "\n");
  } else if (in_list && value.is_object()) {
    // The first key follows the dash.
    std::string block;
    AppendBlock(value, indent + 2, block);
    absl::StrAppend(&out, " ", absl::string_view(block).substr(indent + 2));
  } else {
    out += "\n";
    AppendBlock(value, indent + 2, out);
  }
}

void AppendBlock(const ordered_json& value, size_t indent, std::string& out) {
  for (const auto& item : value.items()) {
    out.append(indent, ' ');
    if (value.is_object()) {
      absl::StrAppend(&out, item.key(), ":");
    } else {
      out += "-";
    }
    AppendValue(item.value(), indent, value.is_array(), out);
  }
}

}  // namespace

ordered_json ToJson(const Message& message) {
  ordered_json object = ordered_json::object();
  std::vector<const FieldDescriptor*> fields;
  message.GetReflection()->ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    if (!field->is_repeated()) {
      object[field->name()] = FieldValue(message, *field, 0);
      continue;
    }
    ordered_json& list = object[field->name()] = ordered_json::array();
    const int count = message.GetReflection()->FieldSize(message, field);
    for (int i = 0; i < count; ++i) list.push_back(FieldValue(message, *field, i));
  }
  return object;
}

std::string ToJsonText(const Message& message, int indent) {
  return ToJson(message).dump(indent, ' ', false, ordered_json::error_handler_t::replace);
}

std::string ToYaml(const Message& message) {
  const ordered_json value = ToJson(message);
  if (value.empty()) return "{}\n";
  std::string out;
  // The document's own mapping is always a block.
  AppendBlock(value, 0, out);
  return out;
}

}  // namespace headgate
