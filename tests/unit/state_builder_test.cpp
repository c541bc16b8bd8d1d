// SPDX-License-Identifier: Apache-2.0
//
// From a state and a change to the next state: what documents and patches mean, ids, limits, counters, and what is
// shared between generations.
#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>

#include "tests/harness/model.h"

namespace headgate::testing {
namespace {

constexpr char kDocument[] = R"(
interfaces: [{name: wan, device: eth0}, {name: lan}]
default_action: drop
management: {allow: [{source: 192.0.2.0/24}]}
prefix_sets: [{name: bad, prefixes: [10.0.0.0/8, "fc00::/7"]}]
next_hops: [{name: up, interface: wan, mac: 02:00:00:00:00:01}]
steer_targets: [{name: app, fallback: drop}]
rules:
  - {name: a, priority: 10, match: {source_set: bad}, action: {drop: {}, count: {counter: hits}}}
  - {name: b, priority: 20, match: {destination_ports: ["1", "2"], source_ports: ["3", "4", "5"]}, action: {pass: {}}}
)";

TEST(StateBuilder, ADocumentIsTheWholeTruth) {
  Desired desired;
  desired.Must(Config(kDocument));
  EXPECT_EQ(desired->generation, 1u);
  EXPECT_EQ(desired->prefix_count, 2u);
  EXPECT_EQ(desired->entry_count, 1u + 6u + 1u);
  desired.Must(Config("interfaces: [{name: lan}]"));
  EXPECT_EQ(desired->generation, 2u);
  EXPECT_EQ(Describe(*desired, false),
            "settings default_action: DEFAULT_ACTION_PASS\nprefixes 0, entries 0\n"
            "interface name: \"lan\" device: \"lan\" mode: ATTACH_MODE_AUTO\n");
}

TEST(StateBuilder, TheSameDocumentAgainIsTheSameState) {
  Desired desired;
  const Snapshot first = desired.Must(Config(kDocument));
  EXPECT_EQ(desired.Must(Config(kDocument)), first);
  EXPECT_EQ(desired.Must(Patch("{}")), first);
  EXPECT_EQ(desired.Must(Patch("delete_rules: [not-there]")), first);
  EXPECT_EQ(desired.Must(Patch("prefix_set_changes: [{name: bad, add: [10.0.0.0/8], remove: [1.0.0.0/8]}]")),
            first);
}

TEST(StateBuilder, APatchChangesWhatItNames) {
  Desired desired;
  const Snapshot before = desired.Must(Config(kDocument));
  desired.Must(Patch("upsert: {rules: [{name: a, priority: 11, action: {pass: {}}}]}"));
  EXPECT_EQ(desired->generation, 2u);
  EXPECT_EQ(desired->rules.Get("a")->priority, 11u);
  EXPECT_EQ(desired->priorities.Find(10u), nullptr);
  // What is not named is not even copied: that is what a difference is found by.
  EXPECT_EQ(*desired->rules.Find("b"), *before->rules.Find("b"));
  EXPECT_EQ(*desired->interfaces.Find("wan"), *before->interfaces.Find("wan"));
  EXPECT_EQ(desired->settings, before->settings);
}

TEST(StateBuilder, SettingsAreKeptByAPatchAndResetByADocument) {
  Desired desired;
  desired.Must(Config(kDocument));
  desired.Must(Patch("upsert: {default_action: pass}"));
  EXPECT_EQ(desired->settings->default_action, BasicVerdict::kPass);
  EXPECT_EQ(desired->settings->management.size(), 1u);
  desired.Must(Patch("upsert: {management: {allow: [{protocol: udp, destination_ports: [\"1\", \"2\"]}]}}"));
  EXPECT_EQ(desired->settings->management.size(), 1u);
  EXPECT_EQ(desired->settings->management[0].protocol, 17);
  EXPECT_EQ(desired->entry_count, 1u + 6u + 2u);
  desired.Must(Patch("upsert: {management: {}}"));
  EXPECT_TRUE(desired->settings->management.empty());
  desired.Must(Config("default_action: drop"));
  EXPECT_EQ(desired->settings->default_action, BasicVerdict::kDrop);
  desired.Must(Config("{}"));
  EXPECT_EQ(desired->settings->default_action, BasicVerdict::kPass);
}

TEST(StateBuilder, IdsStayWithNames) {
  Desired desired;
  desired.Must(Config(kDocument));
  const uint32_t a = desired->rules.Get("a")->id, wan = desired->interfaces.Get("wan")->id;
  desired.Must(Config(R"(
interfaces: [{name: lan}, {name: wan, device: eth7, mode: generic}]
rules: [{name: c, priority: 10, action: {pass: {}}}, {name: a, priority: 5, match: {vlan: 1}, action: {route: {}}}]
)"));
  EXPECT_EQ(desired->rules.Get("a")->id, a);
  EXPECT_EQ(desired->interfaces.Get("wan")->id, wan);
  EXPECT_EQ(desired->interfaces.Get("wan")->device, "eth7");
  EXPECT_NE(desired->rules.Get("c")->id, a);
  EXPECT_NE(desired->rules.Get("c")->id, 0u);
}

TEST(StateBuilder, ADryRunTakesNothing) {
  Desired desired;
  desired.Must(Config(kDocument));
  const uint32_t free = desired.ids().of(Kind::kRule).available();
  const Snapshot before = desired.state();
  const ChangeResult result = desired.Try(Patch("upsert: {rules: [{name: n, priority: 1, action: {pass: {}}}]}"));
  ASSERT_TRUE(result.state);
  EXPECT_EQ(result.state->generation, 2u);
  EXPECT_NE(result.state->rules.Get("n"), nullptr);
  EXPECT_EQ(desired.state(), before);
  EXPECT_EQ(desired.ids().of(Kind::kRule).available(), free);
}

TEST(StateBuilder, ARefusedChangeTakesNothing) {
  Desired desired;
  desired.Must(Config(kDocument));
  const std::string before = Describe(*desired);
  const uint32_t free = desired.ids().of(Kind::kRule).available();
  EXPECT_FALSE(desired
                   .Apply(Patch(R"(
upsert: {rules: [{name: n, priority: 1, action: {pass: {}}}, {name: m, priority: 10, action: {pass: {}}}]}
)"))
                   .state);
  EXPECT_EQ(Describe(*desired), before);
  EXPECT_EQ(desired.ids().of(Kind::kRule).available(), free);
}

TEST(StateBuilder, PrefixSetsChangeOneByOne) {
  Desired desired;
  desired.Must(Config(kDocument));
  const uint32_t id = desired->prefix_sets.Get("bad")->id;
  const PrefixMap before = desired->prefix_sets.Get("bad")->prefixes;
  desired.Must(Patch(R"(
prefix_set_changes:
  - {name: bad, add: [192.0.2.1, 192.0.2.1/32, 198.51.100.0/24], remove: [10.0.0.0/8, 10.0.0.0/9]}
  - {name: bad, remove: [198.51.100.0/24]}
)"));
  const PrefixSet& set = *desired->prefix_sets.Get("bad");
  EXPECT_EQ(set.id, id);
  std::set<std::string> held, changed;
  set.prefixes.ForEach([&](const Prefix& prefix) { held.insert(ToString(prefix)); });
  EXPECT_EQ(held, (std::set<std::string>{"fc00::/7", "192.0.2.1/32"}));
  EXPECT_EQ(desired->prefix_count, 2u);
  PrefixMap::ForEachDifference(before, set.prefixes, [&](const Prefix* gone, const Prefix* come) {
    changed.insert((gone ? "-" : "+") + ToString(gone ? *gone : *come));
  });
  EXPECT_EQ(changed, (std::set<std::string>{"-10.0.0.0/8", "+192.0.2.1/32"}));
  // Of a set that the same patch replaces or makes, too.
  desired.Must(Patch(R"(
upsert: {prefix_sets: [{name: bad, prefixes: [1.0.0.0/8]}, {name: new}]}
prefix_set_changes: [{name: bad, add: [2.0.0.0/8]}, {name: new, add: [3.0.0.0/8]}]
)"));
  EXPECT_EQ(desired->prefix_sets.Get("bad")->prefixes.size(), 2u);
  EXPECT_EQ(desired->prefix_sets.Get("new")->prefixes.size(), 1u);
  EXPECT_EQ(desired->prefix_count, 3u);
}

TEST(StateBuilder, CountersLiveAsLongAsARuleNamesThem) {
  Desired desired;
  desired.Must(Config(kDocument));
  const Counter hits = *desired->counters.Get("hits");
  EXPECT_EQ(hits.references, 1u);
  EXPECT_NE(hits.id, 0u);
  desired.Must(Patch("upsert: {rules: [{name: b, priority: 20, action: {pass: {}, count: {counter: hits}}}]}"));
  EXPECT_EQ(desired->counters.Get("hits")->references, 2u);
  EXPECT_EQ(desired->counters.Get("hits")->id, hits.id);
  desired.Must(Patch("delete_rules: [a]"));
  EXPECT_EQ(desired->counters.Get("hits")->references, 1u);
  // From one rule to another in one step, and to another counter.
  desired.Must(Patch(R"(
upsert:
  rules:
    - {name: b, priority: 20, action: {pass: {}, count: {counter: misses}}}
    - {name: c, priority: 30, action: {pass: {}, count: {counter: hits}}}
)"));
  EXPECT_EQ(desired->counters.Get("hits")->id, hits.id);
  EXPECT_EQ(desired->counters.Get("misses")->references, 1u);
  desired.Must(Patch("delete_rules: [b, c]"));
  EXPECT_TRUE(desired->counters.empty());
}

TEST(StateBuilder, LimitsNameTheTableAndTheNeed) {
  Desired desired(Limits{.max_entries = 10, .max_prefixes = 3});
  desired.Must(Config(kDocument));  // 8 entries, 2 prefixes
  const auto refused = [&](const char* patch) {
    const ChangeResult result = desired.Apply(Patch(patch));
    EXPECT_FALSE(result.state);
    EXPECT_TRUE(result.violations.empty());
    EXPECT_EQ(result.status.code(), absl::StatusCode::kResourceExhausted);
    return std::string(result.status.message());
  };
  EXPECT_EQ(
      refused("upsert: {rules: [{name: c, priority: 1, match: {source_ports: [\"1\", \"2\", \"3\"]}, action: "
              "{pass: {}}}]}"),
      "table hg_rules: rules and multicast routes need 11 match entries and there is room for 10: start headgated "
      "with a higher "
      "--max-rules");
  EXPECT_EQ(
      refused("prefix_set_changes: [{name: bad, add: [1.0.0.0/8, 2.0.0.0/8]}]"),
      "table hg_prefixes: the prefix sets need 4 entries and there is room for 3: start headgated with a higher "
      "--max-prefixes");
  desired.Must(Patch(
      "upsert: {rules: [{name: c, priority: 1, match: {source_ports: [\"1\", \"2\"]}, action: {pass: {}}}]}"));
  desired.Must(Patch("prefix_set_changes: [{name: bad, add: [1.0.0.0/8]}]"));
}

// The limits may have been lowered since: less is always possible.
TEST(StateBuilder, BeyondTheLimitsLessIsAllowedAndMoreIsNot) {
  Desired high;
  const Snapshot state = high.Must(Config(kDocument));
  const Limits low{.max_entries = 2, .max_prefixes = 1};
  IdAllocators ids(100);
  const auto build = [&](const char* patch) { return BuildState(state, Patch(patch), low, ids, true); };
  EXPECT_TRUE(build("delete_rules: [a]").state);
  EXPECT_TRUE(build("upsert: {rules: [{name: a, priority: 10, action: {pass: {}}}]}").state);
  EXPECT_FALSE(build("upsert: {rules: [{name: c, priority: 30, action: {pass: {}}}]}").state);
  EXPECT_TRUE(build("prefix_set_changes: [{name: bad, add: [1.0.0.0/8], remove: [10.0.0.0/8]}]").state);
  EXPECT_FALSE(build("prefix_set_changes: [{name: bad, add: [1.0.0.0/8]}]").state);
}

TEST(StateBuilder, EveryKindHasItsLimit) {
  const auto list = [](const char* field, int count, const char* more) {
    std::string yaml = absl::StrCat(field, ":\n");
    for (int i = 0; i < count; ++i) absl::StrAppend(&yaml, "  - {name: n", i, more, "}\n");
    return yaml;
  };
  const std::string wan = "interfaces: [{name: wan}]\n";
  const std::string mac = ", interface: wan, mac: 02:00:00:00:00:01";
  Desired interfaces, others;
  interfaces.Must(Config(list("interfaces", 255, "")));
  others.Must(Config(wan + list("prefix_sets", 256, "") + list("next_hops", 4096, mac.c_str()) +
                     list("steer_targets", 64, "")));
  const auto refused = [](const std::string& yaml) {
    Desired fresh;
    return std::string(fresh.Apply(Config(yaml)).status.message());
  };
  EXPECT_EQ(refused(list("interfaces", 256, "")),
            "no room for 256 more of kind interface: 255 of 255 are free (a fixed limit)");
  EXPECT_EQ(refused(list("prefix_sets", 257, "")),
            "no room for 257 more of kind prefix set: 256 of 256 are free (a fixed limit)");
  EXPECT_EQ(refused(wan + list("next_hops", 4097, mac.c_str())),
            "no room for 4097 more of kind next hop: 4096 of 4096 are free (a fixed limit)");
  EXPECT_EQ(refused(list("steer_targets", 65, "")),
            "no room for 65 more of kind steer target: 64 of 64 are free (a fixed limit)");
}

TEST(StateBuilder, RetiredIdsAreThoseOfObjectsThatAreGone) {
  Desired desired;
  const Snapshot before = desired.Must(Config(kDocument));
  const Snapshot after = desired.Must(Config("rules: [{name: b, priority: 1, action: {pass: {}}}]"));
  std::set<std::pair<Kind, uint32_t>> retired;
  ForEachRetiredId(*before, *after,
                   [&](Kind kind, uint32_t id) { EXPECT_TRUE(retired.emplace(kind, id).second); });
  EXPECT_EQ(retired,
            (std::set<std::pair<Kind, uint32_t>>{{Kind::kInterface, before->interfaces.Get("wan")->id},
                                                 {Kind::kInterface, before->interfaces.Get("lan")->id},
                                                 {Kind::kPrefixSet, before->prefix_sets.Get("bad")->id},
                                                 {Kind::kNextHop, before->next_hops.Get("up")->id},
                                                 {Kind::kSteerTarget, before->steer_targets.Get("app")->id},
                                                 {Kind::kCounter, before->counters.Get("hits")->id},
                                                 {Kind::kRule, before->rules.Get("a")->id}}));
  ForEachRetiredId(*after, *after, [](Kind, uint32_t) { ADD_FAILURE(); });
}

TEST(StateBuilder, DifferencesAreOfObjectsKindByKind) {
  Desired desired;
  const Snapshot before = desired.Must(Config(kDocument));
  const Snapshot after = desired.Must(Patch(R"(
upsert: {default_action: pass, steer_targets: [{name: app}], rules: [{name: c, priority: 1, action: {steer: {target: app}}}]}
delete_rules: [a]
)"));
  std::vector<std::string> differences;
  ForEachDifference(*before, *after, [&](Kind kind, const std::string& name, const auto* old, const auto* now) {
    differences.push_back(absl::StrCat(old ? now ? "change " : "delete " : "create ", KindName(kind), " ", name));
  });
  std::sort(differences.begin() + 3, differences.end());
  EXPECT_EQ(differences, (std::vector<std::string>{"change settings ", "change steer target app",
                                                   "delete counter hits", "create rule c", "delete rule a"}));
}

// What is not stored is found again from what is.
TEST(StateBuilder, WhatFollowsFromTheObjectsCanBeDerived) {
  Desired desired;
  desired.Must(Config(kDocument));
  State loaded;
  loaded.settings = desired->settings;
  loaded.interfaces = desired->interfaces;
  loaded.prefix_sets = desired->prefix_sets;
  loaded.next_hops = desired->next_hops;
  loaded.steer_targets = desired->steer_targets;
  loaded.rules = desired->rules;
  loaded.prefix_count = desired->prefix_count;  // the loader's part
  desired->counters.ForEach([&](const auto& counter) {
    loaded.counters.Set(Counter{counter->name, counter->id, 0});
  });
  DeriveState(loaded);
  EXPECT_EQ(Describe(loaded), Describe(*desired));
}

}  // namespace
}  // namespace headgate::testing
