// SPDX-License-Identifier: Apache-2.0
//
// A rule set while single rules of it are changed, in the four ways there are.
#pragma once

#include <absl/container/flat_hash_set.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <random>
#include <vector>

#include "agent/control/model.h"

namespace headgate::bench {

// In the order in which benchmarks take turns with them.
enum class ChangeKind : uint8_t { kEdit, kMove, kDelete, kInsert };
inline constexpr size_t kChangeKinds = 4;

class ChangingRules {
 public:
  // Priorities differ, and leave some unused between them.
  explicit ChangingRules(std::vector<Rule> rules);

  size_t size() const { return rules_.size(); }
  // The rule as it is, or was when it was deleted.
  const Rule& rule(size_t index) const { return rules_[index]; }
  bool IsDeleted(size_t index) const { return deleted_[index]; }

  // Each returns the rule as it is from then on.
  const Rule& Edit(size_t index);  // passes what it dropped, and drops what it passed
  const Rule& Move(size_t index, uint32_t priority);
  const Rule& Delete(size_t index);
  const Rule& Insert(size_t index);  // what was deleted

  // That no rule has.
  uint32_t DrawPriority(std::mt19937_64& random) const;
  // The next lower one that no rule has; 0: there is none.
  uint32_t FreePriorityBelow(uint32_t priority) const;

 private:
  std::vector<Rule> rules_;
  std::vector<bool> deleted_;
  std::vector<uint32_t> first_priorities_;  // of each rule: nobody else's, so that it may go back
  absl::flat_hash_set<uint32_t>
      priorities_;  // and those that rules have; of deleted ones too, which may come back
  uint32_t highest_ = 0;
};

// Changes in an order of chance, every kind as often as the others, and all rules before one comes again.
class RandomChanges {
 public:
  struct Change {
    ChangeKind kind = ChangeKind::kEdit;
    size_t index = 0;
  };

  RandomChanges(ChangingRules& rules, std::mt19937_64& random);

  // What is returned has been made. An insertion brings back the rule that has been away longest: to bring back
  // what was deleted long before, delete some first.
  Change Next();
  Change Delete();

 private:
  size_t NextPresent();

  ChangingRules& rules_;
  std::mt19937_64& random_;
  std::vector<size_t> order_;
  size_t at_ = 0;
  size_t made_ = 0;
  std::deque<size_t> away_;
};

}  // namespace headgate::bench
