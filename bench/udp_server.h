// SPDX-License-Identifier: Apache-2.0
//
// A UDP server of the usual kind, to compare with: a socket and a thread a CPU (SO_REUSEPORT), batches by recvmmsg
// and sendmmsg, a large receive buffer.
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

struct UdpServerOptions {
  std::string netns;  // see netns.h
  uint16_t port = 0;  // of all IPv4 addresses; 0: one that is free, when there is but one CPU
  bool echo = false;  // answer each datagram with itself; else only count
  std::vector<int> cpus = {0};
};

class UdpServer {
 public:
  static constexpr int kReceiveBuffer = 128 << 20;  // bytes asked for

  // Serving.
  static absl::StatusOr<std::unique_ptr<UdpServer>> Start(const UdpServerOptions& options);
  ~UdpServer();
  UdpServer(const UdpServer&) = delete;
  UdpServer& operator=(const UdpServer&) = delete;

  uint16_t port() const { return port_; }
  // Bytes that the kernel charges against; it doubles what it is asked for, for its own overhead (socket(7)).
  int receive_buffer() const { return receive_buffer_; }
  // Datagrams, at any time.
  uint64_t received() const;
  uint64_t replied() const;
  std::vector<pid_t> threads() const;

 private:
  struct Thread {
    Fd socket;
    std::thread thread;
    std::atomic<pid_t> id = 0;
    std::atomic<uint64_t> received = 0, replied = 0;
    absl::Status status;  // of how it began
  };

  explicit UdpServer(const UdpServerOptions& options) : options_(options), port_(options.port) {}
  absl::Status OpenSocket(Thread& thread);
  void Serve(Thread& thread) const;

  UdpServerOptions options_;
  uint16_t port_;
  int receive_buffer_ = 0;
  std::atomic<bool> stop_ = false;
  std::vector<std::unique_ptr<Thread>> threads_;
};

}  // namespace headgate::bench
