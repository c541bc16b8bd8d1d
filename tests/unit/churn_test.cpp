// SPDX-License-Identifier: Apache-2.0
//
// The compiler through many small changes at full size, over tables that are reclaimed late: every generation
// decides as a linear search does, old ones stay readable until they are reclaimed, a restarted agent can take
// over at any point, and nothing leaks.
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>

#include "agent/control/compiler.h"
#include "agent/dataplane/fake_dataplane.h"
#include "tests/harness/random.h"
#include "tests/harness/tables.h"

namespace headgate::testing {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr size_t kSlower = 10;
#else
constexpr size_t kSlower = 1;
#endif
constexpr uint32_t kCapacity = 1 << 19;
constexpr uint64_t kMaxLag = 24;  // generations that packets in flight may still use

constexpr TableId kAllTables[] = {TableId::kRoots,   TableId::kNodes,    TableId::kSlots,   TableId::kRules,
                                  TableId::kMatches, TableId::kPrefixes, TableId::kActions, TableId::kNextHops,
                                  TableId::kTargets, TableId::kMroutes,  TableId::kLegs,    TableId::kFanouts};

// A compiler with its tables, and a model of the rules it should hold.
class Churn {
 public:
  // Doubles the rules' priorities: new ones go between them.
  Churn(const std::vector<Rule>& rules, std::mt19937_64& random)
      : random_(random), fake_(kCapacity), rules_(rules) {
    for (Rule& rule : rules_) {
      rule.priority *= 2;
      state_.rules.Set(rule);
      next_id_ = std::max(next_id_, rule.id + 1);
    }
    for (uint32_t i = 0; i < 2 * rules.size() + 20'000; ++i) priorities_.push_back(2 * i + 1);
    Publish();
  }

  void Insert(Rule rule) {
    rule.id = next_id_++;
    rule.priority = TakePriority();
    state_.rules.Set(rule);
    rules_.push_back(std::move(rule));
  }
  // One random change of the desired state.
  void Change() {
    const size_t at = random_() % rules_.size();
    Rule& rule = rules_[at];
    switch (random_() % 4) {
      case 0:  // goes, to come back later
        state_.rules.Erase(absl::string_view(rule.name));
        priorities_.push_back(rule.priority);
        gone_.push_back(std::move(rule));
        rule = std::move(rules_.back());
        rules_.pop_back();
        return;
      case 1:
        if (gone_.empty()) return;
        Insert(std::move(gone_.back()));
        gone_.pop_back();
        return;
      case 2:
        priorities_.push_back(rule.priority);
        rule.priority = TakePriority();
        break;
      default: {  // another rule's addresses or ports
        const Match& other = rules_[random_() % rules_.size()].match;
        if (random_() % 2 == 0) {
          rule.match.source = other.source;
        } else {
          rule.match.source_ports = other.source_ports;
          rule.match.destination_ports = other.destination_ports;
        }
      }
    }
    state_.rules.Set(rule);
  }

  // Compiles what has changed and puts it in force; packets in flight lag behind at random.
  void Publish() {
    ++state_.generation;
    compiler_->Compile(state_);
    ASSERT_TRUE(compiler_->Flush(fake_).ok());
    ASSERT_TRUE(fake_.Activate(compiler_->root()).ok());
    compiler_->Published(++epoch_);
    if (random_() % 4 == 0 || epoch_ - quiet_ > kMaxLag) Reclaim(quiet_ + 1 + random_() % (epoch_ - quiet_));
  }
  void Reclaim(uint64_t epoch) {
    quiet_ = std::max(quiet_, epoch);
    compiler_->Reclaim(quiet_);
    // What superseded a generation has to be all that packets use before its cells may go.
    while (!old_.empty() && old_.front().epoch < quiet_) old_.pop_front();
  }

  // The generation in force decides drawn headers as a linear search does; those before it as they did.
  void Check(int headers) {
    Generation now{epoch_, compiler_->root(), {}};
    for (int i = 0; i < headers; ++i) {
      const Header header = DrawHeader(rules_, random_);
      now.decisions.emplace_back(testing::KeyOf(header), LinearId(header));
    }
    old_.push_back(std::move(now));
    for (const Generation& generation : old_) {
      for (const auto& [key, id] : generation.decisions) {
        const auto found = Classify(fake_, generation.root, key);
        ASSERT_EQ(found ? found->id : 0, id)
            << "generation of epoch " << generation.epoch << " at epoch " << epoch_;
      }
    }
  }

  // A restarted agent reads the tables back, finds nothing to change, and holds just the cells that are in use.
  void CheckAdoption() {
    Reclaim(epoch_);
    auto fresh = std::make_unique<Compiler>();
    const auto differences = fresh->Adopt(fake_, state_);
    ASSERT_TRUE(differences.ok()) << differences.status();
    EXPECT_EQ(*differences, 0u);
    for (const TableId table : kAllTables) {
      // It has a root record of its own, to be activated.
      EXPECT_EQ(fresh->Uses()[static_cast<size_t>(table)].cells - (table == TableId::kRoots ? 1 : 0),
                compiler_->Uses()[static_cast<size_t>(table)].cells)
          << fake_.Info(table).name;
    }
    if (random_() % 2 != 0) return;
    // It is the agent from now on.
    ASSERT_TRUE(fresh->Flush(fake_).ok());
    ASSERT_TRUE(fake_.Activate(fresh->root()).ok());
    compiler_ = std::move(fresh);
    compiler_->Published(++epoch_);
    Reclaim(epoch_);
  }

  void RemoveLast() {
    state_.rules.Erase(absl::string_view(rules_.back().name));
    priorities_.push_back(rules_.back().priority);
    rules_.pop_back();
  }
  size_t size() const { return rules_.size(); }
  const Compiler& compiler() const { return *compiler_; }
  uint64_t epoch() const { return epoch_; }

 private:
  struct Generation {
    uint64_t epoch;
    uint32_t root;
    std::vector<std::pair<Key, uint32_t>> decisions;  // the deciding rule's id, 0 for none
  };

  uint32_t TakePriority() {
    std::swap(priorities_[random_() % priorities_.size()], priorities_.back());
    const uint32_t priority = priorities_.back();
    priorities_.pop_back();
    return priority;
  }
  uint32_t LinearId(const Header& header) const {
    const Rule* best = nullptr;
    for (const Rule& rule : rules_) {
      if ((!best || rule.priority > best->priority) && testing::Matches(rule.match, header)) best = &rule;
    }
    return best ? best->id : 0;
  }

  std::mt19937_64& random_;
  FakeDataplane fake_;
  std::unique_ptr<Compiler> compiler_ = std::make_unique<Compiler>();
  State state_;
  std::vector<Rule> rules_, gone_;
  std::vector<uint32_t> priorities_;  // that no rule has
  uint32_t next_id_ = 1;
  uint64_t epoch_ = 0, quiet_ = 0;
  std::deque<Generation> old_;
};

class ChurnAtScale : public ::testing::TestWithParam<const char*> {};

TEST_P(ChurnAtScale, EveryGenerationDecidesAsALinearSearch) {
  std::mt19937_64 random = MakeRandom();
  std::vector<Rule> rules = LoadClassBench(GetParam());
  rules.resize(rules.size() / (kSlower > 1 ? 4 : 1));
  Churn churn(rules, random);
  churn.Check(100);
  size_t changes = 0, next_adoption = 0;
  while (changes < 12'000 / kSlower && !HasFatalFailure()) {
    if (changes >= next_adoption) {
      churn.CheckAdoption();
      next_adoption = changes + 3000 / kSlower;
    }
    for (size_t batch = 1 + random() % 100; batch > 0; --batch, ++changes) churn.Change();
    churn.Publish();
    churn.Check(8);
  }
  churn.CheckAdoption();
}
INSTANTIATE_TEST_SUITE_P(Sets, ChurnAtScale, ::testing::Values("acl1_100k", "fw1_100k", "ipc1_100k"),
                         [](const auto& set) { return std::string(set.param); });

// Every growth of every table happens in the middle of some small change.
TEST(Churn, GrowsFromNothingAndShrinksToNothing) {
  std::mt19937_64 random = MakeRandom();
  std::vector<Rule> rules = LoadClassBench("fw1_8k");
  std::shuffle(rules.begin(), rules.end(), random);
  rules.resize(rules.size() / (kSlower > 1 ? 2 : 1));
  Churn churn({}, random);
  for (const Rule& rule : rules) {
    churn.Insert(rule);
    churn.Publish();
    if (churn.size() % 500 == 0) churn.Check(20);
    if (HasFatalFailure()) return;
  }
  churn.CheckAdoption();
  while (churn.size() != 0 && !HasFatalFailure()) {
    churn.RemoveLast();
    churn.Publish();
    if (churn.size() % 500 == 1) churn.Check(20);
  }
  churn.CheckAdoption();
  churn.Reclaim(churn.epoch());
  for (const TableId table : kAllTables) {
    EXPECT_EQ(churn.compiler().Uses()[static_cast<size_t>(table)].cells, table == TableId::kRoots ? 1u : 0u);
  }
}

TEST(Churn, NothingGrowsWithTheNumberOfChanges) {
  std::mt19937_64 random = MakeRandom();
  Churn churn(LoadClassBench("acl1_1k"), random);
  // By table, the sum of what was needed after each batch of the first half of the changes and of the second:
  // growth would triple it. Not the most, for peaks are rare, when a tree is shaped anew, and high.
  std::map<TableId, std::pair<uint64_t, uint64_t>> used, listed;
  uint64_t first_batches = 0, second_batches = 0;
  const size_t changes = 100'000 / kSlower;
  for (size_t done = 0; done < changes && !HasFatalFailure();) {
    for (size_t batch = 1 + random() % 20; batch > 0; --batch, ++done) churn.Change();
    churn.Publish();
    const bool is_first = done < changes / 2;
    ++(is_first ? first_batches : second_batches);
    for (const TableId table : kAllTables) {
      const auto note = [&](auto& sums, uint64_t now) {
        (is_first ? sums[table].first : sums[table].second) += now;
      };
      note(used, churn.compiler().Uses()[static_cast<size_t>(table)].cells);
      note(listed, churn.compiler().Uses()[static_cast<size_t>(table)].listed);
    }
  }
  for (const TableId table : kAllTables) {
    const auto expect_no_growth = [&](const auto& sums) {
      EXPECT_LE(sums.second / second_batches, sums.first / first_batches * 3 / 2 + HG_RUN_CELLS)
          << static_cast<int>(table);
    };
    expect_no_growth(used[table]);
    expect_no_growth(listed[table]);
  }
  churn.Check(200);
  churn.CheckAdoption();
}

}  // namespace
}  // namespace headgate::testing
