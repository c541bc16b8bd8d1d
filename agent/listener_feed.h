// SPDX-License-Identifier: Apache-2.0
//
// Follows who listens behind the egress interfaces of legs that are on_join, and tells the data path and whoever
// else goes by it. What the data path has outlives the agent: the next one begins with it.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "agent/control/controller.h"
#include "agent/listener_planner.h"
#include "agent/slowpath/listener_table.h"
#include "agent/state_follower.h"

namespace headgate {

class ListenerFeed {
 public:
  // Follows the controller until it is destroyed.
  static absl::StatusOr<std::unique_ptr<ListenerFeed>> Start(const Controller& controller, EventBus& events,
                                                             Dataplane& dataplane);

  // For workers: the same table as long as nothing has changed. (any thread)
  std::shared_ptr<const ListenerTable> table() const;
  // At the moment. (any thread)
  ListenersByPort listeners() const { return proxy_->View(); }
  std::vector<ListenerView> Of(const MulticastRoute& route) const;
  // What is not as wanted, for people. (any thread)
  std::vector<std::string> Troubles() const;
  // Calls it, from now on, when somebody listens who did not, or the other way round. (any thread)
  void OnChange(std::function<void()> changed);

 private:
  ListenerFeed(const Controller& controller, EventBus& events, Dataplane& dataplane);
  void Look();
  // What an earlier agent knew, once.
  absl::Status Adopt();
  absl::Status Write(const ListenerEntries& entries);
  void Publish(const ListenerEntries& entries);

  struct Less {
    bool operator()(const hg_listener& a, const hg_listener& b) const;
  };
  using Written = std::map<hg_listener, bool, Less>;
  static bool Same(const Written& a, const Written& b);

  const Controller& controller_;
  Dataplane& dataplane_;
  // Of the follower's thread.
  std::unique_ptr<ListenerProxy> proxy_;
  bool adopted_ = false;
  bool known_ = false;  // whether written_ is what the data path has
  Written written_;
  Written published_;
  std::chrono::steady_clock::time_point read_{};  // when written_ was read back

  mutable std::mutex mutex_;  // guards what follows
  std::shared_ptr<const ListenerTable> table_ = std::make_shared<const ListenerTable>();
  std::vector<std::function<void()>> on_change_;
  std::map<std::string, absl::Status> failures_;  // by what failed

  StateFollower follower_;
};

}  // namespace headgate
