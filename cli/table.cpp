// SPDX-License-Identifier: Apache-2.0
#include "cli/table.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace headgate::cli {
namespace {

constexpr size_t kGap = 2;
constexpr size_t kMinFlexible = 8;

void AppendRow(const std::vector<Table::Column>& columns, const std::vector<size_t>& widths,
               const std::vector<std::string>& cells, std::string& out) {
  const size_t start = out.size();
  for (size_t i = 0; i < columns.size(); ++i) {
    const std::string cell = Cut(cells[i], widths[i]);
    const std::string padding(widths[i] - DisplayWidth(cell), ' ');
    if (i > 0) out.append(kGap, ' ');
    out += columns[i].align == Table::Align::kRight ? padding + cell : cell + padding;
  }
  out.erase(std::max(start, out.find_last_not_of(' ') + 1));
  out += '\n';
}

}  // namespace

void Table::Add(std::vector<std::string> row) {
  row.resize(columns_.size());
  rows_.push_back(std::move(row));
}

std::string Table::Render(size_t width) const {
  std::vector<std::string> titles;
  std::vector<size_t> widths;
  for (const Column& column : columns_) {
    titles.push_back(column.title);
    widths.push_back(DisplayWidth(column.title));
  }
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], DisplayWidth(row[i]));
  }
  size_t total = std::accumulate(widths.begin(), widths.end(), kGap * (widths.size() - 1));
  while (width != 0 && total > width) {
    size_t widest = widths.size();
    for (size_t i = 0; i < widths.size(); ++i) {
      if (columns_[i].flexible && widths[i] > std::max(kMinFlexible, DisplayWidth(titles[i])) &&
          (widest == widths.size() || widths[i] > widths[widest])) {
        widest = i;
      }
    }
    if (widest == widths.size()) break;
    --widths[widest];
    --total;
  }
  std::string out;
  AppendRow(columns_, widths, titles, out);
  for (const auto& row : rows_) AppendRow(columns_, widths, row, out);
  return out;
}

size_t DisplayWidth(absl::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;  // not a continuation byte
  }));
}

std::string Cut(absl::string_view text, size_t width) {
  if (DisplayWidth(text) <= width) return std::string(text);
  const size_t keep = width > 3 ? width - 3 : 0;
  size_t end = 0;
  for (size_t characters = 0; end < text.size(); ++end) {
    if ((static_cast<unsigned char>(text[end]) & 0xc0) != 0x80 && characters++ == keep) break;
  }
  return absl::StrCat(text.substr(0, end), absl::string_view("...").substr(0, std::min<size_t>(width, 3)));
}

std::string Brief(double number) {
  static constexpr const char* kPrefixes[] = {"", "k", "M", "G", "T", "P", "E"};
  size_t prefix = 0;
  // What would round to 1000 takes the next prefix.
  while (number >= (prefix == 0 ? 999.95 : 999.5) && prefix + 1 < std::size(kPrefixes)) {
    number /= 1000;
    ++prefix;
  }
  if (prefix == 0)
    return number == std::floor(number) ? absl::StrFormat("%.0f", number) : absl::StrFormat("%.1f", number);
  return absl::StrFormat("%.*f%s", number < 9.995 ? 2 : number < 99.95 ? 1 : 0, number, kPrefixes[prefix]);
}

std::string BriefTime(absl::Duration duration) {
  const int64_t seconds = absl::ToInt64Seconds(duration);
  if (seconds < 60) return absl::StrCat(seconds, "s");
  if (seconds < 3600) return absl::StrCat(seconds / 60, "m ", seconds % 60, "s");
  if (seconds < 86400) return absl::StrCat(seconds / 3600, "h ", seconds / 60 % 60, "m");
  return absl::StrCat(seconds / 86400, "d ", seconds / 3600 % 24, "h ", seconds / 60 % 60, "m");
}

std::string BriefBytes(uint64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  auto number = static_cast<double>(bytes);
  size_t unit = 0;
  for (; number >= 1024 && unit + 1 < std::size(kUnits); ++unit) number /= 1024;
  return unit == 0 ? absl::StrFormat("%.0f %s", number, kUnits[unit])
                   : absl::StrFormat("%.1f %s", number, kUnits[unit]);
}

}  // namespace headgate::cli
