// SPDX-License-Identifier: Apache-2.0
//
// The trees of rules that name prefix sets, through many small changes: rules come, go and turn from one set to
// another or to none, sets come and go. Tables decide as the model says, a restarted agent takes them over, and
// nothing leaks.
#include <gtest/gtest.h>

#include "agent/control/compiler.h"
#include "agent/dataplane/fake_dataplane.h"
#include "tests/harness/random.h"
#include "tests/harness/set_rules.h"
#include "tests/harness/tables.h"

namespace headgate::testing {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr int kSteps = 500;
#else
constexpr int kSteps = 3000;
#endif
constexpr size_t kRules = 400, kSets = 12;
constexpr uint32_t kCapacity = 1 << 16;

class SetTree : public ::testing::Test {
 protected:
  SetTree() {
    std::vector<Rule> rules = LoadClassBench("acl1_1k");
    rules.resize(kRules);
    made_ = NameSets(std::move(rules), kSets, 60, SetOverlap::kOverlapping, random_);
    state_ = made_.MakeState();
    Publish();
  }

  void Publish() {
    ++state_.generation;
    compiler_->Compile(state_);
    PutInForce();
  }
  void PutInForce() {
    ASSERT_TRUE(compiler_->Flush(fake_).ok());
    ASSERT_TRUE(fake_.Activate(compiler_->root()).ok());
    compiler_->Published(++epoch_);
    compiler_->Reclaim(epoch_);
  }
  // A rule as it is, as another is, or gone.
  void ChangeRule() {
    const Rule& rule = made_.rules[random_() % made_.rules.size()];
    Rule changed = rule;
    switch (random_() % 4) {
      case 0:
        state_.rules.Erase(absl::string_view(rule.name));
        return;
      case 1:
        break;
      default:
        changed.match = made_.rules[random_() % made_.rules.size()].match;
    }
    state_.rules.Set(std::move(changed));
  }
  // All rules of some set go or come at once, and so does its tree.
  void ToggleSet() {
    const std::string name = "s" + std::to_string(random_() % kSets);
    const bool goes = random_() % 2 == 0;
    for (const Rule& rule : made_.rules) {
      if (rule.match.source_set.str() != name && rule.match.destination_set.str() != name) continue;
      if (goes) {
        state_.rules.Erase(absl::string_view(rule.name));
      } else {
        state_.rules.Set(rule);
      }
    }
  }
  void CheckAdoption() {
    auto fresh = std::make_unique<Compiler>();
    const auto differences = fresh->Adopt(fake_, state_);
    ASSERT_TRUE(differences.ok()) << differences.status();
    EXPECT_EQ(*differences, 0u);
    for (size_t table = 1; table < kTables; ++table) {
      EXPECT_EQ(fresh->Uses()[table].cells, compiler_->Uses()[table].cells)
          << fake_.Info(static_cast<TableId>(table)).name;
    }
    if (random_() % 2 != 0) return;
    compiler_ = std::move(fresh);
    PutInForce();
  }
  hg_root Root() const {
    hg_root root;
    EXPECT_TRUE(fake_.Read(TableId::kRoots, compiler_->root(), 1, &root).ok());
    return root;
  }

