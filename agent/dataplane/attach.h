// SPDX-License-Identifier: Apache-2.0
//
// Ports: which device each is bound to, in the tables the program reads and by pinned XDP links.
#pragma once

#include <absl/status/statusor.h>
#include <absl/types/span.h>

#include <array>
#include <bitset>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/fd.h"
#include "agent/dataplane/dataplane.h"
#include "agent/dataplane/loader.h"
#include "bpf/hg_abi.h"

namespace headgate {

class Ports {
 public:
  // `described`: called with a port when what hg_ports says of it has changed.
  using Described = std::function<absl::Status(uint32_t port)>;
  Ports(Loader& loader, Described described) : loader_(loader), described_(std::move(described)) {}

  // Finds the links and tables an earlier process left.
  absl::Status Restore();
  // Points every restored link at this process's program.
  absl::Status TakeOver();
  absl::StatusOr<Attachment> Attach(uint32_t port, const Device& device, std::optional<DriverMode> mode);
  absl::Status Detach(uint32_t port);
  // From now on the multicast legs' program runs for all frames that are redirected to the port's device: the
  // kernel runs the program of a bulk's first frame on all of the bulk, whichever map they come by.
  absl::Status RunLegs(uint32_t port);
  std::vector<std::pair<uint32_t, uint32_t>> Bound() const;
  // Clears what the tables hold of ports that are not bound.
  absl::Status Sweep(Repairs& repairs);

 private:
  struct Port {
    Fd link;
    uint32_t ifindex = 0;
    Device device;  // as last described; empty after a restart
    DriverMode mode = DriverMode::kNative;
    bool generic_asked = false;   // and not the driver's refusal of native mode
    absl::Status native_refused;  // when auto became generic
    // What a change of mode met with, and to which.
    absl::Status change_refused;
    std::optional<DriverMode> mode_refused;
  };

  // Each writes what is not as it should be, and counts it in `changed`.
  absl::Status Describe(uint32_t port, const Device& device, uint32_t former, uint32_t& changed);
  absl::Status WritePort(uint32_t port, const hg_port& entry, uint32_t& changed);
  absl::Status WriteTarget(uint32_t port, uint32_t ifindex, uint32_t& changed);
  absl::Status DescribeDevice(uint32_t port, const Device& device, bool native, uint32_t& changed);
  absl::Status SetIfindexSlots(absl::Span<const hg_ifindex> wanted, uint32_t& changed);
  static std::string ModeWarning(const Port& bound);
  absl::StatusOr<Fd> CreateLink(uint32_t port, const Device& device, DriverMode mode);
  absl::Status MakeLink(uint32_t port, const Device& device, std::optional<DriverMode> mode);
  absl::Status ChangeMode(uint32_t port, const Device& device, std::optional<DriverMode> mode);
  absl::Status SweepIfindexes(Repairs& repairs);
  absl::Status PinLink(uint32_t port, const Fd& link);
  uint32_t HolderOf(uint32_t ifindex) const;
  absl::Status TakeLink(uint32_t port, uint32_t former);

  Loader& loader_;
  const Described described_;
  std::array<Port, HG_PORTS> ports_;
  std::bitset<HG_PORTS> legs_;  // ports whose device is that of a leg, or was
};

}  // namespace headgate
