// SPDX-License-Identifier: Apache-2.0
#include "agent/slowpath/crew.h"

#include <algorithm>
#include <utility>

#include "agent/base/log.h"
#include "agent/base/status.h"
#include "agent/slowpath/handler_factory.h"

namespace headgate {
namespace {

// Parcels of all rings to a worker, about; and of one.
constexpr uint32_t kParcels = 8192, kMostParcels = 1024, kLeastParcels = 64;

// What a worker counts, and one before it in its place counted.
WorkerStatus Sum(WorkerStatus now, const WorkerStatus& before) {
  now.received += before.received;
  now.received_bytes += before.received_bytes;
  now.originated += before.originated;
  now.processed += before.processed;
  now.consumed += before.consumed;
  now.transmitted += before.transmitted;
  now.dropped_handler += before.dropped_handler;
  now.dropped_no_handler += before.dropped_no_handler;
  now.dropped_tx_full += before.dropped_tx_full;
  now.dropped_overload += before.dropped_overload;
  now.dropped_handover += before.dropped_handover;
  now.wakeups += before.wakeups;
  now.cpu_seconds += before.cpu_seconds;
  now.kernel = now.kernel + before.kernel;
  return now;
}

uint32_t ParcelsFor(size_t workers) {
  uint32_t parcels = kMostParcels;
  while (parcels > kLeastParcels && parcels * workers > kParcels) parcels /= 2;
  return parcels;
}

std::pair<uint32_t, uint32_t> Pair(uint32_t a, uint32_t b) { return {std::min(a, b), std::max(a, b)}; }

}  // namespace

absl::Status Crew::Resize(const std::vector<uint32_t>& queues, Leave leave) {
  if (queues.size() < workers_.size()) {
    // Before others end: nothing more is lent to them.
    for (const SlowPathConfig::Target& target : targets_) Spread(target, static_cast<uint32_t>(queues.size()));
    Shrink(queues.size(), leave);
  }
  for (uint32_t index = 0; index < queues.size(); ++index) {
    if (index < workers_.size()) {
      if (workers_[index]->options().queues * Worker::kQueuesPerShare >= queues[index]) continue;
      leave(index);
      Dismiss(index);
      workers_[index].reset();
    }
    if (const absl::Status status = Hire(index, std::max(1U, queues[index])); !status.ok()) {
      // Nothing may stand in for it: those above it end too, and are hired again with it.
      Shrink(index, leave);
      return status;
    }
  }
  return absl::OkStatus();
}

void Crew::Shrink(size_t size, Leave leave) {
  while (workers_.size() > size) {
    const auto last = static_cast<uint32_t>(workers_.size()) - 1;
    if (workers_[last] != nullptr) {
      leave(last);
      Dismiss(last);
    }
    workers_.pop_back();
  }
}

absl::Status Crew::Hire(uint32_t index, uint32_t queues) {
  Worker::Options options{.index = index, .queues = queues, .busy_poll = options_.busy_poll};
  if (!options_.cpus.empty()) options.cpu = options_.cpus[index % options_.cpus.size()];
  absl::StatusOr<std::unique_ptr<Worker>> worker = Worker::Start(options);
  HG_RETURN_IF_ERROR(worker.status());
  if (!(*worker)->Status().huge_pages) {
    Log(spdlog::level::info, "no huge pages for a worker's frames", {{"worker", index}});
  }
  unlinked_.insert(index);
  if (index < workers_.size()) {
    workers_[index] = std::move(*worker);
  } else {
    workers_.push_back(std::move(*worker));
  }
  return absl::OkStatus();
}

// Packets are lent to a worker only when it has its handlers.
void Crew::LinkAll() {
  const uint32_t parcels = ParcelsFor(workers_.size());
  for (const uint32_t index : std::exchange(unlinked_, {})) {
    for (uint32_t other = 0; other < workers_.size(); ++other) {
      if (other == index || linked_.contains(Pair(index, other))) continue;
      const auto there = std::make_shared<Link>(parcels), back = std::make_shared<Link>(parcels);
      workers_[index]->AddPeer({.worker = other, .to = there, .from = back, .bell = &workers_[other]->bell()});
      workers_[other]->AddPeer({.worker = index, .to = back, .from = there, .bell = &workers_[index]->bell()});
      linked_.insert(Pair(index, other));
    }
  }
}

// Its queues are closed. What it counted counts on.
void Crew::Dismiss(uint32_t index) {
  // Handlers first: they send through others.
  const std::map<Place, Given> had = handlers_;
  for (const auto& [place, given] : had) {
    if (place.first == index) TakeHandler(place);
  }
  const auto each_other = [&](auto&& act) {
    for (uint32_t other = 0; other < workers_.size(); ++other) {
      if (other != index && workers_[other] != nullptr) act(*workers_[index], index, *workers_[other], other);
    }
  };
  each_other([](Worker& leaving, uint32_t, Worker&, uint32_t other) { leaving.AwaitPeer(other); });
  each_other([](Worker&, uint32_t leaver, Worker& staying, uint32_t) { staying.AwaitPeer(leaver); });
  each_other([](Worker& leaving, uint32_t leaver, Worker& staying, uint32_t other) {
    staying.RemovePeer(leaver);
    leaving.RemovePeer(other);
  });
  WorkerStatus last = Sum(workers_[index]->Status(), past_[index]);
  last.frames_free = last.frames_held = last.frames_total = last.waiting = last.lent = 0;
  past_[index] = std::move(last);
  unlinked_.erase(index);
  std::erase_if(linked_, [index](const auto& pair) { return pair.first == index || pair.second == index; });
  std::erase_if(spreads_, [index](const auto& spread) { return spread.first.first == index; });
}

std::vector<uint32_t> Crew::PlacesOf(const SlowPathConfig::Target& target) const {
  const auto total = static_cast<uint32_t>(workers_.size());
  if (total == 0) return {};
  if (target.mode == SpreadMode::kHome) return {target.id % total};
  std::vector<uint32_t> places(total);
  for (uint32_t index = 0; index < total; ++index) places[index] = index;
  return places;
}

std::map<uint32_t, absl::Status> Crew::SetTargets(const std::vector<SlowPathConfig::Target>& targets) {
  std::map<uint32_t, absl::Status> failures;
  std::map<Place, const SlowPathConfig::Target*> wanted;
  for (const SlowPathConfig::Target& target : targets) {
    for (const uint32_t worker : PlacesOf(target)) wanted[{worker, target.id}] = &target;
  }
  // First what goes: a device can have but one handler.
  const std::map<Place, Given> had = handlers_;
  for (const auto& [place, given] : had) {
    const auto found = wanted.find(place);
    if (found == wanted.end() || !Keep(place, handlers_.at(place), found->second->handler)) TakeHandler(place);
  }
  std::erase_if(kept_, [&targets](const auto& kept) {
    return std::none_of(targets.begin(), targets.end(), [&kept](const SlowPathConfig::Target& target) {
      return target.id == kept.first && target.handler == kept.second.setup;
    });
  });
  for (const auto& [place, target] : wanted) {
    if (handlers_.contains(place)) continue;
    if (const absl::Status status = GiveHandler(place, *target); !status.ok()) failures[target->id] = status;
  }
  kept_.clear();
  LinkAll();
  for (const SlowPathConfig::Target& target : targets) Spread(target, static_cast<uint32_t>(workers_.size()));
  targets_ = targets;
  return failures;
}

bool Crew::HasFailed() const {
  return std::any_of(handlers_.begin(), handlers_.end(),
                     [](const auto& given) { return given.second.handler->failed(); });
}

bool Crew::Keep(const Place& place, Given& given, const HandlerSetup& setup) {
  if (given.handler->failed()) return false;
  if (given.setup == setup) return true;
  if (!MayGoOn(given.setup, setup) || !workers_[place.first]->Reconfigure(place.second, setup)) return false;
  given.setup = setup;
  return true;
}

// One that serves all workers is kept: its device would lose its addresses.
void Crew::TakeHandler(const Place& place) {
  std::unique_ptr<Handler> handler = workers_[place.first]->SetHandler(place.second, nullptr);
  const auto given = handlers_.find(place);
  if (handler->failed()) {
    Log(spdlog::level::warn, "a handler has failed and is made anew", {{"target", place.second}});
  } else if (given->second.mode == SpreadMode::kHome) {
    kept_[place.second] = {std::move(given->second.setup), std::move(handler)};
  }
  handlers_.erase(given);
}

absl::Status Crew::GiveHandler(const Place& place, const SlowPathConfig::Target& target) {
  std::unique_ptr<Handler> handler;
  if (const auto kept = kept_.find(target.id); kept != kept_.end()) {
    handler = std::move(kept->second.handler);
    kept_.erase(kept);
  } else {
    HG_ASSIGN_OR_RETURN(handler,
                        MakeHandler(target, {.worker = place.first, .apps = apps_, .multicast = &multicast_}));
  }
  handlers_[place] = {target.handler, target.mode, handler.get()};
  workers_[place.first]->SetHandler(target.id, std::move(handler));
  return absl::OkStatus();
}

void Crew::Spread(const SlowPathConfig::Target& target, uint32_t total) {
  if (total == 0) return;
  const TargetSpread spread{.mode = total == 1 ? SpreadMode::kQueue : target.mode,
                            .first = target.id % total,
                            .count = std::min(target.workers, total),
                            .total = total,
                            .shed_at = target.shed_at};
  for (uint32_t index = 0; index < workers_.size(); ++index) {
    const auto [known, is_new] = spreads_.try_emplace({index, target.id});
    if (!is_new && known->second == spread) continue;
    known->second = spread;
    workers_[index]->SetSpread(target.id, spread);
  }
}

void Crew::SetSenders(const std::vector<uint16_t>& senders) {
  for (const std::unique_ptr<Worker>& worker : workers_) worker->SetSenders(senders);
}

std::vector<WorkerStatus> Crew::Status() {
  std::map<uint32_t, WorkerStatus> statuses = past_;
  for (const std::unique_ptr<Worker>& worker : workers_) {
    WorkerStatus& status = statuses[worker->options().index];
    status = Sum(worker->Status(), status);
  }
  std::vector<WorkerStatus> list;
  for (auto& [index, status] : statuses) list.push_back(std::move(status));
  return list;
}

}  // namespace headgate
