// SPDX-License-Identifier: Apache-2.0
//
// A fresh compiler and the tables that an earlier agent left: as it left them, behind or ahead of the desired
// state, and scribbled over. Whatever it finds, it ends at tables that decide as the desired state says.
#include <gtest/gtest.h>

#include "agent/control/compiler.h"
#include "agent/dataplane/fake_dataplane.h"
#include "tests/harness/model.h"
#include "tests/harness/random.h"
#include "tests/harness/tables.h"

namespace headgate::testing {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr int kRounds = 100;
#else
constexpr int kRounds = 1000;
#endif
constexpr uint32_t kCapacity = 1 << 16;

// Every kind of object, and enough rules and prefixes for trees of some depth.
constexpr char kObjects[] = R"(
interfaces: [{name: wan}, {name: lan}]
default_action: drop
management:
  allow:
    - {source: 192.0.2.0/24, protocol: tcp, destination_ports: ["22", "7443-7450"]}
    - {interface: lan, protocol: udp}
prefix_sets:
  - {name: bad, prefixes: [10.0.0.0/8, 198.51.100.7, "2001:db8:bad::/48"]}
  - {name: many, prefixes: []}
next_hops: [{name: up, interface: wan, mac: 02:00:00:00:00:01, vlan: 7}]
steer_targets: [{name: app, fallback: drop}]
rules:
  - {name: a, priority: 1000000, match: {source_set: bad, interface: wan}, action: {drop: {}}}
  - {name: b, priority: 1000001, match: {destination_set: many}, action: {next_hop: {name: up}, count: {counter: hits}}}
  - {name: c, priority: 1000002, match: {vlan: 5, inner_vlan: 6}, action: {steer: {target: app}}}
  - {name: d, priority: 1000003, match: {packet_length: "100-200", protocol: udp}, action: {redirect: {interface: lan}}}
  - {name: e, priority: 1000004, match: {source: "2001:db8::/32", protocol: tcp, destination_ports: ["80", "443"]},
     action: {route: {}, rate_limit: {packets_per_second: 10}}}
)";

class Adopt : public ::testing::Test {
 protected:
  Adopt() : random_(MakeRandom()) {
    desired_.Must(Config(kObjects));
    Change change;
    PrefixSetEdit edit{.name = "many", .path = "edit"};
    for (int i = 0; i < 300; ++i) {
      Prefix prefix;
      prefix.address.family = i % 3 == 0 ? Family::kIpv6 : Family::kIpv4;
      prefix.length = static_cast<uint8_t>(8 + random_() % 25);
      prefix.address.words[0] = static_cast<uint32_t>(random_()) & WordMask(prefix.length, 0);
      edit.add.push_back(prefix);
    }
    change.prefix_set_edits.push_back(edit);
    std::vector<Rule> rules = LoadClassBench("fw1_1k");
    rules.resize(200);
    for (Rule& rule : rules) {
      rule.id = 0;
      change.rules.push_back({rule, "rule"});
    }
    desired_.Must(std::move(change));
    compiler_.Compile(*desired_);
    PutInForce(compiler_, fake_);
  }

  void PutInForce(Compiler& compiler, FakeDataplane& fake) {
    ASSERT_TRUE(compiler.Flush(fake).ok());
    ASSERT_TRUE(fake.Activate(compiler.root()).ok());
    compiler.Published(++epoch_);
    compiler.Reclaim(epoch_);
  }

  // A compiler as a restarted agent has it: adopted, or made anew where the tables are refused.
  std::unique_ptr<Compiler> Restart(FakeDataplane& fake, const State& state,
                                    std::optional<uint64_t>* differences) {
    auto compiler = std::make_unique<Compiler>();
    const auto adopted = compiler->Adopt(fake, state);
    if (adopted.ok()) {
      *differences = *adopted;
    } else {
      EXPECT_EQ(adopted.status().code(), absl::StatusCode::kDataLoss) << adopted.status();
      *differences = std::nullopt;
      compiler = std::make_unique<Compiler>();
      compiler->Compile(state);
    }
    PutInForce(*compiler, fake);
    return compiler;
  }

  // Accounts that are off show when everything is taken out again.
  void ExpectRightToTheEnd(Compiler& compiler, FakeDataplane& fake) {
    ASSERT_EQ(CompareWithModel(fake, *desired_, 30, random_), "");
    State less = *desired_;
    int kept = 0;
    desired_->rules.ForEach([&](const auto& rule) {
      if (++kept % 2 == 0) less.rules.Erase(absl::string_view(rule->name));
    });
    compiler.Compile(less);
    PutInForce(compiler, fake);
    ASSERT_EQ(CompareWithModel(fake, less, 30, random_), "");
    compiler.Compile(State{});
    PutInForce(compiler, fake);
    for (const TableId table :
         {TableId::kNodes, TableId::kSlots, TableId::kRules, TableId::kMatches, TableId::kPrefixes}) {
      ASSERT_EQ(compiler.Uses()[static_cast<size_t>(table)].cells, 0u) << fake.Info(table).name;
    }
  }

