// SPDX-License-Identifier: Apache-2.0
#include "agent/control/interfaces.h"

#include <absl/strings/str_cat.h>

#include <algorithm>
#include <set>

#include "agent/base/log.h"

namespace headgate {
namespace {

// By the current name first: an alternative name may be another device's name.
const Device* FindDevice(const DeviceList& devices, const std::string& name) {
  for (const Device& device : devices) {
    if (device.name == name) return &device;
  }
  for (const Device& device : devices) {
    const auto& names = device.alternative_names;
    if (std::find(names.begin(), names.end(), name) != names.end()) return &device;
  }
  return nullptr;
}

std::optional<DriverMode> Wanted(AttachMode mode) {
  switch (mode) {
    case AttachMode::kNative:
      return DriverMode::kNative;
    case AttachMode::kGeneric:
      return DriverMode::kGeneric;
    case AttachMode::kAuto:
      break;
  }
  return std::nullopt;
}

}  // namespace

InterfaceState InterfaceBinder::Bind(const Interface& interface, const Device* device, const Bound* before,
                                     bool verify) {
  InterfaceState state;
  if (device == nullptr) {
    state.status = {ObjectState::kPending, absl::StrCat("device ", interface.device, " does not exist")};
    // Also what an earlier process attached (a device that was renamed or moved since has our program still), and
    // what could not be detached the last time.
    if (!before || before->state.device || before->state.status.state == ObjectState::kError) {
      if (const absl::Status status = dataplane_.Detach(interface.id); !status.ok()) {
        state.status = {ObjectState::kError, std::string(status.message())};
      }
    }
    return state;
  }
  const bool settled = before && before->state.device == *device && before->interface.mode == interface.mode &&
                       before->state.status.state == ObjectState::kApplied;
  if (settled && !verify) return before->state;

  state.device = *device;
  absl::StatusOr<Attachment> attachment = dataplane_.Attach(interface.id, *device, Wanted(interface.mode));
  if (!attachment.ok()) {
    state.status = {ObjectState::kError, std::string(attachment.status().message())};
    return state;
  }
  state.mode = attachment->mode;
  state.warnings = std::move(attachment->warnings);
  state.status = attachment->refused.ok()
                     ? ObjectStatus{ObjectState::kApplied, ""}
                     : ObjectStatus{ObjectState::kError, std::string(attachment->refused.message())};
  repaired_ += attachment->repaired;
  return state;
}

void InterfaceBinder::Announce(const std::string& name, const InterfaceState& before,
                               const InterfaceState& after) {
  const auto facts = [](const InterfaceState& state) {
    return std::make_tuple(state.mode, state.device ? state.device->ifindex : 0, state.device && state.device->up,
                           state.device ? state.device->name : std::string());
  };
  const bool device_changed = facts(before) != facts(after);
  if (device_changed) {
    Event event{
        .type = EventType::kInterfaceChange, .kind = Kind::kInterface, .name = name, .status = after.status};
    if (!after.device) {
      event.message = before.device ? absl::StrCat("device ", before.device->name, " is gone") : "no device";
    } else {
      event.message = absl::StrCat("device ", after.device->name, " ifindex ", after.device->ifindex,
                                   after.device->up ? " up" : " down");
      if (after.mode) absl::StrAppend(&event.message, *after.mode == DriverMode::kNative ? " native" : " generic");
    }
    events_.Publish(event);
    Log(spdlog::level::info, "interface changed", {{"interface", name}, {"change", event.message}});
  }
  if (before.status != after.status) {
    events_.Publish(
        {.type = EventType::kObjectStatus, .kind = Kind::kInterface, .name = name, .status = after.status});
    if (after.status.state == ObjectState::kError) {
      Log(spdlog::level::err, "interface not attached", {{"interface", name}, {"reason", after.status.reason}});
    }
  }
}

// An interface that was deleted and made anew has another port.
const InterfaceBinder::Bound* InterfaceBinder::Before(const Interface& interface) const {
  const auto found = bound_.find(interface.name);
  return found != bound_.end() && found->second.interface.id == interface.id ? &found->second : nullptr;
}

// Whose each device is, by ifindex: two interfaces may name one by two of its names. Then it stays with the one
// that has it; else the first by name gets it.
std::map<uint32_t, std::string> InterfaceBinder::Owners(const State& state, const DeviceList& devices) const {
  std::map<uint32_t, std::pair<bool, std::string>> best;
  state.interfaces.ForEach([&](const std::shared_ptr<const Interface>& interface) {
    const Device* device = FindDevice(devices, interface->device);
    if (device == nullptr) return;
    const Bound* before = Before(*interface);
    const bool has_it = before && before->state.mode && before->state.device->ifindex == device->ifindex;
    const std::pair<bool, std::string> claim{!has_it, interface->name};
    const auto [found, added] = best.emplace(device->ifindex, claim);
    if (!added) found->second = std::min(found->second, claim);
  });
  std::map<uint32_t, std::string> owners;
  for (const auto& [ifindex, claim] : best) owners.emplace(ifindex, claim.second);
  return owners;
}

bool InterfaceBinder::Reconcile(const State& state, const DeviceList& devices, bool verify) {
  const std::map<uint32_t, std::string> owners = Owners(state, devices);
  std::map<std::string, Bound> next;
  std::set<uint32_t> ports;
  bool all = true;
  state.interfaces.ForEach([&](const std::shared_ptr<const Interface>& interface) {
    ports.insert(interface->id);
    const Bound* before = Before(*interface);
    const Device* device = FindDevice(devices, interface->device);
    const std::string owner = device ? owners.at(device->ifindex) : interface->name;
    Bound bound{*interface, Bind(*interface, owner == interface->name ? device : nullptr, before, verify)};
    if (owner != interface->name && bound.state.status.state == ObjectState::kPending) {
      bound.state.status = {ObjectState::kError,
                            absl::StrCat("device ", interface->device, " is that of interface ", owner,
                                         " already, by another of its names")};
    }
    Announce(interface->name, before ? before->state : InterfaceState{}, bound.state);
    all = all && bound.state.status.state != ObjectState::kError;
    next.emplace(interface->name, std::move(bound));
  });
  for (const auto& [port, ifindex] : dataplane_.Bound()) {
    if (ports.contains(port)) continue;
    if (const absl::Status status = dataplane_.Detach(port); !status.ok()) {
      Log(spdlog::level::err, "cannot detach", {{"port", port}, {"reason", status}});
      all = false;
    }
  }
  const std::lock_guard lock(mutex_);
  bound_ = std::move(next);
  return all;
}

std::map<std::string, InterfaceState> InterfaceBinder::States() const {
  const std::lock_guard lock(mutex_);
  std::map<std::string, InterfaceState> states;
  for (const auto& [name, bound] : bound_) states.emplace(name, bound.state);
  return states;
}

}  // namespace headgate
