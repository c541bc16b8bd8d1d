// SPDX-License-Identifier: Apache-2.0
//
// nftables over the same rules: one chain on a device's ingress hook. The peer of the filter benchmark's packet
// rates.
#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "agent/control/model.h"

namespace headgate::bench {

class Nftables {
 public:
  // Drops and counts all that comes in by the device, after the first of the rules that matches or after all.
  // Rules are of IPv4, by addresses, protocol and ports.
  static absl::StatusOr<std::unique_ptr<Nftables>> Start(const std::string& netns, const std::string& device,
                                                         const std::vector<Rule>& rules);
  // Takes the rules away.
  ~Nftables();
  Nftables(const Nftables&) = delete;
  Nftables& operator=(const Nftables&) = delete;

  // UNAVAILABLE when there is no nft.
  static absl::Status CheckInstalled();

  // Packets that a rule dropped, and those that none matched.
  struct Counts {
    uint64_t matched = 0, unmatched = 0;
  };
  absl::StatusOr<Counts> Read() const;

 private:
  explicit Nftables(std::string netns) : netns_(std::move(netns)) {}
  std::string netns_;
};

}  // namespace headgate::bench
