// SPDX-License-Identifier: Apache-2.0
#include "agent/slowpath/slow_path.h"

#include <absl/strings/str_cat.h>
#include <bpf/bpf.h>

#include <algorithm>
#include <utility>

#include "agent/base/log.h"
#include "agent/base/status.h"

namespace headgate {
namespace {

// The kernel takes some milliseconds to let go of a queue that was closed.
constexpr auto kFirstRetry = std::chrono::milliseconds(5);
constexpr auto kLastRetry = std::chrono::milliseconds(2000);
// How long who asks waits for a change of the workers that is being made.
constexpr auto kPatience = std::chrono::milliseconds(2000);
// How often it is looked whether the load is even.
constexpr auto kBalance = std::chrono::milliseconds(1000);

uint32_t MapKey(const std::pair<uint32_t, uint32_t>& id) { return id.first * HG_QUEUES_PER_PORT + id.second; }

}  // namespace

SlowPath::SlowPath(DataPath data_path, Shared shared, SlowPathOptions options)
    : data_path_(std::move(data_path)),
      options_(std::move(options)),
      shared_(std::move(shared)),
      multicast_(shared_.worker_legs.data(), shared_.leg_limiters.data()),
      apps_(options_.app_socket.empty()
                ? nullptr
                : std::make_unique<AppServer>(options_.app_socket,
                                              [this](uint32_t id, bool present) { ShowApp(id, present); })),
      crew_(options_, apps_.get(), multicast_) {}

absl::StatusOr<std::unique_ptr<SlowPath>> SlowPath::Start(DataPath data_path, SlowPathOptions options) {
  HG_ASSIGN_OR_RETURN(auto queues,
                      MappedArray<hg_queue>::Map(data_path.queues, HG_PORTS * HG_QUEUES_PER_PORT, "hg_queues"));
  HG_ASSIGN_OR_RETURN(auto targets,
                      MappedArray<hg_target_state>::Map(data_path.target_states, kMaxTargets, "hg_target_state"));
  HG_ASSIGN_OR_RETURN(auto legs, MappedArray<hg_leg_count>::Map(data_path.worker_legs, HG_LEGS, "hg_worker_legs"));
  HG_ASSIGN_OR_RETURN(auto limiters,
                      MappedArray<uint64_t>::Map(data_path.leg_limiters, HG_LEGS, "hg_leg_limiters"));
  std::unique_ptr<SlowPath> slow_path(new SlowPath(
      std::move(data_path), {std::move(queues), std::move(targets), std::move(legs), std::move(limiters)},
      std::move(options)));
  slow_path->ShowTargets({});
  slow_path->thread_ = std::jthread([raw = slow_path.get()](const std::stop_token& stop) { raw->Run(stop); });
  return slow_path;
}

SlowPath::~SlowPath() {
  if (thread_.joinable()) {
    thread_.request_stop();
    thread_.join();
  }
  std::vector<QueueId> open;
  for (const auto& [id, queue] : open_) open.push_back(id);
  Close(open);
  static_cast<void>(crew_.Resize({}, [](uint32_t) {}));
  apps_.reset();
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
  std::chrono::milliseconds retry = kFirstRetry;
  bool complete = true;
  SlowPathConfig config;
  while (!stop.stop_requested()) {
    bool changed = false;
    {
      std::unique_lock lock(mutex_);
      wake_.wait_for(lock, stop, complete ? kBalance : retry, [this] { return changed_; });
      if (stop.stop_requested()) return;
      changed = std::exchange(changed_, false);
      config = wanted_;
    }
    if (changed || !complete) {
      retry = changed ? kFirstRetry : std::min(2 * retry, std::chrono::milliseconds(kLastRetry));
      complete = Reconcile(config);
    } else {
      complete = HandlersServe();
      retry = kFirstRetry;
    }
    LookAtBalance();
  }
}

// A queue stays with its worker while that has no more than its part; others go to who has fewest.
SlowPath::Assignment SlowPath::Assign(const SlowPathConfig& config) const {
  Assignment assignment;
  const uint32_t workers = WorkersOf(config);
  if (workers == 0) return assignment;
  std::vector<std::pair<QueueId, uint32_t>> queues;  // and its device
  for (const SlowPathConfig::Port& port : config.ports) {
    for (uint32_t queue = 0; queue < std::min<uint32_t>(port.queues, HG_QUEUES_PER_PORT); ++queue) {
      queues.push_back({{port.id, queue}, port.ifindex});
    }
  }
  const size_t part = (queues.size() + workers - 1) / workers;
  std::vector<size_t> has(workers);
  for (const auto& [id, ifindex] : queues) {
    const auto open = open_.find(id);
    if (open == open_.end() || open->second.assigned.ifindex != ifindex) continue;
    const uint32_t worker = open->second.assigned.worker;
    if (worker < workers && has[worker] < part) {
      assignment[id] = {ifindex, worker};
      ++has[worker];
    }
  }
  for (const auto& [id, ifindex] : queues) {
    if (assignment.contains(id)) continue;
    const auto least = std::min_element(has.begin(), has.end());
    assignment[id] = {ifindex, static_cast<uint32_t>(least - has.begin())};
    ++*least;
  }
  return assignment;
}

bool SlowPath::Reconcile(const SlowPathConfig& config) {
  const std::lock_guard lock(workers_mutex_);
  const Assignment wanted = Assign(config);
  const SlowPathTroubles before = std::exchange(troubles_, {});
  ShowUnchanged(config, before);
  if (const absl::Status status = Resize(config, wanted); !status.ok()) {
    for (const SlowPathConfig::Port& port : config.ports) troubles_.ports[port.id] = status;
    ShowTargets({});
    Announce(before);
    return false;
  }
  troubles_.targets = SetTargets(config);
  ShowTargets(config);
  balance_.Reset(config);
  // Only now, when those that are to have them next are ready: meanwhile packets take the fallback.
  std::vector<QueueId> leaving;
  for (const auto& [id, queue] : open_) {
    const auto found = wanted.find(id);
    if (found == wanted.end() || found->second != queue.assigned) leaving.push_back(id);
  }
  Close(leaving);
  for (const auto& [id, assigned] : wanted) {
    if (open_.contains(id)) continue;
    if (const absl::Status status = Open(id, assigned); !status.ok()) troubles_.ports[id.first] = status;
  }
  SetSenders();
  SpreadInSoftware();
  Announce(before);
  return troubles_.ports.empty() && troubles_.targets.empty();
}

absl::Status SlowPath::Resize(const SlowPathConfig& config, const Assignment& wanted) {
  std::vector<uint32_t> queues(WorkersOf(config));
  for (const auto& [id, assigned] : wanted) ++queues[assigned.worker];
  return crew_.Resize(queues, [this](uint32_t worker) {
    std::vector<QueueId> leaving;
    for (const auto& [id, queue] : open_) {
      if (queue.assigned.worker == worker) leaving.push_back(id);
    }
    Close(leaving);
    // Others do not send by it any more.
    SetSenders();
  });
}

std::map<uint32_t, absl::Status> SlowPath::SetTargets(const SlowPathConfig& config) {
  std::vector<AppServer::Target> apps;
  for (const SlowPathConfig::Target& target : config.targets) {
    const auto* app = std::get_if<AppSetup>(&target.handler);
    if (app == nullptr) continue;
    apps.push_back({target.id, app->target, app->group, static_cast<uint32_t>(crew_.size())});
  }
  const absl::Status status = apps_ == nullptr ? absl::OkStatus() : apps_->SetTargets(apps);
  std::map<uint32_t, absl::Status> failures = crew_.SetTargets(config.targets);
  for (const AppServer::Target& app : apps) {
    if (!status.ok()) failures[app.id] = status;
  }
  return failures;
}

// Until the others have the handlers that they are to have, their packets take the fallback.
void SlowPath::ShowUnchanged(const SlowPathConfig& config, const SlowPathTroubles& before) {
  SlowPathConfig unchanged;
  for (const SlowPathConfig::Target& target : config.targets) {
    const bool same = std::any_of(shown_.begin(), shown_.end(), [&target](const SlowPathConfig::Target& shown) {
      return shown.id == target.id && MayGoOn(shown.handler, target.handler);
    });
    if (same && !before.targets.contains(target.id)) unchanged.targets.push_back(target);
  }
  ShowTargets(unchanged);
}

void SlowPath::ShowTargets(const SlowPathConfig& config) {
  shown_ = config.targets;
  const std::lock_guard lock(shown_mutex_);
  handled_.fill(Handled::kNo);
  for (const SlowPathConfig::Target& target : config.targets) {
    if (troubles_.targets.contains(target.id)) continue;
    handled_[target.id] = std::holds_alternative<AppSetup>(target.handler) ? Handled::kByApp : Handled::kYes;
  }
  for (size_t id = 0; id < kMaxTargets; ++id) WriteTarget(id);
}

void SlowPath::ShowApp(uint32_t target, bool present) {
  const std::lock_guard lock(shown_mutex_);
  if (present) {
    present_apps_.insert(target);
  } else {
    present_apps_.erase(target);
  }
  WriteTarget(target);
}

void SlowPath::WriteTarget(size_t id) {
  const bool present = handled_[id] == Handled::kYes ||
                       (handled_[id] == Handled::kByApp && present_apps_.contains(static_cast<uint32_t>(id)));
  std::atomic_ref(shared_.target_states[id].absent).store(present ? 0 : 1, std::memory_order_relaxed);
}

// Once, however often it is tried again.
void SlowPath::Announce(const SlowPathTroubles& before) const {
  const auto announce = [](const auto& now, const auto& known, const char* what, const char* key) {
    for (const auto& [id, trouble] : now) {
      const auto found = known.find(id);
      if (found != known.end() && found->second == trouble) continue;
      Log(spdlog::level::warn, what, {{key, id}, {"reason", trouble}});
    }
  };
  announce(troubles_.ports, before.ports, "workers do not read queues, steered packets take the fallback", "port");
  announce(troubles_.targets, before.targets, "a target has no handler, its packets take the fallback", "target");
}

void SlowPath::SetSenders() {
  std::vector<uint16_t> senders(HG_PORTS, Worker::kNobody);
  for (const auto& [id, queue] : open_) {
    uint16_t& sender = senders[id.first];
    if (sender == Worker::kNobody) sender = static_cast<uint16_t>(queue.assigned.worker);
  }
  crew_.SetSenders(senders);
}

void SlowPath::LookAtBalance() {
  const std::lock_guard lock(workers_mutex_);
  if (crew_.size() < 2) return;
  std::vector<QueueLoad> loads;
  for (const auto& [id, queue] : open_) {
    const XskStatistics kernel = ReadStatistics(queue.socket);
    loads.push_back({.port = id.first,
                     .queue = id.second,
                     .worker = queue.assigned.worker,
                     .received = queue.received->load(std::memory_order_relaxed),
                     .lost = kernel.rx_ring_full + kernel.fill_ring_empty,
                     // The lower half.
                     .waiting = static_cast<uint32_t>(
                         std::atomic_ref(shared_.queues[MapKey(id)].looked).load(std::memory_order_relaxed))});
  }
  balance_.Look(loads);
  SpreadInSoftware();
}

bool SlowPath::HandlersServe() {
  const std::lock_guard lock(workers_mutex_);
  return !crew_.HasFailed();
}

void SlowPath::SpreadInSoftware() {
  const Balance::Reasons before = std::exchange(spread_, balance_.reasons());
  troubles_.spread = spread_;
  const auto tell = [this](uint32_t port, bool in_software) {
    for (size_t worker = 0; worker < crew_.size(); ++worker) crew_[worker].SpreadInSoftware(port, in_software);
  };
  for (const auto& [port, reason] : before) {
    if (!spread_.contains(port)) tell(port, false);
  }
  for (const auto& [port, reason] : spread_) {
    if (const auto known = before.find(port); known != before.end() && known->second == reason) continue;
    Log(spdlog::level::info, "packets are spread over workers in software", {{"port", port}, {"reason", reason}});
    tell(port, true);
  }
}

absl::Status SlowPath::Open(const QueueId& id, const Assigned& assigned) {
  auto received = std::make_unique<std::atomic<uint64_t>>(0);
  const uint32_t key = MapKey(id);
  Worker& worker = crew_[assigned.worker];
  HG_ASSIGN_OR_RETURN(
      const int socket,
      worker.AddQueue(id.first, assigned.ifindex, id.second,
                      {.shown = &shared_.queues[key], .received = received.get()}, spread_.contains(id.first)));
  if (bpf_map_update_elem(data_path_.sockets, &key, &socket, BPF_ANY) != 0) {
    const absl::Status status =
        ErrnoStatus("put the socket of port ", id.first, " queue ", id.second, " in hg_xsks");
    worker.RemoveQueue(id.first, id.second, Worker::DrainDeadline());
    return status;
  }
  Log(spdlog::level::info, "queue opened", {{"port", id.first}, {"queue", id.second}});
  open_[id] = {assigned, socket, std::move(received)};
  return absl::OkStatus();
}

// First nothing more comes, then what has come is dealt with, then it is closed.
void SlowPath::Close(const std::vector<QueueId>& ids) {
  if (ids.empty()) return;
  for (const QueueId& id : ids) {
    const uint32_t key = MapKey(id);
    // Fails when it is gone already, with its device.
    bpf_map_delete_elem(data_path_.sockets, &key);
  }
  if (const absl::Status status = data_path_.quiesce(); !status.ok()) {
    Log(spdlog::level::warn, "packets that come while a socket is closed may be lost", {{"reason", status}});
  }
  const auto deadline = Worker::DrainDeadline();
  for (const QueueId& id : ids) {
    crew_[open_[id].assigned.worker].RemoveQueue(id.first, id.second, deadline);
    std::atomic_ref(shared_.queues[MapKey(id)].beat).store(0, std::memory_order_relaxed);
    open_.erase(id);
  }
}

std::vector<WorkerStatus> SlowPath::Status() {
  const std::unique_lock lock(workers_mutex_, kPatience);
  if (!lock.owns_lock()) {
    const std::lock_guard last(last_mutex_);
    std::vector<WorkerStatus> status = last_status_;
    for (WorkerStatus& worker : status) worker.stale = true;
    return status;
  }
  std::vector<WorkerStatus> status = crew_.Status();
  const std::lock_guard last(last_mutex_);
  last_status_ = status;
  return status;
}

SlowPathTroubles SlowPath::Troubles() {
  SlowPathTroubles troubles;
  {
    const std::unique_lock lock(workers_mutex_, kPatience);
    const std::lock_guard last(last_mutex_);
    if (lock.owns_lock()) last_troubles_ = troubles_;
    troubles = last_troubles_;
  }
  const std::lock_guard shown(shown_mutex_);
  for (uint32_t id = 0; id < kMaxTargets; ++id) {
    if (handled_[id] == Handled::kByApp && !present_apps_.contains(id)) {
      troubles.targets.try_emplace(id, absl::UnavailableError("no application asks for its packets, or it hangs"));
    }
  }
  return troubles;
}

}  // namespace headgate
