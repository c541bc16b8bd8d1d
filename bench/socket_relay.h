// SPDX-License-Identifier: Apache-2.0
//
// A multicast relay of the usual kind, to compare with: one socket that is a member of the group, one connected
// socket a leg, batches by recvmmsg and sendmmsg, large buffers.
#pragma once

#include <absl/status/statusor.h>

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "agent/base/fd.h"

namespace headgate::bench {

// Where a copy goes: by a device to an IPv4 group.
struct SocketLeg {
  std::string device;
  std::string group;
};

struct SocketRelayOptions {
  std::string netns;   // see netns.h
  std::string device;  // that datagrams come in by
  std::string group;   // of IPv4
  uint16_t port = 0;   // of the group, and of copies
  std::vector<SocketLeg> legs;
  int cpu = 0;
};

class SocketRelay {
 public:
  static constexpr unsigned kBatch = 64;
  static constexpr int kReceiveBuffer = 128 << 20, kSendBuffer = 4 << 20;  // bytes asked for
  // Of more legs it has that much less to receive into: what waits there takes seconds to be copied as it is.
  static constexpr int kLegsOfFullBuffer = 50;
  static constexpr int kTtl = 63;

  // Relaying.
  static absl::StatusOr<std::unique_ptr<SocketRelay>> Start(const SocketRelayOptions& options);
  ~SocketRelay();
  SocketRelay(const SocketRelay&) = delete;
  SocketRelay& operator=(const SocketRelay&) = delete;

  // At any time: datagrams that came, copies that the kernel took, and those that it did not.
  uint64_t received() const { return received_.load(std::memory_order_relaxed); }
  uint64_t sent() const { return sent_.load(std::memory_order_relaxed); }
  uint64_t refused() const { return refused_.load(std::memory_order_relaxed); }
  pid_t thread() const { return id_.load(); }

 private:
  struct Batch;

  explicit SocketRelay(const SocketRelayOptions& options) : options_(options) {}
  absl::Status OpenSockets();
  absl::Status OpenInput();
  absl::Status OpenLeg(const SocketLeg& leg);
  void Relay();
  // How many were sent.
  static unsigned SendAll(int socket, Batch& batch, unsigned count);

  SocketRelayOptions options_;
  Fd input_;
  std::vector<Fd> legs_;
  std::atomic<bool> stop_ = false;
  std::atomic<uint64_t> received_ = 0, sent_ = 0, refused_ = 0;
  std::atomic<pid_t> id_ = 0;
  absl::Status status_;  // of how the thread began
  std::thread thread_;
};

}  // namespace headgate::bench
