// SPDX-License-Identifier: Apache-2.0
//
// What the control benchmark configures: a ClassBench set, changes to single rules of it that a frame can show,
// and a large prefix set.
#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "agent/control/model.h"
#include "headgate/v1/gateway.pb.h"

namespace headgate::bench {

// A rule whose verdict a frame shows.
struct ShownRule {
  size_t index = 0;
  std::vector<uint8_t> frame;
};

class RuleSet {
 public:
  // A set of tests/data.
  static absl::StatusOr<RuleSet> Load(const std::string& name);

  size_t size() const { return rules_.size(); }
  // All rules as they were loaded, on one interface.
  v1::GatewayConfig Config(const std::string& device) const;
  // Different rules, with a UDP or TCP frame each that no rule of higher priority matches.
  absl::StatusOr<std::vector<ShownRule>> DrawShown(size_t count, std::mt19937_64& random) const;

  // The change that makes a pass of a rule's drop, and a drop of its pass.
  v1::UpdateRequest Flip(size_t index);
  // What becomes of a frame that the rule decides, as far as it has been flipped: XDP_*.
  uint32_t VerdictOf(size_t index) const;
  // All rules are as they were loaded.
  void Reset();

 private:
  std::vector<Rule> rules_;
  std::vector<bool> flipped_;
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
