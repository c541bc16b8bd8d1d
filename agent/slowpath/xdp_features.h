// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace headgate {

// What a device's driver says that it can do (netdev netlink family, kernel 6.3).
struct XdpFeatures {
  bool takes_redirects = false;  // frames that XDP programs send there (NETDEV_XDP_ACT_NDO_XMIT)
  bool zero_copy = false;        // AF_XDP sockets without copying (NETDEV_XDP_ACT_XSK_ZEROCOPY)
  friend bool operator==(const XdpFeatures&, const XdpFeatures&) = default;
};

// Neither, when the kernel cannot say.
XdpFeatures ReadXdpFeatures(uint32_t ifindex);

}  // namespace headgate
