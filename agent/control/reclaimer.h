// SPDX-License-Identifier: Apache-2.0
//
// Waits, on a thread of its own, until no packet is older than the newest epoch it was told of, and says so. The
// wait takes milliseconds, which the controller must not spend.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>

#include "agent/dataplane/dataplane.h"

namespace headgate {

class Reclaimer {
 public:
  Reclaimer(Dataplane& dataplane, std::function<void(uint64_t epoch)> quiet);
  ~Reclaimer();

  // `epoch` is in force.
  void Published(uint64_t epoch);

 private:
  void Run(const std::stop_token& stop);

  Dataplane& dataplane_;
  const std::function<void(uint64_t)> quiet_;
  std::mutex mutex_;
  std::condition_variable_any wake_;
  uint64_t published_ = 0;
  uint64_t reported_ = 0;
  std::jthread thread_;
};

}  // namespace headgate
