// SPDX-License-Identifier: Apache-2.0
//
// Where the filter benchmark's gateway stands, and the states that it is given.
#pragma once

#include <absl/status/statusor.h>

#include <memory>
#include <string>
#include <vector>

#include "agent/control/state.h"
#include "agent/dataplane/bpf_dataplane.h"
#include "bench/answers.h"
#include "bench/lab.h"

namespace headgate::bench {

inline constexpr char kFilterSenderNs[] = "hgb-gen", kFilterSenderDevice[] = "hgb-gen";
inline constexpr char kFilterNs[] = "hgb-gw", kFilterDevice[] = "hgb-in";
// For other gateways beside it: without rules, with a hundred, with all of them made at once. No packets come in.
inline constexpr char kEmptyDevice[] = "hgb-empty", kHundredDevice[] = "hgb-100", kFreshDevice[] = "hgb-fresh";
inline constexpr uint32_t kFilterPort = 1;

absl::StatusOr<std::unique_ptr<Lab>> MakeFilterLab();

// `rules` on the device; what none matches is dropped too.
State MakeFilterState(const std::vector<Rule>& rules);

// What the gateway has counted for the rules of such a state, and for packets that none matched.
absl::StatusOr<MatchCounts> ReadMatchCounts(const BpfDataplane& dataplane, const std::vector<Rule>& rules);

// The rules of a set "acl1" at a size: a hundred are every tenth of the first thousand.
inline constexpr char kHundred[] = "100";
absl::StatusOr<std::vector<Rule>> LoadFilterRules(const std::string& set, const std::string& size);

}  // namespace headgate::bench
