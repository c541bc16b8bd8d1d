// SPDX-License-Identifier: Apache-2.0
//
// Packets a second that come in by a veth and are filtered, by Headgate and by nftables in turn.
#pragma once

#include <absl/functional/function_ref.h>
#include <absl/status/status.h>

#include <atomic>
#include <string>

#include "bench/filter_scenario.h"
#include "bench/result.h"

namespace headgate::bench {

// Adds the rows SET/SIZE/pps to `result`. The lab is there.
absl::Status MeasureRates(const FilterOptions& options, const std::atomic<bool>& stop,
                          absl::FunctionRef<void(const std::string&)> progress, Result& result);

}  // namespace headgate::bench
