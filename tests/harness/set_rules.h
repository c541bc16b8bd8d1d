// SPDX-License-Identifier: Apache-2.0
//
// Rule sets of which some or all name prefix sets, as ClassBench has none, and the linear search among them.
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "agent/control/state.h"
#include "tests/harness/classbench.h"

namespace headgate::testing {

struct SetRules {
  std::vector<PrefixSet> sets;
  std::vector<Rule> rules;  // highest priority first
  // To draw headers from: the rules with one prefix of a set in place of the set.
  std::vector<Rule> drawn;

  // Of the sets and rules, without interfaces.
  State MakeState() const;
};

// How sets are made of the prefixes of rules. Overlapping: any prefix may be in several sets, and within short
// ones of others, so that an address is in many sets. Dealt: a prefix is in one set, and there are no short ones.
enum class SetOverlap { kOverlapping, kDealt };

// `percent` of the rules name one of `count` sets, as source, as destination or both, in place of their prefixes.
SetRules NameSets(std::vector<Rule> rules, size_t count, unsigned percent, SetOverlap overlap,
                  std::mt19937_64& random);

// Rules of a source set of `sets`, TCP or UDP and a range of destination ports: nothing else tells them apart.
SetRules MakeSetPortRules(size_t count, size_t sets, std::mt19937_64& random);

// The linear search among rules with sets, which uses the model alone. An address's sets are found once a header.
class SetScan {
 public:
  explicit SetScan(const SetRules& rules) : rules_(rules) {}
  const Rule* Find(const Header& header) const;

 private:
  using Membership = std::bitset<HG_SETS>;
  Membership SetsOf(const std::array<uint32_t, 4>& words, Family family) const;
  bool In(const RareString& name, const Membership& sets) const;

  const SetRules& rules_;
};

}  // namespace headgate::testing
