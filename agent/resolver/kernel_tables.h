// SPDX-License-Identifier: Apache-2.0
//
// The kernel's routes, neighbours and devices, asked one at a time, and what it can be told to do about a
// neighbour.
//
// Threads: one at a time.
#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "agent/resolver/messages.h"

struct mnl_socket;

namespace headgate {

class KernelTables {
 public:
  // Of the calling thread's network namespace.
  static absl::StatusOr<KernelTables> Open();

  // The route that packets of this host to `destination` take; `ifindex` not 0: if they are to leave by that
  // device.
  absl::StatusOr<RouteMessage> Route(const IpAddress& destination, uint32_t ifindex);
  // Nothing: it has no entry.
  absl::StatusOr<std::optional<NeighbourMessage>> Entry(const Neighbour& neighbour);
  absl::StatusOr<LinkMessage> Link(uint32_t ifindex);

  // Has it asked for its MAC address, as a packet to it would; makes its entry where it has none. Not to be used
  // on an entry that is in force: one that is permanent would be so no more.
  absl::Status Resolve(const Neighbour& neighbour);
  // Has it asked whether its MAC address is still so, which is in force meanwhile.
  absl::Status Verify(const Neighbour& neighbour);

 private:
  using Socket = std::unique_ptr<mnl_socket, int (*)(mnl_socket*)>;
  explicit KernelTables(Socket socket);

  nlmsghdr* Request(uint16_t type, uint16_t flags);
  // Sends what Request() began. 0, and the answer if it has one, or errno.
  int Ask(int (*read)(const nlmsghdr*, void*), void* answer);
  int SetNeighbour(const Neighbour& neighbour, uint16_t request_flags, uint16_t state, uint8_t flags);

  Socket socket_;
  std::vector<char> request_, answer_;
  uint32_t sequence_ = 0;
};

}  // namespace headgate
