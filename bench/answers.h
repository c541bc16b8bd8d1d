// SPDX-License-Identifier: Apache-2.0
//
// Which rule each header of a benchmark matches, by a linear search, and whether a gateway's counters say the
// same.
#pragma once

#include <absl/status/statusor.h>
#include <absl/types/span.h>

#include <cstdint>
#include <vector>

#include "agent/control/model.h"
#include "bench/bpf/header.h"

namespace headgate::bench {

// For each header the index of the rule it matches, plus one; 0: none.
using Answers = std::vector<uint32_t>;

// Looks at every rule for every header: of 100,000 rules some 30 us a header.
Answers SearchLinearly(absl::Span<const Rule> rules, absl::Span<const hgb_header> headers);

// The same for all headers from what a peer has found: its answers to headers with ports, and the linear search's
// to others, which the peer looks up as if their ports were zero. Those to the first of the headers are compared
// with the linear search.
absl::StatusOr<Answers> CompleteAnswers(absl::Span<const Rule> rules, absl::Span<const hgb_header> headers,
                                        Answers found);

// Packets by rule, and of none.
struct MatchCounts {
  std::vector<uint64_t> rules;
  uint64_t unmatched = 0;

  uint64_t Matched() const;
};

MatchCounts CountAnswers(const Answers& answers, size_t rules);

// Whether a gateway that counted `before` and `after` has answered so; says which rule has another count.
absl::Status CompareCounts(absl::Span<const Rule> rules, const MatchCounts& expected, const MatchCounts& before,
                           const MatchCounts& after);

}  // namespace headgate::bench
