// SPDX-License-Identifier: Apache-2.0
//
// What workers have done, for who shows it.
#pragma once

#include <absl/status/status.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "bpf/hg_abi.h"

namespace headgate {

// Packets that the kernel had for a socket and could not deliver, by its own counters (XDP_STATISTICS).
struct XskStatistics {
  uint64_t rx_ring_full = 0;
  uint64_t fill_ring_empty = 0;
  uint64_t other =
      0;  // larger than a frame where packets of several are not to be had; bad descriptors, sent ones too
};

inline XskStatistics operator+(const XskStatistics& a, const XskStatistics& b) {
  return {a.rx_ring_full + b.rx_ring_full, a.fill_ring_empty + b.fill_ring_empty, a.other + b.other};
}

// Descriptors that an AF_XDP socket's receive ring has room for.
inline constexpr uint32_t kReceiveRing = HG_QUEUE_RING;

// An AF_XDP socket.
struct QueueStatus {
  uint32_t port = 0;
  uint32_t queue = 0;
  bool zero_copy = false;
  bool multi_buffer = false;
  bool in_software = false;  // its packets are spread over workers by flow
  uint64_t received = 0;
};

// received + originated = consumed + transmitted + dropped_*, lent, and what is in a worker's hands at the moment.
struct WorkerStatus {
  uint32_t index = 0;
  bool stale = false;           // it hangs: all is as of when it last came round
  std::optional<unsigned> cpu;  // pinned to
  bool huge_pages = false;
  uint32_t frames_free = 0;
  uint32_t frames_held = 0;  // by sockets and other workers; free + held = total
  uint32_t frames_total = 0;
  uint64_t received = 0;
  uint64_t received_bytes = 0;
  uint64_t originated = 0;          // frames that handlers made
  uint64_t processed = 0;           // by handlers, packets of other workers among them
  uint64_t consumed = 0;            // by handlers
  uint64_t transmitted = 0;         // handed to the kernel to be sent
  uint64_t dropped_handler = 0;     // not what the handler could deal with
  uint64_t dropped_no_handler = 0;  // the target has none any more
  uint64_t dropped_tx_full = 0;     // no room in the transmit ring, or no socket to send by
  uint64_t dropped_overload = 0;    // for a worker with too much in hand for the target's priority
  uint64_t dropped_handover = 0;    // for a worker without room for more
  uint32_t lent = 0;                // segments that other workers have in hand
  double cpu_seconds = 0;
  uint32_t waiting = 0;  // descriptors in receive rings
  uint64_t wakeups = 0;  // waits that ended with something to do
  XskStatistics kernel;  // of its sockets, closed ones too
  std::vector<QueueStatus> queues;
};

// What is not as wanted at the moment; empty: all is. By ids.
struct SlowPathTroubles {
  std::map<uint32_t, absl::Status> ports;    // why queues of a port are not read
  std::map<uint32_t, absl::Status> targets;  // why a target has no handler
  std::map<uint32_t, std::string> spread;    // why packets of a port are spread in software
};

}  // namespace headgate
