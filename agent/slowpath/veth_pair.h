// SPDX-License-Identifier: Apache-2.0
//
// Two devices of the agent's own, each of which receives what is sent to the other (veth(4)). They carry frames
// alone: no addresses, no ARP.
#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <string>
#include <utility>

namespace headgate {

class VethPair {
 public:
  // `names`: of the two; devices of these names that an earlier agent left are removed. `queues`: of each, both
  // ways. Needs CAP_NET_ADMIN.
  static absl::StatusOr<VethPair> Create(const std::pair<std::string, std::string>& names, uint32_t queues,
                                         uint32_t mtu);
  // Devices of these names, if there are any, and their peers.
  static void Remove(const std::pair<std::string, std::string>& names);
  VethPair(VethPair&& other) noexcept : ifindexes_(std::exchange(other.ifindexes_, {})), mtu_(other.mtu_) {}
  VethPair& operator=(VethPair&&) = delete;
  // Removes them.
  ~VethPair();

  // Both exist, are up, and have the MTU that they were given.
  bool IsUp() const;
  uint32_t first() const { return ifindexes_.first; }  // ifindex
  uint32_t second() const { return ifindexes_.second; }

 private:
  VethPair(const std::pair<uint32_t, uint32_t>& ifindexes, uint32_t mtu) : ifindexes_(ifindexes), mtu_(mtu) {}

  std::pair<uint32_t, uint32_t> ifindexes_;  // 0: moved away
  uint32_t mtu_;
};

}  // namespace headgate
