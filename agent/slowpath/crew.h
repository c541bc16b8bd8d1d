// SPDX-License-Identifier: Apache-2.0
//
// The workers, how they are linked with each other, and what each is to do with targets' packets.
//
// Threads: one at a time.
#pragma once

#include <absl/functional/function_ref.h>
#include <absl/status/status.h>

#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "agent/slowpath/multicast_account.h"
#include "agent/slowpath/slow_path_config.h"
#include "agent/slowpath/worker.h"

namespace headgate {

class AppServer;

class Crew {
 public:
  // `apps`: null where there are none. `multicast` outlives the crew.
  Crew(const SlowPathOptions& options, AppServer* apps, const MulticastAccount& multicast)
      : options_(options), apps_(apps), multicast_(multicast) {}

  // As many workers as that, each with frames for its number of queues, about. `leave`: takes a worker's queues
  // off, before it ends.
  using Leave = absl::FunctionRef<void(uint32_t worker)>;
  absl::Status Resize(const std::vector<uint32_t>& queues, Leave leave);
  // The workers' handlers, and how packets are spread over them; handlers that have failed are made anew. Why
  // targets have no handler, by target id.
  std::map<uint32_t, absl::Status> SetTargets(const std::vector<SlowPathConfig::Target>& targets);
  // Some handler has failed.
  bool HasFailed() const;
  // Which worker sends for the others, by port id.
  void SetSenders(const std::vector<uint16_t>& senders);

  size_t size() const { return workers_.size(); }
  Worker& operator[](size_t index) { return *workers_[index]; }
  // Those that are no more too.
  std::vector<WorkerStatus> Status();

 private:
  using Place = std::pair<uint32_t, uint32_t>;  // worker, target
  struct Given {
    HandlerSetup setup;
    SpreadMode mode = SpreadMode::kAuto;
    const Handler* handler = nullptr;  // the worker's
  };
  struct Kept {
    HandlerSetup setup;
    std::unique_ptr<Handler> handler;
  };
  absl::Status Hire(uint32_t index, uint32_t queues);
  void LinkAll();
  void Dismiss(uint32_t index);
  void Shrink(size_t size, Leave leave);
  // `total`: workers that there are, or are to be.
  void Spread(const SlowPathConfig::Target& target, uint32_t total);
  void TakeHandler(const Place& place);
  // Whether the place's handler goes on, with that setup.
  bool Keep(const Place& place, Given& given, const HandlerSetup& setup);
  absl::Status GiveHandler(const Place& place, const SlowPathConfig::Target& target);
  // Where the target's handlers are to be.
  std::vector<uint32_t> PlacesOf(const SlowPathConfig::Target& target) const;

  const SlowPathOptions& options_;
  AppServer* const apps_;
  const MulticastAccount& multicast_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::map<uint32_t, WorkerStatus> past_;  // what workers counted that are no more, by index
  std::vector<SlowPathConfig::Target> targets_;
  std::map<Place, Given> handlers_;
  std::map<Place, TargetSpread> spreads_;           // as the workers have them
  std::set<uint32_t> unlinked_;                     // workers that are new
  std::set<std::pair<uint32_t, uint32_t>> linked_;  // pairs of them, the lower first
  // By target id: handlers that move to another worker, or wait for their own's successor.
  std::map<uint32_t, Kept> kept_;
};

}  // namespace headgate
