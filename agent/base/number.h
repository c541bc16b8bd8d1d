// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <absl/strings/ascii.h>
#include <absl/strings/numbers.h>
#include <absl/strings/string_view.h>

#include <algorithm>
#include <cstdint>

namespace headgate {

// Decimal digits and nothing else: no sign, no blanks. False, too, when the number is too large.
inline bool ParseDigits(absl::string_view text, uint32_t& value) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return absl::ascii_isdigit(static_cast<unsigned char>(c)); }) &&
         absl::SimpleAtoi(text, &value);
}

}  // namespace headgate
