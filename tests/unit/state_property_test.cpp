// SPDX-License-Identifier: Apache-2.0
//
// Random changes, right and wrong ones, against plain maps: what the maps hold is what the state holds, a change
// is refused when and only when it breaks a rule of the model, ids are kept and never shared.
#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "tests/harness/model.h"
#include "tests/harness/random.h"

namespace headgate::testing {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr int kSteps = 3000;
#else
constexpr int kSteps = 20'000;
#endif

// The model: objects by name, nothing clever.
struct Maps {
  std::map<std::string, Interface> interfaces;
  std::map<std::string, PrefixSet> prefix_sets;
  std::map<std::string, NextHop> next_hops;
  std::map<std::string, SteerTarget> steer_targets;
  std::map<std::string, Rule> rules;
  Settings settings;

  bool IsValid() const {
    std::set<std::string> devices;
    for (const auto& [name, interface] : interfaces) {
      if (!devices.insert(interface.device).second) return false;
    }
    const auto exists = [](const auto& map, const std::string& name) {
      return name.empty() || map.contains(name);
    };
    for (const auto& [name, hop] : next_hops) {
      if (!exists(interfaces, hop.interface)) return false;
    }
    for (const ManagementAllow& allow : settings.management) {
      if (!exists(interfaces, allow.interface)) return false;
    }
    std::set<uint32_t> priorities;
    for (const auto& [name, rule] : rules) {
      if (!priorities.insert(rule.priority).second || !exists(interfaces, rule.match.interface) ||
          !exists(prefix_sets, rule.match.source_set)) {
        return false;
      }
      const Verdict& verdict = rule.action->verdict;
      if (const auto* redirect = std::get_if<Redirect>(&verdict);
          redirect && !interfaces.contains(redirect->interface))
        return false;
      if (const auto* hop = std::get_if<ToNextHop>(&verdict); hop && !next_hops.contains(hop->name)) return false;
      if (const auto* steer = std::get_if<Steer>(&verdict); steer && !steer_targets.contains(steer->target))
        return false;
    }
    return true;
  }

  // As a state, counted by hand.
  State ToState() const {
    State state;
    state.settings = std::make_shared<const Settings>(settings);
    for (const auto& [name, object] : interfaces) state.interfaces.Set(object);
    for (const auto& [name, object] : next_hops) state.next_hops.Set(object);
    for (const auto& [name, object] : steer_targets) state.steer_targets.Set(object);
    for (const auto& [name, object] : prefix_sets) {
      state.prefix_sets.Set(object);
      object.prefixes.ForEach([&](const Prefix&) { ++state.prefix_count; });
    }
    std::map<std::string, uint32_t> counters;
    for (const auto& [name, object] : rules) {
      state.rules.Set(object);
      state.priorities.Put(*state.rules.Find(absl::string_view(name)));
      const Match& match = object.match;
      state.entry_count +=
          std::max<size_t>(1, match.source_ports.size()) * std::max<size_t>(1, match.destination_ports.size());
      if (!object.action->counter.empty()) ++counters[object.action->counter];
    }
    for (const auto& [name, references] : counters) state.counters.Set(Counter{name, 0, references});
    state.entry_count += settings.management.size();
    return state;
  }
};

class Property : public ::testing::Test {
 protected:
  uint64_t Below(uint64_t bound) { return random_() % bound; }
  // Few names, so that changes meet.
  std::string Name(const char* kind) { return absl::StrCat(kind, Below(7)); }
  std::string MaybeName(const char* kind) { return Below(3) == 0 ? Name(kind) : ""; }
  Prefix RandomPrefix() {
    Prefix prefix;
    prefix.length = static_cast<uint8_t>(4 + Below(3));
    prefix.address.words[0] = static_cast<uint32_t>(random_()) & WordMask(prefix.length, 0);
    return prefix;
  }

  Interface RandomInterface() {
    return {
        .name = Name("if"), .device = absl::StrCat("eth", Below(20)), .mode = static_cast<AttachMode>(Below(3))};
  }
  PrefixSet RandomSet() {
    PrefixSet set{.name = Name("set")};
    for (uint64_t n = Below(5); n > 0; --n) set.prefixes.Put(RandomPrefix());
    return set;
  }
  NextHop RandomHop() {
    NextHop hop{.name = Name("hop"), .interface = Name("if"), .mac = {2, 0, 0, 0, 0, 1}};
    if (Below(2) == 0) hop.vlan = static_cast<uint16_t>(Below(3));
    return hop;
  }
  Rule RandomRule() {
    Rule rule{.name = Name("rule"), .priority = static_cast<uint32_t>(1 + Below(30))};
    rule.match.interface = MaybeName("if");
    rule.match.source_set = MaybeName("set");
    for (uint64_t n = Below(3); n > 0; --n) rule.match.destination_ports.push_back({static_cast<uint16_t>(n), 9});
    Action action;
    switch (Below(5)) {
      case 0:
        action.verdict = Redirect{.interface = Name("if")};
        break;
      case 1:
        action.verdict = ToNextHop{Name("hop")};
        break;
      case 2:
        action.verdict = Steer{Name("target")};
        break;
      default:
        action.verdict = Drop{};
    }
    if (Below(2) == 0) action.counter = Name("counter");
    rule.action = std::make_shared<const Action>(action);
    return rule;
  }

