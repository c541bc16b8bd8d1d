// SPDX-License-Identifier: Apache-2.0
//
// What a scenario has measured, in rounds, and its forms: a table for people, JSON for programs.
#pragma once

#include <absl/status/status.h>

#include <nlohmann/json_fwd.hpp>

#include <map>
#include <string>
#include <utility>
#include <vector>

namespace headgate::bench {

struct Summary {
  double median = 0, min = 0, max = 0;
};
// Zeros when there are no values.
Summary Summarize(std::vector<double> values);

// The value that `percent` of all values do not exceed (nearest rank); 0 when there are none.
double Percentile(std::vector<double> values, double percent);

// One case.
struct ResultRow {
  std::string name;  // stable: results of different days are compared by it
  std::string unit;
  std::vector<double> headgate;         // by round
  std::string baseline;                 // the peer's name; empty: there is none
  std::vector<double> baseline_values;  // by round, each measured next to Headgate's of the round
  std::vector<std::pair<std::string, double>> details = {};
  std::string note = {};  // why there is no baseline's value

  // Whether there is one, and it could be measured.
  bool HasPeer() const { return !baseline.empty() && note.empty(); }
  // By round; empty without a peer.
  std::vector<double> Ratios() const;
  // The lowest and the highest round: of the ratio where there is a peer, of Headgate's value otherwise.
  Summary Spread() const;
};

struct Result {
  std::string scenario;
  std::map<std::string, std::string> settings;
  std::vector<ResultRow> rows;
};

// Processor, cores and kernel.
std::string MachineName();

std::string ToTable(const Result& result);
nlohmann::json ToJson(const Result& result);

// "-" is standard output.
absl::Status WriteJson(const nlohmann::json& json, const std::string& path);

}  // namespace headgate::bench
