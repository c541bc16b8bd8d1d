// SPDX-License-Identifier: Apache-2.0
#include "bench/multicast_result.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <fstream>
#include <utility>

#include "agent/base/status.h"

namespace headgate::bench {
namespace {

constexpr const char* kBaselines[] = {kIpMroute, kSocketRelay};

template <typename Figures>
std::vector<double> Column(const std::vector<Figures>& rounds, double Figures::*field) {
  std::vector<double> values;
  values.reserve(rounds.size());
  for (const Figures& round : rounds) values.push_back(round.*field);
  return values;
}

template <typename Figures>
double Median(const std::vector<Figures>& rounds, double Figures::*field) {
  return Summarize(Column(rounds, field)).median;
}

void AddDetails(const std::string& prefix, const std::vector<RelayFigures>& rounds, ResultRow& row) {
  const auto add = [&](const char* name, double RelayFigures::*field) {
    row.details.emplace_back(prefix + name, Median(rounds, field));
  };
  add("overload", &RelayFigures::overload);
  add("overload_offered", &RelayFigures::overload_offered);
  add("overload_refused", &RelayFigures::overload_refused);
  add("overload_loss", &RelayFigures::overload_loss);
  add("service_ns", &RelayFigures::service_ns);
  add("loss", &RelayFigures::loss);
}

void AddDetails(const std::string& prefix, const std::vector<LatencyFigures>& rounds, ResultRow& row) {
  row.details.emplace_back(prefix + "pps", Median(rounds, &LatencyFigures::rate));
  row.details.emplace_back(prefix + "loss", Median(rounds, &LatencyFigures::loss));
}

// With each baseline that was measured, or could not be; without any, Headgate's alone.
template <typename Figures>
void AddRows(const RelayCase& one, const std::map<std::string, std::vector<Figures>>& relays,
             const ResultRow& like, double Figures::*field, bool details, std::vector<ResultRow>& rows) {
  const auto headgate = relays.find(kHeadgate);
  if (headgate == relays.end()) return;
  ResultRow row = like;
  row.headgate = Column(headgate->second, field);
  if (details) AddDetails("", headgate->second, row);
  bool any = false;
  for (const char* baseline : kBaselines) {
    const auto measured = relays.find(baseline);
    const auto left_out = one.left_out.find(baseline);
    if (measured == relays.end() && left_out == one.left_out.end()) continue;
    any = true;
    ResultRow beside = row;
    beside.baseline = baseline;
    if (measured == relays.end()) {
      beside.note = left_out->second;
    } else {
      beside.baseline_values = Column(measured->second, field);
      if (details) AddDetails("baseline_", measured->second, beside);
    }
    rows.push_back(std::move(beside));
  }
  if (!any) rows.push_back(std::move(row));
}

}  // namespace

std::string RelayCase::Name() const { return absl::StrCat(path, "/", legs, "/", size); }

std::vector<ResultRow> ToRows(const std::vector<RelayCase>& cases) {
  std::vector<ResultRow> rows;
  for (const RelayCase& one : cases) {
    const auto add = [&](const char* name, const char* unit, double RelayFigures::*field, bool details) {
      AddRows(one, one.relays, {.name = one.Name() + name, .unit = unit}, field, details, rows);
    };
    add("", "copies/s", &RelayFigures::copies, true);
    add("/cpu_ns_per_copy", "ns", &RelayFigures::cpu_ns_per_copy, false);
    add("/lossfree_pps", "packets/s", &RelayFigures::lossfree_pps, false);
  }
  for (const RelayCase& one : cases) {
    const auto add = [&](const char* name, double LatencyFigures::*field) {
      AddRows(one, one.latencies, {.name = absl::StrCat("latency/", one.path, "/", name, "_us"), .unit = "us"},
              field, true, rows);
    };
    add("p50", &LatencyFigures::p50);
    add("p99", &LatencyFigures::p99);
    add("p999", &LatencyFigures::p999);
  }
  return rows;
}

Chart ToChart(const std::vector<RelayCase>& cases) {
  Chart chart{.title = "Multicast: copies a second over legs",
              .x_label = "legs",
              .y_label = "copies a second",
              .note = MachineName(),
              .panels = {}};
  for (const RelayCase& one : cases) {
    const std::string title = absl::StrCat(one.path, " path, ", one.size, " bytes");
    ChartPanel* panel = nullptr;
    for (ChartPanel& known : chart.panels) panel = known.title == title ? &known : panel;
    if (panel == nullptr) panel = &chart.panels.emplace_back(ChartPanel{.title = title, .lines = {}});
    for (const char* name : {kHeadgate, kIpMroute, kSocketRelay}) {
      const auto rounds = one.relays.find(name);
      if (rounds == one.relays.end()) continue;
      ChartLine* line = nullptr;
      for (ChartLine& known : panel->lines) line = known.name == name ? &known : line;
      if (line == nullptr) line = &panel->lines.emplace_back(ChartLine{.name = name, .points = {}});
      const Summary copies = Summarize(Column(rounds->second, &RelayFigures::copies));
      line->points.push_back(
          {.x = static_cast<double>(one.legs), .y = copies.median, .low = copies.min, .high = copies.max});
    }
  }
  return chart;
}

std::string ToCsv(const std::vector<RelayCase>& cases) {
  std::string csv = "path,size,legs,relay,copies_per_second,lowest,highest,lossfree_pps,cpu_ns_per_copy\n";
  for (const RelayCase& one : cases) {
    for (const char* name : {kHeadgate, kIpMroute, kSocketRelay}) {
      const auto rounds = one.relays.find(name);
      if (rounds == one.relays.end()) continue;
      const Summary copies = Summarize(Column(rounds->second, &RelayFigures::copies));
      absl::StrAppendFormat(&csv, "%s,%d,%d,%s,%.0f,%.0f,%.0f,%.0f,%.1f\n", one.path, one.size, one.legs, name,
                            copies.median, copies.min, copies.max,
                            Median(rounds->second, &RelayFigures::lossfree_pps),
                            Median(rounds->second, &RelayFigures::cpu_ns_per_copy));
    }
  }
  return csv;
}

absl::Status WriteChart(const std::vector<RelayCase>& cases, const std::string& prefix) {
  for (const auto& [path, text] :
       {std::pair(prefix + ".csv", ToCsv(cases)), std::pair(prefix + ".svg", ToSvg(ToChart(cases)))}) {
    std::ofstream file(path);
    file << text;
    file.close();
    if (!file.good()) return ErrnoStatus("write ", path);
  }
  return absl::OkStatus();
}

}  // namespace headgate::bench
