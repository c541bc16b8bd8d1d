// SPDX-License-Identifier: Apache-2.0
//
// A Headgate whose program is timed by the filter benchmark.
#pragma once

#include <absl/status/statusor.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "bench/answers.h"
#include "bench/feeder.h"
#include "bench/loaded_headgate.h"

namespace headgate::bench {

class FilterSubject {
 public:
  // Without rules. `device` is one of the filter lab's, and names its pins too; the BPF file system is mounted.
  static absl::StatusOr<std::unique_ptr<FilterSubject>> Start(const std::string& device, bool flow_cache);

  // Brings these in force in place of those before.
  absl::Status SetRules(const std::vector<Rule>& rules);
  // Feeds all headers of the answers once: an error when its rules' counters do not agree with them.
  absl::Status Check(Feeder& feeder, const Answers& answers);
  // Mean nanoseconds of a packet, what feeding takes included.
  absl::StatusOr<double> Time(Feeder& feeder);
  // The time until packets see a change of one rule, in microseconds: the mean of the medians of edits, moves,
  // deletions and insertions. The rules are the same after it.
  absl::StatusOr<double> TimeChange(std::mt19937_64& random);
  // Makes so many changes to single rules of an order of chance, as many of each kind. The rules are the same
  // after it.
  absl::Status Churn(size_t changes, std::mt19937_64& random);

 private:
  explicit FilterSubject(std::string device) : device_(std::move(device)) {}
  absl::StatusOr<double> Feed(Feeder& feeder, bool timed);

  std::string device_;
  std::unique_ptr<LoadedHeadgate> headgate_;
  Fd program_;
  std::vector<Rule> rules_;
  State state_;  // with them
};

}  // namespace headgate::bench
