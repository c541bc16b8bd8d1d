// SPDX-License-Identifier: Apache-2.0
//
// A worker: one thread that reads AF_XDP sockets and has the handlers of steer targets deal with what comes, its
// own or those of other workers that the target's packets are spread over. In its steady state it takes no lock,
// asks for no memory and makes no system call but those that wake the kernel or another worker up or wait for
// them; what changes its sockets or handlers is run by the thread itself, between two rounds.
#pragma once

#include <absl/functional/function_ref.h>
#include <absl/status/statusor.h>
#include <poll.h>

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "agent/base/fd.h"
#include "agent/slowpath/exchange.h"
#include "agent/slowpath/frame_pool.h"
#include "agent/slowpath/handler.h"
#include "agent/slowpath/spread.h"
#include "agent/slowpath/worker_status.h"
#include "agent/slowpath/xsk_socket.h"

namespace headgate {

// Targets that workers may know.
inline constexpr size_t kMaxTargets = HG_TARGETS;

// Where a target's packets go: workers first, first + 1 ... of `total` in a ring, `count` of them.
struct TargetSpread {
  SpreadMode mode = SpreadMode::kQueue;
  uint32_t first = 0, count = 1, total = 1;
  uint8_t shed_at = 0;  // of what another worker may have in hand, in 256ths; 0: all of it
  friend bool operator==(const TargetSpread&, const TargetSpread&) = default;
};

// What a queue shows to others than its worker. Lives as long as the socket.
struct QueueGauge {
  hg_queue* shown = nullptr;                  // to the data path
  std::atomic<uint64_t>* received = nullptr;  // packets
};

class Worker final : private Output {
 public:
  struct Options {
    uint32_t index = 0;
    uint32_t queues = 1;          // that it has all frames for; up to kQueuesPerShare times as many share them
    std::optional<unsigned> cpu;  // to be pinned to
    // Goes on looking for so long after the last packet before it sleeps.
    std::chrono::microseconds busy_poll{0};
  };

  static constexpr uint32_t kQueuesPerShare = 2;

  static absl::StatusOr<std::unique_ptr<Worker>> Start(const Options& options);
  // Sockets and peers are to be taken off before, or what they have received is lost.
  ~Worker() override;

  // Each returns when the worker has done it. (any thread but the worker's; one at a time)
  // `in_software`: packets of targets that leave it to us are spread by flow.
  // Gives the socket's file descriptor, for the XSKMAP.
  absl::StatusOr<int> AddQueue(uint32_t port, uint32_t ifindex, uint32_t queue, const QueueGauge& gauge,
                               bool in_software);
  // Deals with what has come yet, waits for what is being sent, and closes the socket.
  void RemoveQueue(uint32_t port, uint32_t queue, std::chrono::steady_clock::time_point deadline);
  // Until when sockets that are closed now are waited for.
  static std::chrono::steady_clock::time_point DrainDeadline();
  void SpreadInSoftware(uint32_t port, bool in_software);
  // Null: the target has none. Gives the former one.
  std::unique_ptr<Handler> SetHandler(uint32_t target, std::unique_ptr<Handler> handler);
  // False: the target's handler has to be made anew for that.
  bool Reconfigure(uint32_t target, const HandlerSetup& setup);
  void SetSpread(uint32_t target, const TargetSpread& spread);
  // By port id: the worker that sends for those that have no socket of it; kNobody.
  static constexpr uint16_t kNobody = 0xffff;
  void SetSenders(std::vector<uint16_t> senders);
  void AddPeer(const Exchange::Peer& peer);
  // Lends the peer nothing more, and waits a moment for what it has.
  void AwaitPeer(uint32_t worker);
  void RemovePeer(uint32_t worker);

  // What it had counted when it last came round, `stale`, where it does not within a second.
  WorkerStatus Status();
  Doorbell& bell() { return bell_; }
  const Options& options() const { return options_; }

