// SPDX-License-Identifier: Apache-2.0
#include "bench/filter_cost.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <algorithm>
#include <functional>
#include <utility>

#include "agent/base/status.h"
#include "bench/feeder.h"
#include "bench/filter_lab.h"
#include "bench/filter_subject.h"
#include "bench/headers.h"
#include "bench/program_run.h"
#include "bench/rte_acl.h"

namespace headgate::bench {
namespace {

constexpr char kUnit[] = "ns";

// A set at one size, measured.
struct CostSample {
  std::vector<double> headgate, scalar, vector;  // ns, by round
  std::vector<double> of_hundred;                // Headgate's to its own with a hundred rules, by round
  double change_us = 0;                          // one rule, until packets see it
  double build_seconds = 0;                      // of rte_acl
  std::string vector_method;
};

class CostMeter {
 public:
  CostMeter(const FilterOptions& options, const std::atomic<bool>& stop,
            absl::FunctionRef<void(const std::string&)> progress)
      : options_(options), stop_(stop), progress_(progress), random_(options.seed) {}

  absl::Status Start() {
    HG_RETURN_IF_ERROR(bpffs_.Mount());
    HG_ASSIGN_OR_RETURN(headgate_, FilterSubject::Start(kFilterDevice, options_.flow_cache));
    HG_ASSIGN_OR_RETURN(empty_, FilterSubject::Start(kEmptyDevice, options_.flow_cache));
    HG_ASSIGN_OR_RETURN(hundred_, FilterSubject::Start(kHundredDevice, options_.flow_cache));
    return absl::OkStatus();
  }

  // What the set's other sizes are compared with: its hundred rules, loaded beside them.
  absl::Status PrepareHundred(const std::string& set) {
    HG_ASSIGN_OR_RETURN(const std::vector<Rule> rules, LoadFilterRules(set, kHundred));
    HG_ASSIGN_OR_RETURN(const std::vector<hgb_header> headers, DrawHeaders(rules, options_.headers, random_));
    HG_ASSIGN_OR_RETURN(hundred_feeder_, Feeder::Open(headers));
    HG_RETURN_IF_ERROR(hundred_->SetRules(rules));
    return hundred_->Check(*hundred_feeder_, SearchLinearly(rules, headers));
  }

  absl::StatusOr<CostSample> Measure(const std::string& name, const std::vector<Rule>& rules, bool with_hundred) {
    HG_ASSIGN_OR_RETURN(headers_, DrawHeaders(rules, options_.headers, random_));
    HG_ASSIGN_OR_RETURN(feeder_, Feeder::Open(headers_));
    HG_RETURN_IF_ERROR(headgate_->SetRules(rules));
    HG_RETURN_IF_ERROR(BuildPeer(rules));
    HG_ASSIGN_OR_RETURN(answers_, FindAnswers(rules));
    HG_RETURN_IF_ERROR(headgate_->Check(*feeder_, answers_));
    CostSample sample;
    for (int round = 0; round < options_.rounds; ++round) {
      if (stop_.load(std::memory_order_relaxed)) return absl::CancelledError("interrupted");
      HG_RETURN_IF_ERROR(MeasureRound(round, with_hundred, sample));
      progress_(
          absl::StrFormat("round %d, %-9s headgate %6.1f ns%s", round + 1, name, sample.headgate.back(),
                          acl_ ? absl::StrFormat(", rte_acl scalar %6.1f ns, %s %6.1f ns", sample.scalar.back(),
                                                 acl_->vector_method(), sample.vector.back())
                               : ""));
    }
    HG_ASSIGN_OR_RETURN(sample.change_us, headgate_->TimeChange(random_));
    if (acl_) sample.build_seconds = acl_->build_seconds();
    if (acl_) sample.vector_method = acl_->vector_method();
    return sample;
  }

  // The rules that were measured last, after changes, beside the same in tables made at once.
  absl::StatusOr<ResultRow> MeasureChurned(const std::string& name, const std::vector<Rule>& rules) {
    acl_.reset();
    HG_ASSIGN_OR_RETURN(const auto fresh, FilterSubject::Start(kFreshDevice, options_.flow_cache));
    HG_RETURN_IF_ERROR(fresh->SetRules(rules));
    HG_RETURN_IF_ERROR(headgate_->Churn(options_.churn, random_));
    HG_RETURN_IF_ERROR(headgate_->Check(*feeder_, answers_));
    ResultRow row{.name = name, .unit = kUnit, .baseline = "fresh"};
    for (int round = 0; round < options_.rounds; ++round) {
      if (stop_.load(std::memory_order_relaxed)) return absl::CancelledError("interrupted");
      double churned = 0, made = 0, empty = 0;
      HG_RETURN_IF_ERROR(InTurns(round, {TimeOf(*headgate_, *feeder_, churned), TimeOf(*fresh, *feeder_, made),
                                         TimeOf(*empty_, *feeder_, empty)}));
      row.headgate.push_back(churned - empty);
      row.baseline_values.push_back(made - empty);
      progress_(absl::StrFormat("round %d, %s headgate %6.1f ns, fresh %6.1f ns", round + 1, name, churned - empty,
                                made - empty));
    }
    row.details.emplace_back("changes", options_.churn);
    return row;
  }

 private:
  using Turn = std::function<absl::Status()>;