  // Adds random objects of one kind to the change and to the map; false when the change contradicts itself.
  template <typename T, typename Make>
  bool Some(uint64_t most, Make&& make, bool replace, std::vector<Upsert<T>>& upserts,
            std::vector<std::string>& deletes, const char* kind, std::map<std::string, T>& map) {
    bool good = true;
    std::set<std::string> names, doomed;
    for (uint64_t n = Below(most + 1); n > 0; --n) {
      T object = make();
      if (!names.insert(object.name).second && Below(8) != 0) continue;
      upserts.push_back({object, "path"});
      if (upserts.size() > names.size()) good = false;
    }
    if (!replace && Below(3) == 0) {
      doomed.insert(Name(kind));
      deletes.assign(doomed.begin(), doomed.end());
      good = good && !names.contains(*doomed.begin());
    }
    std::map<std::string, T> next;
    if (!replace) next = map;
    for (const std::string& name : doomed) next.erase(name);
    for (const Upsert<T>& upsert : upserts) next[upsert.object.name] = upsert.object;
    map = std::move(next);
    return good;
  }

  std::mt19937_64 random_ = MakeRandom();
};

TEST_F(Property, AStateIsWhatItsChangesSay) {
  Desired desired;
  Maps model;
  int taken = 0, refused = 0;
  for (int step = 0; step < kSteps; ++step) {
    Change change;
    Maps next = model;
    const bool replace = Below(50) == 0;
    change.replace = replace;
    if (replace) next.settings = {};
    const uint64_t most = replace ? 5 : 1;
    bool good = Some(
        most, [&] { return RandomInterface(); }, replace, change.interfaces, change.delete_interfaces, "if",
        next.interfaces);
    good = Some(
               most, [&] { return RandomSet(); }, replace, change.prefix_sets, change.delete_prefix_sets, "set",
               next.prefix_sets) &&
           good;
    good = Some(
               most, [&] { return RandomHop(); }, replace, change.next_hops, change.delete_next_hops, "hop",
               next.next_hops) &&
           good;
    good =
        Some(
            most,
            [&] { return SteerTarget{.name = Name("target"), .fallback = static_cast<BasicVerdict>(Below(2))}; },
            replace, change.steer_targets, change.delete_steer_targets, "target", next.steer_targets) &&
        good;
    good =
        Some(
            most, [&] { return RandomRule(); }, replace, change.rules, change.delete_rules, "rule", next.rules) &&
        good;
    if (Below(4) == 0) change.default_action = next.settings.default_action = static_cast<BasicVerdict>(Below(2));
    if (Below(8) == 0) {
      ManagementAllow allow{.protocol = 6};
      allow.interface = MaybeName("if");
      change.management = next.settings.management = {allow};
    }
    if (Below(2) == 0) {
      PrefixSetEdit edit{.name = Name("set"), .path = "edit", .add = {RandomPrefix()}, .remove = {RandomPrefix()}};
      const auto set = next.prefix_sets.find(edit.name);
      if (set != next.prefix_sets.end()) {
        set->second.prefixes.Put(edit.add[0]);
        set->second.prefixes.Erase(edit.remove[0]);
      }
      good = good && set != next.prefix_sets.end();
      change.prefix_set_edits.push_back(std::move(edit));
    }
    good = good && next.IsValid();

    const Snapshot before = desired.state();
    const ChangeResult result = desired.Apply(std::move(change));
    ASSERT_EQ(result.state != nullptr, good) << "step " << step << "\n"
                                             << Describe(result.violations) << result.status;
    ASSERT_EQ(result.violations.empty(), good);
    ++(good ? taken : refused);
    if (good) model = std::move(next);
    ASSERT_EQ(Describe(*desired, false), Describe(model.ToState(), false)) << "step " << step;
    if (!good) continue;
    ASSERT_EQ(desired->generation, before->generation + (desired.state() != before ? 1 : 0));

    // Ids: kept, in use once, and none is lost.
    const auto check = [&](Kind kind, const auto& old_table, const auto& table) {
      std::set<uint32_t> ids;
      table.ForEach([&](const auto& object) {
        EXPECT_TRUE(ids.insert(object->id).second) << KindName(kind) << " id " << object->id << " is given twice";
        const auto* old = old_table.Get(object->name);
        EXPECT_TRUE(!old || old->id == object->id) << object->name;
      });
      const IdAllocator& allocator = desired.ids().of(kind);
      EXPECT_EQ(allocator.available() + ids.size(), allocator.capacity()) << KindName(kind);
    };
    check(Kind::kInterface, before->interfaces, desired->interfaces);
    check(Kind::kPrefixSet, before->prefix_sets, desired->prefix_sets);
    check(Kind::kNextHop, before->next_hops, desired->next_hops);
    check(Kind::kSteerTarget, before->steer_targets, desired->steer_targets);
    check(Kind::kCounter, before->counters, desired->counters);
    check(Kind::kRule, before->rules, desired->rules);
    ASSERT_FALSE(HasFailure()) << "step " << step;
  }
  EXPECT_GT(taken, kSteps / 10);
  EXPECT_GT(refused, kSteps / 10);
}

}  // namespace
}  // namespace headgate::testing
