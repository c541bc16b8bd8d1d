// SPDX-License-Identifier: Apache-2.0
#include "agent/slow_path_feed.h"

#include <algorithm>
#include <memory>
#include <set>
#include <utility>

#include "agent/base/log.h"
#include "agent/base/status.h"
#include "agent/control/compile_forward.h"
#include "agent/slowpath/device_queues.h"
#include "agent/slowpath/xdp_features.h"

namespace headgate {
namespace {

// Nothing tells when a device gets another number of queues (ethtool -L).
constexpr std::chrono::milliseconds kLookAgain{1000};
// How long it is gone without a copier that could not be made.
constexpr std::chrono::seconds kCopierRetry{30};
// How long one stays that no route needs any more.
constexpr std::chrono::seconds kCopierRest{5};

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

SlowPathConfig TargetsOf(const State& state) {
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
  return config;
}

}  // namespace

std::set<std::string> SlowPathFeed::AddMulticast(const State& state, const InterfaceStates& interfaces,
                                                 SlowPathConfig& config) {
  const UnicastHops hops = resolver_->Resolved();
  std::set<std::string> needed = InterfacesOfWorkers(state, interfaces, hops);
  MulticastPlan plan;
  if (!needed.empty()) plan = PlanOf(state, interfaces, hops, Copyable(needed, interfaces), listeners_.table());
  Place(plan);
  if (needed.empty()) return needed;
  // By queue, unless it is spread in software: then over all workers that other targets ask for.
  config.targets.push_back({.id = HG_TARGET_MULTICAST,
                            .handler = MulticastSetup{std::make_shared<const MulticastPlan>(std::move(plan))},
                            .workers = std::max(1U, WorkersOf(config))});
  if (copier_ != nullptr) {
    config.ports.push_back({HG_PORT_COPIER, copier_->ifindex(), std::min(Copier::kQueues, WorkersOf(config))});
  }
  return needed;
}

std::set<uint32_t> SlowPathFeed::Copyable(const std::set<std::string>& names,
                                          const InterfaceStates& interfaces) const {
  std::set<uint32_t> devices;
  for (const std::string& name : names) {
    const auto found = interfaces.find(name);
    if (found == interfaces.end() || !found->second.device || found->second.mode != DriverMode::kNative) continue;
    const uint32_t ifindex = found->second.device->ifindex;
    const XdpFeatures features = ReadXdpFeatures(ifindex);
    // Where sockets copy nothing, they send as fast, and the worker knows when the device has no room.
    if (features.takes_redirects && !features.zero_copy) devices.insert(ifindex);
  }
  return devices;
}

void SlowPathFeed::Place(MulticastPlan& plan) {
  const bool wanted = std::any_of(plan.routes.begin(), plan.routes.end(),
                                  [](const PlannedRoute& route) { return !route.bundles.empty(); });
  const Clock::time_point now = Clock::now();
  if (wanted) copier_wanted_ = now;
  // Somebody may remove its devices, or take them down.
  if (copier_ != nullptr && (!copier_->Works() || now - copier_wanted_ > kCopierRest)) copier_.reset();
  if (wanted && copier_ == nullptr && now >= no_copier_until_) {
    auto copier = Copier::Create(options_.copier, options_.copier_device);
    if (copier.ok()) {
      copier_ = *std::move(copier);
    } else {
      no_copier_until_ = now + kCopierRetry;
      Log(spdlog::level::warn, "workers make copies one by one that the kernel could make at once",
          {{"reason", copier.status()}});
    }
  }
  if (copier_ != nullptr) {
    copier_->Place(plan);
  } else {
    for (PlannedRoute& route : plan.routes) route.bundles.clear();
  }
}

absl::StatusOr<std::unique_ptr<SlowPathFeed>> SlowPathFeed::Start(const Controller& controller, EventBus& events,
                                                                  SlowPath& slow_path, ListenerFeed& listeners,
                                                                  Options options) {
  std::unique_ptr<SlowPathFeed> feed(
      new SlowPathFeed(controller, events, slow_path, listeners, std::move(options)));
  auto follower = std::make_unique<StateFollower>(events, kLookAgain, [raw = feed.get()] { raw->Look(); });
  HG_ASSIGN_OR_RETURN(feed->resolver_, Resolver::Start(follower->waker()));
  feed->follower_ = std::move(follower);
  listeners.OnChange(feed->follower_->waker());
  feed->follower_->Start();
  return feed;
}

void SlowPathFeed::Look() {
  const Snapshot applied = controller_.applied();
  if (!applied) return;
  const InterfaceStates interfaces = controller_.interfaces();
  resolver_->Want(DestinationsOf(*applied, interfaces));
  SlowPathConfig config = TargetsOf(*applied);
  // Steered packets come in by any interface.
  const bool all = !config.targets.empty();
  const std::set<std::string> multicast = AddMulticast(*applied, interfaces, config);
  std::sort(config.targets.begin(), config.targets.end(),
            [](const auto& a, const auto& b) { return a.id < b.id; });
  for (const auto& [name, interface] : interfaces) {
    const Interface* configured = applied->interfaces.Get(name);
    if (configured == nullptr || !interface.device || !interface.mode) continue;
    if (!all && !multicast.contains(name)) continue;
    config.ports.push_back({configured->id, interface.device->ifindex, ReceiveQueues(interface.device->name)});
  }
  slow_path_.Want(std::move(config));
}

}  // namespace headgate
