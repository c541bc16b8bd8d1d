// SPDX-License-Identifier: Apache-2.0
//
// A large set of rules of both families, some of which ask for more than addresses, protocol and ports.
#pragma once

#include <random>
#include <vector>

#include "agent/control/model.h"

namespace headgate::testing {

struct RuleSet {
  std::vector<Rule> rules;  // highest priority first
  std::vector<PrefixSet> sets;
};

// Half of the rules are IPv4 (of acl1), half IPv6. One in ten asks for a prefix set, a VLAN, an inner VLAN, a
// DSCP, packet lengths or TCP flags, too. Prefix sets have none of the addresses below 192.0.2.0/24.
RuleSet MakeMixedRules(size_t count, std::mt19937_64& random);

}  // namespace headgate::testing
