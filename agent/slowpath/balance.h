// SPDX-License-Identifier: Apache-2.0
//
// Finds the ports whose receive queues do not load the workers evenly enough, so that their packets are to be
// spread in software, as RPS does for the kernel's stack: those with fewer queues than there are workers, and
// those whose device hashes so badly that one worker falls behind while another has half its packets or less.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "agent/slowpath/slow_path_config.h"

namespace headgate {

// Of a queue, since its socket was opened.
struct QueueLoad {
  uint32_t port = 0, queue = 0;
  uint32_t worker = 0;
  uint64_t received = 0;  // packets
  uint64_t lost = 0;      // packets that the kernel had no room for
  uint32_t waiting = 0;   // packets in its ring
};

class Balance {
 public:
  // Why packets of ports are spread in software, by port. What was found uneven stays so until the configuration
  // changes: flows that go to and fro would be reordered each time.
  using Reasons = std::map<uint32_t, std::string>;

  // What loads were means nothing for another configuration; for the same one nothing happens.
  void Reset(const SlowPathConfig& config);
  // What queues are like now; called about once a second.
  void Look(const std::vector<QueueLoad>& loads);
  const Reasons& reasons() const { return reasons_; }

 private:
  SlowPathConfig config_;
  uint32_t workers_ = 0;  // that targets which leave it to us are spread over
  Reasons reasons_;
  std::map<std::pair<uint32_t, uint32_t>, QueueLoad> before_;
};

}  // namespace headgate
