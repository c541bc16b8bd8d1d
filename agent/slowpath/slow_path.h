// SPDX-License-Identifier: Apache-2.0
//
// The slow path: which workers there are, which queues of which devices each reads, and what handlers they have. A
// thread of its own brings the workers to what is wanted, and tries again what failed: a queue's last owner may
// take a while to let go of it (EBUSY), a device may be down.
//
// Threads: Want and Status from any.
#pragma once

#include <absl/status/statusor.h>

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "agent/slowpath/worker.h"

namespace headgate {

enum class HandlerKind : uint8_t { kCount, kEcho };

struct SlowPathConfig {
  struct Target {
    uint32_t id = 0;
    HandlerKind handler = HandlerKind::kCount;
    friend bool operator==(const Target&, const Target&) = default;
  };
  struct Port {
    uint32_t id = 0;
    uint32_t ifindex = 0;
    uint32_t queues = 1;
    friend bool operator==(const Port&, const Port&) = default;
  };
  uint32_t workers = 0;  // 0: none are needed
  std::vector<Target> targets;
  std::vector<Port> ports;
  friend bool operator==(const SlowPathConfig&, const SlowPathConfig&) = default;
};

class SlowPath {
 public:
  struct DataPath {
    int sockets = -1;  // hg_xsks
    int queues = -1;   // hg_queues
    // Returns when packets that began before the call have ended.
    std::function<absl::Status()> quiesce;
  };

  // `cpus`: workers are pinned to these in turn; empty: not pinned.
  static absl::StatusOr<std::unique_ptr<SlowPath>> Start(DataPath data_path, std::vector<unsigned> cpus);
  // Packets take their fallback from then on.
  ~SlowPath();

  void Want(SlowPathConfig config);
  std::vector<WorkerStatus> Status();
  // Why queues of a port are not read at the moment, by port; empty: all is as wanted.
  std::map<uint32_t, absl::Status> Failures();

 private:
  using QueueId = std::pair<uint32_t, uint32_t>;  // port, queue
  struct Assigned {
    uint32_t ifindex = 0;
    uint32_t worker = 0;
    friend bool operator==(const Assigned&, const Assigned&) = default;
  };
  using Assignment = std::map<QueueId, Assigned>;

  SlowPath(DataPath data_path, std::vector<unsigned> cpus)
      : data_path_(std::move(data_path)), cpus_(std::move(cpus)) {}
  void Run(const std::stop_token& stop);
  static Assignment Assign(const SlowPathConfig& config);
  // True when all is as wanted.
  bool Reconcile(const SlowPathConfig& config);
  void Announce(const std::map<uint32_t, absl::Status>& before) const;
  absl::Status FitWorkers(const SlowPathConfig& config, const Assignment& wanted);
  void SetHandlers(const SlowPathConfig& config);
  absl::Status Open(const QueueId& id, const Assigned& assigned);
  void Close(const QueueId& id);
  std::atomic<uint64_t>* BeatOf(const QueueId& id);

  const DataPath data_path_;
  const std::vector<unsigned> cpus_;
  hg_queue* beats_ = nullptr;  // hg_queues, mapped

  std::mutex workers_mutex_;  // guards the four below
  std::vector<std::unique_ptr<Worker>> workers_;
  std::map<uint32_t, WorkerStatus> past_;  // what workers counted that are no more, by index
  Assignment open_;
  std::map<uint32_t, absl::Status> failures_;
  std::vector<SlowPathConfig::Target> handlers_;  // as the workers have them; of the thread

  std::mutex mutex_;  // guards wanted_ and changed_
  std::condition_variable_any wake_;
  SlowPathConfig wanted_;
  bool changed_ = false;
  std::jthread thread_;
};

}  // namespace headgate
