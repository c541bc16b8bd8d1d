// SPDX-License-Identifier: Apache-2.0
//
// What Get must answer after a change was accepted, worked out from the API's documentation alone: a second, plain
// implementation of how changes combine and how values are written.
#pragma once

#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "headgate/v1/gateway.pb.h"

namespace headgate::testing {

namespace pb = ::headgate::v1;

class ApiModel {
 public:
  // Family, address and length: the order in which Get lists them.
  using Prefix = std::tuple<int, std::string, int>;

  void Apply(const pb::ApplyRequest& request);
  // One line an object: kind, name and content, without ids and status.
  std::string Text() const;
  static std::string TextOf(const std::vector<pb::Object>& objects);

 private:
  void Upsert(const pb::GatewayConfig& config);

  std::map<std::string, std::string> interfaces_, next_hops_, steer_targets_, multicast_routes_,
      rules_;  // as Get writes them
  std::map<std::string, std::set<Prefix>> prefix_sets_;
  pb::DefaultAction default_action_ = pb::DEFAULT_ACTION_PASS;
  pb::Management management_;
};

}  // namespace headgate::testing
