// SPDX-License-Identifier: Apache-2.0
//
// What comes of those who listen: where they are to be heard, what the data path is to know of them, and what is
// to be joined upstream on their behalf (RFC 4605).
#pragma once

#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "agent/control/multicast_path.h"
#include "agent/control/state.h"
#include "agent/listeners/proxy.h"

namespace headgate {

// The egress interfaces of legs that are on_join; those without a device, too.
std::vector<ListenedInterface> ListenedInterfacesOf(const State& state,
                                                    const std::map<std::string, InterfaceState>& interfaces);

// Of what is asked for, that which such legs may send.
ListenerEntries EntriesOf(const State& state, const ListenersByPort& listeners);

// A group that a route takes in, and the one sender that is asked for; nothing: all.
using Upstream = std::pair<IpAddress, std::optional<IpAddress>>;
std::set<Upstream> UpstreamOf(const MulticastRoute& route, const State& state, const ListenersByPort& listeners);

std::vector<ListenerView> ListenerViews(const MulticastRoute& route, const State& state,
                                        const ListenersByPort& listeners);

// As a host's reports have said it that are to be told again.
struct SeedGroup {
  uint32_t port = 0;
  IpAddress group;
  bool exclude = false;
  std::vector<IpAddress> sources;
  friend bool operator==(const SeedGroup&, const SeedGroup&) = default;
};
std::vector<SeedGroup> SeedsOf(const ListenerEntries& entries);

}  // namespace headgate
