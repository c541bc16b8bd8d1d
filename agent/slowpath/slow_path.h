// SPDX-License-Identifier: Apache-2.0
//
// The slow path: which queues of which devices workers read, and what handlers they have. A thread of its own
// brings the workers to what is wanted, and tries again what failed: a queue's last owner may take a while to let
// go of it (EBUSY), a device may be down.
//
// Threads: Want, Status and what else is public from any.
#pragma once

#include <absl/status/statusor.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "agent/slowpath/app_server.h"
#include "agent/slowpath/balance.h"
#include "agent/slowpath/crew.h"
#include "agent/slowpath/mapped_array.h"
#include "agent/slowpath/multicast_account.h"
#include "agent/slowpath/slow_path_config.h"

namespace headgate {

class SlowPath {
 public:
  struct DataPath {
    int sockets = -1;        // hg_xsks
    int queues = -1;         // hg_queues
    int target_states = -1;  // hg_target_state
    int worker_legs = -1;    // hg_worker_legs
    int leg_limiters = -1;   // hg_leg_limiters
    // Returns when packets that began before the call have ended.
    std::function<absl::Status()> quiesce;
  };

  static absl::StatusOr<std::unique_ptr<SlowPath>> Start(DataPath data_path, SlowPathOptions options);
  // Packets take their fallback from then on.
  ~SlowPath();

  void Want(SlowPathConfig config);
  // Neither waits for a worker that hangs: they give what they last gave then.
  std::vector<WorkerStatus> Status();
  SlowPathTroubles Troubles();

 private:
  using QueueId = std::pair<uint32_t, uint32_t>;  // port, queue
  struct Assigned {
    uint32_t ifindex = 0;
    uint32_t worker = 0;
    friend bool operator==(const Assigned&, const Assigned&) = default;
  };
  using Assignment = std::map<QueueId, Assigned>;
  struct OpenQueue {
    Assigned assigned;
    int socket = -1;  // the worker's, for its statistics
    std::unique_ptr<std::atomic<uint64_t>> received;
  };

  // What the data path and workers both see, as maps of these names.
  struct Shared {
    MappedArray<hg_queue> queues;
    MappedArray<hg_target_state> target_states;
    MappedArray<hg_leg_count> worker_legs;
    MappedArray<uint64_t> leg_limiters;
  };

  SlowPath(DataPath data_path, Shared shared, SlowPathOptions options);
  void Run(const std::stop_token& stop);
  Assignment Assign(const SlowPathConfig& config) const;
  // True when all is as wanted.
  bool Reconcile(const SlowPathConfig& config);
  absl::Status Resize(const SlowPathConfig& config, const Assignment& wanted);
  // Why targets have no handler.
  std::map<uint32_t, absl::Status> SetTargets(const SlowPathConfig& config);
  // Targets whose handlers are there are present in the data path, and no others; applications', when those are.
  void ShowTargets(const SlowPathConfig& config);
  void ShowUnchanged(const SlowPathConfig& config, const SlowPathTroubles& before);
  void ShowApp(uint32_t target, bool present);
  void WriteTarget(size_t id);
  void Announce(const SlowPathTroubles& before) const;
  void SetSenders();
  void LookAtBalance();
  bool HandlersServe();
  void SpreadInSoftware();
  absl::Status Open(const QueueId& id, const Assigned& assigned);
  void Close(const std::vector<QueueId>& ids);

  const DataPath data_path_;
  const SlowPathOptions options_;
  const Shared shared_;
  const MulticastAccount multicast_;

  enum class Handled : uint8_t { kNo, kYes, kByApp };
  std::mutex shown_mutex_;  // guards the two below
  std::array<Handled, kMaxTargets> handled_{};
  std::set<uint32_t> present_apps_;  // targets whose applications are there
  std::unique_ptr<AppServer> apps_;  // null: there are none

  std::timed_mutex workers_mutex_;  // guards the six below; for as long as a worker hangs
  Crew crew_;
  std::map<QueueId, OpenQueue> open_;
  SlowPathTroubles troubles_;
  Balance balance_;
  Balance::Reasons spread_;                    // as the workers have it
  std::vector<SlowPathConfig::Target> shown_;  // to the data path

  std::mutex last_mutex_;  // guards the two below
  std::vector<WorkerStatus> last_status_;
  SlowPathTroubles last_troubles_;

  std::mutex mutex_;  // guards wanted_ and changed_
  std::condition_variable_any wake_;
  SlowPathConfig wanted_;
  bool changed_ = false;
  std::jthread thread_;
};

}  // namespace headgate
