// SPDX-License-Identifier: Apache-2.0
#include "agent/api/text_scalar.h"

#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/time/time.h>

#include <limits>
#include <type_traits>
#include <utility>

#include "agent/api/text_values.h"
#include "agent/base/status.h"

namespace headgate {
namespace {

using google::protobuf::EnumValueDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

bool IsDuration(const FieldDescriptor& field) {
  return field.message_type()->full_name() == "google.protobuf.Duration";
}

bool IsTimestamp(const FieldDescriptor& field) {
  return field.message_type()->full_name() == "google.protobuf.Timestamp";
}

template <typename... Parts>
absl::Status Wrong(const Parts&... what) {
  return absl::InvalidArgumentError(absl::StrCat(what...));
}

template <typename Value>
absl::Status Store(Message& m, const FieldDescriptor& field, Value value) {
  const Reflection& r = *m.GetReflection();
  const FieldDescriptor* f = &field;
  const bool list = field.is_repeated();
  if constexpr (std::is_same_v<Value, int32_t>) {
    list ? r.AddInt32(&m, f, value) : r.SetInt32(&m, f, value);
  } else if constexpr (std::is_same_v<Value, int64_t>) {
    list ? r.AddInt64(&m, f, value) : r.SetInt64(&m, f, value);
  } else if constexpr (std::is_same_v<Value, uint32_t>) {
    list ? r.AddUInt32(&m, f, value) : r.SetUInt32(&m, f, value);
  } else if constexpr (std::is_same_v<Value, uint64_t>) {
    list ? r.AddUInt64(&m, f, value) : r.SetUInt64(&m, f, value);
  } else if constexpr (std::is_same_v<Value, double>) {
    list ? r.AddDouble(&m, f, value) : r.SetDouble(&m, f, value);
  } else if constexpr (std::is_same_v<Value, float>) {
    list ? r.AddFloat(&m, f, value) : r.SetFloat(&m, f, value);
  } else if constexpr (std::is_same_v<Value, bool>) {
    list ? r.AddBool(&m, f, value) : r.SetBool(&m, f, value);
  } else {
    list ? r.AddString(&m, f, std::move(value)) : r.SetString(&m, f, std::move(value));
  }
  return absl::OkStatus();
}

template <typename Integer>
absl::Status SetInteger(YamlNode node, Message& message, const FieldDescriptor& field) {
  constexpr auto kMin = std::numeric_limits<Integer>::min();
  constexpr auto kMax = std::numeric_limits<Integer>::max();
  const absl::string_view text = node.text();
  const absl::string_view digits = text.substr(std::is_signed_v<Integer> && absl::StartsWith(text, "-") ? 1 : 0);
  if (node.quoted()) return Wrong(Shown(text), " is text, a number is needed: write it without quotes");
  if (digits.empty() || digits.find_first_not_of("0123456789") != absl::string_view::npos) {
    return Wrong(Shown(text), " is not a whole number ", kMin, " to ", kMax);
  }
  // Octal to YAML 1.1, decimal to 1.2.
  if (digits.size() > 1 && digits[0] == '0') return Wrong(Shown(text), ": write the number without leading zeros");
  Integer value = 0;
  if (!absl::SimpleAtoi(text, &value)) {
    return Wrong(Shown(text), " is out of range: ", kMin, " to ", kMax, " are possible");
  }
  return Store(message, field, value);
}

template <typename Real>
absl::Status SetReal(YamlNode node, Message& message, const FieldDescriptor& field) {
  constexpr auto kInfinity = std::numeric_limits<Real>::infinity();
  const absl::string_view text = node.text();
  if (text == ".inf" || text == "-.inf") return Store(message, field, text[0] == '-' ? -kInfinity : kInfinity);
  if (text == ".nan") return Store(message, field, std::numeric_limits<Real>::quiet_NaN());
  Real value = 0;
  bool ok = !node.quoted() && text.find_first_not_of("0123456789+-.eE") == absl::string_view::npos;
  if constexpr (std::is_same_v<Real, float>) {
    ok = ok && absl::SimpleAtof(text, &value);
  } else {
    ok = ok && absl::SimpleAtod(text, &value);
  }
  return ok ? Store(message, field, value) : Wrong(Shown(text), " is not a number");
}

absl::Status SetBool(YamlNode node, Message& message, const FieldDescriptor& field) {
  if (node.quoted() || (node.text() != "true" && node.text() != "false")) {
    return Wrong(Shown(node.text()), " is not true or false");
  }
  return Store(message, field, node.text() == "true");
}

absl::Status SetEnum(YamlNode node, Message& message, const FieldDescriptor& field) {
  const EnumValueDescriptor* value = FindEnumText(*field.enum_type(), node.text());
  if (value == nullptr) {
    return Wrong("unknown value ", Shown(node.text()),
                 Suggest(node.text(), "Possible are", EnumTexts(*field.enum_type())));
  }
  const Reflection& reflection = *message.GetReflection();
  field.is_repeated() ? reflection.AddEnum(&message, &field, value) : reflection.SetEnum(&message, &field, value);
  return absl::OkStatus();
}

absl::Status SetString(YamlNode node, Message& message, const FieldDescriptor& field) {
  if (field.type() != FieldDescriptor::TYPE_BYTES) return Store(message, field, std::string(node.text()));
  HG_ASSIGN_OR_RETURN(std::string bytes, ParseHex(node.text()));
  return Store(message, field, std::move(bytes));
}

absl::Status SetTime(YamlNode node, Message& message, const FieldDescriptor& field) {
  absl::Duration since;
  if (IsDuration(field)) {
    HG_ASSIGN_OR_RETURN(since, ParseDurationText(node.text()));
  } else {
    HG_ASSIGN_OR_RETURN(const absl::Time time, ParseTimeText(node.text()));
    since = time - absl::UnixEpoch();
  }
  absl::Duration rest;
  int64_t seconds = absl::IDivDuration(since, absl::Seconds(1), &rest);
  int64_t nanos = absl::ToInt64Nanoseconds(rest);
  // A Timestamp's nanos count forward; a Duration's have its sign.
  if (IsTimestamp(field) && nanos < 0) {
    --seconds;
    nanos += 1'000'000'000;
  }
  const Reflection& reflection = *message.GetReflection();
  Message* child =
      field.is_repeated() ? reflection.AddMessage(&message, &field) : reflection.MutableMessage(&message, &field);
  const google::protobuf::Descriptor& type = *child->GetDescriptor();
  child->GetReflection()->SetInt64(child, type.FindFieldByName("seconds"), seconds);
  child->GetReflection()->SetInt32(child, type.FindFieldByName("nanos"), static_cast<int32_t>(nanos));
  return absl::OkStatus();
}

}  // namespace

bool IsScalarField(const FieldDescriptor& field) {
  return field.cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE || IsDuration(field) || IsTimestamp(field);
}

absl::Status SetScalar(YamlNode node, Message& message, const FieldDescriptor& field) {
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return SetInteger<int32_t>(node, message, field);
    case FieldDescriptor::CPPTYPE_INT64:
      return SetInteger<int64_t>(node, message, field);
    case FieldDescriptor::CPPTYPE_UINT32:
      return SetInteger<uint32_t>(node, message, field);
    case FieldDescriptor::CPPTYPE_UINT64:
      return SetInteger<uint64_t>(node, message, field);
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return SetReal<double>(node, message, field);
    case FieldDescriptor::CPPTYPE_FLOAT:
      return SetReal<float>(node, message, field);
    case FieldDescriptor::CPPTYPE_BOOL:
      return SetBool(node, message, field);
    case FieldDescriptor::CPPTYPE_ENUM:
      return SetEnum(node, message, field);
    case FieldDescriptor::CPPTYPE_STRING:
      return SetString(node, message, field);
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return SetTime(node, message, field);
  }
  return absl::InternalError("a protobuf type this program does not know");
}

std::string Shown(absl::string_view text) {
  constexpr size_t kLimit = 60;
  if (text.size() <= kLimit) return absl::StrCat("\"", text, "\"");
  size_t end = kLimit - 3;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;  // not inside a character
  return absl::StrCat("\"", text.substr(0, end), "...\"");
}

}  // namespace headgate
