// SPDX-License-Identifier: Apache-2.0
//
// Frames of a capture file, to be sent again.
#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace headgate::bench {

struct CapturedFrame {
  uint64_t time = 0;  // ns after the first; never before the frame that precedes it
  std::vector<uint8_t> bytes;
};

// All frames of a pcap or pcapng file of Ethernet, with times in microseconds or nanoseconds; at least one. Each
// has to be there whole, and be of 14 to `most` bytes; an error says which is not.
absl::StatusOr<std::vector<CapturedFrame>> ReadPcap(const std::string& path, uint32_t most);

}  // namespace headgate::bench
