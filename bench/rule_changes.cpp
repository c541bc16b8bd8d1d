// SPDX-License-Identifier: Apache-2.0
#include "bench/rule_changes.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <utility>

namespace headgate::bench {

ChangingRules::ChangingRules(std::vector<Rule> rules) : rules_(std::move(rules)), deleted_(rules_.size()) {
  for (const Rule& rule : rules_) {
    first_priorities_.push_back(rule.priority);
    priorities_.insert(rule.priority);
    highest_ = std::max(highest_, rule.priority);
  }
}

const Rule& ChangingRules::Edit(size_t index) {
  static const auto kPass = std::make_shared<const Action>(Action{.verdict = Pass{}});
  static const auto kDrop = std::make_shared<const Action>(Action{.verdict = Drop{}});
  Rule& rule = rules_[index];
  rule.action = std::holds_alternative<Drop>(rule.action->verdict) ? kPass : kDrop;
  return rule;
}

const Rule& ChangingRules::Move(size_t index, uint32_t priority) {
  Rule& rule = rules_[index];
  if (rule.priority != first_priorities_[index]) priorities_.erase(rule.priority);
  priorities_.insert(priority);
  rule.priority = priority;
  return rule;
}

const Rule& ChangingRules::Delete(size_t index) {
  deleted_[index] = true;
  return rules_[index];
}

const Rule& ChangingRules::Insert(size_t index) {
  deleted_[index] = false;
  return rules_[index];
}

uint32_t ChangingRules::DrawPriority(std::mt19937_64& random) const {
  while (true) {
    const auto priority = static_cast<uint32_t>(1 + random() % highest_);
    if (!priorities_.contains(priority)) return priority;
  }
}

uint32_t ChangingRules::FreePriorityBelow(uint32_t priority) const {
  do --priority;
  while (priority != 0 && priorities_.contains(priority));
  return priority;
}

RandomChanges::RandomChanges(ChangingRules& rules, std::mt19937_64& random)
    : rules_(rules), random_(random), order_(rules.size()) {
  std::iota(order_.begin(), order_.end(), size_t{0});
  at_ = order_.size();
}

size_t RandomChanges::NextPresent() {
  while (true) {
    if (at_ == order_.size()) {
      std::shuffle(order_.begin(), order_.end(), random_);
      at_ = 0;
    }
    const size_t index = order_[at_++];
    if (!rules_.IsDeleted(index)) return index;
  }
}

RandomChanges::Change RandomChanges::Delete() {
  const size_t index = NextPresent();
  rules_.Delete(index);
  away_.push_back(index);
  return {ChangeKind::kDelete, index};
}

RandomChanges::Change RandomChanges::Next() {
  const auto kind = static_cast<ChangeKind>(made_++ % kChangeKinds);
  if (kind == ChangeKind::kDelete) return Delete();
  if (kind == ChangeKind::kInsert) {
    const size_t index = away_.front();
    away_.pop_front();
    rules_.Insert(index);
    return {kind, index};
  }
  const size_t index = NextPresent();
  if (kind == ChangeKind::kEdit) rules_.Edit(index);
  if (kind == ChangeKind::kMove) rules_.Move(index, rules_.DrawPriority(random_));
  return {kind, index};
}

}  // namespace headgate::bench
