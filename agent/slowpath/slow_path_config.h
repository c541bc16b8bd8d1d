// SPDX-License-Identifier: Apache-2.0
//
// What is wanted of the slow path.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "agent/slowpath/handler_setup.h"
#include "agent/slowpath/spread.h"

namespace headgate {

struct SlowPathConfig {
  struct Target {
    uint32_t id = 0;
    HandlerSetup handler;
    SpreadMode mode = SpreadMode::kAuto;  // kHome: it has one handler, of one worker
    uint32_t workers = 1;
    uint8_t shed_at = 0;  // as hg_target's
    friend bool operator==(const Target&, const Target&) = default;
  };
  struct Port {
    uint32_t id = 0;
    uint32_t ifindex = 0;
    uint32_t queues = 1;
    friend bool operator==(const Port&, const Port&) = default;
  };
  std::vector<Target> targets;  // by id; those without handler are not here
  std::vector<Port> ports;
  friend bool operator==(const SlowPathConfig&, const SlowPathConfig&) = default;
};

// Of all targets: they share them.
inline uint32_t WorkersOf(const SlowPathConfig& config) {
  uint32_t workers = 0;
  for (const SlowPathConfig::Target& target : config.targets) workers = std::max(workers, target.workers);
  return workers;
}

struct SlowPathOptions {
  std::vector<unsigned> cpus;              // workers are pinned to these in turn; empty: not pinned
  std::chrono::microseconds busy_poll{0};  // how long workers go on looking before they sleep
  std::string app_socket;                  // where processes ask for targets; empty: they cannot
};

}  // namespace headgate
