// SPDX-License-Identifier: Apache-2.0
//
// For what follows the state in force and the devices: a look at them, on a thread of its own, whenever they have
// changed, and every so often besides.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <thread>

#include "agent/control/events.h"

namespace headgate {

class StateFollower {
 public:
  // Looks at once, and until it is destroyed.
  StateFollower(EventBus& events, std::chrono::milliseconds interval, std::function<void()> look);

 private:
  void Run(const std::stop_token& stop);

  const std::chrono::milliseconds interval_;
  const std::function<void()> look_;
  const std::shared_ptr<EventBus::Watcher> watcher_;
  std::jthread thread_;
};

}  // namespace headgate
