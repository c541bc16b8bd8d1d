// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "agent/base/address.h"

namespace headgate {

// A network device as the kernel describes it now.
struct Device {
  uint32_t ifindex = 0;
  std::string name;
  std::vector<std::string> alternative_names;
  MacAddress mac{};
  uint32_t mtu = 0;
  bool up = false;  // administratively up and with a carrier
  friend bool operator==(const Device&, const Device&) = default;
};

}  // namespace headgate
