// SPDX-License-Identifier: Apache-2.0
//
// Interfaces of the configuration and the devices of the host: which is attached to which, and why not.
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "agent/control/events.h"
#include "agent/control/state.h"
#include "agent/dataplane/dataplane.h"
#include "agent/dataplane/device.h"

namespace headgate {

struct InterfaceState {
  std::optional<Device> device;  // nothing: it does not exist
  std::optional<DriverMode> mode;
  std::vector<std::string> warnings;
  ObjectStatus status;
};

class InterfaceBinder {
 public:
  InterfaceBinder(Dataplane& dataplane, EventBus& events) : dataplane_(dataplane), events_(events) {}

  // Attaches what can be, detaches what must not be. With `verify`, looks at attachments that should be in place,
  // too. False when something failed that may work later.
  bool Reconcile(const State& state, const DeviceList& devices, bool verify);

  // By interface name. (any thread)
  std::map<std::string, InterfaceState> States() const;
  // Port table entries and links found changed by others and put right, so far.
  uint64_t repaired() const { return repaired_; }

 private:
  struct Bound {
    Interface interface;
    InterfaceState state;
  };

  InterfaceState Bind(const Interface& interface, const Device* device, const Bound* before, bool verify);
  const Bound* Before(const Interface& interface) const;
  std::map<uint32_t, std::string> Owners(const State& state, const DeviceList& devices) const;
  void Announce(const std::string& name, const InterfaceState& before, const InterfaceState& after);

  Dataplane& dataplane_;
  EventBus& events_;
  mutable std::mutex mutex_;  // guards bound_ against States()
  std::map<std::string, Bound> bound_;
  uint64_t repaired_ = 0;
};

}  // namespace headgate
