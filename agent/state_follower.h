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
  StateFollower(EventBus& events, std::chrono::milliseconds interval, std::function<void()> look);

  // Looks from now on, until it is destroyed.
  void Start();
  // To be called when something else has changed, from any thread; outlives the follower.
  std::function<void()> waker() const {
    return [watcher = watcher_] { watcher->Wake(); };
  }

 private:
  void Run(const std::stop_token& stop);

  const std::chrono::milliseconds interval_;
  const std::function<void()> look_;
  const std::shared_ptr<EventBus::Watcher> watcher_;
  std::jthread thread_;
};

}  // namespace headgate
