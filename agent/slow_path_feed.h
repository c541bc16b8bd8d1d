// SPDX-License-Identifier: Apache-2.0
//
// Tells the slow path what the state in force wants of it: the steer targets that have handlers, and the
// interfaces that packets may come in by.
#pragma once

#include <memory>
#include <thread>

#include "agent/control/controller.h"
#include "agent/slowpath/slow_path.h"

namespace headgate {

SlowPathConfig SlowPathConfigOf(const State& state, const std::map<std::string, InterfaceState>& interfaces);

class SlowPathFeed {
 public:
  // Follows the controller until it is destroyed.
  SlowPathFeed(const Controller& controller, EventBus& events, SlowPath& slow_path);

 private:
  void Run(const std::stop_token& stop);

  const Controller& controller_;
  SlowPath& slow_path_;
  std::shared_ptr<EventBus::Watcher> watcher_;
  std::jthread thread_;
};

}  // namespace headgate
