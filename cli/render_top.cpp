// SPDX-License-Identifier: Apache-2.0
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>
#include <absl/time/time.h>

#include <algorithm>
#include <map>
#include <vector>

#include "cli/kinds.h"
#include "cli/render_stats.h"
#include "cli/table.h"

namespace headgate::cli {
namespace {

constexpr Table::Align kRight = Table::Align::kRight;

struct TopRow {
  std::string name;
  double packets = 0;
  double bits = 0;
  std::vector<double> others;
};

absl::Time TimeOf(const v1::StatsResponse& stats) {
  return absl::FromUnixSeconds(stats.time().seconds()) + absl::Nanoseconds(stats.time().nanos());
}

// Counters only grow; one that shrank was reset, and counts from zero.
double Grown(uint64_t before, uint64_t now) { return static_cast<double>(now >= before ? now - before : now); }

uint64_t ClassPackets(const v1::InterfaceStats& stats, absl::string_view class_name) {
  uint64_t packets = 0;
  for (const v1::ReasonStats& reason : stats.reasons()) {
    if (reason.class_() == class_name) packets += reason.packets();
  }
  return packets;
}

template <typename Stats>
std::map<std::string, const Stats*> ByName(const google::protobuf::RepeatedPtrField<Stats>& list) {
  std::map<std::string, const Stats*> map;
  for (const Stats& stats : list) map[stats.name()] = &stats;
  return map;
}

template <typename Stats, typename Row>
std::vector<TopRow> Rows(const google::protobuf::RepeatedPtrField<Stats>& before,
                         const google::protobuf::RepeatedPtrField<Stats>& now, Row row) {
  const std::map<std::string, const Stats*> old = ByName(before);
  std::vector<TopRow> rows;
  for (const Stats& stats : now) {
    const auto found = old.find(stats.name());
    // One that was not there before has no rate yet.
    if (found != old.end()) rows.push_back(row(*found->second, stats));
  }
  return rows;
}

TopRow InterfaceRow(const v1::InterfaceStats& before, const v1::InterfaceStats& now) {
  TopRow row{now.name(),
             Grown(before.received_packets(), now.received_packets()),
             8 * Grown(before.received_bytes(), now.received_bytes()),
             {}};
  for (const char* name : {"pass", "forward", "drop", "malformed"}) {
    row.others.push_back(Grown(ClassPackets(before, name), ClassPackets(now, name)));
  }
  row.others.push_back(Grown(before.transmitted_packets(), now.transmitted_packets()));
  row.others.push_back(Grown(before.transmit_dropped_packets() + before.transmit_refused_packets(),
                             now.transmit_dropped_packets() + now.transmit_refused_packets()));
  return row;
}

TopRow RuleRow(const v1::RuleStats& before, const v1::RuleStats& now) {
  return {now.name(),
          Grown(before.packets(), now.packets()),
          8 * Grown(before.bytes(), now.bytes()),
          {Grown(before.limited_packets(), now.limited_packets())}};
}

std::string KindCount(v1::Kind kind, size_t count) { return absl::StrCat(count, " ", KindName(kind, count)); }

void Sort(TopOrder order, std::vector<TopRow>& rows) {
  std::sort(rows.begin(), rows.end(), [&](const TopRow& a, const TopRow& b) {
    if (order == TopOrder::kPackets && a.packets != b.packets) return a.packets > b.packets;
    if (order == TopOrder::kBits && a.bits != b.bits) return a.bits > b.bits;
    return a.name < b.name;
  });
}

}  // namespace

std::string TopText(const v1::StatsResponse& before, const v1::StatsResponse& now, TopView view, TopOrder order,
                    TopSize size, absl::TimeZone zone) {
  const double seconds = std::max(absl::ToDoubleSeconds(TimeOf(now) - TimeOf(before)), 1e-3);
  const bool interfaces = view == TopView::kInterfaces;
  std::vector<TopRow> rows = interfaces ? Rows(before.interfaces(), now.interfaces(), InterfaceRow)
                                        : Rows(before.rules(), now.rules(), RuleRow);
  Sort(order, rows);

  Table table(interfaces ? std::vector<Table::Column>{{"INTERFACE", Table::Align::kLeft, true},
                                                      {"PACKETS/S", kRight},
                                                      {"BIT/S", kRight},
                                                      {"PASS", kRight},
                                                      {"FORWARD", kRight},
                                                      {"DROP", kRight},
                                                      {"MALFORMED", kRight},
                                                      {"SENT", kRight},
                                                      {"NOT SENT", kRight}}
                         : std::vector<Table::Column>{{"RULE", Table::Align::kLeft, true},
                                                      {"PACKETS/S", kRight},
                                                      {"BIT/S", kRight},
                                                      {"LIMITED", kRight}});
  double packets = 0;
  double bits = 0;
  for (const TopRow& row : rows) {
    std::vector<std::string> cells = {row.name, Brief(row.packets / seconds), Brief(row.bits / seconds)};
    for (const double other : row.others) cells.push_back(Brief(other / seconds));
    // The summary and the titles take a line each.
    if (size.height == 0 || table.rows() + 2 < size.height) table.Add(std::move(cells));
    packets += row.packets;
    bits += row.bits;
  }
  const std::string summary =
      absl::StrCat(absl::FormatTime("%Y-%m-%d %H:%M:%S", TimeOf(now), zone), "  ",
                   KindCount(interfaces ? v1::KIND_INTERFACE : v1::KIND_RULE, rows.size()), "  ",
                   Brief(packets / seconds), " packets/s  ", Brief(bits / seconds), " bit/s");
  return absl::StrCat(size.width == 0 ? summary : Cut(summary, size.width), "\n", table.Render(size.width));
}

}  // namespace headgate::cli
