// SPDX-License-Identifier: Apache-2.0
//
// Keeps this host a member of the groups that the multicast routes in force take in: on each of their input
// interfaces, of the senders that they name. Groups that a route gives as a prefix are not joined: somebody else
// has to.
#pragma once

#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "agent/control/controller.h"
#include "agent/membership/memberships.h"
#include "agent/multicast_planner.h"
#include "agent/state_follower.h"

namespace headgate {

std::set<Membership> MembershipsOf(const State& state, const InterfaceStates& interfaces);

class MembershipFeed {
 public:
  // Follows the controller until it is destroyed.
  MembershipFeed(const Controller& controller, EventBus& events);

  // Those that the route needs. (any thread)
  std::vector<MembershipView> Of(const MulticastRoute& route) const;
  // What is not as wanted, for people. (any thread)
  std::vector<std::string> Troubles() const;

 private:
  void Look();

  const Controller& controller_;
  Memberships memberships_;   // of the follower's thread
  mutable std::mutex mutex_;  // guards failures_
  std::map<Membership, absl::Status> failures_;
  StateFollower follower_;
};

}  // namespace headgate
