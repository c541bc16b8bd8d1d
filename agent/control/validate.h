// SPDX-License-Identifier: Apache-2.0
//
// What must hold of one object: its own fields, and that what it names exists. Every violation is reported, not
// only the first.
#pragma once

#include <absl/container/flat_hash_map.h>
#include <absl/strings/string_view.h>

#include <functional>
#include <string>
#include <vector>

#include "agent/control/change.h"

namespace headgate {

class Checker;

void CheckInterface(const Interface& interface, const std::string& path, Violations& violations);
void CheckPrefixSet(const PrefixSet& set, const std::string& path, Violations& violations);
void CheckNextHop(const NextHop& hop, const std::string& path, const State& state, Violations& violations);
void CheckSteerTarget(const SteerTarget& target, const std::string& path, const State& state,
                      Violations& violations);
void CheckQuerier(const Querier& querier, Checker& check);
void CheckMulticastRoute(const MulticastRoute& route, const std::string& path, const State& state,
                         Violations& violations);
void CheckManagement(const ManagementAllow& entry, const std::string& path, const State& state,
                     Violations& violations);
void CheckRule(const Rule& rule, const std::string& path, const State& state, Violations& violations);

// How objects of a state are called where no request names them: rules["a"].
std::string RulePath(absl::string_view name);
std::string NextHopPath(absl::string_view name);
std::string SteerTargetPath(absl::string_view name);
std::string MulticastRoutePath(absl::string_view name);

// Calls visit(object's path, field below it, kind and name of what it refers to) for every reference of a state;
// the name may be empty.
using ReferenceVisitor =
    std::function<void(const std::string& path, absl::string_view field, Kind kind, const std::string& name)>;
void ForEachReference(const State& state, const ReferenceVisitor& visit);
// Whether every object that a state's objects refer to is there: what is loaded may have been tampered with.
absl::Status CheckWhole(const State& state);

// The fields of a request whose text could not be read. Its objects are checked all the same, with defaults in
// those places, and what that alone may have brought up is not reported.
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
