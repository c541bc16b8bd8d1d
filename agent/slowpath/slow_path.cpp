// SPDX-License-Identifier: Apache-2.0
#include "agent/slowpath/slow_path.h"

#include <absl/strings/str_cat.h>
#include <bpf/bpf.h>
#include <sys/mman.h>

#include <algorithm>
#include <utility>

#include "agent/base/log.h"
#include "agent/base/status.h"
#include "agent/slowpath/count_handler.h"
#include "agent/slowpath/echo_handler.h"

namespace headgate {
namespace {

constexpr size_t kBeatBytes = sizeof(hg_queue) * HG_PORTS * HG_QUEUES_PER_PORT;
constexpr auto kFirstRetry = std::chrono::milliseconds(50);
constexpr auto kLastRetry = std::chrono::milliseconds(2000);

std::unique_ptr<Handler> Make(HandlerKind kind) {
  if (kind == HandlerKind::kEcho) return std::make_unique<EchoHandler>();
  return std::make_unique<CountHandler>();
}

uint32_t MapKey(const std::pair<uint32_t, uint32_t>& id) { return id.first * HG_QUEUES_PER_PORT + id.second; }

// What a worker counts, and one before it in its place counted.
WorkerStatus Sum(WorkerStatus now, const WorkerStatus& before) {
  now.received += before.received;
  now.received_bytes += before.received_bytes;
  now.consumed += before.consumed;
  now.transmitted += before.transmitted;
  now.dropped_handler += before.dropped_handler;
  now.dropped_no_handler += before.dropped_no_handler;
  now.dropped_tx_full += before.dropped_tx_full;
  now.wakeups += before.wakeups;
  now.kernel = now.kernel + before.kernel;
  return now;
}

}  // namespace

absl::StatusOr<std::unique_ptr<SlowPath>> SlowPath::Start(DataPath data_path, std::vector<unsigned> cpus) {
  std::unique_ptr<SlowPath> slow_path(new SlowPath(std::move(data_path), std::move(cpus)));
  void* beats = mmap(nullptr, kBeatBytes, PROT_READ | PROT_WRITE, MAP_SHARED, slow_path->data_path_.queues, 0);
  if (beats == MAP_FAILED) return ErrnoStatus("map hg_queues");
  slow_path->beats_ = static_cast<hg_queue*>(beats);
  slow_path->thread_ = std::jthread([raw = slow_path.get()](const std::stop_token& stop) { raw->Run(stop); });
  return slow_path;
}

SlowPath::~SlowPath() {
  if (thread_.joinable()) {
    thread_.request_stop();
    thread_.join();
  }
  while (!open_.empty()) Close(QueueId(open_.begin()->first));
  workers_.clear();
  if (beats_ != nullptr) munmap(beats_, kBeatBytes);
}

void SlowPath::Want(SlowPathConfig config) {
  {
    const std::lock_guard lock(mutex_);
    if (config == wanted_) return;
    wanted_ = std::move(config);
    changed_ = true;
  }
  wake_.notify_all();
}

void SlowPath::Run(const std::stop_token& stop) {
  auto retry = kFirstRetry;
  bool complete = true;
  SlowPathConfig config;
  while (!stop.stop_requested()) {
    {
      std::unique_lock lock(mutex_);
      const auto changed = [this] { return changed_; };
      if (complete) {
        wake_.wait(lock, stop, changed);
      } else {
        wake_.wait_for(lock, stop, retry, changed);
      }
      if (stop.stop_requested()) return;
      retry = changed_ ? kFirstRetry : std::min(2 * retry, kLastRetry);
      changed_ = false;
      config = wanted_;
    }
    complete = Reconcile(config);
  }
}

// Queues in turn, so that those of one device go to different workers.
SlowPath::Assignment SlowPath::Assign(const SlowPathConfig& config) {
  Assignment assignment;
  if (config.workers == 0) return assignment;
  uint32_t next = 0;
  for (const SlowPathConfig::Port& port : config.ports) {
    for (uint32_t queue = 0; queue < std::min<uint32_t>(port.queues, HG_QUEUES_PER_PORT); ++queue) {
      assignment[{port.id, queue}] = {port.ifindex, next++ % config.workers};
    }
  }
  return assignment;
}

bool SlowPath::Reconcile(const SlowPathConfig& config) {
  const std::lock_guard lock(workers_mutex_);
  const Assignment wanted = Assign(config);
  const std::map<uint32_t, absl::Status> before = std::exchange(failures_, {});
  std::vector<QueueId> leaving;
  for (const auto& [id, assigned] : open_) {
    const auto found = wanted.find(id);
    if (found == wanted.end() || found->second != assigned) leaving.push_back(id);
  }
  for (const QueueId& id : leaving) Close(id);
  if (const absl::Status status = FitWorkers(config, wanted); !status.ok()) {
    for (const SlowPathConfig::Port& port : config.ports) failures_[port.id] = status;
    Announce(before);
    return false;
  }
  SetHandlers(config);
  for (const auto& [id, assigned] : wanted) {
    if (open_.contains(id)) continue;
    const absl::Status status = Open(id, assigned);
    if (!status.ok()) {
      Log(spdlog::level::warn, "a queue is not read by a worker",
          {{"port", id.first}, {"queue", id.second}, {"reason", status}});
      failures_[id.first] = status;
    } else {
      Log(spdlog::level::info, "queue opened", {{"port", id.first}, {"queue", id.second}});
    }
  }
  return failures_.empty();
}

// Once, however often it is tried again.
void SlowPath::Announce(const std::map<uint32_t, absl::Status>& before) const {
  for (const auto& [port, failure] : failures_) {
    const auto known = before.find(port);
    if (known != before.end() && known->second == failure) continue;
    Log(spdlog::level::warn, "workers do not read queues, steered packets take the fallback",
        {{"port", port}, {"reason", failure}});
  }
}

// Workers keep the frames they started with: one that is to have more queues is started anew.
absl::Status SlowPath::FitWorkers(const SlowPathConfig& config, const Assignment& wanted) {
  std::vector<uint32_t> queues(config.workers);
  for (const auto& [id, assigned] : wanted) ++queues[assigned.worker];
  // Counts what it counted from now on; the worker has no queues any more.
  const auto retire = [this](uint32_t index) {
    std::vector<QueueId> leaving;
    for (const auto& [id, assigned] : open_) {
      if (assigned.worker == index) leaving.push_back(id);
    }
    for (const QueueId& id : leaving) Close(id);
    WorkerStatus last = Sum(workers_[index]->Status(), past_[index]);
    last.frames_free = last.frames_total = 0;
    past_[index] = std::move(last);
  };
  while (workers_.size() > config.workers) {
    retire(static_cast<uint32_t>(workers_.size()) - 1);
    workers_.pop_back();
  }
  for (uint32_t index = 0; index < config.workers; ++index) {
    if (index < workers_.size() && workers_[index]->options().queues >= queues[index]) continue;
    if (index < workers_.size()) retire(index);
    Worker::Options options{.index = index, .queues = std::max(1U, queues[index])};
    if (!cpus_.empty()) options.cpu = cpus_[index % cpus_.size()];
    HG_ASSIGN_OR_RETURN(std::unique_ptr<Worker> worker, Worker::Start(options));
    if (!worker->Status().huge_pages) {
      Log(spdlog::level::info, "no huge pages for a worker's frames", {{"worker", index}});
    }
    for (const SlowPathConfig::Target& target : handlers_) worker->SetHandler(target.id, Make(target.handler));
    if (index < workers_.size()) {
      workers_[index] = std::move(worker);
    } else {
      workers_.push_back(std::move(worker));
    }
  }
  return absl::OkStatus();
}

void SlowPath::SetHandlers(const SlowPathConfig& config) {
  const auto same_id = [](const auto& list, uint32_t id) {
    return std::find_if(list.begin(), list.end(), [id](const auto& target) { return target.id == id; });
  };
  for (const std::unique_ptr<Worker>& worker : workers_) {
    for (const SlowPathConfig::Target& target : config.targets) {
      const auto had = same_id(handlers_, target.id);
      if (had == handlers_.end() || *had != target) worker->SetHandler(target.id, Make(target.handler));
    }
    for (const SlowPathConfig::Target& target : handlers_) {
      if (same_id(config.targets, target.id) == config.targets.end()) worker->SetHandler(target.id, nullptr);
    }
  }
  handlers_ = config.targets;
}

std::atomic<uint64_t>* SlowPath::BeatOf(const QueueId& id) {
  static_assert(sizeof(std::atomic<uint64_t>) == sizeof(uint64_t) && std::atomic<uint64_t>::is_always_lock_free);
  return reinterpret_cast<std::atomic<uint64_t>*>(&beats_[MapKey(id)].beat);
}

absl::Status SlowPath::Open(const QueueId& id, const Assigned& assigned) {
  HG_ASSIGN_OR_RETURN(const int socket,
                      workers_[assigned.worker]->AddQueue(id.first, assigned.ifindex, id.second, BeatOf(id)));
  const uint32_t key = MapKey(id);
  if (bpf_map_update_elem(data_path_.sockets, &key, &socket, BPF_ANY) != 0) {
    const absl::Status status =
        ErrnoStatus("put the socket of port ", id.first, " queue ", id.second, " in hg_xsks");
    workers_[assigned.worker]->RemoveQueue(id.first, id.second);
    return status;
  }
  open_[id] = assigned;
  return absl::OkStatus();
}

// First nothing more comes, then what has come is dealt with, then it is closed.
void SlowPath::Close(const QueueId& id) {
  const uint32_t key = MapKey(id);
  // Gone already when its device is; a socket that others put there is not ours to remove.
  bpf_map_delete_elem(data_path_.sockets, &key);
  if (const absl::Status status = data_path_.quiesce(); !status.ok()) {
    Log(spdlog::level::warn, "packets that come while a socket is closed may be lost", {{"reason", status}});
  }
  workers_[open_[id].worker]->RemoveQueue(id.first, id.second);
  BeatOf(id)->store(0, std::memory_order_relaxed);
  open_.erase(id);
}

std::vector<WorkerStatus> SlowPath::Status() {
  const std::lock_guard lock(workers_mutex_);
  std::map<uint32_t, WorkerStatus> statuses = past_;
  for (const std::unique_ptr<Worker>& worker : workers_) {
    WorkerStatus& status = statuses[worker->options().index];
    status = Sum(worker->Status(), status);
  }
  std::vector<WorkerStatus> list;
  for (auto& [index, status] : statuses) list.push_back(std::move(status));
  return list;
}

std::map<uint32_t, absl::Status> SlowPath::Failures() {
  const std::lock_guard lock(workers_mutex_);
  return failures_;
}

}  // namespace headgate