  absl::Status BuildPeer(const std::vector<Rule>& rules) {
    acl_.reset();  // one at a time: they are large
    auto acl = RteAcl::Build(rules);
    if (absl::IsUnavailable(acl.status())) {
      if (!std::exchange(peer_missing_, true))
        progress_(absl::StrCat("rte_acl is left out: ", acl.status().message()));
      return absl::OkStatus();
    }
    HG_RETURN_IF_ERROR(acl.status());
    acl_ = *std::move(acl);
    return absl::OkStatus();
  }

  // By the peer, where there is one: that it has the same rules is a claim of the comparison, and it is faster.
  absl::StatusOr<Answers> FindAnswers(const std::vector<Rule>& rules) {
    if (!acl_) return SearchLinearly(rules, headers_);
    HG_ASSIGN_OR_RETURN(const Answers scalar, acl_->ClassifyScalar(headers_));
    HG_ASSIGN_OR_RETURN(Answers vector, acl_->ClassifyVector(headers_));
    if (scalar != vector)
      return absl::InternalError("rte_acl's vector lookup finds other rules than its scalar one");
    return CompleteAnswers(rules, headers_, std::move(vector));
  }

  Turn TimeOf(FilterSubject& subject, Feeder& feeder, double& time) {
    return [&]() -> absl::Status {
      HG_ASSIGN_OR_RETURN(time, subject.Time(feeder));
      return absl::OkStatus();
    };
  }

  // All next to each other, in an order that turns.
  static absl::Status InTurns(int round, std::vector<Turn> turns) {
    std::rotate(turns.begin(), turns.begin() + round % static_cast<int>(turns.size()), turns.end());
    for (const Turn& turn : turns) HG_RETURN_IF_ERROR(turn());
    return absl::OkStatus();
  }

  absl::Status MeasureRound(int round, bool with_hundred, CostSample& sample) {
    double full = 0, empty = 0, hundred = 0, hundred_empty = 0;
    std::vector<Turn> turns = {TimeOf(*headgate_, *feeder_, full), TimeOf(*empty_, *feeder_, empty)};
    if (with_hundred) {
      // Other headers take another time even without rules.
      turns.push_back(TimeOf(*hundred_, *hundred_feeder_, hundred));
      turns.push_back(TimeOf(*empty_, *hundred_feeder_, hundred_empty));
    }
    if (acl_) {
      turns.emplace_back([&]() -> absl::Status {
        HG_ASSIGN_OR_RETURN(const double time, acl_->TimeScalar(headers_));
        sample.scalar.push_back(time);
        return absl::OkStatus();
      });
      turns.emplace_back([&]() -> absl::Status {
        HG_ASSIGN_OR_RETURN(const double time, acl_->TimeVector(headers_));
        sample.vector.push_back(time);
        return absl::OkStatus();
      });
    }
    HG_RETURN_IF_ERROR(InTurns(round, std::move(turns)));
    sample.headgate.push_back(full - empty);
    if (with_hundred) sample.of_hundred.push_back((full - empty) / (hundred - hundred_empty));
    return absl::OkStatus();
  }

  const FilterOptions& options_;
  const std::atomic<bool>& stop_;
  absl::FunctionRef<void(const std::string&)> progress_;
  std::mt19937_64 random_;
  PrivateBpffs bpffs_;
  std::unique_ptr<FilterSubject> headgate_, empty_, hundred_;
  std::vector<hgb_header> headers_;
  Answers answers_;
  std::unique_ptr<Feeder> feeder_, hundred_feeder_;
  std::unique_ptr<RteAcl> acl_;
  bool peer_missing_ = false;
};

void AddCostRows(const std::string& name, const CostSample& sample, Result& result) {
  ResultRow row{.name = name, .unit = kUnit, .headgate = sample.headgate};
  if (!sample.of_hundred.empty()) {
    const Summary ratio = Summarize(sample.of_hundred);
    row.details = {{"of_100", ratio.median}, {"of_100_min", ratio.min}, {"of_100_max", ratio.max}};
  }
  row.details.emplace_back("change_us", sample.change_us);
  if (sample.scalar.empty()) {
    result.rows.push_back(std::move(row));
    return;
  }
  row.details.emplace_back("rte_acl_build_s", sample.build_seconds);
  row.baseline = "rte_acl_scalar";
  row.baseline_values = sample.scalar;
  result.rows.push_back(row);
  row.baseline = "rte_acl_vector";
  row.baseline_values = sample.vector;
  result.rows.push_back(std::move(row));
  result.settings["rte_acl_vector"] = sample.vector_method;
}

}  // namespace

absl::Status MeasureCosts(const FilterOptions& options, const std::atomic<bool>& stop,
                          absl::FunctionRef<void(const std::string&)> progress, Result& result) {
  CostMeter meter(options, stop, progress);
  HG_RETURN_IF_ERROR(meter.Start());
  for (const std::string& set : options.sets) {
    HG_RETURN_IF_ERROR(meter.PrepareHundred(set));
    for (const std::string& size : options.sizes) {
      HG_ASSIGN_OR_RETURN(const std::vector<Rule> rules, LoadFilterRules(set, size));
      const std::string name = absl::StrCat(set, "/", size);
      HG_ASSIGN_OR_RETURN(const CostSample sample, meter.Measure(name, rules, size != kHundred));
      AddCostRows(name, sample, result);
      if (options.churn == 0 || set != options.sets.front() || size != options.sizes.back()) continue;
      HG_ASSIGN_OR_RETURN(ResultRow row, meter.MeasureChurned(absl::StrCat(name, "/churned"), rules));
      result.rows.push_back(std::move(row));
    }
  }
  return absl::OkStatus();
}

}  // namespace headgate::bench
