// SPDX-License-Identifier: Apache-2.0
//
// What reading of all kinds of objects shares.
#pragma once

#include <absl/status/statusor.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/string_view.h>

#include <limits>
#include <optional>
#include <string>
#include <utility>

#include "agent/api/convert.h"
#include "agent/api/field_text.h"

namespace headgate::api {

// One object of a request: parses its fields and notes what is wrong with each.
class Reader {
 public:
  Reader(std::string path, Violations& violations) : path_(std::move(path)), violations_(violations) {}

  const std::string& path() const { return path_; }

  void Fail(absl::string_view field, absl::string_view description) {
    violations_.push_back({absl::StrCat(path_, ".", field), std::string(description)});
  }

  template <typename T>
  void Take(absl::string_view field, absl::StatusOr<T> parsed, T& out) {
    if (parsed.ok()) {
      out = *std::move(parsed);
    } else {
      Fail(field, {parsed.status().message().data(), parsed.status().message().size()});
    }
  }
  template <typename T>
  void Take(absl::string_view field, absl::StatusOr<T> parsed, std::optional<T>& out) {
    T value{};
    Take(field, std::move(parsed), value);
    out = std::move(value);
  }

  template <typename Narrow>
  void Number(absl::string_view field, uint32_t value, std::optional<Narrow>& out) {
    constexpr uint32_t kMax = std::numeric_limits<Narrow>::max();
    if (value > kMax) {
      Fail(field, absl::StrCat(value, " is out of range: at most ", kMax));
    } else {
      out = static_cast<Narrow>(value);
    }
  }

  template <typename Ranges>
  void TakeRanges(absl::string_view field, const Ranges& texts, PortRanges& out) {
    for (int i = 0; i < texts.size(); ++i) {
      PortRange range;
      Take(absl::StrCat(field, "[", i, "]"), ParseRange(texts[i]), range);
      out.push_back(range);
    }
  }

 private:
  std::string path_;
  Violations& violations_;
};

// An enum's number on the wire may be one this version does not know.
template <typename Enum>
void CheckEnum(absl::string_view field, Enum value, bool (*is_valid)(int), Reader& reader) {
  if (!is_valid(static_cast<int>(value)))
    reader.Fail(field, absl::StrCat("value ", static_cast<int>(value), " is unknown"));
}

void ReadInto(const pb::RateLimit& from, absl::string_view field, RateLimit& to, Reader& reader);
void ReadInto(const pb::MulticastRoute& from, MulticastRoute& to, Reader& reader);
void ReadInto(const pb::Querier& from, Querier& to, Reader& reader);

}  // namespace headgate::api
