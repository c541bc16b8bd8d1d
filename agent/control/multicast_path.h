// SPDX-License-Identifier: Apache-2.0
//
// How multicast routes are replicated at the moment, as the devices are, and what is shown of it.
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "agent/control/interfaces.h"
#include "agent/control/model.h"

namespace headgate {

struct MulticastPath {
  bool userspace = false;  // of most packets
  bool workers = false;    // of some packets at least: workers have to be there
  std::string reason;      // why workers, or for which packets; empty: the kernel makes all copies
};

MulticastPath PathOf(const MulticastRoute& route, const std::map<std::string, InterfaceState>& interfaces);

struct MembershipView {
  std::string interface;
  IpAddress group;
  std::optional<IpAddress> source;
  std::string trouble;  // empty: joined
};

struct LegView {
  std::string name;
  std::string interface;          // by which it leaves; empty: none
  std::optional<MacAddress> mac;  // of a unicast next hop
  std::string trouble;            // why copies do not leave; empty: they do
};

// What hosts behind an interface ask for.
struct ListenerView {
  std::string interface;
  IpAddress group;
  bool exclude = false;  // all but `sources`, or these alone
  std::vector<IpAddress> sources;
  std::chrono::milliseconds expires_in{0};
  std::optional<IpAddress> querier;
};

struct MulticastView {
  MulticastPath path;
  std::vector<MembershipView> memberships;
  std::vector<LegView> legs;
  std::vector<ListenerView> listeners;
};

}  // namespace headgate
