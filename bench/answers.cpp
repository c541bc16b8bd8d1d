// SPDX-License-Identifier: Apache-2.0
#include "bench/answers.h"

#include <absl/strings/str_cat.h>
#include <netinet/in.h>

#include <numeric>

#include "bench/headers.h"
#include "tests/harness/linear_scan.h"

namespace headgate::bench {
namespace {

// Of a peer's answers.
constexpr size_t kSampledHeaders = 10'000;

class Search {
 public:
  explicit Search(absl::Span<const Rule> rules) {
    for (size_t i = 0; i < rules.size(); ++i) {
      Rule rule = rules[i];
      rule.id = static_cast<uint32_t>(i + 1);
      scan_.Put(rule);
    }
  }
  uint32_t Find(const hgb_header& header) const {
    const Rule* rule = scan_.Find(ToHeader(header));
    return rule != nullptr ? rule->id : 0;
  }

 private:
  testing::LinearScan scan_;
};

}  // namespace

Answers SearchLinearly(absl::Span<const Rule> rules, absl::Span<const hgb_header> headers) {
  const Search search(rules);
  Answers answers;
  answers.reserve(headers.size());
  for (const hgb_header& header : headers) answers.push_back(search.Find(header));
  return answers;
}

absl::StatusOr<Answers> CompleteAnswers(absl::Span<const Rule> rules, absl::Span<const hgb_header> headers,
                                        Answers found) {
  const Search search(rules);
  for (size_t i = 0; i < headers.size(); ++i) {
    if (headers[i].protocol != IPPROTO_TCP && headers[i].protocol != IPPROTO_UDP) {
      found[i] = search.Find(headers[i]);
    } else if (i < kSampledHeaders && found[i] != search.Find(headers[i])) {
      return absl::InternalError("the peer finds another rule than a linear search");
    }
  }
  return found;
}

uint64_t MatchCounts::Matched() const { return std::accumulate(rules.begin(), rules.end(), uint64_t{0}); }

MatchCounts CountAnswers(const Answers& answers, size_t rules) {
  MatchCounts counts{.rules = std::vector<uint64_t>(rules)};
  for (const uint32_t answer : answers) ++(answer == 0 ? counts.unmatched : counts.rules[answer - 1]);
  return counts;
}

absl::Status CompareCounts(absl::Span<const Rule> rules, const MatchCounts& expected, const MatchCounts& before,
                           const MatchCounts& after) {
  const auto compare = [](absl::string_view what, uint64_t wanted, uint64_t counted) -> absl::Status {
    if (wanted == counted) return absl::OkStatus();
    return absl::InternalError(absl::StrCat("Headgate answers wrongly: ", counted, " headers match ", what,
                                            ", and by a linear search ", wanted));
  };
  for (size_t i = 0; i < rules.size(); ++i) {
    absl::Status status =
        compare(absl::StrCat("rule ", rules[i].name), expected.rules[i], after.rules[i] - before.rules[i]);
    if (!status.ok()) return status;
  }
  return compare("no rule", expected.unmatched, after.unmatched - before.unmatched);
}

}  // namespace headgate::bench
