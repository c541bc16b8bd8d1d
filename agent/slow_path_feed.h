// SPDX-License-Identifier: Apache-2.0
//
// Tells the slow path what the state in force wants of it: the steer targets that have handlers, and the
// interfaces that packets may come in by.
#pragma once

#include <map>
#include <string>

#include "agent/control/controller.h"
#include "agent/slowpath/slow_path.h"
#include "agent/state_follower.h"

namespace headgate {

SlowPathConfig SlowPathConfigOf(const State& state, const std::map<std::string, InterfaceState>& interfaces);

class SlowPathFeed {
 public:
  // Follows the controller until it is destroyed.
  SlowPathFeed(const Controller& controller, EventBus& events, SlowPath& slow_path);

 private:
  void Look() const;

  const Controller& controller_;
  SlowPath& slow_path_;
  const StateFollower follower_;
};

}  // namespace headgate
