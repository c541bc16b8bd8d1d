// SPDX-License-Identifier: Apache-2.0
#include "agent/slow_path_feed.h"

#include <algorithm>

#include "agent/control/compile_forward.h"
#include "agent/slowpath/device_queues.h"

namespace headgate {
namespace {

// Nothing tells when a device gets another number of queues (ethtool -L).
constexpr std::chrono::milliseconds kLookAgain{1000};

SpreadMode ModeOf(const SteerTarget& target) {
  // A device has one reader.
  if (std::holds_alternative<TapHandlerSpec>(target.handler)) return SpreadMode::kHome;
  switch (target.spread) {
    case Spread::kAuto:
      return SpreadMode::kAuto;
    case Spread::kQueue:
      return SpreadMode::kQueue;
    case Spread::kFlow:
      return SpreadMode::kFlow;
    case Spread::kFlowSymmetric:
      return SpreadMode::kFlowSymmetric;
    case Spread::kSource:
      return SpreadMode::kSource;
    case Spread::kRoundRobin:
      return SpreadMode::kRoundRobin;
  }
  return SpreadMode::kAuto;
}

struct SetupOf {
  const State& state;
  const SteerTarget& target;
  std::optional<HandlerSetup> operator()(std::monostate) const { return std::nullopt; }
  std::optional<HandlerSetup> operator()(const CountHandlerSpec&) const { return CountSetup{}; }
  std::optional<HandlerSetup> operator()(const EchoHandlerSpec&) const { return EchoSetup{}; }
  std::optional<HandlerSetup> operator()(const TapHandlerSpec& tap) const {
    const Interface* interface = tap.interface.empty() ? nullptr : state.interfaces.Get(tap.interface);
    return TapSetup{.device = tap.device, .tun = tap.tun, .port = interface == nullptr ? 0 : interface->id};
  }
  std::optional<HandlerSetup> operator()(const AppHandlerSpec& app) const {
    return AppSetup{.target = target.name, .group = app.group};
  }
};

}  // namespace

SlowPathConfig SlowPathConfigOf(const State& state, const std::map<std::string, InterfaceState>& interfaces) {
  SlowPathConfig config;
  state.steer_targets.ForEach([&](const std::shared_ptr<const SteerTarget>& target) {
    std::optional<HandlerSetup> setup = std::visit(SetupOf{state, *target}, target->handler);
    if (!setup) return;
    config.targets.push_back({.id = target->id,
                              .handler = std::move(*setup),
                              .mode = ModeOf(*target),
                              .workers = target->workers,
                              .shed_at = CompileTarget(*target).shed_at});
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
    : controller_(controller), slow_path_(slow_path), follower_(events, kLookAgain, [this] { Look(); }) {}

void SlowPathFeed::Look() const {
  if (const Snapshot applied = controller_.applied()) {
    slow_path_.Want(SlowPathConfigOf(*applied, controller_.interfaces()));
  }
}

}  // namespace headgate
