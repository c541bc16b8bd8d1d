// SPDX-License-Identifier: Apache-2.0
//
// Who serves UDP in the steer benchmark: Headgate's workers, and those they are compared with. All serve the same
// address of the same device, on the CPUs they are given.
#pragma once

#include <absl/status/statusor.h>

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

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

class SteerService {
 public:
  virtual ~SteerService() = default;

  // Counts begin anew.
  virtual absl::Status Begin() = 0;
  // Datagrams that the application has taken since then.
  virtual absl::StatusOr<uint64_t> Received() = 0;
  // Once no more comes: an error when what came by the device, `sent` datagrams, and what became of them,
  // `replies` of which came back, do not add up.
  virtual absl::Status Check(uint64_t sent, uint64_t replies) = 0;
  // All its threads, and those that packets go through.
  virtual std::vector<pid_t> Threads() const = 0;
  virtual std::vector<pid_t> PacketThreads() const { return Threads(); }
};

absl::StatusOr<std::unique_ptr<SteerService>> StartHeadgateService(const SteerSite& site,
                                                                   const std::atomic<bool>& stop);
// A server of ours (udp_server.h).
absl::StatusOr<std::unique_ptr<SteerService>> StartUdpServer(const SteerSite& site);
// socat(1). NOT_FOUND: it is not installed.
absl::StatusOr<std::unique_ptr<SteerService>> StartSocat(const SteerSite& site);

}  // namespace headgate::bench
