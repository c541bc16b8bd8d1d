// SPDX-License-Identifier: Apache-2.0
#include "bench/result.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/strip.h>
#include <sys/utsname.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <thread>

#include "agent/base/status.h"

namespace headgate::bench {
namespace {

// Four digits, but all that are left of the point.
std::string Number(double value) {
  const double size = std::abs(value);
  const int decimals = size >= 1000 ? 0 : size >= 100 ? 1 : size >= 10 ? 2 : 3;
  return absl::StrFormat("%.*f", decimals, value);
}

nlohmann::json OrNull(bool is_there, double value) { return is_there ? nlohmann::json(value) : nlohmann::json(); }

}  // namespace

Summary Summarize(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  const double median = values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
  return {median, values.front(), values.back()};
}

double Percentile(std::vector<double> values, double percent) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const auto rank = static_cast<size_t>(std::ceil(percent / 100 * static_cast<double>(values.size())));
  return values[std::clamp<size_t>(rank, 1, values.size()) - 1];
}

std::vector<double> ResultRow::Ratios() const {
  std::vector<double> ratios;
  for (size_t i = 0; i < std::min(headgate.size(), baseline_values.size()); ++i) {
    ratios.push_back(headgate[i] / baseline_values[i]);
  }
  return ratios;
}

Summary ResultRow::Spread() const { return Summarize(HasPeer() ? Ratios() : headgate); }

std::string MachineName() {
  std::ifstream cpuinfo("/proc/cpuinfo");
  std::string model = "unknown CPU";
  for (std::string line; std::getline(cpuinfo, line);) {
    if (!absl::StartsWith(line, "model name")) continue;
    model = std::string(absl::StripAsciiWhitespace(line.substr(line.find(':') + 1)));
    break;
  }
  utsname system{};
  uname(&system);
  return absl::StrCat(model, ", ", std::thread::hardware_concurrency(), " cores, kernel ", system.release);
}

std::string ToTable(const Result& result) {
  size_t width = 22;
  for (const ResultRow& row : result.rows) width = std::max(width, row.name.size());
  const auto names = static_cast<int>(width);
  std::string table = absl::StrFormat("%-*s %-10s %12s  %-14s %12s %6s  %s\n", names, result.scenario, "unit",
                                      "headgate", "baseline", "value", "ratio", "spread");
  for (const ResultRow& row : result.rows) {
    const bool has_peer = row.HasPeer();
    const Summary spread = row.Spread();
    absl::StrAppendFormat(&table, "%-*s %-10s %12s  %-14s %12s %6s  %s..%s", names, row.name, row.unit,
                          Number(Summarize(row.headgate).median), row.baseline.empty() ? "-" : row.baseline,
                          has_peer ? Number(Summarize(row.baseline_values).median) : "-",
                          has_peer ? absl::StrFormat("%.3f", Summarize(row.Ratios()).median) : "-",
                          Number(spread.min), Number(spread.max));
    for (const auto& [name, value] : row.details) absl::StrAppend(&table, "  ", name, " ", Number(value));
    if (!row.note.empty()) absl::StrAppend(&table, "  (", row.note, ")");
    absl::StrAppend(&table, "\n");
  }
  return absl::StrCat(table, "machine: ", MachineName(), "\n");
}

nlohmann::json ToJson(const Result& result) {
  nlohmann::json rows = nlohmann::json::array();
  for (const ResultRow& row : result.rows) {
    const bool has_peer = row.HasPeer();
    const Summary spread = row.Spread();
    nlohmann::json json = {{"name", row.name},
                           {"unit", row.unit},
                           {"headgate", Summarize(row.headgate).median},
                           {"baseline", row.baseline},
                           {"baseline_value", OrNull(has_peer, Summarize(row.baseline_values).median)},
                           {"ratio", OrNull(has_peer, Summarize(row.Ratios()).median)},
                           {"spread", {spread.min, spread.max}},
                           {"rounds", row.headgate.size()}};
    for (const auto& [name, value] : row.details) json[name] = value;
    if (!row.note.empty()) json["note"] = row.note;
    rows.push_back(std::move(json));
  }
  return {{"scenario", result.scenario},
          {"machine", MachineName()},
          {"settings", result.settings},
          {"rows", std::move(rows)}};
}

absl::Status WriteJson(const nlohmann::json& json, const std::string& path) {
  const std::string text = json.dump(2);
  if (path == "-") {
    std::cout << text << std::endl;
    return std::cout.good() ? absl::OkStatus() : absl::DataLossError("writing to standard output failed");
  }
  std::ofstream file(path);
  file << text << "\n";
  file.close();
  return file.good() ? absl::OkStatus() : ErrnoStatus("write ", path);
}

}  // namespace headgate::bench
