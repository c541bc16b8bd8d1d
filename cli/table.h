// SPDX-License-Identifier: Apache-2.0
//
// Aligned columns of text, and numbers for people.
#pragma once

#include <absl/strings/string_view.h>
#include <absl/time/time.h>

#include <cstdint>
#include <string>
#include <vector>

namespace headgate::cli {

class Table {
 public:
  enum class Align { kLeft, kRight };
  struct Column {
    std::string title;
    Align align = Align::kLeft;
    // May be cut where the terminal is too narrow; the widest is cut first.
    bool flexible = false;
  };

  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  // As many cells as columns.
  void Add(std::vector<std::string> row);
  size_t rows() const { return rows_.size(); }
  // At most `width` columns wide where flexible columns allow it; 0: as wide as it takes.
  std::string Render(size_t width) const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

// Characters, not bytes, of UTF-8 text.
size_t DisplayWidth(absl::string_view text);
// The text, or its beginning and "..." when it is wider.
std::string Cut(absl::string_view text, size_t width);

// Three significant digits and a prefix: "12.3k", "1.23M"; below 1000 at most one decimal.
std::string Brief(double number);
// "1d 2h 3m", in the two or three units that matter.
std::string BriefTime(absl::Duration duration);
// "1.5 GiB".
std::string BriefBytes(uint64_t bytes);

}  // namespace headgate::cli
