// SPDX-License-Identifier: Apache-2.0
//
// What the multicast benchmark makes of its figures: rows, and the chart of rates over legs.
#include <absl/strings/match.h>
#include <absl/strings/str_split.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "bench/histogram.h"
#include "bench/multicast_result.h"

namespace headgate::bench {
namespace {

RelayFigures Figures(double copies) {
  return {.copies = copies, .lossfree_pps = copies / 8, .cpu_ns_per_copy = 1e9 / copies, .overload = copies / 2};
}

// Two rounds of 8 legs with both baselines, and of 50 without ip_mroute.
std::vector<RelayCase> TwoCases() {
  RelayCase eight{.path = "kernel", .legs = 8, .size = 64};
  eight.relays[kHeadgate] = {Figures(4e6), Figures(6e6)};
  eight.relays[kIpMroute] = {Figures(1e6), Figures(2e6)};
  eight.relays[kSocketRelay] = {Figures(5e5), Figures(5e5)};
  eight.latencies[kHeadgate] = {{.p50 = 10, .p99 = 20, .p999 = 30}, {.p50 = 12, .p99 = 22, .p999 = 32}};
  eight.latencies[kSocketRelay] = {{.p50 = 20, .p99 = 40, .p999 = 60}, {.p50 = 24, .p99 = 44, .p999 = 64}};
  RelayCase fifty{.path = "kernel", .legs = 50, .size = 64};
  fifty.relays[kHeadgate] = {Figures(5e6), Figures(5e6)};
  fifty.relays[kSocketRelay] = {Figures(1e6), Figures(1e6)};
  fifty.left_out[kIpMroute] = "32 interfaces";
  return {eight, fifty};
}

const ResultRow& Row(const std::vector<ResultRow>& rows, const std::string& name, const std::string& baseline) {
  for (const ResultRow& row : rows) {
    if (row.name == name && row.baseline == baseline) return row;
  }
  throw std::runtime_error("no row " + name + " with " + baseline);
}

TEST(MulticastResultTest, ARowForEachFigureAndBaseline) {
  const std::vector<ResultRow> rows = ToRows(TwoCases());
  std::vector<std::string> names;
  names.reserve(rows.size());
  for (const ResultRow& row : rows) names.push_back(row.name + " " + row.baseline);
  EXPECT_EQ(names,
            (std::vector<std::string>{
                "kernel/8/64 ip_mroute", "kernel/8/64 socket_relay", "kernel/8/64/cpu_ns_per_copy ip_mroute",
                "kernel/8/64/cpu_ns_per_copy socket_relay", "kernel/8/64/lossfree_pps ip_mroute",
                "kernel/8/64/lossfree_pps socket_relay", "kernel/50/64 ip_mroute", "kernel/50/64 socket_relay",
                "kernel/50/64/cpu_ns_per_copy ip_mroute", "kernel/50/64/cpu_ns_per_copy socket_relay",
                "kernel/50/64/lossfree_pps ip_mroute", "kernel/50/64/lossfree_pps socket_relay",
                "latency/kernel/p50_us socket_relay", "latency/kernel/p99_us socket_relay",
                "latency/kernel/p999_us socket_relay"}));
  const ResultRow& rate = Row(rows, "kernel/8/64", kIpMroute);
  EXPECT_EQ(rate.unit, "copies/s");
  EXPECT_EQ(rate.headgate, (std::vector<double>{4e6, 6e6}));
  EXPECT_EQ(rate.baseline_values, (std::vector<double>{1e6, 2e6}));
  EXPECT_EQ(rate.Ratios(), (std::vector<double>{4, 3}));
  EXPECT_EQ(Row(rows, "kernel/8/64/lossfree_pps", kSocketRelay).Ratios(), (std::vector<double>{8, 12}));
  EXPECT_EQ(Row(rows, "kernel/8/64/cpu_ns_per_copy", kIpMroute).headgate[0], 250);
  EXPECT_EQ(Row(rows, "latency/kernel/p50_us", kSocketRelay).headgate, (std::vector<double>{10, 12}));
  EXPECT_EQ(Row(rows, "latency/kernel/p99_us", kSocketRelay).headgate, (std::vector<double>{20, 22}));
  EXPECT_EQ(Row(rows, "latency/kernel/p999_us", kSocketRelay).headgate, (std::vector<double>{30, 32}));
  EXPECT_EQ(Row(rows, "latency/kernel/p999_us", kSocketRelay).Ratios(), (std::vector<double>{0.5, 0.5}));
}

TEST(MulticastResultTest, ABaselineThatCannotIsARowWithoutItsFigure) {
  const Result result{.scenario = "multicast", .settings = {}, .rows = ToRows(TwoCases())};
  const nlohmann::json json = ToJson(result);
  const nlohmann::json& row = json["rows"][6];
  EXPECT_EQ(row["name"], "kernel/50/64");
  EXPECT_EQ(row["baseline"], "ip_mroute");
  EXPECT_EQ(row["headgate"], 5e6);
  EXPECT_TRUE(row["baseline_value"].is_null());
  EXPECT_TRUE(row["ratio"].is_null());
  EXPECT_EQ(row["spread"], (nlohmann::json{5e6, 5e6}));
  EXPECT_EQ(row["note"], "32 interfaces");
  EXPECT_FALSE(json["rows"][7].contains("note"));
  const std::string table = ToTable(result);
  for (const absl::string_view line : absl::StrSplit(table, '\n')) {
    if (!absl::StartsWith(line, "kernel/50/64 ")) continue;
    EXPECT_EQ(absl::StrContains(line, "(32 interfaces)"), absl::StrContains(line, "ip_mroute")) << line;
  }
}

TEST(MulticastResultTest, WithoutBaselinesTheRowIsHeadgatesAlone) {
  RelayCase one{.path = "userspace", .legs = 8, .size = 64};
  one.relays[kHeadgate] = {Figures(4e6)};
  const std::vector<ResultRow> rows = ToRows({one});
  ASSERT_EQ(rows.size(), 3U);
  EXPECT_EQ(rows[0].baseline, "");
  EXPECT_EQ(rows[0].headgate, std::vector<double>{4e6});
}

TEST(MulticastResultTest, CsvHasALineForEachRelay) {
  EXPECT_EQ(ToCsv(TwoCases()),
            "path,size,legs,relay,copies_per_second,lowest,highest,lossfree_pps,cpu_ns_per_copy\n"
            "kernel,64,8,headgate,5000000,4000000,6000000,625000,208.3\n"
            "kernel,64,8,ip_mroute,1500000,1000000,2000000,187500,750.0\n"
            "kernel,64,8,socket_relay,500000,500000,500000,62500,2000.0\n"
            "kernel,64,50,headgate,5000000,5000000,5000000,625000,200.0\n"
            "kernel,64,50,socket_relay,1000000,1000000,1000000,125000,1000.0\n");
}

TEST(MulticastResultTest, ChartHasAPanelForEachPathAndSize) {
  std::vector<RelayCase> cases = TwoCases();
  RelayCase large = cases[0];
  large.size = 1400;
  cases.push_back(large);
  const Chart chart = ToChart(cases);
  ASSERT_EQ(chart.panels.size(), 2U);
  EXPECT_EQ(chart.panels[0].title, "kernel path, 64 bytes");
  ASSERT_EQ(chart.panels[0].lines.size(), 3U);
  EXPECT_EQ(chart.panels[0].lines[0].points.size(), 2U);
  EXPECT_EQ(chart.panels[0].lines[1].name, kIpMroute);
  EXPECT_EQ(chart.panels[0].lines[1].points.size(), 1U);
  EXPECT_EQ(chart.panels[1].lines[0].points.size(), 1U);
  const ChartPoint& point = chart.panels[0].lines[0].points[0];
  EXPECT_EQ(point.x, 8);
  EXPECT_EQ(point.y, 5e6);
  EXPECT_EQ(point.low, 4e6);
  EXPECT_EQ(point.high, 6e6);
}

TEST(MulticastResultTest, WritesBothFilesOrSaysWhichItCannot) {
  const std::string prefix = ::testing::TempDir() + "bench_multicast_test";
  ASSERT_TRUE(WriteChart(TwoCases(), prefix).ok());
  for (const auto& [end, text] :
       {std::pair(".csv", ToCsv(TwoCases())), std::pair(".svg", ToSvg(ToChart(TwoCases())))}) {
    std::ifstream file(prefix + end);
    std::stringstream written;
    written << file.rdbuf();
    EXPECT_EQ(written.str(), text);
    std::filesystem::remove(prefix + end);
  }
  EXPECT_TRUE(absl::StrContains(WriteChart(TwoCases(), "/nonexistent/c").message(), "/nonexistent/c.csv"));
}

size_t Count(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

// The places of a polyline, "x,y x,y".
std::vector<std::pair<double, double>> Places(const std::string& svg, size_t index) {
  size_t at = 0;
  for (size_t i = 0; i <= index; ++i) at = svg.find("<polyline points=\"", at + 1);
  const size_t begin = svg.find('"', at) + 1;
  std::vector<std::pair<double, double>> places;
  for (const absl::string_view place :
       absl::StrSplit(svg.substr(begin, svg.find('"', begin) - begin), ' ', absl::SkipEmpty())) {
    const std::pair<std::string, std::string> numbers = absl::StrSplit(place, ',');
    places.emplace_back(std::stod(numbers.first), std::stod(numbers.second));
  }
  return places;
}

TEST(ChartTest, PointsAreWhereTheirLogarithmsAre) {
  const Chart chart{.title = "T",
                    .x_label = "x",
                    .y_label = "y",
                    .panels = {{.title = "P",
                                .lines = {{.name = "a",
                                           .points = {{.x = 1, .y = 10, .low = 10, .high = 10},
                                                      {.x = 10, .y = 100, .low = 50, .high = 200},
                                                      {.x = 100, .y = 1000, .low = 1000, .high = 1000}}}}}}};
  const std::string svg = ToSvg(chart);
  const auto places = Places(svg, 0);
  ASSERT_EQ(places.size(), 3U);
  EXPECT_NEAR(places[1].first - places[0].first, places[2].first - places[1].first, 0.2);
  EXPECT_GT(places[1].first, places[0].first);
  EXPECT_NEAR(places[0].second - places[1].second, places[1].second - places[2].second, 0.2);
  EXPECT_GT(places[0].second, places[1].second) << "more is higher up";
}

TEST(ChartTest, LinesOfANameLookAlikeInAllPanels) {
  const ChartPoint point{.x = 1, .y = 1, .low = 1, .high = 1};
  const Chart chart{.panels = {{.title = "1", .lines = {{"a", {point}}, {"b", {point}}}},
                               {.title = "2", .lines = {{"b", {point}}}},
                               {.title = "3", .lines = {{"a", {point}}}}}};
  const std::string svg = ToSvg(chart);
  EXPECT_EQ(Count(svg, "<polyline"), 4U);
  EXPECT_EQ(Count(svg, "stroke=\"#0072b2\" stroke-width=\"2\""), 2U);
  EXPECT_EQ(Count(svg, "stroke=\"#d55e00\" stroke-width=\"2\""), 2U);
  EXPECT_EQ(Count(svg, ">a</text>"), 1U) << "a legend, once";
  EXPECT_EQ(Count(svg, "text-anchor=\"middle\">1</text>"), 3U) << "a place of the axis, once a panel";
}

TEST(ChartTest, WhatHasNoLogarithmIsLeftOutAndTextIsEscaped) {
  const Chart chart{
      .title = "a < b & c",
      .panels = {
          {.title = "P",
           .lines = {{.name = "n",
                      .points = {{.x = 1, .y = 0, .low = 0, .high = 0}, {.x = 2, .y = 5, .low = 5, .high = 5}}}}},
          {.title = "nothing", .lines = {}}}};
  const std::string svg = ToSvg(chart);
  EXPECT_EQ(Places(svg, 0).size(), 1U);
  EXPECT_TRUE(absl::StrContains(svg, "a &lt; b &amp; c"));
  EXPECT_FALSE(absl::StrContains(svg, "nan"));
  EXPECT_FALSE(absl::StrContains(svg, "inf"));
  EXPECT_TRUE(absl::EndsWith(svg, "</svg>\n"));
}

TEST(ChartTest, NumbersAreShort) {
  EXPECT_EQ(ShortNumber(750), "750");
  EXPECT_EQ(ShortNumber(1500), "1.5k");
  EXPECT_EQ(ShortNumber(4e7), "40M");
  EXPECT_EQ(ShortNumber(2e9), "2G");
  EXPECT_EQ(ShortNumber(1), "1");
}

TEST(HistogramTest, SumsKeepCountsAndTheMost) {
  Histogram a, b;
  a.Add(100, 3);
  a.SetMax(101);
  b.Add(5000);
  b.SetMax(5001);
  a.Add(b);
  EXPECT_EQ(a.Count(), 4U);
  EXPECT_EQ(a.Max(), 5001U);
  EXPECT_EQ(a.Percentile(75), 100U);
  EXPECT_NEAR(static_cast<double>(a.Percentile(100)), 5000, 40);
}

}  // namespace
}  // namespace headgate::bench
