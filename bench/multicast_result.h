// SPDX-License-Identifier: Apache-2.0
//
// What the multicast benchmark has measured: its rows, and the chart of rates over legs.
#pragma once

#include <absl/status/status.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "bench/chart.h"
#include "bench/result.h"

namespace headgate::bench {

inline constexpr char kHeadgate[] = "headgate", kIpMroute[] = "ip_mroute", kSocketRelay[] = "socket_relay";

// One relay in one round. Shares are 0 to 1.
struct RelayFigures {
  double copies = 0;           // a second at the receivers: the most of any run
  double lossfree_pps = 0;     // packets a second at which next to none was lost
  double cpu_ns_per_copy = 0;  // at that rate: of NAPI, softirqs and the relay; where nothing held, unpaced
  double service_ns = 0;       // of these, the relay's threads and the softirqs that were too many for NAPI's
  double loss = 0;             // share of copies, at that rate
  double overload = 0;         // copies a second, unpaced
  double overload_offered = 0, overload_refused = 0, overload_loss = 0;
};

// Microseconds through one relay at a rate.
struct LatencyFigures {
  double p50 = 0, p99 = 0, p999 = 0;
  double rate = 0;  // packets a second
  double loss = 0;
};

// So many legs at one size of frame.
struct RelayCase {
  std::string path;  // "kernel", "userspace"
  uint32_t legs = 0;
  uint32_t size = 0;
  // By relay, by round.
  std::map<std::string, std::vector<RelayFigures>> relays = {};
  std::map<std::string, std::vector<LatencyFigures>> latencies = {};
  std::map<std::string, std::string> left_out = {};  // by relay: why it cannot

  std::string Name() const;
};

// A row with each baseline for each figure of each case, then those of latencies.
std::vector<ResultRow> ToRows(const std::vector<RelayCase>& cases);

Chart ToChart(const std::vector<RelayCase>& cases);
// A line a relay and case.
std::string ToCsv(const std::vector<RelayCase>& cases);
// PREFIX.csv and PREFIX.svg.
absl::Status WriteChart(const std::vector<RelayCase>& cases, const std::string& prefix);

}  // namespace headgate::bench
