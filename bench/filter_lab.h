// SPDX-License-Identifier: Apache-2.0
//
// Where the filter benchmark's gateway stands, and the states that it is given.
#pragma once

#include <absl/status/statusor.h>

#include <memory>
#include <string>
#include <vector>

#include "agent/control/state.h"
#include "bench/lab.h"
#include "tests/harness/set_rules.h"

namespace headgate::bench {

inline constexpr char kFilterSenderNs[] = "hgb-gen", kFilterSenderDevice[] = "hgb-gen";
inline constexpr char kFilterNs[] = "hgb-gw", kFilterDevice[] = "hgb-in";
// For the gateway without rules, on which no packets come in.
inline constexpr char kEmptyDevice[] = "hgb-empty";
inline constexpr uint32_t kFilterPort = 1;

absl::StatusOr<std::unique_ptr<Lab>> MakeFilterLab();

// `rules` on the device; what none matches is dropped too.
State MakeFilterState(const testing::SetRules& rules);

// The rules of a set "acl1" at a size: a hundred are every tenth of the first thousand.
absl::StatusOr<std::vector<Rule>> LoadFilterRules(const std::string& set, const std::string& size);

// Rules that name prefix sets, which no peer has: acl1's, of which a quarter names one of 32 sets, and rules of
// one of 50 source sets and a range of ports.
inline constexpr char kMixedSet[] = "acl1-sets", kPortsSet[] = "set-ports";
inline bool NamesSets(const std::string& set) { return set == kMixedSet || set == kPortsSet; }
absl::StatusOr<testing::SetRules> LoadSetRules(const std::string& set, const std::string& size);

}  // namespace headgate::bench
