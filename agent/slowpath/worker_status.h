// SPDX-License-Identifier: Apache-2.0
//
// What workers have done, for who shows it.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace headgate {

// Packets that the kernel had for a socket and could not deliver, by its own counters (XDP_STATISTICS).
struct XskStatistics {
  uint64_t rx_ring_full = 0;
  uint64_t fill_ring_empty = 0;
  uint64_t other = 0;  // larger than a frame where packets of several are not to be had; bad descriptors
};

inline XskStatistics operator+(const XskStatistics& a, const XskStatistics& b) {
  return {a.rx_ring_full + b.rx_ring_full, a.fill_ring_empty + b.fill_ring_empty, a.other + b.other};
}

// An AF_XDP socket.
struct QueueStatus {
  uint32_t port = 0;
  uint32_t queue = 0;
  bool zero_copy = false;
  bool multi_buffer = false;
};

// received = consumed + transmitted + dropped_*, and what is in a worker's hands at the moment.
struct WorkerStatus {
  uint32_t index = 0;
  std::optional<unsigned> cpu;  // pinned to
  bool huge_pages = false;
  uint32_t frames_free = 0;
  uint32_t frames_total = 0;
  uint64_t received = 0;
  uint64_t received_bytes = 0;
  uint64_t consumed = 0;            // by handlers
  uint64_t transmitted = 0;         // handed to the kernel to be sent
  uint64_t dropped_handler = 0;     // not what the handler could deal with
  uint64_t dropped_no_handler = 0;  // the target has none any more
  uint64_t dropped_tx_full = 0;     // no room in the transmit ring
  uint64_t wakeups = 0;             // waits that ended with something to do
  XskStatistics kernel;             // of its sockets, closed ones too
  std::vector<QueueStatus> queues;
};

}  // namespace headgate
