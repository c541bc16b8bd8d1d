// SPDX-License-Identifier: Apache-2.0
#include "agent/multicast_planner.h"

#include <absl/strings/str_cat.h>
#include <arpa/inet.h>

#include <algorithm>

#include "agent/control/compile_multicast.h"

namespace headgate {

std::string InterfaceOf(uint32_t ifindex, const InterfaceStates& interfaces) {
  for (const auto& [name, interface] : interfaces) {
    if (interface.device && interface.device->ifindex == ifindex) return name;
  }
  return "";
}

namespace {

const Device* DeviceOf(const std::string& interface, const InterfaceStates& interfaces) {
  const auto found = interfaces.find(interface);
  // One that is not attached has no port yet.
  return found == interfaces.end() || !found->second.mode || !found->second.device ? nullptr
                                                                                   : &*found->second.device;
}

// How a leg's copies leave.
struct Egress {
  std::string interface;
  const Device* device = nullptr;
  std::optional<MacAddress> mac;  // of a unicast next hop
  LegTrouble trouble = LegTrouble::kNone;
  std::string reason;  // of the trouble
};

Egress Broken(LegTrouble trouble, std::string reason) {
  Egress egress;
  egress.trouble = trouble;
  egress.reason = std::move(reason);
  return egress;
}

std::optional<Destination> DestinationOf(const MulticastLeg& leg, const InterfaceStates& interfaces) {
  if (!leg.unicast || leg.mac) return std::nullopt;
  if (leg.interface.empty()) return Destination{*leg.unicast, 0};
  const Device* device = DeviceOf(leg.interface, interfaces);
  if (device == nullptr) return std::nullopt;
  return Destination{*leg.unicast, device->ifindex};
}

// Its interface and next hop, as the kernel routes.
Egress Route(const MulticastLeg& leg, const InterfaceStates& interfaces, const UnicastHops& hops) {
  Egress egress{.interface = leg.interface, .mac = leg.mac};
  const std::optional<Destination> to = DestinationOf(leg, interfaces);
  if (!to) return egress;
  const auto hop = hops.find(*to);
  if (hop == hops.end()) return Broken(LegTrouble::kNoNeighbour, "its next hop is being resolved");
  if (!hop->second.ok()) return Broken(LegTrouble::kNoNeighbour, std::string(hop->second.status().message()));
  egress.mac = hop->second->mac;
  if (!egress.interface.empty()) return egress;
  egress.interface = InterfaceOf(hop->second->ifindex, interfaces);
  if (!egress.interface.empty()) return egress;
  return Broken(LegTrouble::kNoDevice, absl::StrCat(ToString(*leg.unicast), " leaves by the device of ifindex ",
                                                    hop->second->ifindex, ", which is no interface here"));
}

Egress EgressOf(const MulticastLeg& leg, const InterfaceStates& interfaces, const UnicastHops& hops) {
  Egress egress = Route(leg, interfaces, hops);
  if (egress.trouble != LegTrouble::kNone) return egress;
  egress.device = DeviceOf(egress.interface, interfaces);
  if (egress.device == nullptr) {
    egress.trouble = LegTrouble::kNoDevice;
    egress.reason = absl::StrCat("interface \"", egress.interface, "\" has no device");
  }
  return egress;
}

// Where the leg asks for the egress device's address; nothing: it has none.
std::optional<IpAddress> EgressSource(const Device& device, Family family) {
  return family == Family::kIpv4 ? device.address4 : device.address6;
}

PlannedLeg PlanLeg(const MulticastRoute& route, const MulticastLeg& leg, const State& state,
                   const InterfaceStates& interfaces, const UnicastHops& hops) {
  const Egress egress = EgressOf(leg, interfaces, hops);
  PlannedLeg planned{.id = LegId(route, leg, state), .trouble = egress.trouble};
  if (egress.trouble != LegTrouble::kNone) return planned;
  MulticastLeg resolved = leg;
  resolved.mac = egress.mac;
  if (std::holds_alternative<EgressAddress>(leg.source)) {
    const std::optional<IpAddress> source = EgressSource(*egress.device, route.input.group.address.family);
    if (!source) {
      planned.trouble = LegTrouble::kNoSource;
    } else {
      resolved.source = *source;
    }
  }
  const Interface* interface = state.interfaces.Get(egress.interface);
  if (interface == nullptr) {
    planned.trouble = LegTrouble::kNoDevice;
    return planned;
  }
  planned.leg = CompileLeg(resolved, interface->id);
  std::copy(egress.device->mac.begin(), egress.device->mac.end(), planned.source_mac);
  planned.mtu = egress.device->mtu;
  planned.ifindex = egress.device->ifindex;
  return planned;
}

// Fewer cost more by the copier than one by one.
constexpr uint32_t kSmallestBundle = 3;

void Bundle(const std::set<uint32_t>& copyable, PlannedRoute& route) {
  const auto device = [&copyable](const PlannedLeg& leg) {
    return leg.trouble == LegTrouble::kNone && copyable.contains(leg.ifindex) ? leg.ifindex : 0;
  };
  std::stable_sort(route.legs.begin(), route.legs.end(),
                   [&device](const PlannedLeg& a, const PlannedLeg& b) { return device(a) < device(b); });
  for (uint32_t first = 0, end = 0; first < route.legs.size(); first = end) {
    end = first + 1;
    while (end < route.legs.size() && end - first < HG_BUNDLE_LEGS &&
           device(route.legs[end]) == device(route.legs[first])) {
      ++end;
    }
    if (device(route.legs[first]) == 0 || end - first < kSmallestBundle) continue;
    route.bundles.push_back({.first = first, .count = end - first, .ifindex = route.legs[first].ifindex});
  }
}

}  // namespace

std::set<Destination> DestinationsOf(const State& state, const InterfaceStates& interfaces) {
  std::set<Destination> wanted;
  state.multicast_routes.ForEach([&](const std::shared_ptr<const MulticastRoute>& route) {
    for (const MulticastLeg& leg : route->legs) {
      if (const std::optional<Destination> to = DestinationOf(leg, interfaces)) wanted.insert(*to);
    }
  });
  return wanted;
}

MulticastPlan PlanOf(const State& state, const InterfaceStates& interfaces, const UnicastHops& hops,
                     const std::set<uint32_t>& copyable, std::shared_ptr<const ListenerTable> listeners) {
  MulticastPlan plan;
  plan.listeners = std::move(listeners);
  state.multicast_routes.ForEach([&](const std::shared_ptr<const MulticastRoute>& route) {
    if (plan.routes.size() <= route->id) plan.routes.resize(route->id + 1);
    PlannedRoute& planned = plan.routes[route->id];
    planned.protocol = route->input.protocol;
    for (const MulticastLeg& leg : route->legs) {
      planned.legs.push_back(PlanLeg(*route, leg, state, interfaces, hops));
    }
    Bundle(copyable, planned);
  });
  return plan;
}

std::set<std::string> InterfacesOfWorkers(const State& state, const InterfaceStates& interfaces,
                                          const UnicastHops& hops) {
  std::set<std::string> names;
  state.multicast_routes.ForEach([&](const std::shared_ptr<const MulticastRoute>& route) {
    if (!PathOf(*route, interfaces).workers) return;
    names.insert(route->input.interfaces.begin(), route->input.interfaces.end());
    for (const MulticastLeg& leg : route->legs) {
      const Egress egress = EgressOf(leg, interfaces, hops);
      if (!egress.interface.empty()) names.insert(egress.interface);
    }
  });
  return names;
}

std::vector<LegView> LegViews(const MulticastRoute& route, const InterfaceStates& interfaces,
                              const UnicastHops& hops) {
  std::vector<LegView> views;
  for (const MulticastLeg& leg : route.legs) {
    Egress egress = EgressOf(leg, interfaces, hops);
    if (egress.device != nullptr && std::holds_alternative<EgressAddress>(leg.source) &&
        !EgressSource(*egress.device, route.input.group.address.family)) {
      egress.reason = absl::StrCat("interface \"", egress.interface, "\" has no address to send from");
    } else if (egress.device != nullptr && !egress.device->up) {
      egress.reason = absl::StrCat("interface \"", egress.interface, "\" is down");
    }
    views.push_back({leg.name, egress.interface, egress.mac, std::move(egress.reason)});
  }
  return views;
}

}  // namespace headgate
