// SPDX-License-Identifier: Apache-2.0
//
// A requested change of the desired state, and the pure function that makes the next state of it.
#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "agent/control/ids.h"
#include "agent/control/model.h"
#include "agent/control/state.h"

namespace headgate {

struct Violation {
  std::string field;        // path into the request
  std::string description;  // what was wrong and what would be right
};
using Violations = std::vector<Violation>;

// An object of a request with its place in it.
template <typename T>
struct Upsert {
  T object;
  std::string path;  // "config.rules[3]"
};

struct PrefixSetEdit {
  std::string name;
  std::string path;
  std::vector<Prefix> add;
  std::vector<Prefix> remove;
};

struct Change {
  bool replace = false;  // a whole document: what it does not name is deleted
  std::optional<BasicVerdict> default_action;
  std::optional<std::vector<ManagementAllow>> management;
  std::string management_path;
  std::vector<Upsert<Interface>> interfaces;
  std::vector<Upsert<PrefixSet>> prefix_sets;
  std::vector<Upsert<NextHop>> next_hops;
  std::vector<Upsert<SteerTarget>> steer_targets;
  std::vector<Upsert<MulticastRoute>> multicast_routes;
  std::vector<Upsert<Rule>> rules;
  std::vector<std::string> delete_interfaces;
  std::vector<std::string> delete_prefix_sets;
  std::vector<std::string> delete_next_hops;
  std::vector<std::string> delete_steer_targets;
  std::vector<std::string> delete_multicast_routes;
  std::vector<std::string> delete_rules;
  std::vector<PrefixSetEdit> prefix_set_edits;
  Violations violations;  // found while the request's text was parsed
  // A note for the store to keep in the same transaction: name and value.
  std::optional<std::pair<std::string, std::string>> note;
};

// What a state may hold at most; set when the agent starts.
struct Limits {
  uint32_t max_entries = 131072;    // match entries of all rules
  uint32_t max_prefixes = 1000000;  // over all sets
};

// Match entries a rule compiles to: one for each pair of its port ranges.
uint32_t EntryCount(const Match& match);
uint32_t EntryCount(const ManagementAllow& allow);
// Match entries that a multicast route compiles to: one for each pair of interface and source.
uint32_t EntryCount(const MulticastInput& input);

struct ChangeResult {
  // The next state, with the generation one higher; the current one itself when nothing differs; null when
  // there are violations.
  Snapshot state;
  Violations violations;
  // FAILED_PRECONDITION and RESOURCE_EXHAUSTED cases, which no field is to blame for.
  absl::Status status;
};

// Takes ids for new objects from `ids`, when it succeeds and unless `dry_run`. The caller decides whether the new
// state comes to be, and frees the ids that only one of the two states has (ForEachRetiredId).
ChangeResult BuildState(const Snapshot& current, Change change, const Limits& limits, IdAllocators& ids,
                        bool dry_run);

// Calls visit(kind, id) for every object that `before` has and `after` has not.
void ForEachRetiredId(const State& before, const State& after, const std::function<void(Kind, uint32_t)>& visit);

}  // namespace headgate
