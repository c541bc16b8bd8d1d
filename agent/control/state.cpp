// SPDX-License-Identifier: Apache-2.0
//
// What is derived from states: counts and indexes, and what tells two of them apart.
#include "agent/control/state.h"

#include <absl/strings/str_cat.h>

#include <algorithm>

#include "agent/control/change.h"

namespace headgate {

absl::string_view KindName(Kind kind) {
  switch (kind) {
    case Kind::kSettings:
      return "settings";
    case Kind::kInterface:
      return "interface";
    case Kind::kPrefixSet:
      return "prefix set";
    case Kind::kNextHop:
      return "next hop";
    case Kind::kSteerTarget:
      return "steer target";
    case Kind::kCounter:
      return "counter";
    case Kind::kRule:
      return "rule";
    case Kind::kMulticastRoute:
      return "multicast route";
    case Kind::kMulticastLeg:
      return "multicast leg";
    case Kind::kMulticastFeed:
      return "multicast feed";
  }
  return "object";
}

uint32_t EntryCount(const ManagementAllow& allow) {
  return static_cast<uint32_t>(std::max<size_t>(1, allow.destination_ports.size()));
}

uint32_t EntryCount(const Match& match) {
  return static_cast<uint32_t>(std::max<size_t>(1, match.source_ports.size()) *
                               std::max<size_t>(1, match.destination_ports.size()));
}

uint32_t EntryCount(const MulticastInput& input) {
  const size_t sources = std::max<size_t>(1, input.include.size()) + input.exclude.size();
  return static_cast<uint32_t>(input.interfaces.size() * sources);
}

std::string LegKey(absl::string_view route, absl::string_view leg) { return absl::StrCat(route, "/", leg); }

std::string FeedKey(const MulticastRoute& route) {
  if (!route.sequence && !route.deduplicate) return "";
  const bool shared = route.deduplicate && !route.deduplicate->feed.empty();
  std::string key = shared ? absl::StrCat("feed/", route.deduplicate->feed) : absl::StrCat("route/", route.name);
  if (const auto& sequence = route.sequence) {
    absl::StrAppend(&key, "/", sequence->offset, "/", sequence->width,
                    sequence->little_endian ? "/little" : "/big");
  }
  return key;
}

uint16_t FeedWindow(const MulticastRoute& route) {
  constexpr uint16_t kMilliseconds = 100, kNumbers = 1024, kNumbersOfOneByte = 128;
  if (route.deduplicate && route.deduplicate->window != 0) return route.deduplicate->window;
  if (!route.sequence) return kMilliseconds;
  return route.sequence->width == 1 ? kNumbersOfOneByte : kNumbers;
}

void ForEachRetiredId(const State& before, const State& after, const std::function<void(Kind, uint32_t)>& visit) {
  ForEachDifference(before, after, [&visit](Kind kind, const std::string&, const auto* old, const auto* now) {
    if constexpr (!std::is_same_v<std::remove_cv_t<std::remove_pointer_t<decltype(old)>>, Settings>) {
      if (old && !now) visit(kind, old->id);
    }
  });
}

void DeriveState(State& state) {
  state.rules.ForEach([&](const std::shared_ptr<const Rule>& rule) {
    state.priorities.Put(rule);
    state.entry_count += EntryCount(rule->match);
    if (rule->action->counter.empty()) return;
    const Counter* present = state.counters.Get(rule->action->counter);
    if (!present) return;
    Counter counter = *present;
    ++counter.references;
    state.counters.Set(std::move(counter));
  });
  state.multicast_routes.ForEach(
      [&](const std::shared_ptr<const MulticastRoute>& route) { state.entry_count += EntryCount(route->input); });
  for (const auto& allow : state.settings->management) state.entry_count += EntryCount(allow);
}

}  // namespace headgate
