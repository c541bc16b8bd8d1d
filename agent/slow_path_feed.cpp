// SPDX-License-Identifier: Apache-2.0
#include "agent/slow_path_feed.h"

#include <algorithm>

#include "agent/slowpath/device_queues.h"

namespace headgate {
namespace {

// Nothing tells when a device gets another number of queues (ethtool -L).
constexpr std::chrono::milliseconds kLookAgain{1000};

}  // namespace

SlowPathConfig SlowPathConfigOf(const State& state, const std::map<std::string, InterfaceState>& interfaces) {
  SlowPathConfig config;
  state.steer_targets.ForEach([&config](const std::shared_ptr<const SteerTarget>& target) {
    if (target->handler == SteerHandler::kNone) return;
    config.targets.push_back(
        {target->id, target->handler == SteerHandler::kEcho ? HandlerKind::kEcho : HandlerKind::kCount});
    config.workers = std::max(config.workers, target->workers);
  });
  if (config.targets.empty()) return config;
  std::sort(config.targets.begin(), config.targets.end(),
            [](const auto& a, const auto& b) { return a.id < b.id; });
  for (const auto& [name, interface] : interfaces) {
    const Interface* configured = state.interfaces.Get(name);
    if (configured == nullptr || !interface.device || !interface.mode) continue;
    config.ports.push_back({configured->id, interface.device->ifindex, ReceiveQueues(interface.device->name)});
  }
  return config;
}

SlowPathFeed::SlowPathFeed(const Controller& controller, EventBus& events, SlowPath& slow_path)
    : controller_(controller),
      slow_path_(slow_path),
      watcher_(events.Watch({EventType::kGenerationApplied, EventType::kInterfaceChange})),
      thread_([this](const std::stop_token& stop) { Run(stop); }) {}

void SlowPathFeed::Run(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    if (const Snapshot applied = controller_.applied()) {
      slow_path_.Want(SlowPathConfigOf(*applied, controller_.interfaces()));
    }
    // However many have come: one look serves them all.
    if (watcher_->Next(kLookAgain)) {
      while (watcher_->Next(std::chrono::milliseconds(0))) {
      }
    }
  }
}

}  // namespace headgate
