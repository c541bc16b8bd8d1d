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
#include "cli/render_multicast.h"
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
  std::vector<TopRow> parts{};       // shown below it, in their order
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

TopRow LegRow(const v1::MulticastLegStats& before, const v1::MulticastLegStats& now) {
  return {now.name(),
          Grown(before.sent_packets(), now.sent_packets()),
          8 * Grown(before.sent_bytes(), now.sent_bytes()),
          {Grown(LegDropped(before), LegDropped(now))},
          {"", ""}};
}

// Legs drop, routes have a last packet, and what did not come.
TopRow MulticastRow(const v1::MulticastRouteStats& before, const v1::MulticastRouteStats& now) {
  return {now.name(), Grown(before.packets(), now.packets()),      8 * Grown(before.bytes(), now.bytes()),
          {},         {"", MissingText(now), LastPacketText(now)}, Rows(before.legs(), now.legs(), LegRow)};
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
    if (found == before.workers().end()) continue;
    TopRow row = WorkerRow(*found, worker, seconds);
    const bool idle = row.packets == 0 &&
                      std::all_of(row.others.begin(), row.others.end(), [](double rate) { return rate == 0; });
    // Without a frame it is one that was: its counters remain.
    if (worker.frames() != 0 || !idle) rows.push_back(std::move(row));
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
    case TopView::kMulticastRoutes:
      return Rows(before.multicast_routes(), now.multicast_routes(), MulticastRow);
    case TopView::kWorkers:
      return WorkerRows(before, now, seconds);
  }
  return {};
}

struct View {
  v1::Kind kind;
  std::vector<std::string> names;   // titles before the rates: of a row's own name, of its part's
  std::vector<std::string> others;  // titles after packets and bits
};

const View& Describe(TopView view) {
  static const std::map<TopView, View> kViews = {
      {TopView::kInterfaces,
       {v1::KIND_INTERFACE, {"INTERFACE"}, {"PASS", "FORWARD", "DROP", "MALFORMED", "SENT", "NOT SENT"}}},
      {TopView::kRules, {v1::KIND_RULE, {"RULE"}, {"LIMITED"}}},
      {TopView::kMulticastRoutes,
       {v1::KIND_MULTICAST_ROUTE, {"MULTICAST ROUTE", "LEG"}, {"DROPPED", "MISSING", "LAST"}}},
      {TopView::kWorkers,
       {v1::KIND_STEER_TARGET,
        {"WORKER"},
        {"PROCESSED", "SENT", "DROPPED", "IN KERNEL", "PER WAKEUP", "CPU", "RING", "FREE FRAMES"}}}};
  return kViews.at(view);
}

std::vector<Table::Column> ColumnsOf(const View& view) {
  std::vector<Table::Column> columns;
  for (const std::string& title : view.names) columns.push_back({title, Table::Align::kLeft, true});
  for (const char* title : {"PACKETS/S", "BIT/S"}) columns.push_back({title, kRight});
  for (const std::string& title : view.others) columns.push_back({title, kRight});
  return columns;
}

// The summary and the titles take a line each.
class TopTable {
 public:
  TopTable(const View& view, double seconds, TopSize size)
      : table_(ColumnsOf(view)), names_(view.names.size()), seconds_(seconds), size_(size) {}

  // `level`: 0, that of its parts 1.
  void Add(const TopRow& row, size_t level = 0) {
    if (size_.height != 0 && table_.rows() + 2 >= size_.height) return;
    std::vector<std::string> cells(names_);
    cells[level] = row.name;
    cells.push_back(Brief(row.packets / seconds_));
    cells.push_back(Brief(row.bits / seconds_));
    for (const double other : row.others) cells.push_back(Brief(other / seconds_));
    cells.insert(cells.end(), row.cells.begin(), row.cells.end());
    table_.Add(std::move(cells));
    for (const TopRow& part : row.parts) Add(part, level + 1);
  }
  std::string Render() const { return table_.Render(size_.width); }

 private:
  Table table_;
  const size_t names_;
  const double seconds_;
  const TopSize size_;
};

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

  const View& shown = Describe(view);
  TopTable table(shown, seconds, size);
  double packets = 0;
  double bits = 0;
  for (const TopRow& row : rows) {
    table.Add(row);
    packets += row.packets;
    bits += row.bits;
  }
  const std::string summary =
      absl::StrCat(absl::FormatTime("%Y-%m-%d %H:%M:%S", TimeOf(now), zone), "  ", rows.size(), " ",
                   CountedName(shown.kind, rows.size()), "  ", Brief(packets / seconds), " packets/s  ",
                   Brief(bits / seconds), " bit/s");
  return absl::StrCat(size.width == 0 ? summary : Cut(summary, size.width), "\n", table.Render());
}

}  // namespace headgate::cli
