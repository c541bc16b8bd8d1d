// SPDX-License-Identifier: Apache-2.0
//
// What rtnetlink(7) says of devices, routes and neighbours, as values: as much of it as next hops depend on.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>

#include "agent/base/address.h"

struct nlmsghdr;

namespace headgate {

// A host on a device's link.
struct Neighbour {
  uint32_t ifindex = 0;
  IpAddress address;
  friend auto operator<=>(const Neighbour&, const Neighbour&) = default;
};

struct NeighbourMessage {
  Neighbour neighbour;
  uint16_t state = 0;             // NUD_*
  bool others = false;            // a routing daemon's, or of those the kernel itself keeps resolved
  std::optional<MacAddress> mac;  // none while it is not in force
};

struct RouteMessage {
  uint8_t type = 0;  // RTN_*
  Prefix destination;
  uint32_t ifindex = 0;
  std::optional<IpAddress> gateway;  // of either family
  bool encapsulates = false;
};

struct LinkMessage {
  std::string name;
  bool ethernet = false;
  bool resolves = false;  // neighbours, by ARP and neighbour discovery
  bool up = false;        // administratively up and with a carrier
};

// Nothing: of another family, as a bridge's forwarding entries are.
std::optional<NeighbourMessage> ReadNeighbour(const nlmsghdr* message);
std::optional<RouteMessage> ReadRoute(const nlmsghdr* message);
LinkMessage ReadLink(const nlmsghdr* message);

uint8_t AddressFamily(Family family);  // AF_*
void PutAddress(nlmsghdr* message, uint16_t attribute, const IpAddress& address);

}  // namespace headgate
