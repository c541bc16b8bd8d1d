// SPDX-License-Identifier: Apache-2.0
#include "agent/slowpath/balance.h"

#include <absl/strings/str_cat.h>

#include <algorithm>

#include "agent/slowpath/worker_status.h"

namespace headgate {
namespace {

// A worker falls behind when a quarter of its ring waits, or packets were lost.
constexpr uint32_t kBehind = kReceiveRing / 4;

}  // namespace

void Balance::Reset(const SlowPathConfig& config) {
  if (config == config_) return;
  config_ = config;
  workers_ = 0;
  for (const SlowPathConfig::Target& target : config.targets) {
    if (target.mode == SpreadMode::kAuto) workers_ = std::max(workers_, target.workers);
  }
  reasons_.clear();
  before_.clear();
  for (const SlowPathConfig::Port& port : config.ports) {
    if (port.queues >= workers_) continue;
    reasons_[port.id] = absl::StrCat("it has ", port.queues, port.queues == 1 ? " queue" : " queues", " for ",
                                     workers_, " workers");
  }
}

void Balance::Look(const std::vector<QueueLoad>& loads) {
  std::map<uint32_t, uint64_t> received;  // by worker, since the last look
  const auto since = [this](const QueueLoad& load) {
    const auto before = before_.find({load.port, load.queue});
    return before == before_.end() ? QueueLoad{} : before->second;
  };
  for (uint32_t worker = 0; worker < workers_; ++worker) received[worker] = 0;
  for (const QueueLoad& load : loads) received[load.worker] += load.received - since(load).received;
  for (const QueueLoad& load : loads) {
    if (workers_ < 2 || reasons_.contains(load.port) || !before_.contains({load.port, load.queue})) continue;
    if (load.lost == since(load).lost && load.waiting < kBehind) continue;
    const auto least = std::min_element(received.begin(), received.end(),
                                        [](const auto& a, const auto& b) { return a.second < b.second; });
    if (least->second * 2 > received[load.worker]) continue;
    reasons_[load.port] = absl::StrCat("its queue ", load.queue, " is more than worker ", load.worker,
                                       " can take, while worker ", least->first, " has half as much or less");
  }
  before_.clear();
  for (const QueueLoad& load : loads) before_[{load.port, load.queue}] = load;
}

}  // namespace headgate
