// SPDX-License-Identifier: Apache-2.0
//
// BuildState: current state and change in, next state or violations out.
#include <absl/container/flat_hash_map.h>
#include <absl/container/flat_hash_set.h>
#include <absl/strings/str_cat.h>

#include <algorithm>

#include "agent/control/change.h"
#include "agent/control/validate.h"

namespace headgate {
namespace {

// Versions of an object that mean the same; their ids do not count.
bool SameMeaning(const Interface& a, const Interface& b) {
  return a.device == b.device && a.mode == b.mode && a.querier == b.querier;
}
bool SameMeaning(const NextHop& a, const NextHop& b) {
  return a.interface == b.interface && a.mac == b.mac && a.source_mac == b.source_mac && a.vlan == b.vlan &&
         a.decrement_ttl == b.decrement_ttl;
}
bool SameMeaning(const SteerTarget& a, const SteerTarget& b) {
  return a.fallback == b.fallback && a.handler == b.handler && a.workers == b.workers && a.spread == b.spread &&
         a.priority == b.priority;
}
bool SameMeaning(const MulticastRoute& a, const MulticastRoute& b) {
  return a.input == b.input && a.legs == b.legs && a.sequence == b.sequence && a.deduplicate == b.deduplicate;
}
bool SameMeaning(const Rule& a, const Rule& b) {
  return a.priority == b.priority && a.match == b.match && (a.action == b.action || *a.action == *b.action);
}
bool SameMeaning(const PrefixSet& a, const PrefixSet& b) {
  if (a.prefixes.size() != b.prefixes.size()) return false;
  bool same = true;
  b.prefixes.ForEach([&](const Prefix& prefix) { same = same && a.prefixes.Find(prefix) != nullptr; });
  return same;
}

// Cheap for versions of one set: what they share is not looked at.
bool SamePrefixes(const PrefixMap& a, const PrefixMap& b) {
  bool same = a.size() == b.size();
  if (same) PrefixMap::ForEachDifference(a, b, [&same](const Prefix*, const Prefix*) { same = false; });
  return same;
}

class StateBuilder {
 public:
  StateBuilder(const Snapshot& current, Change change, const Limits& limits, IdAllocators& ids)
      : current_(current),
        change_(std::move(change)),
        limits_(limits),
        ids_(ids),
        next_(*current),
        violations_(std::move(change_.violations)),
        unread_(violations_) {}

  ChangeResult Build(bool dry_run);

 private:
  template <typename T>
  void Delete(Kind kind, Table<T> State::*table, const std::vector<Upsert<T>>& kept,
              const std::vector<std::string>& named);
  template <typename T>
  void Put(Kind kind, Table<T> State::*table, std::vector<Upsert<T>>& upserts);
  void PutSettings();
  void PutPriorities();
  void EditPrefixSets();
  void CheckObjects();
  void CheckDevices();
  void CheckReferences();
  void CountCounters();
  void NumberLegs();
  void NumberFeeds();
  // Objects that are new in this change.
  template <typename T>
  std::vector<std::shared_ptr<const T>> Fresh(Table<T> State::*table) const;
  template <typename T>
  absl::Status CheckIds(Kind kind, Table<T> State::*table);
  template <typename T>
  void AssignIds(Kind kind, Table<T> State::*table);
  template <typename F>
  void ForEachTable(F&& visit);
  absl::Status CheckLimits();
  template <typename... Parts>
  void Fail(std::string field, const Parts&... description) {
    violations_.push_back({std::move(field), absl::StrCat(description...)});
  }

