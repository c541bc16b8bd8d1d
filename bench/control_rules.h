// SPDX-License-Identifier: Apache-2.0
//
// What the control benchmark configures: a ClassBench set, changes to single rules of it that a frame can show,
// and a large prefix set.
#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "agent/control/model.h"
#include "bench/rule_changes.h"
#include "headgate/v1/gateway.pb.h"
#include "tests/harness/classbench.h"
#include "tests/harness/linear_scan.h"

namespace headgate::bench {

// A frame that shows what becomes of its header.
struct ShownHeader {
  testing::Header header;
  std::vector<uint8_t> frame;
};

// A set of tests/data while single rules of it are changed.
class RuleSet {
 public:
  static absl::StatusOr<RuleSet> Load(const std::string& name);

  // Of the set as it was loaded.
  size_t size() const { return loaded_.size(); }
  // All rules as they were loaded, on one interface; what none matches passes.
  v1::GatewayConfig Config(const std::string& device) const;
  // UDP and TCP frames that different rules decide.
  absl::StatusOr<std::vector<ShownHeader>> DrawShown(size_t count, std::mt19937_64& random) const;

  // What becomes of the header's frame, as far as rules have been changed: XDP_*.
  uint32_t VerdictOf(const testing::Header& header) const;

  // A change that turns the header's verdict round: an edit of the rule that decides it, its deletion, a move of
  // it below the next that matches, or the insertion of the rule that was deleted last for that header. Nothing
  // when such a change of this kind would not. What is returned has been made.
  std::optional<v1::UpdateRequest> TurnRound(ChangeKind kind, const testing::Header& header);

  // Deletes `away` rules, and then makes `count` changes, as many of each kind, as RandomChanges does.
  struct Updates {
    std::vector<v1::UpdateRequest> before, requests;
  };
  Updates DrawUpdates(size_t away, size_t count, std::mt19937_64& random);

  // All rules are as they were loaded.
  void Reset();

 private:
  explicit RuleSet(std::vector<Rule> rules) : loaded_(std::move(rules)), rules_(loaded_) {}
  // The rule that decides, nothing when none matches.
  std::optional<size_t> Find(const testing::Header& header) const;
  // Makes the search meet the rule as it is now.
  void Refresh(size_t index);
  v1::UpdateRequest Request(ChangeKind kind, size_t index) const;

  std::vector<Rule> loaded_;
  ChangingRules rules_;
  std::unique_ptr<testing::LinearScan> scan_;  // the rules as they are
  std::optional<size_t> deleted_;              // last, by TurnRound
};

// `count` different prefixes, three of four of them IPv4, and a rule that drops what comes from them.
v1::GatewayConfig LargeSetConfig(const std::string& device, size_t count, std::mt19937_64& random);

// The same with another prefix in place of every second one.
v1::GatewayConfig HalfReplaced(const v1::GatewayConfig& config, std::mt19937_64& random);

// A frame and what becomes of it, XDP_*, before and after a change.
struct JudgedFrame {
  std::vector<uint8_t> frame;
  uint32_t before = 0, after = 0;
};

// Frames from addresses in both large sets, in one of them, and in neither, `count` of each.
absl::StatusOr<std::vector<JudgedFrame>> JudgeBySets(const v1::GatewayConfig& before,
                                                     const v1::GatewayConfig& after, size_t count,
                                                     std::mt19937_64& random);

// A frame from within the set's n-th prefix.
absl::StatusOr<std::vector<uint8_t>> FrameFrom(const v1::PrefixSet& set, int index);

}  // namespace headgate::bench