 private:
  struct Queue {
    uint32_t port = 0, queue = 0;
    std::unique_ptr<XskSocket> socket;
    QueueGauge gauge;
    bool in_software = false;
    uint64_t received = 0;
    uint64_t looked = 0;  // as shown
    uint32_t lent = 0;    // packets that other workers have
    bool stuck = false;   // in this round: the kernel was asked to make room for more, and did not
    bool waits = false;   // in this round: its device took no more, the rest is for the round's end
  };
  struct Target {
    std::unique_ptr<Handler> handler;
    TargetSpread spread;
    uint32_t turn = 0;  // of round robin
  };
  struct Originator {
    Handler* handler = nullptr;
    uint32_t rest = 0;  // rounds until it is asked again
  };
  static constexpr size_t kBatch = 64;

  Worker(const Options& options, std::unique_ptr<FramePool> pool, Fd wake);
  // Runs it on the worker's thread, and waits. False: it was not begun for so long, and is not any more.
  bool Do(absl::FunctionRef<void()> command, std::optional<std::chrono::milliseconds> patience = {});
  void RunCommand();
  void Run();
  // After a change of queues or handlers.
  void WatchFiles();
  void Wait();
  void ClearKnocks();
  void Beat();
  bool IsSending() const;
  // Rounds as ever, but for commands.
  void ServeUntil(absl::FunctionRef<bool()> done, std::chrono::steady_clock::time_point deadline);

  // One round over all there is to do; the number of packets.
  size_t Serve();
  static void ShowWaiting(Queue& queue);
  size_t ServeQueue(Queue& queue);
  size_t TakeBack();
  size_t Borrow();
  size_t Originate();
  void Kick();
  // Hands packets to the handlers of their targets, or lends them to other workers'.
  void Handle(Queue& queue, absl::Span<Packet> packets);
  // Lends what others are to deal with. Those that are left are first; how many.
  size_t Distribute(Queue& queue, Target& target, SpreadMode mode, absl::Span<Packet> packets);
  void HandleHere(absl::Span<Packet> packets);
  // Does with a packet what its handler said. `queue`: it came by; null: closed since.
  void Settle(Queue* queue, const Packet& packet);
  Queue* Find(uint32_t port, uint32_t queue);
  Queue* FindPort(uint32_t port) {
    return port < HG_PORTS && by_port_[port] != 0 ? &queues_[by_port_[port] - 1] : nullptr;
  }
  // Takes the segments if there is room, for which the kernel is asked once a round at most without success.
  static bool Send(Queue& queue, absl::Span<const Segment> segments);
  // By the worker that has a socket of the port.
  bool TransmitElsewhere(uint32_t port, absl::Span<const Segment> segments);
  // For another worker, whose frames our sockets do not know.
  Disposition TransmitCopy(const Packet& packet);

  bool Take(Segment& segment) override;
  bool Transmit(uint32_t port, absl::Span<const Segment> segments) override;
  void Drop(absl::Span<const Segment> segments) override;
  void Refer(const Segment& segment) override { pool_->Refer(segment.address); }
  void Release(absl::Span<const Segment> segments) override;
  bool Sends(uint32_t port) const override;
  bool Gathers(uint32_t port) const override;

  const Options options_;
  const Fd wake_;  // an eventfd
  Doorbell bell_;
  const std::unique_ptr<FramePool> pool_;
  const uint32_t fill_share_;  // frames that each queue has to receive into
  uint64_t now_ = 0;           // as the data path's clock had it in this round
  std::vector<Queue> queues_;
  std::array<uint16_t, HG_PORTS> by_port_{};  // the first of its queues, from 1; 0: none
  std::vector<pollfd> polled_;                // wake_, the queues' sockets, the handlers'
  std::array<Target, kMaxTargets> targets_;
  std::vector<Originator> originators_;
  std::vector<uint16_t> senders_;  // by port
  Exchange exchange_;
  std::array<Packet, kBatch> packets_;
  std::array<Segment, kBatch> segments_;
  WorkerStatus counters_;  // but for what Status fills in
  XskStatistics closed_;   // of sockets that are closed
  WorkerStatus last_status_;

  std::mutex mutex_;  // guards command_
  std::condition_variable done_;
  absl::FunctionRef<void()>* command_ = nullptr;  // null again when it is done
  std::atomic<bool> has_command_ = false;
  bool ending_ = false;  // of the worker's thread
  std::thread thread_;
};

}  // namespace headgate
