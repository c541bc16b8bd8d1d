// SPDX-License-Identifier: Apache-2.0
//
// Counters by the names of the objects they belong to.
#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "agent/control/state.h"
#include "agent/dataplane/dataplane.h"

namespace headgate {

enum class ReasonClass : uint8_t { kPass, kForward, kDrop, kMalformed };

struct Reason {
  const char* name;
  ReasonClass reason_class;
  const char* text;
};
// By enum hg_reason.
const Reason& ReasonOf(uint32_t reason);
const char* ReasonClassName(ReasonClass reason_class);

struct ReasonStats {
  uint32_t reason = 0;
  hg_count count{};
};

struct InterfaceStats {
  std::string name;
  hg_count received{};
  std::vector<ReasonStats> reasons;  // those that counted something
  hg_egress egress{};
};

struct RuleStats {
  std::string name;
  hg_rule_count count{};
};

struct CounterStats {
  std::string name;
  hg_count count{};
};

struct MulticastLegStats {
  std::string name;
  hg_leg_count count{};
  // Copies that the kernel did not make. What is under way at the moment is among them.
  uint64_t not_made() const {
    const uint64_t known = count.packets + count.ttl + count.limited + count.no_source + count.malformed +
                           count.no_listener + count.no_neighbour + count.too_big + count.tx_full;
    return count.offered > known ? count.offered - known : 0;
  }
};

struct MulticastRouteStats {
  std::string name;
  hg_count count{};
  uint64_t last_packet = 0;  // CLOCK_MONOTONIC, ns; 0: there was none
  std::vector<MulticastLegStats> legs;
  std::optional<hg_feed> feed;  // of routes that have one
};

struct Stats {
  std::vector<InterfaceStats> interfaces;
  std::vector<RuleStats> rules;
  std::vector<CounterStats> counters;
  std::vector<MulticastRouteStats> multicast_routes;
  uint64_t unconfigured_packets = 0;
  uint64_t samples_lost = 0;
};

struct StatsFilter {
  bool interfaces = true;
  bool rules = true;
  bool counters = true;
  bool multicast_routes = true;
  std::function<bool(const std::string& name)> wanted = [](const std::string&) { return true; };
};

// Sorted by name; rules by falling priority. Any thread.
absl::StatusOr<Stats> ReadStats(const Dataplane& dataplane, const State& state, const StatsFilter& filter);

}  // namespace headgate
