// SPDX-License-Identifier: Apache-2.0
//
// Who relays in the multicast benchmark: Headgate, and those it is compared with. All take the same group by the
// same device and send a copy by each leg, on the CPU they are given.
#pragma once

#include <absl/status/statusor.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bench/service.h"
#include "bench/sinks.h"

namespace headgate::bench {

struct RelayLeg {
  std::string device;
  std::string group;  // of the copies
};

struct RelaySite {
  std::string netns;
  std::string device;  // that packets come in by, with NAPI
  std::string source;  // of the packets, IPv4
  std::string group;
  uint16_t port = 0;
  std::vector<RelayLeg> legs;
  bool userspace = false;  // Headgate is to copy in a worker, not in the kernel
  int cpu = 0;             // to work on
  std::string agent;       // the headgated, for Headgate
  std::string directory;   // for the state and files of processes
};

// What they deliver is counted at `sinks`, which outlive them. Their threads are with the kernel's that runs
// softirqs of their CPU when these become many: copies are made and received in them.
absl::StatusOr<std::unique_ptr<Service>> StartHeadgateRelay(const RelaySite& site, const Sinks& sinks,
                                                            const std::atomic<bool>& stop);
// One of ours (socket_relay.h).
absl::StatusOr<std::unique_ptr<Service>> StartSocketRelay(const RelaySite& site, const Sinks& sinks);
// The kernel's, with a route by smcrouted(8); groups stay as they are. NOT_FOUND: it is not installed.
// OUT_OF_RANGE: the kernel has not so many multicast interfaces.
absl::StatusOr<std::unique_ptr<Service>> StartIpMroute(const RelaySite& site, const Sinks& sinks);

}  // namespace headgate::bench
