// SPDX-License-Identifier: Apache-2.0
//
// A worker: one thread that reads AF_XDP sockets and has the handlers of steer targets deal with what comes. In
// its steady state it takes no lock, asks for no memory and makes no system call but those that wake the kernel up
// or wait for it; what changes its sockets or handlers is run by the thread itself, between two rounds.
#pragma once

#include <absl/functional/function_ref.h>
#include <absl/status/statusor.h>
#include <poll.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "agent/base/fd.h"
#include "agent/slowpath/frame_pool.h"
#include "agent/slowpath/handler.h"
#include "agent/slowpath/worker_status.h"
#include "agent/slowpath/xsk_socket.h"

namespace headgate {

// Steer targets that workers may know.
inline constexpr size_t kMaxTargets = HG_TARGET_PAGES * HG_TARGETS_PER_PAGE;

class Worker {
 public:
  struct Options {
    uint32_t index = 0;
    uint32_t queues = 1;          // that it has frames for
    std::optional<unsigned> cpu;  // to be pinned to
  };

  static absl::StatusOr<std::unique_ptr<Worker>> Start(const Options& options);
  // Sockets are to be taken off before, or what they have received is lost.
  ~Worker();

  // Each returns when the worker has done it. (any thread but the worker's; one at a time)
  // `beat`: where to tell the time that the queue is served. Lives as long as the socket.
  // Gives the socket's file descriptor, for the XSKMAP.
  absl::StatusOr<int> AddQueue(uint32_t port, uint32_t ifindex, uint32_t queue, std::atomic<uint64_t>* beat);
  // Deals with what has come yet, waits a moment for what is being sent, and closes the socket.
  void RemoveQueue(uint32_t port, uint32_t queue);
  // Null: the target has none.
  void SetHandler(uint32_t target, std::unique_ptr<Handler> handler);

  WorkerStatus Status();
  const Options& options() const { return options_; }

 private:
  struct Queue {
    uint32_t port = 0, queue = 0;
    std::unique_ptr<XskSocket> socket;
    std::atomic<uint64_t>* beat = nullptr;
  };
  static constexpr size_t kBatch = 64;

  Worker(const Options& options, std::unique_ptr<FramePool> pool) : options_(options), pool_(std::move(pool)) {}
  // Runs it on the worker's thread, and waits.
  void Do(absl::FunctionRef<void()> command);
  void RunCommand();
  void Run();
  // One round over all queues; the number of packets.
  size_t Serve();
  size_t ServeQueue(Queue& queue);
  // Hands packets to the handlers of their targets.
  void Handle(absl::Span<Packet> packets);
  // Does with a packet what its handler said.
  void Settle(Queue& queue, const Packet& packet);
  void Release(const Packet& packet);
  void Wait();
  void Beat();

  const Options options_;
  Fd wake_;  // an eventfd
  const std::unique_ptr<FramePool> pool_;
  std::vector<Queue> queues_;
  std::vector<pollfd> polled_;  // wake_, then the queues' sockets
  std::array<std::unique_ptr<Handler>, kMaxTargets> handlers_;
  std::array<Packet, kBatch> packets_;
  std::array<Segment, kBatch> segments_;
  WorkerStatus counters_;  // but for what Status fills in
  XskStatistics closed_;   // of sockets that are closed

  std::mutex mutex_;  // guards command_
  std::condition_variable done_;
  absl::FunctionRef<void()>* command_ = nullptr;  // null again when it is done
  std::atomic<bool> has_command_ = false;
  bool ending_ = false;  // of the worker's thread
  std::thread thread_;
};

}  // namespace headgate
