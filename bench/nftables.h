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
  // Rules are of IPv4, by addresses, protocol and ports. UNAVAILABLE when there is no nft.
  static absl::StatusOr<std::unique_ptr<Nftables>> Start(const std::string& netns, const std::string& device,
                                                         const std::vector<Rule>& rules);
  // Takes the rules away.
  ~Nftables();
  Nftables(const Nftables&) = delete;
  Nftables& operator=(const Nftables&) = delete;

  absl::StatusOr<uint64_t> Dropped() const;

 private:
  explicit Nftables(std::string netns) : netns_(std::move(netns)) {}
  std::string netns_;
};

}  // namespace headgate::bench
