// SPDX-License-Identifier: Apache-2.0
#include "agent/state_follower.h"

#include <utility>

namespace headgate {

StateFollower::StateFollower(EventBus& events, std::chrono::milliseconds interval, std::function<void()> look)
    : interval_(interval),
      look_(std::move(look)),
      watcher_(events.Watch({EventType::kGenerationApplied, EventType::kInterfaceChange})) {}

void StateFollower::Start() {
  thread_ = std::jthread([this](const std::stop_token& stop) { Run(stop); });
}

void StateFollower::Run(const std::stop_token& stop) {
  while (!stop.stop_requested() && !watcher_->closed()) {
    look_();
    // However many have come: one look serves them all.
    if (watcher_->Next(interval_)) {
      while (watcher_->Next(std::chrono::milliseconds(0))) {
      }
    }
  }
}

}  // namespace headgate
