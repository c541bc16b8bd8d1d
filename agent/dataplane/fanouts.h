// SPDX-License-Identifier: Apache-2.0
//
// The devices that the kernel copies multicast packets to: a device map for each set of ports in hg_fanouts, whose
// entries follow the ports' devices and run this process's program on each copy.
#pragma once

#include <absl/status/status.h>

#include <array>
#include <cstdint>
#include <functional>
#include <utility>

#include "agent/base/fd.h"
#include "agent/dataplane/dataplane.h"
#include "agent/dataplane/loader.h"
#include "bpf/hg_abi.h"

namespace headgate {

class Fanouts {
 public:
  // `leg_port`: called with each port of a set before packets can meet that.
  using LegPort = std::function<absl::Status(uint32_t port)>;
  Fanouts(Loader& loader, LegPort leg_port) : loader_(loader), leg_port_(std::move(leg_port)) {}

  // Makes the maps of all sets anew, by what hg_fanouts and hg_ports hold: those that an earlier process left run
  // its program.
  absl::Status Restore();
  // To be called before packets can meet the set, and not while they can.
  absl::Status Set(uint32_t index, const hg_fanout& ports);
  // Brings the entries of the port to what hg_ports says of it.
  absl::Status Follow(uint32_t port);
  // Puts right what others changed, and counts it.
  absl::Status Sweep(Repairs& repairs);

 private:
  struct Fanout {
    hg_fanout ports{};
    Fd devices;  // its map in hg_fanout_maps
  };
  absl::Status Put(const Fanout& fanout, uint32_t port, uint32_t& changed);
  absl::Status WriteState(uint32_t index, uint32_t& changed);
  static bool Has(const hg_fanout& ports, uint32_t port) { return (ports.ports[port / 64] >> port % 64 & 1) != 0; }

  Loader& loader_;
  const LegPort leg_port_;
  std::array<Fanout, HG_FANOUTS> fanouts_;
};

}  // namespace headgate
