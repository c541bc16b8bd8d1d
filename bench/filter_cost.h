// SPDX-License-Identifier: Apache-2.0
//
// Nanoseconds that classification takes, by prog runs, of Headgate and of rte_acl in turn.
#pragma once

#include <absl/functional/function_ref.h>
#include <absl/status/status.h>

#include <atomic>
#include <string>

#include "bench/filter_scenario.h"
#include "bench/result.h"

namespace headgate::bench {

// Adds the rows SET/SIZE and SET/SIZE/churned to `result`. The lab is there.
absl::Status MeasureCosts(const FilterOptions& options, const std::atomic<bool>& stop,
                          absl::FunctionRef<void(const std::string&)> progress, Result& result);

}  // namespace headgate::bench
