// SPDX-License-Identifier: Apache-2.0
#include "cli/render_stats.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>

#include <map>
#include <vector>

#include "bpf/hg_abi.h"
#include "cli/render_multicast.h"
#include "cli/table.h"

namespace headgate::cli {
namespace {

constexpr Table::Align kRight = Table::Align::kRight;

struct ClassCounts {
  uint64_t pass = 0, forward = 0, drop = 0, malformed = 0;
};

ClassCounts CountClasses(const v1::InterfaceStats& stats) {
  ClassCounts counts;
  for (const v1::ReasonStats& reason : stats.reasons()) {
    if (reason.class_() == "pass") counts.pass += reason.packets();
    if (reason.class_() == "forward") counts.forward += reason.packets();
    if (reason.class_() == "drop") counts.drop += reason.packets();
    if (reason.class_() == "malformed") counts.malformed += reason.packets();
  }
  return counts;
}

// Tables one below the other, those without rows left out.
class Tables {
 public:
  void Add(const std::string& table, bool has_rows) {
    if (!has_rows) return;
    absl::StrAppend(&text_, text_.empty() ? "" : "\n", table);
  }
  std::string Text() && { return std::move(text_); }

 private:
  std::string text_;
};

}  // namespace

absl::string_view ReasonText(absl::string_view reason) {
  static const std::map<absl::string_view, absl::string_view> kTexts = {
#define HG_REASON_TEXT(e, name, class, text) {name, text},
      HG_REASONS(HG_REASON_TEXT)
#undef HG_REASON_TEXT
  };
  const auto found = kTexts.find(reason);
  return found == kTexts.end() ? absl::string_view() : found->second;
}

std::string InterfaceStatsTable(const v1::StatsResponse& stats, size_t width) {
  Table table({{"INTERFACE"},
               {"RECEIVED", kRight},
               {"BYTES", kRight},
               {"PASSED", kRight},
               {"FORWARDED", kRight},
               {"DROPPED", kRight},
               {"MALFORMED", kRight},
               {"SENT", kRight},
               {"SEND DROPPED", kRight},
               {"SEND REFUSED", kRight}});
  for (const v1::InterfaceStats& s : stats.interfaces()) {
    const ClassCounts counts = CountClasses(s);
    table.Add({s.name(), absl::StrCat(s.received_packets()), absl::StrCat(s.received_bytes()),
               absl::StrCat(counts.pass), absl::StrCat(counts.forward), absl::StrCat(counts.drop),
               absl::StrCat(counts.malformed), absl::StrCat(s.transmitted_packets()),
               absl::StrCat(s.transmit_dropped_packets()), absl::StrCat(s.transmit_refused_packets())});
  }
  return table.Render(width);
}

std::string ReasonTable(const v1::StatsResponse& stats, size_t width) {
  Table table({{"INTERFACE"},
               {"REASON"},
               {"CLASS"},
               {"PACKETS", kRight},
               {"BYTES", kRight},
               {"MEANING", Table::Align::kLeft, true}});
  for (const v1::InterfaceStats& s : stats.interfaces()) {
    for (const v1::ReasonStats& reason : s.reasons()) {
      if (reason.packets() == 0) continue;
      table.Add({s.name(), reason.reason(), reason.class_(), absl::StrCat(reason.packets()),
                 absl::StrCat(reason.bytes()), std::string(ReasonText(reason.reason()))});
    }
  }
  return table.rows() == 0 ? "" : table.Render(width);
}

std::string RuleStatsTable(const v1::StatsResponse& stats, size_t width) {
  Table table({{"RULE"}, {"PACKETS", kRight}, {"BYTES", kRight}, {"LIMITED", kRight}});
  for (const v1::RuleStats& s : stats.rules()) {
    table.Add({s.name(), absl::StrCat(s.packets()), absl::StrCat(s.bytes()), absl::StrCat(s.limited_packets())});
  }
  return table.Render(width);
}

std::string CounterTable(const v1::StatsResponse& stats, size_t width) {
  Table table({{"COUNTER"}, {"PACKETS", kRight}, {"BYTES", kRight}});
  for (const v1::CounterStats& s : stats.counters()) {
    table.Add({s.name(), absl::StrCat(s.packets()), absl::StrCat(s.bytes())});
  }
  return table.Render(width);
}

std::string WorkerTable(const v1::StatsResponse& stats, size_t width) {
  Table table({{"WORKER"},
               {"RECEIVED", kRight},
               {"BYTES", kRight},
               {"CONSUMED", kRight},
               {"SENT", kRight},
               {"DROPPED", kRight},
               {"IN KERNEL", kRight},
               {"WAKEUPS", kRight},
               {"FREE FRAMES", kRight},
               {"QUEUES", Table::Align::kLeft, true}});
  for (const v1::WorkerStats& s : stats.workers()) {
    std::vector<std::string> queues;
    for (const v1::QueueStats& queue : s.queues()) {
      queues.push_back(
          absl::StrCat(queue.interface(), "/", queue.queue(), queue.zero_copy() ? " zero-copy" : " copy"));
    }
    table.Add(
        {absl::StrCat(s.index(), s.stale() ? " hangs" : ""), absl::StrCat(s.received_packets()),
         absl::StrCat(s.received_bytes()), absl::StrCat(s.consumed_packets()),
         absl::StrCat(s.transmitted_packets()),
         absl::StrCat(s.dropped_handler_packets() + s.dropped_no_handler_packets() + s.dropped_tx_full_packets() +
                      s.dropped_overload_packets() + s.dropped_handover_packets()),
         absl::StrCat(s.kernel_rx_ring_full_packets() + s.kernel_fill_ring_empty_packets() +
                      s.kernel_other_packets()),
         absl::StrCat(s.wakeups()), absl::StrCat(s.free_frames(), "/", s.frames()), absl::StrJoin(queues, ", ")});
  }
  return table.Render(width);
}

std::string StatsText(const v1::StatsResponse& stats, size_t width) {
  Tables tables;
  tables.Add(InterfaceStatsTable(stats, width), stats.interfaces_size() > 0);
  const std::string reasons = ReasonTable(stats, width);
  tables.Add(reasons, !reasons.empty());
  tables.Add(RuleStatsTable(stats, width), stats.rules_size() > 0);
  tables.Add(CounterTable(stats, width), stats.counters_size() > 0);
  tables.Add(MulticastTable(stats, width), stats.multicast_routes_size() > 0);
  tables.Add(WorkerTable(stats, width), stats.workers_size() > 0);
  if (stats.unconfigured_packets() != 0) {
    tables.Add(absl::StrCat(stats.unconfigured_packets(), " packets arrived on devices that are not interfaces\n"),
               true);
  }
  if (stats.samples_lost() != 0) tables.Add(absl::StrCat(stats.samples_lost(), " samples were lost\n"), true);
  std::string text = std::move(tables).Text();
  return text.empty() ? "nothing counted\n" : text;
}

}  // namespace headgate::cli
