// SPDX-License-Identifier: Apache-2.0
//
// Keeps this host a member of the groups that the multicast routes in force take in: on each of their input
// interfaces, of the senders that they name. For legs that are on_join, of what is asked for behind them, and
// while it is. Groups that a route gives as a prefix are not joined for its other legs: somebody else has to.
#pragma once

#include <chrono>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "agent/control/controller.h"
#include "agent/listener_feed.h"
#include "agent/membership/held_sockets.h"
#include "agent/membership/memberships.h"
#include "agent/multicast_planner.h"
#include "agent/state_follower.h"

namespace headgate {

std::set<Membership> MembershipsOf(const State& state, const InterfaceStates& interfaces,
                                   const ListenersByPort& listeners);

class MembershipFeed {
 public:
  // Follows the controller until it is destroyed.
  // `held`: what keeps the memberships of an earlier agent; let go of when this one has had time to join.
  MembershipFeed(const Controller& controller, EventBus& events, ListenerFeed& listeners, HeldSockets held);

  // Those that the route needs. (any thread)
  std::vector<MembershipView> Of(const MulticastRoute& route) const;
  // What is not as wanted, for people. (any thread)
  std::vector<std::string> Troubles() const;

 private:
  void Look();

  const Controller& controller_;
  const ListenerFeed& listeners_;
  Memberships memberships_;  // of the follower's thread
  HeldSockets held_;         // likewise
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  mutable std::mutex mutex_;  // guards failures_
  std::map<Membership, absl::Status> failures_;
  StateFollower follower_;
};

}  // namespace headgate