  static void Copy(const FakeDataplane& from, FakeDataplane& to) {
    for (size_t i = 0; i < kTables; ++i) {
      const auto table = static_cast<TableId>(i);
      const uint32_t count = std::min<uint32_t>(from.Info(table).capacity, 1024);
      std::vector<char> values(static_cast<size_t>(count) * from.Info(table).value_size);
      std::vector<uint32_t> indexes(count);
      for (uint32_t k = 0; k < count; ++k) indexes[k] = k;
      ASSERT_TRUE(from.Read(table, 0, count, values.data()).ok());
      ASSERT_TRUE(to.Write(table, indexes, values.data()).ok());
    }
    ASSERT_TRUE(to.Activate(*from.Active()).ok());
  }

  template <typename Value, typename Change>
  static void Edit(FakeDataplane& fake, TableId table, uint32_t index, Change&& edit) {
    Value value;
    ASSERT_TRUE(fake.Read(table, index, 1, &value).ok());
    edit(value);
    ASSERT_TRUE(fake.Write(table, absl::MakeConstSpan(&index, 1), &value).ok());
  }
  hg_root Root() const {
    hg_root root;
    EXPECT_TRUE(fake_.Read(TableId::kRoots, *fake_.Active(), 1, &root).ok());
    return root;
  }

  std::mt19937_64 random_;
  Desired desired_;
  FakeDataplane fake_{kCapacity};
  Compiler compiler_;
  uint64_t epoch_ = 0;
};

TEST_F(Adopt, WhatItWroteHasNoDifferences) {
  for (int restarts = 0; restarts < 3; ++restarts) {
    std::optional<uint64_t> differences;
    const auto compiler = Restart(fake_, *desired_, &differences);
    EXPECT_EQ(differences, 0u);
    ASSERT_EQ(CompareWithModel(fake_, *desired_, 300, random_), "");
  }
  std::optional<uint64_t> differences;
  const auto compiler = Restart(fake_, *desired_, &differences);
  ExpectRightToTheEnd(*compiler, fake_);
}

TEST_F(Adopt, NothingInForceIsToldFromGarbage) {
  FakeDataplane empty(kCapacity);
  Compiler compiler;
  EXPECT_EQ(compiler.Adopt(empty, *desired_).status().code(), absl::StatusCode::kNotFound);
}

