// SPDX-License-Identifier: Apache-2.0
//
// Random messages by reflection: every field of every type, at its limits and between them.
#pragma once

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <cstdint>
#include <limits>
#include <random>
#include <string>

namespace headgate::testing {

class RandomMessage {
 public:
  explicit RandomMessage(std::mt19937_64& random) : random_(random) {}

  void Fill(google::protobuf::Message& message, int depth = 0) {
    using google::protobuf::FieldDescriptor;
    const google::protobuf::Descriptor& type = *message.GetDescriptor();
    if (type.full_name() == "google.protobuf.Duration" || type.full_name() == "google.protobuf.Timestamp") {
      FillTime(message, type.name() == "Duration");
      return;
    }
    for (int i = 0; i < type.field_count(); ++i) {
      const FieldDescriptor* field = type.field(i);
      if (Below(3) == 0) continue;
      if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE && depth > 8) continue;
      const uint64_t count = field->is_repeated() ? Below(4) : 1;
      for (uint64_t n = 0; n < count; ++n) SetField(message, *field, depth);
    }
  }

  // Anything UTF-8 can hold, and what YAML could take for something else.
  std::string Text() {
    static const char* const kTricky[] = {
        "",         "no",         "on",    "Yes",  "null", "~",         "true",
        "1e5",      "0x1f",       "017",   "53",   ".5",   "9000-9099", "02:00:00:00:00:01",
        "fc00::/7", "10.0.0.0/8", "- a",   "a: b", "a #b", "<<",        "*a",
        "&a",       "!x",         "%a",    "@a",   "---",  "...",       "\t",
        " a ",      "[",          "{}",    "a\nb", "a\\",  "\"",        "'",
        "=",        "2026-01-01", "1_000", "?",    "|",    ">"};
    if (Below(2) == 0) return kTricky[Below(std::size(kTricky))];
    std::string text;
    for (uint64_t n = Below(12); n > 0; --n) AppendCharacter(text);
    return text;
  }

 private:
  uint64_t Below(uint64_t bound) { return random_() % bound; }

  void AppendCharacter(std::string& text) {
    uint32_t c = 0;
    switch (Below(4)) {
      case 0:
        c = static_cast<uint32_t>(Below(0x80));
        break;
      case 1:
        c = static_cast<uint32_t>(0x20 + Below(0x5f));
        break;
      case 2:
        c = static_cast<uint32_t>(0x80 + Below(0xd800 - 0x80));
        break;
      default:
        c = static_cast<uint32_t>(0xe000 + Below(0x110000 - 0xe000));
        break;
    }
    if (c < 0x80) {
      text += static_cast<char>(c);
    } else if (c < 0x800) {
      text += static_cast<char>(0xc0 | c >> 6);
      text += static_cast<char>(0x80 | (c & 0x3f));
    } else {
      if (c < 0x10000) {
        text += static_cast<char>(0xe0 | c >> 12);
      } else {
        text += static_cast<char>(0xf0 | c >> 18);
        text += static_cast<char>(0x80 | (c >> 12 & 0x3f));
      }
      text += static_cast<char>(0x80 | (c >> 6 & 0x3f));
      text += static_cast<char>(0x80 | (c & 0x3f));
    }
  }

  template <typename Integer>
  Integer Number() {
    switch (Below(5)) {
      case 0:
        return std::numeric_limits<Integer>::max();
      case 1:
        return std::numeric_limits<Integer>::min();
      case 2:
        return static_cast<Integer>(Below(3));
      default:
        return static_cast<Integer>(random_() >> Below(64));
    }
  }

  void FillTime(google::protobuf::Message& message, bool duration) {
    static constexpr int64_t kNanos[] = {0, 1, 500'000'000, 999'999'999, 1'000'000, 120'000'000};
    // Durations: plus or minus 10,000 years. Timestamps: years 1 to 9999.
    const int64_t low = duration ? 0 : -62'135'596'800;
    const int64_t high = duration ? 315'576'000'000 - 1 : 253'402'300'799;
    int64_t seconds =
        Below(2) == 0 ? static_cast<int64_t>(Below(100)) : low + static_cast<int64_t>(Below(high - low));
    int64_t nanos = Below(2) == 0 ? kNanos[Below(std::size(kNanos))] : static_cast<int64_t>(Below(1'000'000'000));
    if (duration && Below(2) == 0) {
      seconds = -seconds;
      nanos = -nanos;
    }
    const google::protobuf::Descriptor& type = *message.GetDescriptor();
    message.GetReflection()->SetInt64(&message, type.FindFieldByName("seconds"), seconds);
    message.GetReflection()->SetInt32(&message, type.FindFieldByName("nanos"), static_cast<int32_t>(nanos));
  }

  void SetField(google::protobuf::Message& m, const google::protobuf::FieldDescriptor& field, int depth) {
    using google::protobuf::FieldDescriptor;
    const google::protobuf::Reflection& r = *m.GetReflection();
    const FieldDescriptor* f = &field;
    const bool list = field.is_repeated();
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_INT32: {
        const auto value = Number<int32_t>();
        return list ? r.AddInt32(&m, f, value) : r.SetInt32(&m, f, value);
      }
      case FieldDescriptor::CPPTYPE_INT64: {
        const auto value = Number<int64_t>();
        return list ? r.AddInt64(&m, f, value) : r.SetInt64(&m, f, value);
      }
      case FieldDescriptor::CPPTYPE_UINT32: {
        const auto value = Number<uint32_t>();
        return list ? r.AddUInt32(&m, f, value) : r.SetUInt32(&m, f, value);
      }
      case FieldDescriptor::CPPTYPE_UINT64: {
        const auto value = Number<uint64_t>();
        return list ? r.AddUInt64(&m, f, value) : r.SetUInt64(&m, f, value);
      }
      case FieldDescriptor::CPPTYPE_DOUBLE: {
        const double value = static_cast<double>(static_cast<int64_t>(random_())) / 1024;
        return list ? r.AddDouble(&m, f, value) : r.SetDouble(&m, f, value);
      }
      case FieldDescriptor::CPPTYPE_FLOAT: {
        const float value = static_cast<float>(static_cast<int64_t>(random_())) / 1024;
        return list ? r.AddFloat(&m, f, value) : r.SetFloat(&m, f, value);
      }
      case FieldDescriptor::CPPTYPE_BOOL: {
        const bool value = Below(2) == 0;
        return list ? r.AddBool(&m, f, value) : r.SetBool(&m, f, value);
      }
      case FieldDescriptor::CPPTYPE_ENUM: {
        const auto* value = field.enum_type()->value(static_cast<int>(Below(field.enum_type()->value_count())));
        return list ? r.AddEnum(&m, f, value) : r.SetEnum(&m, f, value);
      }
      case FieldDescriptor::CPPTYPE_STRING: {
        std::string value = Text();
        if (field.type() == FieldDescriptor::TYPE_BYTES) {
          for (char& c : value) c = static_cast<char>(Below(256));
        }
        return list ? r.AddString(&m, f, std::move(value)) : r.SetString(&m, f, std::move(value));
      }
      case FieldDescriptor::CPPTYPE_MESSAGE:
        return Fill(list ? *r.AddMessage(&m, f) : *r.MutableMessage(&m, f), depth + 1);
    }
  }

  std::mt19937_64& random_;
};

}  // namespace headgate::testing