  const Snapshot& current_;
  Change change_;
  const Limits& limits_;
  IdAllocators& ids_;
  State next_;
  Violations violations_;
  const UnreadFields unread_;
};

template <typename T>
void StateBuilder::Delete(Kind kind, Table<T> State::*table, const std::vector<Upsert<T>>& kept,
                          const std::vector<std::string>& named) {
  if (!change_.replace && named.empty()) return;
  std::vector<std::string> doomed(named);
  if (change_.replace) {
    absl::flat_hash_set<absl::string_view> names;
    for (const Upsert<T>& upsert : kept) names.insert(upsert.object.name);
    ((*current_).*table).ForEach([&](const std::shared_ptr<const T>& object) {
      if (!names.contains(object->name)) doomed.push_back(object->name);
    });
  } else {
    absl::flat_hash_set<absl::string_view> names(named.begin(), named.end());
    for (const Upsert<T>& upsert : kept) {
      if (names.contains(upsert.object.name)) {
        Fail(upsert.path, KindName(kind), " \"", upsert.object.name, "\" is both set and deleted by this change");
      }
    }
  }
  for (const std::string& name : doomed) {
    if constexpr (std::is_same_v<T, Rule>) {
      if (const Rule* rule = (next_.*table).Get(name)) next_.priorities.Erase(rule->priority);
    }
    (next_.*table).Erase(absl::string_view(name));
  }
}

template <typename T>
void StateBuilder::Put(Kind kind, Table<T> State::*table, std::vector<Upsert<T>>& upserts) {
  absl::flat_hash_set<std::string> seen;
  for (Upsert<T>& upsert : upserts) {
    T& object = upsert.object;
    if (upserts.size() > 1 && !seen.insert(object.name).second) {
      Fail(absl::StrCat(upsert.path, ".name"), "there is another ", KindName(kind), " \"", object.name,
           "\" in this change: names are unique");
      continue;
    }
    const T* present = (next_.*table).Get(object.name);
    if (present && SameMeaning(*present, object)) continue;
    object.id = present ? present->id : 0;
    if constexpr (std::is_same_v<T, Rule>) {
      if (present) next_.priorities.Erase(present->priority);
    }
    (next_.*table).Set(object);
  }
}

void StateBuilder::PutSettings() {
  Settings settings = change_.replace ? Settings{} : *current_->settings;
  if (change_.default_action) settings.default_action = *change_.default_action;
  if (change_.management) settings.management = *change_.management;
  if (!(settings == *current_->settings)) next_.settings = std::make_shared<const Settings>(std::move(settings));
}

void StateBuilder::PutPriorities() {
  for (const Upsert<Rule>& upsert : change_.rules) {
    const auto* rule = next_.rules.Find(absl::string_view(upsert.object.name));
    if (!rule) continue;
    const auto* holder = next_.priorities.Find(upsert.object.priority);
    if (holder && (*holder)->name != (*rule)->name) {
      Fail(absl::StrCat(upsert.path, ".priority"), "rule \"", (*holder)->name, "\" has priority ",
           (*rule)->priority, " already: no two rules may have the same");
      continue;
    }
    if (!holder || *holder != *rule) next_.priorities.Put(*rule);
  }
}

void StateBuilder::EditPrefixSets() {
  for (const PrefixSetEdit& edit : change_.prefix_set_edits) {
    const PrefixSet* present = next_.prefix_sets.Get(edit.name);
    if (!present) {
      Fail(absl::StrCat(edit.path, ".name"), "there is no prefix set \"", edit.name, "\" to change");
      continue;
    }
    PrefixSet set = *present;
    bool changed = false;
    for (const Prefix& prefix : edit.add) {
      if (set.prefixes.Find(prefix)) continue;
      set.prefixes.Put(prefix);
      changed = true;
    }
    for (const Prefix& prefix : edit.remove) changed = set.prefixes.Erase(prefix) || changed;
    if (!changed) continue;
    // Back at what it was is no change either.
    const auto* was = current_->prefix_sets.Find(absl::string_view(edit.name));
    if (was && SamePrefixes((*was)->prefixes, set.prefixes)) {
      next_.prefix_sets.Put(*was);
    } else {
      next_.prefix_sets.Set(std::move(set));
    }
  }
}

void StateBuilder::CheckObjects() {
  Violations found;
  const auto report = [&](const std::string& path) {
    for (Violation& violation : found) {
      if (!unread_.Explain(path, violation)) violations_.push_back(std::move(violation));
    }
    found.clear();
  };
  for (const auto& u : change_.interfaces) CheckInterface(u.object, u.path, found), report(u.path);
  for (const auto& u : change_.prefix_sets) CheckPrefixSet(u.object, u.path, found), report(u.path);
  for (const auto& u : change_.next_hops) CheckNextHop(u.object, u.path, next_, found), report(u.path);
  for (const auto& u : change_.steer_targets) CheckSteerTarget(u.object, u.path, next_, found), report(u.path);
  for (const auto& u : change_.multicast_routes) {
    CheckMulticastRoute(u.object, u.path, next_, found);
    report(u.path);
  }
  for (const auto& u : change_.rules) CheckRule(u.object, u.path, next_, found), report(u.path);
  if (!change_.management) return;
  for (size_t i = 0; i < change_.management->size(); ++i) {
    const std::string path = absl::StrCat(change_.management_path, ".allow[", i, "]");
    CheckManagement((*change_.management)[i], path, next_, found);
    report(path);
  }
}

void StateBuilder::CheckDevices() {
  if (change_.interfaces.empty()) return;
  absl::flat_hash_map<std::string, std::vector<std::string>> names;  // by device
  next_.interfaces.ForEach(
      [&names](const std::shared_ptr<const Interface>& other) { names[other->device].push_back(other->name); });
  for (const auto& upsert : change_.interfaces) {
    for (const std::string& other : names[upsert.object.device]) {
      if (other == upsert.object.name) continue;
      Fail(absl::StrCat(upsert.path, ".device"), "interface \"", other, "\" has device \"", upsert.object.device,
           "\" already");
      break;
    }
  }
}

// What the change takes away must not be used by what it leaves. Objects the change sets were checked already.
void StateBuilder::CheckReferences() {
  absl::flat_hash_set<std::pair<Kind, std::string>> gone;
  ForEachDifference(*current_, next_, [&gone](Kind kind, const std::string& name, const auto*, const auto* after) {
    // Nothing refers to rules, and a deleted one must not cost a look at all others.
    if (!after && kind != Kind::kRule) gone.emplace(kind, name);
  });
  if (gone.empty()) return;

  absl::flat_hash_set<std::string> checked;
  for (const auto& u : change_.rules) checked.insert(RulePath(u.object.name));
  for (const auto& u : change_.next_hops) checked.insert(NextHopPath(u.object.name));
  for (const auto& u : change_.steer_targets) checked.insert(SteerTargetPath(u.object.name));
  for (const auto& u : change_.multicast_routes) checked.insert(MulticastRoutePath(u.object.name));
  if (change_.management) checked.insert("management");
  ForEachReference(next_,
                   [&](const std::string& path, absl::string_view field, Kind kind, const std::string& name) {
                     if (name.empty() || checked.contains(path) || !gone.contains(std::make_pair(kind, name)))
                       return;
                     Fail(absl::StrCat(path, field), KindName(kind), " \"", name,
                          "\" is deleted by this change but still used here");
                   });
}

// Named counters live as long as some rule names them.
void StateBuilder::CountCounters() {
  const auto add = [this](const Rule* rule, int step) {
    if (!rule || rule->action->counter.empty()) return;
    const Counter* present = next_.counters.Get(rule->action->counter);
    Counter counter = present ? *present : Counter{rule->action->counter, 0, 0};
    counter.references += step;
    next_.counters.Set(std::move(counter));
  };
  absl::flat_hash_set<std::string> touched;
  Table<Rule>::ForEachDifference(current_->rules, next_.rules, [&](const auto* before, const auto* after) {
    if (before && after && (*before)->action->counter == (*after)->action->counter) return;
    for (const auto* rule : {before, after}) {
      if (rule) touched.insert((*rule)->action->counter);
    }
    add(after ? after->get() : nullptr, 1);
    add(before ? before->get() : nullptr, -1);
  });
  for (const std::string& name : touched) {
    const Counter* counter = next_.counters.Get(name);
    if (counter && counter->references == 0) next_.counters.Erase(absl::string_view(name));
  }
}

// A leg that keeps its name keeps its id, and so its counters.
void StateBuilder::NumberLegs() {
  Table<MulticastRoute>::ForEachDifference(current_->multicast_routes, next_.multicast_routes,
                                           [&](const auto* before, const auto* after) {
                                             absl::flat_hash_set<std::string> stay;
                                             if (after) {
                                               for (const MulticastLeg& leg : (*after)->legs)
                                                 stay.insert(LegKey((*after)->name, leg.name));
                                             }
                                             if (before) {
                                               for (const MulticastLeg& leg : (*before)->legs) {
                                                 const std::string key = LegKey((*before)->name, leg.name);
                                                 if (!stay.contains(key))
                                                   next_.multicast_legs.Erase(absl::string_view(key));
                                               }
                                             }
                                             for (const std::string& key : stay) {
                                               if (next_.multicast_legs.Get(key) == nullptr)
                                                 next_.multicast_legs.Set(MulticastLegId{key, 0});
                                             }
                                           });
}

// A feed keeps its id, and so what it had, while any route has it.
void StateBuilder::NumberFeeds() {
  bool differs = false;
  Table<MulticastRoute>::ForEachDifference(current_->multicast_routes, next_.multicast_routes,
                                           [&differs](const auto*, const auto*) { differs = true; });
  if (!differs) return;
  absl::flat_hash_set<std::string> stay;
  next_.multicast_routes.ForEach([&stay](const std::shared_ptr<const MulticastRoute>& route) {
    if (std::string key = FeedKey(*route); !key.empty()) stay.insert(std::move(key));
  });
  current_->multicast_feeds.ForEach([&](const std::shared_ptr<const MulticastFeedId>& feed) {
    if (!stay.contains(feed->name)) next_.multicast_feeds.Erase(absl::string_view(feed->name));
  });
  for (const std::string& key : stay) {
    if (next_.multicast_feeds.Get(key) == nullptr) next_.multicast_feeds.Set(MulticastFeedId{key, 0});
  }
}

template <typename T>
std::vector<std::shared_ptr<const T>> StateBuilder::Fresh(Table<T> State::*table) const {
  std::vector<std::shared_ptr<const T>> fresh;
  Table<T>::ForEachDifference((*current_).*table, next_.*table, [&](const auto* before, const auto* after) {
    if (!before) fresh.push_back(*after);
  });
  return fresh;
}

template <typename T>
absl::Status StateBuilder::CheckIds(Kind kind, Table<T> State::*table) {
  const size_t needed = Fresh(table).size();
  const IdAllocator& allocator = ids_.of(kind);
  if (needed <= allocator.available()) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("no room for ", needed, " more of kind ", KindName(kind), ": ", allocator.available(), " of ",
                   allocator.capacity(), " are free",
                   needed <= allocator.capacity() ? "; delete what is not used any more, then repeat it" : "",
                   kind == Kind::kRule ? "; start headgated with a higher --max-rules" : " (a fixed limit)"));
}

template <typename T>
void StateBuilder::AssignIds(Kind kind, Table<T> State::*table) {
  for (const auto& object : Fresh(table)) {
    T copy = *object;
    copy.id = *ids_.of(kind).Take();
    (next_.*table).Set(std::move(copy));
    if constexpr (std::is_same_v<T, Rule>) {
      next_.priorities.Put(*next_.rules.Find(absl::string_view(object->name)));
    }
  }
}

absl::Status StateBuilder::CheckLimits() {
  Table<Rule>::ForEachDifference(current_->rules, next_.rules, [&](const auto* before, const auto* after) {
    if (before) next_.entry_count -= EntryCount((*before)->match);
    if (after) next_.entry_count += EntryCount((*after)->match);
  });
  Table<MulticastRoute>::ForEachDifference(current_->multicast_routes, next_.multicast_routes,
                                           [&](const auto* before, const auto* after) {
                                             if (before) next_.entry_count -= EntryCount((*before)->input);
                                             if (after) next_.entry_count += EntryCount((*after)->input);
                                           });
  const auto management_entries = [](const Settings& settings) {
    uint64_t count = 0;
    for (const auto& allow : settings.management) count += EntryCount(allow);
    return count;
  };
  next_.entry_count += management_entries(*next_.settings);
  next_.entry_count -= management_entries(*current_->settings);
  Table<PrefixSet>::ForEachDifference(current_->prefix_sets, next_.prefix_sets,
                                      [&](const auto* before, const auto* after) {
                                        if (before) next_.prefix_count -= (*before)->prefixes.size();
                                        if (after) next_.prefix_count += (*after)->prefixes.size();
                                      });
  if (next_.entry_count > limits_.max_entries && next_.entry_count > current_->entry_count) {
    return absl::ResourceExhaustedError(absl::StrCat("table hg_rules: rules and multicast routes need ",
                                                     next_.entry_count, " match entries and there is room for ",
                                                     limits_.max_entries,
                                                     ": start headgated with a higher --max-rules"));
  }
  if (next_.prefix_count > limits_.max_prefixes && next_.prefix_count > current_->prefix_count) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "table hg_prefixes: the prefix sets need ", next_.prefix_count, " entries and there is room for ",
        limits_.max_prefixes, ": start headgated with a higher --max-prefixes"));
  }
  return absl::OkStatus();
}