// What the API changed just before the agent was killed is durable and not in the tables.
TEST_F(Adopt, AnOlderGenerationIsBroughtToTheDesiredOne) {
  const auto compiled = Describe(*desired_);
  desired_.Must(Patch(R"(
upsert:
  rules:
    - {name: a, priority: 1000000, match: {source_set: bad}, action: {pass: {}}}
    - {name: f, priority: 1000005, match: {protocol: gre}, action: {drop: {}}}
  next_hops: [{name: up, interface: lan, mac: 02:00:00:00:00:02}]
  steer_targets: [{name: app, fallback: pass}]
  management: {allow: [{protocol: sctp}]}
delete_rules: [c, r3]
prefix_set_changes: [{name: bad, add: [203.0.113.0/24], remove: [10.0.0.0/8]}]
)"));
  ASSERT_NE(compiled, Describe(*desired_));
  std::optional<uint64_t> differences;
  const auto compiler = Restart(fake_, *desired_, &differences);
  // Rules a, c, f and r3, the next hop, the target, the management list and two prefixes.
  EXPECT_EQ(differences, 9u);
  ExpectRightToTheEnd(*compiler, fake_);
}

TEST_F(Adopt, WhatIsTooMuchIsADifferenceToo) {
  State state = *desired_;
  PrefixSet bad = *state.prefix_sets.Get("bad");
  bad.prefixes.Erase(*ParsePrefix("10.0.0.0/8"));
  state.prefix_sets.Set(bad);
  state.rules.Erase(absl::string_view("c"));
  std::optional<uint64_t> differences;
  const auto compiler = Restart(fake_, state, &differences);
  EXPECT_EQ(differences, 2u);
  Probe probe{.interface = "wan"};
  probe.header.source[0] = 0x0a000001;
  const auto found = Classify(fake_, *fake_.Active(), KeyOf(probe, state));
  EXPECT_NE(found ? found->id : 0, state.rules.Get("a")->id) << "10.0.0.0/8 is in the set still";
}

// Actions are shared by their bytes: two cells of the same would have one reference count.
TEST_F(Adopt, TwoCellsOfOneActionAreRefused) {
  hg_action action;
  ASSERT_TRUE(fake_.Read(TableId::kActions, 1, 1, &action).ok());
  const uint32_t other = 2;
  ASSERT_TRUE(fake_.Write(TableId::kActions, absl::MakeConstSpan(&other, 1), &action).ok());
  std::optional<uint64_t> differences;
  const auto compiler = Restart(fake_, *desired_, &differences);
  EXPECT_EQ(differences, std::nullopt);
  ExpectRightToTheEnd(*compiler, fake_);
}

// The id of a rule that has since been deleted may now be another's.
TEST_F(Adopt, AnIdThatHasChangedHandsIsADifference) {
  const Rule* d = desired_->rules.Get("d");
  Rule other = *d;
  other.name = "other";
  other.match = {};
  other.match.protocol = 47;
  State state = *desired_;
  state.rules.Erase(absl::string_view("d"));
  state.rules.Set(other);
  std::optional<uint64_t> differences;
  const auto compiler = Restart(fake_, state, &differences);
  EXPECT_EQ(differences, 1u);
  ASSERT_EQ(CompareWithModel(fake_, state, 300, random_), "");
}

// An entry that was changed in place no longer belongs where the tree has it.
TEST_F(Adopt, RulesThatHaveChangedUnderTheTreeAreFound) {
  for (uint32_t cell = 1; cell < compiler_.Uses()[static_cast<size_t>(TableId::kRules)].cells; cell += 3) {
    for (int field = 0; field < 4; ++field) {
      FakeDataplane fake(kCapacity);
      Copy(fake_, fake);
      bool used = false;
      Edit<hg_rule_page>(fake, TableId::kRules, cell / HG_RULES_PER_PAGE, [&](hg_rule_page& page) {
        hg_rule& rule = page.rule[cell % HG_RULES_PER_PAGE];
        used = rule.prio != 0;
        if (field == 0) rule.src ^= 0x80000000;
        if (field == 1) rule.dst_shift = rule.dst_shift == 0 ? 32 : 0;
        if (field == 2) rule.flags ^= HG_RULE_ANY_PROTOCOL;
        if (field == 3) rule.dport_max = rule.dport_min = 1;
      });
      if (!used) continue;
      std::optional<uint64_t> differences;
      const auto compiler = Restart(fake, *desired_, &differences);
      EXPECT_NE(differences, 0u) << "cell " << cell << " field " << field;
      ExpectRightToTheEnd(*compiler, fake);
      if (HasFatalFailure()) return;
    }
  }
}

TEST_F(Adopt, AnyScribbleIsPutRightOrRefused) {
  const hg_root root = Root();
  int refused = 0, repaired = 0, unseen = 0;
  for (int round = 0; round < kRounds && !HasFatalFailure(); ++round) {
    FakeDataplane fake(kCapacity);
    Copy(fake_, fake);
    for (uint64_t scribbles = 1 + random_() % 3; scribbles > 0; --scribbles) {
      const auto table = static_cast<TableId>(random_() % kTables);
      const uint32_t size = fake.Info(table).value_size;
      const uint32_t extent = std::max(1U, root.extent[static_cast<size_t>(table)]);
      const uint32_t index = table == TableId::kRoots ? *fake.Active() : static_cast<uint32_t>(random_() % extent);
      std::vector<uint32_t> words(size / 4);
      ASSERT_TRUE(fake.Read(table, index, 1, words.data()).ok());
      uint32_t& word = words[random_() % words.size()];
      switch (random_() % 4) {
        case 0:
          word ^= 1U << random_() % 32;
          break;
        case 1:
          word = static_cast<uint32_t>(random_());
          break;
        case 2:  // what may well be an index
          word = static_cast<uint32_t>(random_() % 512);
          break;
        default:
          word = words[random_() % words.size()];
      }
      ASSERT_TRUE(fake.Write(table, absl::MakeConstSpan(&index, 1), words.data()).ok());
    }
    std::optional<uint64_t> differences;
    const auto compiler = Restart(fake, *desired_, &differences);
    ++(!differences ? refused : *differences != 0 ? repaired : unseen);
    ExpectRightToTheEnd(*compiler, fake);
  }
  std::printf("%d refused, %d repaired, %d of no consequence\n", refused, repaired, unseen);
  EXPECT_GT(refused, kRounds / 50);
  EXPECT_GT(repaired, kRounds / 50);
}

TEST_F(Adopt, AChainThroughAllNodesIsRefused) {
  hg_root root = Root();
  const uint32_t pages = fake_.Info(TableId::kNodes).capacity;
  root.extent[static_cast<size_t>(TableId::kNodes)] = pages;
  const uint32_t index = *fake_.Active();
  ASSERT_TRUE(fake_.Write(TableId::kRoots, absl::MakeConstSpan(&index, 1), &root).ok());
  hg_node_page page{};
  for (uint32_t p = 0; p < pages; ++p) {
    for (uint32_t i = 0; i < HG_NODES_PER_PAGE; ++i) {
      page.node[i] = {.rest = TreeRef::OfNode(p * HG_NODES_PER_PAGE + i + 1), .rest_prio = 1};
    }
    ASSERT_TRUE(fake_.Write(TableId::kNodes, absl::MakeConstSpan(&p, 1), &page).ok());
  }
  std::optional<uint64_t> differences;
  const auto compiler = Restart(fake_, *desired_, &differences);
  EXPECT_EQ(differences, std::nullopt);
  ExpectRightToTheEnd(*compiler, fake_);
}

}  // namespace
}  // namespace headgate::testing
