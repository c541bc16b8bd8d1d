// SPDX-License-Identifier: Apache-2.0
//
// Network namespaces and the veth pairs between them, for as long as a measurement or a test needs them.
#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "agent/base/fd.h"

namespace headgate::bench {

// One end of a veth pair.
struct VethEnd {
  std::string netns;
  std::string device;
};

// Held by a benchmark: one at a time, because their namespaces have fixed names and their figures would be
// worthless. While another one runs: an error, or with `wait` a wait for its end, which a signal ends.
absl::StatusOr<Fd> LockBenchmarks(bool wait);

class Lab {
 public:
  // Removes namespaces of these names that an earlier run may have left, and makes them anew.
  static absl::StatusOr<std::unique_ptr<Lab>> Create(std::vector<std::string> namespaces);
  // Removes them, with their devices.
  ~Lab();
  Lab(const Lab&) = delete;
  Lab& operator=(const Lab&) = delete;

  // Both ends are up and quiet: IPv6 is off, and with it the frames that the kernel sends by itself.
  absl::Status Connect(const VethEnd& a, const VethEnd& b);
  absl::Status SetMtu(const VethEnd& end, uint32_t mtu);
  // Of IPv4. Routes lead to next hops, which are reached by a neighbour entry that needs no ARP.
  absl::Status AddAddress(const VethEnd& end, const std::string& address);
  absl::Status AddNeighbor(const VethEnd& end, const std::string& address, const std::string& mac);
  absl::Status AddRoute(const VethEnd& end, const std::string& prefix, const std::string& next_hop);
  // Gives a veth NAPI even without an XDP program: what it takes to be redirected to.
  absl::Status EnableGro(const VethEnd& end);

 private:
  explicit Lab(std::vector<std::string> namespaces) : namespaces_(std::move(namespaces)) {}
  void Remove();

  std::vector<std::string> namespaces_;
};

}  // namespace headgate::bench
