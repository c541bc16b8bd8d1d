// SPDX-License-Identifier: Apache-2.0
//
// Who serves UDP in the steer benchmark: Headgate's workers, and those they are compared with. All serve the same
// address of the same device, on the CPUs they are given.
#pragma once

#include <absl/status/statusor.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "bench/service.h"

namespace headgate::bench {

struct SteerSite {
  std::string netns;
  std::string device;  // that packets come in by, with NAPI
  uint16_t port = 0;   // UDP
  bool echo = false;   // datagrams are answered with themselves; else they are only counted
  int cpu = 0;         // to work on
  std::string agent;   // the headgated, for Headgate
  std::string directory;
};

absl::StatusOr<std::unique_ptr<Service>> StartHeadgateService(const SteerSite& site,
                                                              const std::atomic<bool>& stop);
// A server of ours (udp_server.h).
absl::StatusOr<std::unique_ptr<Service>> StartUdpServer(const SteerSite& site);
// socat(1). NOT_FOUND: it is not installed.
absl::StatusOr<std::unique_ptr<Service>> StartSocat(const SteerSite& site);

}  // namespace headgate::bench
