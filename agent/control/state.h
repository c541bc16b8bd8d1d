// SPDX-License-Identifier: Apache-2.0
//
// The desired state: one immutable snapshot for each generation.
#pragma once

#include <absl/strings/string_view.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "agent/control/model.h"

namespace headgate {

template <typename T>
struct ObjectTraits {
  using Value = std::shared_ptr<const T>;
  static absl::string_view KeyOf(const Value& object) { return object->name; }
  static bool Same(const Value& a, const Value& b) { return a == b; }
};

// Objects of one kind by name.
template <typename T>
class Table : public PersistentMap<std::shared_ptr<const T>, ObjectTraits<T>> {
 public:
  const T* Get(absl::string_view name) const {
    const auto* found = this->Find(name);
    return found ? found->get() : nullptr;
  }
  void Set(T object) { this->Put(std::make_shared<const T>(std::move(object))); }
};

// Which rule holds a priority.
struct PriorityTraits {
  using Value = std::shared_ptr<const Rule>;
  static uint32_t KeyOf(const Value& rule) { return rule->priority; }
  static bool Same(const Value& a, const Value& b) { return a == b; }
};

struct State {
  uint64_t generation = 0;
  std::shared_ptr<const Settings> settings = std::make_shared<const Settings>();
  Table<Interface> interfaces;
  Table<PrefixSet> prefix_sets;
  Table<NextHop> next_hops;
  Table<SteerTarget> steer_targets;
  Table<Counter> counters;
  Table<Rule> rules;
  Table<MulticastRoute> multicast_routes;
  Table<MulticastLegId> multicast_legs;
  Table<MulticastFeedId> multicast_feeds;
  PersistentMap<std::shared_ptr<const Rule>, PriorityTraits> priorities;
  uint64_t prefix_count = 0;  // over all sets
  uint64_t entry_count = 0;   // match entries of all rules, of multicast routes and of the management list
};
using Snapshot = std::shared_ptr<const State>;

// Fills in what follows from the objects of a state that was loaded: priorities, counts, and how many rules name
// each counter.
void DeriveState(State& state);

// Calls visit(kind, name, before, after) for every object that differs, kind by kind in the order of Kind;
// before and after are pointers to the kind's type, null when missing.
template <typename Visitor>
void ForEachDifference(const State& before, const State& after, Visitor&& visit) {
  const auto table = [&visit](Kind kind, const auto& old_table, const auto& new_table) {
    using TableType = std::decay_t<decltype(old_table)>;
    TableType::ForEachDifference(old_table, new_table, [&](const auto* old_object, const auto* new_object) {
      const auto* a = old_object ? old_object->get() : nullptr;
      const auto* b = new_object ? new_object->get() : nullptr;
      visit(kind, b ? b->name : a->name, a, b);
    });
  };
  if (before.settings != after.settings && !(*before.settings == *after.settings)) {
    visit(Kind::kSettings, std::string(), before.settings.get(), after.settings.get());
  }
  table(Kind::kInterface, before.interfaces, after.interfaces);
  table(Kind::kPrefixSet, before.prefix_sets, after.prefix_sets);
  table(Kind::kNextHop, before.next_hops, after.next_hops);
  table(Kind::kSteerTarget, before.steer_targets, after.steer_targets);
  table(Kind::kCounter, before.counters, after.counters);
  table(Kind::kRule, before.rules, after.rules);
  table(Kind::kMulticastRoute, before.multicast_routes, after.multicast_routes);
  table(Kind::kMulticastLeg, before.multicast_legs, after.multicast_legs);
  table(Kind::kMulticastFeed, before.multicast_feeds, after.multicast_feeds);
}

}  // namespace headgate
