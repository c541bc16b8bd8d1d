// SPDX-License-Identifier: Apache-2.0
//
// What the kernel counts in a network namespace (proc(5), net/).
#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <string>

namespace headgate::bench {

// UDP's datagrams. It counts one when an application takes it.
struct UdpCounts {
  uint64_t taken = 0;    // by applications
  uint64_t dropped = 0;  // no room in the receive buffer, or no socket
};
absl::StatusOr<UdpCounts> ReadUdpCounts(const std::string& netns);

// What a device was given to send and dropped.
absl::StatusOr<uint64_t> ReadTransmitDrops(const std::string& netns, const std::string& device);

// Packets that took a route of the kernel's multicast routing, and by how many interfaces they leave.
struct MulticastRouteCounts {
  uint64_t packets = 0;
  uint64_t outputs = 0;
};
// Of the IPv4 group, "239.1.1.1". NOT_FOUND: there is no such route.
absl::StatusOr<MulticastRouteCounts> ReadMulticastRoute(const std::string& netns, const std::string& group);

}  // namespace headgate::bench
