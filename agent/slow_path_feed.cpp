// SPDX-License-Identifier: Apache-2.0
#include "agent/slow_path_feed.h"

#include <algorithm>
#include <memory>
#include <set>
#include <utility>

#include "agent/base/status.h"
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

// Adds the handler that replicates multicast, if that is for workers. Which interfaces those need for it.
std::set<std::string> AddMulticast(const State& state, const InterfaceStates& interfaces, const UnicastHops& hops,
                                   SlowPathConfig& config) {
  std::set<std::string> needed = InterfacesOfWorkers(state, interfaces, hops);
  if (needed.empty()) return needed;
  // By queue, unless it is spread in software: then over all workers that other targets ask for.
  config.targets.push_back(
      {.id = HG_TARGET_MULTICAST,
       .handler = MulticastSetup{std::make_shared<const MulticastPlan>(PlanOf(state, interfaces, hops))},
       .workers = std::max(1U, WorkersOf(config))});
  return needed;
}

}  // namespace

SlowPathConfig SlowPathConfigOf(const State& state, const InterfaceStates& interfaces, const UnicastHops& hops) {
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
  // Steered packets come in by any interface.
  const bool all = !config.targets.empty();
  const std::set<std::string> multicast = AddMulticast(state, interfaces, hops, config);
  std::sort(config.targets.begin(), config.targets.end(),
            [](const auto& a, const auto& b) { return a.id < b.id; });
  for (const auto& [name, interface] : interfaces) {
    const Interface* configured = state.interfaces.Get(name);
    if (configured == nullptr || !interface.device || !interface.mode) continue;
    if (!all && !multicast.contains(name)) continue;
    config.ports.push_back({configured->id, interface.device->ifindex, ReceiveQueues(interface.device->name)});
  }
  return config;
}

absl::StatusOr<std::unique_ptr<SlowPathFeed>> SlowPathFeed::Start(const Controller& controller, EventBus& events,
                                                                  SlowPath& slow_path) {
  std::unique_ptr<SlowPathFeed> feed(new SlowPathFeed(controller, events, slow_path));
  auto follower = std::make_unique<StateFollower>(events, kLookAgain, [raw = feed.get()] { raw->Look(); });
  HG_ASSIGN_OR_RETURN(feed->resolver_, Resolver::Start(follower->waker()));
  feed->follower_ = std::move(follower);
  feed->follower_->Start();
  return feed;
}

void SlowPathFeed::Look() {
  const Snapshot applied = controller_.applied();
  if (!applied) return;
  const InterfaceStates interfaces = controller_.interfaces();
  resolver_->Want(DestinationsOf(*applied, interfaces));
  slow_path_.Want(SlowPathConfigOf(*applied, interfaces, resolver_->Resolved()));
}

}  // namespace headgate
