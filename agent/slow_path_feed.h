// SPDX-License-Identifier: Apache-2.0
//
// Tells the slow path what the state in force wants of it: the steer targets that have handlers, the multicast
// that workers replicate, and the interfaces that packets may come in by.
#pragma once

#include <memory>

#include "agent/control/controller.h"
#include "agent/multicast_planner.h"
#include "agent/slowpath/slow_path.h"
#include "agent/state_follower.h"

namespace headgate {

SlowPathConfig SlowPathConfigOf(const State& state, const InterfaceStates& interfaces, const UnicastHops& hops);

class SlowPathFeed {
 public:
  // Follows the controller until it is destroyed.
  static absl::StatusOr<std::unique_ptr<SlowPathFeed>> Start(const Controller& controller, EventBus& events,
                                                             SlowPath& slow_path);
  // Of the unicast legs, at the moment. (any thread)
  UnicastHops hops() const { return resolver_->Resolved(); }

 private:
  SlowPathFeed(const Controller& controller, EventBus& events, SlowPath& slow_path)
      : controller_(controller), events_(events), slow_path_(slow_path) {}
  void Look();

  const Controller& controller_;
  EventBus& events_;
  SlowPath& slow_path_;
  std::unique_ptr<Resolver> resolver_;
  std::unique_ptr<StateFollower> follower_;
};

}  // namespace headgate
