// SPDX-License-Identifier: Apache-2.0
//
// What must hold of one object: its own fields, and that what it names exists. Every violation is reported, not
// only the first.
#pragma once

#include "agent/control/change.h"

namespace headgate {

void CheckInterface(const Interface& interface, const std::string& path, Violations& violations);
void CheckPrefixSet(const PrefixSet& set, const std::string& path, Violations& violations);
void CheckNextHop(const NextHop& hop, const std::string& path, const State& state, Violations& violations);
void CheckSteerTarget(const SteerTarget& target, const std::string& path, Violations& violations);
void CheckManagement(const std::vector<ManagementAllow>& allow, const std::string& path, const State& state,
                     Violations& violations);
void CheckRule(const Rule& rule, const std::string& path, const State& state, Violations& violations);

// Whether packets of the protocol have ports the program reads.
bool HasPorts(uint8_t protocol);

}  // namespace headgate
