// SPDX-License-Identifier: Apache-2.0
#include "cli/render_multicast.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_replace.h>
#include <absl/strings/strip.h>
#include <absl/time/time.h>

#include <utility>
#include <vector>

#include "cli/table.h"

namespace headgate::cli {
namespace {

constexpr Table::Align kRight = Table::Align::kRight;

struct LegDrop {
  std::string why;
  uint64_t packets = 0;
};

// From the fields dropped_WHY_packets: a reason that is added is shown, too.
std::vector<LegDrop> LegDrops(const v1::MulticastLegStats& leg) {
  std::vector<LegDrop> drops;
  const google::protobuf::Descriptor& type = *v1::MulticastLegStats::descriptor();
  for (int i = 0; i < type.field_count(); ++i) {
    absl::string_view why = type.field(i)->name();
    if (!absl::ConsumePrefix(&why, "dropped_") || !absl::ConsumeSuffix(&why, "_packets")) continue;
    drops.push_back({absl::StrReplaceAll(why, {{"_", " "}}), leg.GetReflection()->GetUInt64(leg, type.field(i))});
  }
  return drops;
}

}  // namespace

uint64_t LegDropped(const v1::MulticastLegStats& leg) {
  uint64_t packets = 0;
  for (const LegDrop& drop : LegDrops(leg)) packets += drop.packets;
  return packets;
}

std::string LegDropText(const v1::MulticastLegStats& leg) {
  std::vector<std::string> words;
  for (const LegDrop& drop : LegDrops(leg)) {
    if (drop.packets != 0) words.push_back(absl::StrCat(drop.packets, " ", drop.why));
  }
  return words.empty() ? "-" : absl::StrJoin(words, ", ");
}

std::string FeedText(const v1::MulticastRouteStats& route) {
  if (!route.has_feed()) return "";
  const v1::MulticastFeedStats& feed = route.feed();
  const std::pair<uint64_t, const char*> counts[] = {
      {feed.duplicate_packets(), "duplicate"}, {feed.missing_packets(), "missing"}, {feed.late_packets(), "late"},
      {feed.stale_packets(), "stale"},         {feed.unread_packets(), "unread"},   {feed.restarts(), "restarts"}};
  std::vector<std::string> words;
  for (const auto& [count, word] : counts) {
    if (count != 0) words.push_back(absl::StrCat(count, " ", word));
  }
  return words.empty() ? "-" : absl::StrJoin(words, ", ");
}

std::string MissingText(const v1::MulticastRouteStats& route) {
  return route.has_feed() ? absl::StrCat(route.feed().missing_packets()) : "";
}

std::string LastPacketText(const v1::MulticastRouteStats& route) {
  if (!route.has_last_packet_age()) return "-";
  const absl::Duration age =
      absl::Seconds(route.last_packet_age().seconds()) + absl::Nanoseconds(route.last_packet_age().nanos());
  return age < absl::Seconds(1) ? absl::StrCat(absl::ToInt64Milliseconds(age), "ms") : BriefTime(age);
}

std::string MulticastTable(const v1::StatsResponse& stats, size_t width) {
  Table table({{"MULTICAST ROUTE"},
               {"LEG"},
               {"PACKETS", kRight},
               {"BYTES", kRight},
               {"LAST", kRight},
               {"DROPPED", Table::Align::kLeft, true}});
  for (const v1::MulticastRouteStats& route : stats.multicast_routes()) {
    table.Add({route.name(), "", absl::StrCat(route.packets()), absl::StrCat(route.bytes()), LastPacketText(route),
               FeedText(route)});
    for (const v1::MulticastLegStats& leg : route.legs()) {
      table.Add({"", leg.name(), absl::StrCat(leg.sent_packets()), absl::StrCat(leg.sent_bytes()), "",
                 LegDropText(leg)});
    }
  }
  return table.Render(width);
}

}  // namespace headgate::cli
