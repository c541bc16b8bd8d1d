// SPDX-License-Identifier: Apache-2.0
//
// What the workers of the slow path say they did, summed up: the one place that knows a worker's counters.
#pragma once

#include <cstdint>
#include <ostream>

#include "tests/harness/agent.h"

namespace headgate::testing {

// Of all workers together.
struct Work {
  uint64_t received = 0, received_bytes = 0;
  uint64_t consumed = 0, transmitted = 0;
  uint64_t dropped = 0;    // by workers, for any reason
  uint64_t in_kernel = 0;  // dropped by the kernel, which had steered them
  uint64_t frames = 0, free_frames = 0, held_frames = 0;
  uint64_t waiting = 0;  // descriptors in receive rings
  int alive = 0, queues = 0;

  uint64_t originated = 0;  // frames that handlers made
  // Packets that ended their way in one of the counters, of those received.
  uint64_t settled() const { return consumed + transmitted + dropped - originated; }
  // Of what the data path steered, what was received or counted as lost before.
  uint64_t arrived() const { return received + in_kernel; }
  friend void PrintTo(const Work& work, std::ostream* out);
};
Work SumWorkers(const pb::StatsResponse& stats);

}  // namespace headgate::testing
