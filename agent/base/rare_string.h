// SPDX-License-Identifier: Apache-2.0
//
// A string that mostly is empty: one word then.
#pragma once

#include <absl/strings/string_view.h>

#include <memory>
#include <string>
#include <utility>

namespace headgate {

class RareString {
 public:
  RareString() = default;
  RareString(std::string text)  // NOLINT(google-explicit-constructor): is one
      : text_(text.empty() ? nullptr : std::make_unique<const std::string>(std::move(text))) {}
  RareString(const char* text) : RareString(std::string(text)) {}  // NOLINT(google-explicit-constructor)
  RareString(const RareString& other) : RareString(other.str()) {}
  RareString(RareString&&) noexcept = default;
  RareString& operator=(RareString other) noexcept {
    text_ = std::move(other.text_);
    return *this;
  }

  bool empty() const { return text_ == nullptr; }
  const std::string& str() const {
    static const std::string kEmpty;
    return text_ ? *text_ : kEmpty;
  }
  operator const std::string&() const { return str(); }  // NOLINT(google-explicit-constructor)
  operator absl::string_view() const { return str(); }   // NOLINT(google-explicit-constructor)

  friend bool operator==(const RareString& a, const RareString& b) { return a.str() == b.str(); }

 private:
  std::unique_ptr<const std::string> text_;  // null when empty
};

}  // namespace headgate
