// SPDX-License-Identifier: Apache-2.0
//
// Counters as tables, and the rates between two readings.
#pragma once

#include <absl/strings/string_view.h>
#include <absl/time/time.h>

#include <string>

#include "headgate/v1/gateway.pb.h"

namespace headgate::cli {

// What a reason means, from the list both sides share; empty when this program does not know it.
absl::string_view ReasonText(absl::string_view reason);

std::string InterfaceStatsTable(const v1::StatsResponse& stats, size_t width);
// What became of the packets of each interface, and why.
std::string ReasonTable(const v1::StatsResponse& stats, size_t width);
std::string RuleStatsTable(const v1::StatsResponse& stats, size_t width);
std::string CounterTable(const v1::StatsResponse& stats, size_t width);
// Dropped by workers; "in kernel": dropped before they reached one.
std::string WorkerTable(const v1::StatsResponse& stats, size_t width);
// All tables that have rows, and what belongs to no object.
std::string StatsText(const v1::StatsResponse& stats, size_t width);

enum class TopView { kInterfaces, kRules, kMulticastRoutes, kWorkers };
enum class TopOrder { kPackets, kBits, kName };

// How much of them fits.
struct TopSize {
  size_t width = 0;   // 0: as wide as it takes
  size_t height = 0;  // lines; 0: all
};

// The rates between two readings.
std::string TopText(const v1::StatsResponse& before, const v1::StatsResponse& now, TopView view, TopOrder order,
                    TopSize size, absl::TimeZone zone);

}  // namespace headgate::cli
