// SPDX-License-Identifier: Apache-2.0
//
// The rules of a large set under random changes, and among them those that decide traffic: what the agent is told,
// and what a linear search says of the outcome.
#pragma once

#include <random>
#include <string>
#include <vector>

#include "headgate/v1/gateway.pb.h"
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

class RuleChurn {
 public:
  // `set`: of tests/data. Rules are redirected to the interface "out".
  RuleChurn(const std::string& set, std::mt19937_64& random);

  std::vector<Rule> All() const;
  // A random rule comes, goes or takes another priority. The request that tells the agent; `affected` is the rule
  // as it is now, or was.
  headgate::v1::UpdateRequest Change(Rule& affected);
  // As DrawUsableHeader, from any of the rules.
  Header Draw();
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

  std::mt19937_64& random_;
  Pool set_, flows_;
  std::vector<Rule> kept_;
  std::vector<uint32_t> priorities_;  // that no rule has
  LinearScan scan_;
  size_t made_ = 0, inserted_ = 0, deleted_ = 0, moved_ = 0;
};

}  // namespace headgate::testing
