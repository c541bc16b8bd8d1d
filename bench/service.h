// SPDX-License-Identifier: Apache-2.0
//
// What is measured while datagrams come: it takes them, and delivers something for each.
#pragma once

#include <absl/status/statusor.h>

#include <sys/types.h>

#include <cstdint>
#include <vector>

namespace headgate::bench {

class Service {
 public:
  virtual ~Service() = default;

  // Counts begin anew.
  virtual absl::Status Begin() = 0;
  // What it has delivered since then: datagrams that the application has taken, or copies that have arrived.
  virtual absl::StatusOr<uint64_t> Delivered() = 0;
  // Once no more comes: an error when what came by the device, `sent` datagrams, and what became of them,
  // `replies` of which came back, do not add up.
  virtual absl::Status Check(uint64_t sent, uint64_t replies) = 0;
  // All its threads, and those that packets go through.
  virtual std::vector<pid_t> Threads() const = 0;
  virtual std::vector<pid_t> PacketThreads() const { return Threads(); }
};

}  // namespace headgate::bench
