// SPDX-License-Identifier: Apache-2.0
//
// What the program would decide by a generation's tables, read through the data plane cell by cell; and what the
// model says it should decide. For tests of whoever writes the tables.
#pragma once

#include <array>
#include <optional>
#include <random>
#include <string>

#include "agent/control/state.h"
#include "agent/dataplane/dataplane.h"
#include "tests/harness/classbench.h"

namespace headgate::testing {

// A packet as the classifier sees it.
struct Probe {
  Header header;
  std::string interface;  // empty: a device that is no interface
};

using Key = std::array<uint32_t, HG_WORDS>;
Key KeyOf(const Probe& probe, const State& state);

// The entry that decides by the record `root`, looked up as classify.bpf.c does. Throws when the walk leaves the
// tables or does not come to an end.
std::optional<hg_rule> Classify(const Dataplane& dataplane, uint32_t root, const Key& key);

// What the model says: whether an entry of the management list matches, and which rule does (null: none).
bool IsManagement(const State& state, const Probe& probe);
const Rule* FindRule(const State& state, const Probe& probe);

// A probe that some rule, set or management entry of the state may match, drawn from corners.
Probe DrawProbe(const State& state, std::mt19937_64& random);

// Empty when the tables in force decide `probes` drawn packets as the state says, else what differed first.
std::string CompareWithModel(const Dataplane& dataplane, const State& state, int probes, std::mt19937_64& random);

}  // namespace headgate::testing
