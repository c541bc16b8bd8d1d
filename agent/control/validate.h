// SPDX-License-Identifier: Apache-2.0
//
// What must hold of one object: its own fields, and that what it names exists. Every violation is reported, not
// only the first.
#pragma once

#include <absl/container/flat_hash_map.h>
#include <absl/strings/string_view.h>

#include <string>
#include <vector>

#include "agent/control/change.h"

namespace headgate {

void CheckInterface(const Interface& interface, const std::string& path, Violations& violations);
void CheckPrefixSet(const PrefixSet& set, const std::string& path, Violations& violations);
void CheckNextHop(const NextHop& hop, const std::string& path, const State& state, Violations& violations);
void CheckSteerTarget(const SteerTarget& target, const std::string& path, Violations& violations);
void CheckManagement(const ManagementAllow& entry, const std::string& path, const State& state,
                     Violations& violations);
void CheckRule(const Rule& rule, const std::string& path, const State& state, Violations& violations);

// The fields of a request whose text could not be read. Its objects are checked all the same, with defaults in those
// places, and what that alone may have brought up is not reported.
class UnreadFields {
 public:
  // Of violations found while the text was parsed.
  explicit UnreadFields(const Violations& violations);
  // Whether a violation of the object at that path may only be there because of them.
  bool Explain(absl::string_view object, const Violation& violation) const;

 private:
  absl::flat_hash_map<std::string, std::vector<std::string>> fields_;  // by object
};

// Whether packets of the protocol have ports the program reads.
bool HasPorts(uint8_t protocol);

}  // namespace headgate
