// SPDX-License-Identifier: Apache-2.0
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
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
  std::vector<double> others;        // rates
  std::vector<std::string> cells{};  // what is no rate
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

std::string Percent(double share) { return absl::StrFormat("%.0f%%", 100 * share); }

TopRow WorkerRow(const v1::WorkerStats& before, const v1::WorkerStats& now, double seconds) {
  const auto dropped = [](const v1::WorkerStats& s) {
    return s.dropped_handler_packets() + s.dropped_no_handler_packets() + s.dropped_tx_full_packets() +
           s.dropped_overload_packets() + s.dropped_handover_packets();
  };
  const auto in_kernel = [](const v1::WorkerStats& s) {
    return s.kernel_rx_ring_full_packets() + s.kernel_fill_ring_empty_packets() + s.kernel_other_packets();
  };
  TopRow row{absl::StrCat(now.index(), now.stale() ? " hangs" : ""),
             Grown(before.received_packets(), now.received_packets()),
             8 * Grown(before.received_bytes(), now.received_bytes()),
             {Grown(before.processed_packets(), now.processed_packets()),
              Grown(before.transmitted_packets(), now.transmitted_packets()), Grown(dropped(before), dropped(now)),
              Grown(in_kernel(before), in_kernel(now))}};
  const double wakeups = Grown(before.wakeups(), now.wakeups());
  const double cpu = std::max(0.0, now.cpu_seconds() - before.cpu_seconds());
  const double ring = std::max(1U, now.receive_ring_packets());
  row.cells = {wakeups == 0 ? "-" : Brief(row.others[0] / wakeups), Percent(cpu / seconds),
               Percent(now.waiting_packets() / ring), absl::StrCat(now.free_frames(), "/", now.frames())};
  return row;
}

std::vector<TopRow> WorkerRows(const v1::StatsResponse& before, const v1::StatsResponse& now, double seconds) {
  std::vector<TopRow> rows;
  for (const v1::WorkerStats& worker : now.workers()) {
    const auto same = [&worker](const v1::WorkerStats& other) { return other.index() == worker.index(); };
    const auto found = std::find_if(before.workers().begin(), before.workers().end(), same);
    if (found != before.workers().end()) rows.push_back(WorkerRow(*found, worker, seconds));
  }
  return rows;
}

std::vector<TopRow> RowsOf(const v1::StatsResponse& before, const v1::StatsResponse& now, TopView view,
                           double seconds) {
  switch (view) {
    case TopView::kInterfaces:
      return Rows(before.interfaces(), now.interfaces(), InterfaceRow);
    case TopView::kRules:
      return Rows(before.rules(), now.rules(), RuleRow);
    case TopView::kWorkers:
      return WorkerRows(before, now, seconds);
  }
  return {};
}

std::vector<Table::Column> ColumnsOf(TopView view) {
  std::vector<Table::Column> columns = {{view == TopView::kInterfaces ? "INTERFACE"
                                         : view == TopView::kRules    ? "RULE"
                                                                      : "WORKER",
                                         Table::Align::kLeft, true},
                                        {"PACKETS/S", kRight},
                                        {"BIT/S", kRight}};
  static const std::map<TopView, std::vector<std::string>> kOthers = {
      {TopView::kInterfaces, {"PASS", "FORWARD", "DROP", "MALFORMED", "SENT", "NOT SENT"}},
      {TopView::kRules, {"LIMITED"}},
      {TopView::kWorkers,
       {"PROCESSED", "SENT", "DROPPED", "IN KERNEL", "PER WAKEUP", "CPU", "RING", "FREE FRAMES"}}};
  for (const std::string& title : kOthers.at(view)) columns.push_back({title, kRight});
  return columns;
}

std::string CountText(TopView view, size_t count) {
  if (view == TopView::kWorkers) return absl::StrCat(count, count == 1 ? " worker" : " workers");
  return absl::StrCat(count, " ",
                      KindName(view == TopView::kInterfaces ? v1::KIND_INTERFACE : v1::KIND_RULE, count));
}

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
  std::vector<TopRow> rows = RowsOf(before, now, view, seconds);
  Sort(order, rows);

  Table table(ColumnsOf(view));
  double packets = 0;
  double bits = 0;
  for (const TopRow& row : rows) {
    std::vector<std::string> cells = {row.name, Brief(row.packets / seconds), Brief(row.bits / seconds)};
    for (const double other : row.others) cells.push_back(Brief(other / seconds));
    cells.insert(cells.end(), row.cells.begin(), row.cells.end());
    // The summary and the titles take a line each.
    if (size.height == 0 || table.rows() + 2 < size.height) table.Add(std::move(cells));
    packets += row.packets;
    bits += row.bits;
  }
  const std::string summary =
      absl::StrCat(absl::FormatTime("%Y-%m-%d %H:%M:%S", TimeOf(now), zone), "  ", CountText(view, rows.size()),
                   "  ", Brief(packets / seconds), " packets/s  ", Brief(bits / seconds), " bit/s");
  return absl::StrCat(size.width == 0 ? summary : Cut(summary, size.width), "\n", table.Render(size.width));
}

}  // namespace headgate::cli
