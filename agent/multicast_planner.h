// SPDX-License-Identifier: Apache-2.0
//
// What workers are to do for multicast routes, and what is shown of it: the routes in force, with what devices and
// the kernel's routes and neighbours say of their legs at the moment.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "agent/control/multicast_path.h"
#include "agent/control/state.h"
#include "agent/resolver/resolver.h"
#include "agent/slowpath/multicast_plan.h"

namespace headgate {

using InterfaceStates = std::map<std::string, InterfaceState>;

using UnicastHops = std::map<Destination, Resolver::Answer>;

// Its name here; empty: the device is none's.
std::string InterfaceOf(uint32_t ifindex, const InterfaceStates& interfaces);

// Of all unicast legs that have no MAC address of their own.
std::set<Destination> DestinationsOf(const State& state, const InterfaceStates& interfaces);

// `copyable`: the ifindexes of devices to which the kernel can make several copies at once. `listeners`: what it
// goes by of legs that are on_join.
MulticastPlan PlanOf(const State& state, const InterfaceStates& interfaces, const UnicastHops& hops,
                     const std::set<uint32_t>& copyable, std::shared_ptr<const ListenerTable> listeners);

// Ports that workers have to read or send by for multicast; empty: the kernel does it all.
std::set<std::string> InterfacesOfWorkers(const State& state, const InterfaceStates& interfaces,
                                          const UnicastHops& hops);

std::vector<LegView> LegViews(const MulticastRoute& route, const InterfaceStates& interfaces,
                              const UnicastHops& hops);

}  // namespace headgate
