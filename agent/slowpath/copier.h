// SPDX-License-Identifier: Apache-2.0
//
// Has the kernel copy what workers send for many legs behind one device: of AF_XDP frames in copy mode each costs
// a socket buffer and a softirq, of copies that a device map makes none does. A worker sends the packet once, out
// of a veth device of the agent's own; bpf/copier.bpf.c, at the other end of that, does the rest.
//
// Threads: one at a time.
#pragma once

#include <absl/status/statusor.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "agent/base/fd.h"
#include "agent/slowpath/multicast_plan.h"
#include "agent/slowpath/veth_pair.h"

namespace headgate {

class Copier {
 public:
  struct DataPath {
    int bundles = -1;      // hg_bundles
    int bundle_maps = -1;  // hg_bundle_maps
    int ingress = -1;      // program headgate_copier
    int egress = -1;       // program headgate_bundled
  };
  // `device`: what the pair's names begin with, at most 14 characters; no other agent's.
  static absl::StatusOr<std::unique_ptr<Copier>> Create(const DataPath& data_path, const std::string& device);

  // Its devices are as they were made.
  bool Works() const;
  uint32_t ifindex() const { return pair_.first(); }  // of the device that workers send to
  static constexpr uint32_t kQueues = 16;             // of it

  // Removes what an agent left that was killed.
  static void RemoveStale(const std::string& device);

  // Puts the plan's bundles in the data path and says in the plan where, for as long as the plan or a copy of it
  // exists; takes those out that there is no room for.
  void Place(MulticastPlan& plan);

 private:
  using Clock = std::chrono::steady_clock;
  struct Placed {
    uint32_t id = 0;
    std::shared_ptr<const void> hold;
    Clock::time_point since;  // no plan has it
  };

  Copier(const DataPath& data_path, VethPair pair, Fd link);
  absl::Status Place(const PlannedRoute& route, LegBundle& bundle);
  absl::Status Write(uint32_t id, const hg_bundle& bundle, uint32_t ifindex) const;
  absl::StatusOr<uint32_t> TakeId();
  void Clear();

  const DataPath data_path_;
  VethPair pair_;
  Fd link_;
  std::map<std::string, Placed> placed_;  // by what is in hg_bundles, and the device
  uint32_t last_ = 0;                     // id that was taken
  bool told_ = false;                     // that some have no place
};

}  // namespace headgate
