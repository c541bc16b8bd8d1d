// SPDX-License-Identifier: Apache-2.0
//
// The rules of a large set under random changes, and among them those that decide traffic: what the agent is told,
// and what a linear search says of the outcome.
#pragma once

#include <optional>
#include <random>
#include <string>
#include <vector>

#include "headgate/v1/gateway.pb.h"
#include "tests/e2e/mixed_rules.h"
#include "tests/harness/linear_scan.h"

namespace headgate::testing {

// The traffic's flows. Each has a rule, which no other rule of the set is in the way of: those with odd numbers
// keep theirs, the others' come, go and move like any rule. What has no rule of its own meets the one for all.
inline constexpr uint32_t kTrafficFlows = 512;
inline constexpr char kAllFlows[] = "flows";

std::string FlowRuleName(uint32_t flow);
bool KeepsRule(uint32_t flow);
bool DropsFlow(uint32_t flow);
// Redirected frames carry the mark of their rule: as destination address.
MacAddress MarkOf(uint32_t flow);
MacAddress MarkOfAllFlows();
// The header that the sender of FlowFrames gives a flow.
Header FlowHeader(uint32_t flow);

// Whether every source that the rule asks for is one of which FrameOf makes no packet that rules decide.
bool IsUndrawable(const Rule& rule);

class RuleChurn {
 public:
  // The flows' packets are redirected to the interface "out".
  RuleChurn(RuleSet set, std::mt19937_64& random);

  std::vector<Rule> All() const;
  const std::vector<PrefixSet>& sets() const { return sets_; }
  // A random rule comes, goes or takes another priority. The request that tells the agent; `affected` is the rule
  // as it is now, or was.
  headgate::v1::UpdateRequest Change(Rule& affected);
  // As DrawUsableHeader, from any of the rules.
  Header Draw();
  // A usable header that the rule asks for. None is found of a rule that leaves none.
  std::optional<Header> DrawFor(const Rule& rule);
  const Rule* Find(const Header& header) const { return scan_.Find(header); }

  size_t inserted() const { return inserted_; }
  size_t deleted() const { return deleted_; }
  size_t moved() const { return moved_; }

 private:
  // Rules that changes are made to.
  struct Pool {
    std::vector<Rule> present, gone;
  };

  void Put(Rule rule, Pool& pool);
  Rule Take(std::vector<Rule>& from);
  // One that was there before, or one that never was.
  Rule TakeNew(Pool& pool);
  uint32_t TakePriority();
  // The rule with prefixes of the sets that it names in their place.
  Rule WithoutSets(Rule rule);

  std::mt19937_64& random_;
  Pool set_, flows_;
  std::vector<PrefixSet> sets_;
  std::vector<Rule> kept_;
  std::vector<uint32_t> priorities_;  // that no rule has
  LinearScan scan_;
  size_t made_ = 0, inserted_ = 0, deleted_ = 0, moved_ = 0;
};

}  // namespace headgate::testing
