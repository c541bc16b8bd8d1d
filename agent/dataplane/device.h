// SPDX-License-Identifier: Apache-2.0
//
// A network device, as the layers above the kernel see it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/address.h"

namespace headgate {

struct Device {
  uint32_t ifindex = 0;
  std::string name;
  std::vector<std::string> alternative_names;
  MacAddress mac{};
  uint32_t mtu = 0;
  bool up = false;  // administratively up and with a carrier
  // The first of each family, the IPv6 one a link-local address only where there is no other.
  std::optional<IpAddress> address4, address6;
  friend bool operator==(const Device&, const Device&) = default;
};

// All devices there are, ordered by ifindex.
using DeviceList = std::vector<Device>;

}  // namespace headgate