template <typename F>
void StateBuilder::ForEachTable(F&& visit) {
  visit(Kind::kInterface, &State::interfaces);
  visit(Kind::kPrefixSet, &State::prefix_sets);
  visit(Kind::kNextHop, &State::next_hops);
  visit(Kind::kSteerTarget, &State::steer_targets);
  visit(Kind::kCounter, &State::counters);
  visit(Kind::kRule, &State::rules);
  visit(Kind::kMulticastRoute, &State::multicast_routes);
  visit(Kind::kMulticastLeg, &State::multicast_legs);
  visit(Kind::kMulticastFeed, &State::multicast_feeds);
}

ChangeResult StateBuilder::Build(bool dry_run) {
  Delete(Kind::kRule, &State::rules, change_.rules, change_.delete_rules);
  Delete(Kind::kMulticastRoute, &State::multicast_routes, change_.multicast_routes,
         change_.delete_multicast_routes);
  Delete(Kind::kSteerTarget, &State::steer_targets, change_.steer_targets, change_.delete_steer_targets);
  Delete(Kind::kNextHop, &State::next_hops, change_.next_hops, change_.delete_next_hops);
  Delete(Kind::kPrefixSet, &State::prefix_sets, change_.prefix_sets, change_.delete_prefix_sets);
  Delete(Kind::kInterface, &State::interfaces, change_.interfaces, change_.delete_interfaces);
  Put(Kind::kInterface, &State::interfaces, change_.interfaces);
  Put(Kind::kPrefixSet, &State::prefix_sets, change_.prefix_sets);
  EditPrefixSets();
  Put(Kind::kNextHop, &State::next_hops, change_.next_hops);
  Put(Kind::kSteerTarget, &State::steer_targets, change_.steer_targets);
  Put(Kind::kMulticastRoute, &State::multicast_routes, change_.multicast_routes);
  Put(Kind::kRule, &State::rules, change_.rules);
  PutPriorities();
  PutSettings();
  CheckObjects();
  CheckDevices();
  CheckReferences();
  if (!violations_.empty()) return {nullptr, std::move(violations_), absl::OkStatus()};

  CountCounters();
  NumberLegs();
  NumberFeeds();
  absl::Status status = CheckLimits();
  ForEachTable([&](Kind kind, auto table) { status.Update(CheckIds(kind, table)); });
  if (!status.ok()) return {nullptr, {}, std::move(status)};

  bool differs = false;
  ForEachDifference(*current_, next_, [&](auto&&...) { differs = true; });
  if (!differs) return {current_, {}, absl::OkStatus()};
  ++next_.generation;
  if (!dry_run) ForEachTable([&](Kind kind, auto table) { AssignIds(kind, table); });
  return {std::make_shared<const State>(std::move(next_)), {}, absl::OkStatus()};
}

}  // namespace

ChangeResult BuildState(const Snapshot& current, Change change, const Limits& limits, IdAllocators& ids,
                        bool dry_run) {
  return StateBuilder(current, std::move(change), limits, ids).Build(dry_run);
}

}  // namespace headgate
