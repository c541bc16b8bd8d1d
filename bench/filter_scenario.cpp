// SPDX-License-Identifier: Apache-2.0
#include "bench/filter_scenario.h"

#include <absl/strings/str_cat.h>

#include <thread>

#include "agent/base/status.h"
#include "bench/filter_cost.h"
#include "bench/filter_lab.h"
#include "bench/filter_rate.h"
#include "bench/netns.h"

namespace headgate::bench {
namespace {

constexpr int kCpu = 1, kPriority = 1;

}  // namespace

absl::StatusOr<Result> RunFilter(const FilterOptions& options, const std::atomic<bool>& stop,
                                 absl::FunctionRef<void(const std::string&)> progress) {
  HG_ASSIGN_OR_RETURN(const Fd lock, LockBenchmarks(options.wait));
  HG_ASSIGN_OR_RETURN(const auto lab, MakeFilterLab());
  Result result{.scenario = "filter",
                .settings = {{"headers", absl::StrCat(options.headers)},
                             {"flow_cache", options.flow_cache ? "yes" : "no"},
                             {"seed", absl::StrCat(options.seed)},
                             {"churn", absl::StrCat(options.churn)},
                             {"realtime", options.realtime ? "yes" : "no"}}};
  absl::Status status;
  std::thread([&] {
    status = Schedule(0, {.cpu = kCpu, .realtime = options.realtime ? kPriority : 0});
    if (status.ok()) status = MeasureCosts(options, stop, progress, result);
  }).join();
  HG_RETURN_IF_ERROR(status);
  HG_RETURN_IF_ERROR(MeasureRates(options, stop, progress, result));
  return result;
}

}  // namespace headgate::bench
