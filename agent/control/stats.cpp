// SPDX-License-Identifier: Apache-2.0
#include "agent/control/stats.h"

#include <algorithm>
#include <functional>

#include "agent/base/status.h"

namespace headgate {
namespace {

// Below this many, rows are read one by one instead of the whole table.
constexpr size_t kFewRows = 64;

template <typename Row>
Row RowAt(const std::vector<uint64_t>& fields, size_t row) {
  Row result{};
  const size_t count = sizeof(Row) / sizeof(uint64_t);
  std::copy_n(&fields[row * count], count, reinterpret_cast<uint64_t*>(&result));
  return result;
}

hg_count& operator+=(hg_count& sum, const hg_count& count) {
  sum.packets += count.packets;
  sum.bytes += count.bytes;
  return sum;
}

// Objects of a table that are wanted, in order.
template <typename T, typename Less>
std::vector<std::shared_ptr<const T>> Select(const Table<T>& table, const StatsFilter& filter, Less&& less) {
  std::vector<std::shared_ptr<const T>> objects;
  table.ForEach([&](const std::shared_ptr<const T>& object) {
    if (filter.wanted(object->name)) objects.push_back(object);
  });
  std::sort(objects.begin(), objects.end(), less);
  return objects;
}

const auto kByName = [](const auto& a, const auto& b) { return a->name < b->name; };
const auto kByPriority = [](const auto& a, const auto& b) { return a->priority > b->priority; };

// The counters of each object by its id.
template <typename Row, typename T>
absl::StatusOr<std::vector<Row>> ReadRows(const Dataplane& dataplane, CounterId table,
                                          const std::vector<std::shared_ptr<const T>>& objects) {
  std::vector<Row> rows;
  rows.reserve(objects.size());
  if (objects.size() <= kFewRows) {
    for (const auto& object : objects) {
      HG_ASSIGN_OR_RETURN(const std::vector<uint64_t> fields, dataplane.ReadCounters(table, object->id, 1));
      rows.push_back(RowAt<Row>(fields, 0));
    }
    return rows;
  }
  uint32_t last = 0;
  for (const auto& object : objects) last = std::max(last, object->id);
  HG_ASSIGN_OR_RETURN(const std::vector<uint64_t> fields, dataplane.ReadCounters(table, 0, last + 1));
  for (const auto& object : objects) rows.push_back(RowAt<Row>(fields, object->id));
  return rows;
}

absl::StatusOr<InterfaceStats> ReadInterface(const Dataplane& dataplane, const Interface& interface) {
  InterfaceStats stats{.name = interface.name};
  HG_ASSIGN_OR_RETURN(const std::vector<uint64_t> fields,
                      dataplane.ReadCounters(CounterId::kPorts, interface.id * HG_REASON_SLOTS, HG_REASON_COUNT));
  for (uint32_t reason = 0; reason < HG_REASON_COUNT; ++reason) {
    const auto count = RowAt<hg_count>(fields, reason);
    if (count.packets == 0) continue;
    stats.received += count;
    stats.reasons.push_back({reason, count});
  }
  HG_ASSIGN_OR_RETURN(const std::vector<uint64_t> egress,
                      dataplane.ReadCounters(CounterId::kEgress, interface.id, 1));
  stats.egress = RowAt<hg_egress>(egress, 0);
  return stats;
}

absl::StatusOr<MulticastRouteStats> ReadMulticastRoute(const Dataplane& dataplane, const MulticastRoute& route,
                                                       const State& state) {
  MulticastRouteStats stats{.name = route.name};
  HG_ASSIGN_OR_RETURN(const std::vector<uint64_t> fields,
                      dataplane.ReadCounters(CounterId::kMroutes, route.id, 1));
  stats.count = RowAt<hg_count>(fields, 0);
  HG_ASSIGN_OR_RETURN(const std::vector<uint64_t> last,
                      dataplane.ReadCounters(CounterId::kMrouteLast, route.id, 1));
  stats.last_packet = RowAt<hg_mroute_last>(last, 0).time;
  for (const MulticastLeg& leg : route.legs) {
    const uint32_t id = state.multicast_legs.Get(LegKey(route.name, leg.name))->id;
    HG_ASSIGN_OR_RETURN(std::vector<uint64_t> row, dataplane.ReadCounters(CounterId::kLegs, id, 1));
    HG_ASSIGN_OR_RETURN(const std::vector<uint64_t> worked, dataplane.ReadCounters(CounterId::kWorkerLegs, id, 1));
    std::transform(row.begin(), row.end(), worked.begin(), row.begin(), std::plus<>());
    stats.legs.push_back({leg.name, RowAt<hg_leg_count>(row, 0)});
  }
  if (const std::string key = FeedKey(route); !key.empty()) {
    const uint32_t id = state.multicast_feeds.Get(key)->id;
    HG_ASSIGN_OR_RETURN(const std::vector<uint64_t> row, dataplane.ReadCounters(CounterId::kFeeds, id, 1));
    stats.feed = RowAt<hg_feed>(row, 0);
  }
  return stats;
}

}  // namespace

const Reason& ReasonOf(uint32_t reason) {
  constexpr ReasonClass PASS = ReasonClass::kPass, FORWARD = ReasonClass::kForward, DROP = ReasonClass::kDrop,
                        MALFORMED = ReasonClass::kMalformed;
  static constexpr Reason kReasons[] = {
#define HG_REASON_ROW(e, name, class, text) {name, class, text},
      HG_REASONS(HG_REASON_ROW)
#undef HG_REASON_ROW
  };
  static constexpr Reason kUnknown = {"unknown", DROP, "a reason this agent does not know"};
  return reason < HG_REASON_COUNT ? kReasons[reason] : kUnknown;
}

const char* ReasonClassName(ReasonClass reason_class) {
  switch (reason_class) {
    case ReasonClass::kPass:
      return "pass";
    case ReasonClass::kForward:
      return "forward";
    case ReasonClass::kDrop:
      return "drop";
    case ReasonClass::kMalformed:
      break;
  }
  return "malformed";
}

absl::StatusOr<Stats> ReadStats(const Dataplane& dataplane, const State& state, const StatsFilter& filter) {
  Stats stats;
  if (filter.interfaces) {
    for (const auto& interface : Select(state.interfaces, filter, kByName)) {
      HG_ASSIGN_OR_RETURN(InterfaceStats one, ReadInterface(dataplane, *interface));
      stats.interfaces.push_back(std::move(one));
    }
  }
  if (filter.rules) {
    const auto rules = Select(state.rules, filter, kByPriority);
    HG_ASSIGN_OR_RETURN(const auto rows, ReadRows<hg_rule_count>(dataplane, CounterId::kRules, rules));
    for (size_t i = 0; i < rules.size(); ++i) stats.rules.push_back({rules[i]->name, rows[i]});
  }
  if (filter.counters) {
    const auto counters = Select(state.counters, filter, kByName);
    HG_ASSIGN_OR_RETURN(const auto rows, ReadRows<hg_count>(dataplane, CounterId::kNamed, counters));
    for (size_t i = 0; i < counters.size(); ++i) stats.counters.push_back({counters[i]->name, rows[i]});
  }
  if (filter.multicast_routes) {
    for (const auto& route : Select(state.multicast_routes, filter, kByName)) {
      HG_ASSIGN_OR_RETURN(MulticastRouteStats one, ReadMulticastRoute(dataplane, *route, state));
      stats.multicast_routes.push_back(std::move(one));
    }
  }
  HG_ASSIGN_OR_RETURN(const std::vector<uint64_t> nowhere,
                      dataplane.ReadCounters(CounterId::kPorts, HG_REASON_PASS_UNCONFIGURED, 1));
  stats.unconfigured_packets = nowhere[0];
  HG_ASSIGN_OR_RETURN(const std::vector<uint64_t> lost, dataplane.ReadCounters(CounterId::kSamplesLost, 0, 1));
  stats.samples_lost = lost[0];
  return stats;
}

}  // namespace headgate
