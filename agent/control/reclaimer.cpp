// SPDX-License-Identifier: Apache-2.0
#include "agent/control/reclaimer.h"

#include "agent/base/log.h"

namespace headgate {

Reclaimer::Reclaimer(Dataplane& dataplane, std::function<void(uint64_t)> quiet)
    : dataplane_(dataplane), quiet_(std::move(quiet)) {
  thread_ = std::jthread([this](const std::stop_token& stop) { Run(stop); });
}

Reclaimer::~Reclaimer() {
  thread_.request_stop();
  wake_.notify_all();
}

void Reclaimer::Published(uint64_t epoch) {
  const std::lock_guard lock(mutex_);
  published_ = epoch;
  wake_.notify_one();
}

void Reclaimer::Run(const std::stop_token& stop) {
  while (true) {
    uint64_t epoch = 0;
    {
      std::unique_lock lock(mutex_);
      if (!wake_.wait(lock, stop, [this] { return published_ > reported_; })) return;
      epoch = published_;
    }
    if (const absl::Status status = dataplane_.Quiesce(); !status.ok()) {
      // What cannot be reclaimed only costs memory; the next epoch brings another try.
      Log(spdlog::level::warn, "cannot wait for packets in flight", {{"reason", status}});
    } else {
      quiet_(epoch);
    }
    const std::lock_guard lock(mutex_);
    reported_ = epoch;
  }
}

}  // namespace headgate