  std::mt19937_64 random_ = MakeRandom();
  SetRules made_;
  State state_;
  FakeDataplane fake_{kCapacity};
  std::unique_ptr<Compiler> compiler_ = std::make_unique<Compiler>();
  uint64_t epoch_ = 0;
};

TEST_F(SetTree, StaysRightThroughChanges) {
  for (int step = 0; step < kSteps && !HasFatalFailure(); ++step) {
    if (random_() % 20 == 0) {
      ToggleSet();
    } else {
      for (size_t changes = 1 + random_() % 5; changes > 0; --changes) ChangeRule();
    }
    Publish();
    ASSERT_EQ(CompareWithModel(fake_, state_, 4, random_), "") << "step " << step;
    if (step % 100 == 0) CheckAdoption();
  }
  ASSERT_EQ(CompareWithModel(fake_, state_, 500, random_), "");
  // One by one, so that the trees shrink to nothing.
  for (const Rule& rule : made_.rules) {
    state_.rules.Erase(absl::string_view(rule.name));
    Publish();
  }
  state_.prefix_sets = {};
  state_.prefix_count = 0;
  Publish();
  for (size_t table = 1; table < kTables; ++table) {
    EXPECT_EQ(compiler_->Uses()[table].cells, 0u) << fake_.Info(static_cast<TableId>(table)).name;
  }
}

// What the program is spared: packets in no set that rules name never look at those rules.
TEST_F(SetTree, SetsAreNamedOnlyByRulesOfTheirTrees) {
  EXPECT_NE(Root().src_set_slots, 0u);
  EXPECT_NE(Root().dst_set_slots, 0u);
  for (const Rule& rule : made_.rules) {
    if (!rule.match.destination_set.empty() && rule.match.source_set.empty())
      state_.rules.Erase(absl::string_view(rule.name));
  }
  Publish();
  EXPECT_NE(Root().src_set_slots, 0u);
  EXPECT_EQ(Root().dst_set_slots, 0u);
  for (const Rule& rule : made_.rules) {
    if (!rule.match.source_set.empty()) state_.rules.Erase(absl::string_view(rule.name));
  }
  Publish();
  EXPECT_EQ(Root().src_set_slots, 0u);
  EXPECT_EQ(Root().flags, 0u);
  ASSERT_EQ(CompareWithModel(fake_, state_, 100, random_), "");
}

// Tables in which packets would not find a rule, though all of them are there.
TEST_F(SetTree, RulesInTheTreeOfAnotherSetAreRefused) {
  const hg_root root = Root();
  const auto refuses = [&](const char* what, auto&& edit_root, auto&& edit_slots) {
    FakeDataplane fake(kCapacity);
    for (size_t i = 0; i < kTables; ++i) {
      const auto table = static_cast<TableId>(i);
      const uint32_t count = std::min(fake_.Info(table).capacity, 1024U);
      std::vector<char> values(static_cast<size_t>(count) * fake_.Info(table).value_size);
      std::vector<uint32_t> indexes(count);
      for (uint32_t k = 0; k < count; ++k) indexes[k] = k;
      ASSERT_TRUE(fake_.Read(table, 0, count, values.data()).ok());
      ASSERT_TRUE(fake.Write(table, indexes, values.data()).ok());
    }
    ASSERT_TRUE(fake.Activate(compiler_->root()).ok());
    hg_root changed = root;
    edit_root(changed);
    const uint32_t at = compiler_->root();
    ASSERT_TRUE(fake.Write(TableId::kRoots, absl::MakeConstSpan(&at, 1), &changed).ok());
    std::vector<hg_slot> run(HG_SETS);
    const uint32_t first = root.src_set_slots / HG_SLOTS_PER_PAGE, pages = HG_SETS / HG_SLOTS_PER_PAGE;
    ASSERT_TRUE(fake.Read(TableId::kSlots, first, pages, run.data()).ok());
    edit_slots(run);
    std::vector<uint32_t> indexes(pages);
    for (uint32_t k = 0; k < pages; ++k) indexes[k] = first + k;
    ASSERT_TRUE(fake.Write(TableId::kSlots, indexes, run.data()).ok());
    Compiler fresh;
    EXPECT_EQ(fresh.Adopt(fake, state_).status().code(), absl::StatusCode::kDataLoss) << what;
  };
  const auto root_as_is = [](hg_root&) {};
  const auto slots_as_they_are = [](std::vector<hg_slot>&) {};
  refuses("swapped", root_as_is, [](auto& run) { std::swap(run[0], run[1]); });
  refuses("moved", root_as_is, [](auto& run) { std::swap(run[0], run[kSets + 1]); });
  refuses("twice", root_as_is, [](auto& run) { run[kSets] = run[0]; });
  refuses("a priority too low", root_as_is, [](auto& run) { --run[2].prio; });
  refuses("a priority without a tree", root_as_is, [](auto& run) { run[kSets].prio = 1; });
  refuses("no trees", root_as_is, [](auto& run) { std::fill(run.begin(), run.end(), hg_slot{}); });
  refuses(
      "the main tree is a set's", [](hg_root& r) { r.rule_tree = 0; },
      [&](auto& run) { run[kSets].ref = root.rule_tree; });
  refuses(
      "source for destination", [](hg_root& r) { std::swap(r.src_set_slots, r.dst_set_slots); },
      slots_as_they_are);
  refuses(
      "beyond the table", [](hg_root& r) { r.src_set_slots = 1U << 30; }, slots_as_they_are);
  refuses(
      "within another run", [](hg_root& r) { ++r.src_set_slots; }, slots_as_they_are);
}

}  // namespace
}  // namespace headgate::testing
