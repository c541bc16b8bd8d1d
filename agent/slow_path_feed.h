// SPDX-License-Identifier: Apache-2.0
//
// Tells the slow path what the state in force wants of it: the steer targets that have handlers, the multicast
// that workers replicate, and the interfaces that packets may come in by.
#pragma once

#include <chrono>
#include <memory>
#include <set>
#include <string>

#include "agent/control/controller.h"
#include "agent/listener_feed.h"
#include "agent/multicast_planner.h"
#include "agent/slowpath/copier.h"
#include "agent/slowpath/slow_path.h"
#include "agent/state_follower.h"

namespace headgate {

class SlowPathFeed {
 public:
  struct Options {
    Copier::DataPath copier;
    std::string copier_device;  // as Copier::Create's
  };
  // Follows the controller until it is destroyed.
  static absl::StatusOr<std::unique_ptr<SlowPathFeed>> Start(const Controller& controller, EventBus& events,
                                                             SlowPath& slow_path, ListenerFeed& listeners,
                                                             Options options);
  // Of the unicast legs, at the moment. (any thread)
  UnicastHops hops() const { return resolver_->Resolved(); }

 private:
  using Clock = std::chrono::steady_clock;

  SlowPathFeed(const Controller& controller, EventBus& events, SlowPath& slow_path, const ListenerFeed& listeners,
               Options options)
      : controller_(controller),
        events_(events),
        slow_path_(slow_path),
        listeners_(listeners),
        options_(std::move(options)) {}
  void Look();
  // Adds the handler that replicates multicast, if that is for workers. Which interfaces those need for it.
  std::set<std::string> AddMulticast(const State& state, const InterfaceStates& interfaces,
                                     SlowPathConfig& config);
  // Devices of interfaces that the kernel can make copies to faster than workers.
  std::set<uint32_t> Copyable(const std::set<std::string>& names, const InterfaceStates& interfaces) const;
  // Has the plan's bundles in the data path, or takes them out of the plan.
  void Place(MulticastPlan& plan);

  const Controller& controller_;
  EventBus& events_;
  SlowPath& slow_path_;
  const ListenerFeed& listeners_;
  const Options options_;
  std::unique_ptr<Copier> copier_;  // null: not needed yet
  Clock::time_point copier_wanted_, no_copier_until_;
  std::unique_ptr<Resolver> resolver_;
  std::unique_ptr<StateFollower> follower_;
};

}  // namespace headgate
