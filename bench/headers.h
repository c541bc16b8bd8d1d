// SPDX-License-Identifier: Apache-2.0
//
// Distinct IPv4 headers drawn from a rule set, for benchmarks that no cache is to help.
#pragma once

#include <absl/status/statusor.h>
#include <absl/types/span.h>

#include <random>
#include <string>
#include <vector>

#include "agent/control/model.h"
#include "bench/bpf/header.h"
#include "tests/harness/classbench.h"

namespace headgate::bench {

// A ClassBench set of tests/data: acl1, fw1 or ipc1, and 1k, 8k or 100k. Between its priorities there is room for
// others.
absl::StatusOr<std::vector<Rule>> LoadRuleSet(const std::string& name);

// `count` different headers, each from within a random rule's ranges or at their corners, of sources that may
// send. Fails when the rules leave no room for so many.
absl::StatusOr<std::vector<hgb_header>> DrawHeaders(const std::vector<Rule>& rules, size_t count,
                                                    std::mt19937_64& random);

// Whether a gateway looks the header up: it is of IPv4, and of a source that may send.
bool MaySend(const testing::Header& header);

testing::Header ToHeader(const hgb_header& header);

}  // namespace headgate::bench
