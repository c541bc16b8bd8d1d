// SPDX-License-Identifier: Apache-2.0
#include "agent/slowpath/worker.h"

#include <absl/strings/str_cat.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>

#include "agent/base/log.h"
#include "agent/base/status.h"

namespace headgate {
namespace {

// Idle workers come round this often, or the data path takes them for dead (HG_BEAT_NS).
constexpr int kIdleMs = 200;
// While frames are being sent, nothing but a look tells that they have been.
constexpr int kSendingMs = 1;
// What is being sent when a socket is to be closed has so long to leave.
constexpr auto kDrain = std::chrono::milliseconds(500);

uint64_t Now() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Worker>> Worker::Start(const Options& options) {
  HG_ASSIGN_OR_RETURN(std::unique_ptr<FramePool> pool, FramePool::Create(options.queues * XskSocket::kFrames));
  std::unique_ptr<Worker> worker(new Worker(options, std::move(pool)));
  worker->wake_ = Fd(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!worker->wake_) return ErrnoStatus("make an eventfd for worker ", options.index);
  worker->polled_ = {{worker->wake_.get(), POLLIN, 0}};
  worker->thread_ = std::thread([raw = worker.get()] { raw->Run(); });
  const std::string name = absl::StrCat("hg-worker-", options.index);
  pthread_setname_np(worker->thread_.native_handle(), name.c_str());
  if (options.cpu) {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(*options.cpu, &cpus);
    if (const int error = pthread_setaffinity_np(worker->thread_.native_handle(), sizeof(cpus), &cpus);
        error != 0) {
      return ErrnoStatusOf(error, "pin worker ", options.index, " to CPU ", *options.cpu);
    }
  }
  return worker;
}

Worker::~Worker() {
  if (!thread_.joinable()) return;
  Do([this] { ending_ = true; });
  thread_.join();
}

void Worker::Do(absl::FunctionRef<void()> command) {
  std::unique_lock lock(mutex_);
  command_ = &command;
  has_command_.store(true, std::memory_order_release);
  const uint64_t one = 1;
  // Cannot fail: the counter is far from full.
  static_cast<void>(write(wake_.get(), &one, sizeof(one)) == sizeof(one));
  done_.wait(lock, [this] { return command_ == nullptr; });
}

void Worker::RunCommand() {
  if (!has_command_.load(std::memory_order_acquire)) return;
  {
    const std::lock_guard lock(mutex_);
    uint64_t count = 0;
    static_cast<void>(read(wake_.get(), &count, sizeof(count)) == sizeof(count));
    (*command_)();
    command_ = nullptr;
    has_command_.store(false, std::memory_order_relaxed);
  }
  done_.notify_all();
}

absl::StatusOr<int> Worker::AddQueue(uint32_t port, uint32_t ifindex, uint32_t queue,
                                     std::atomic<uint64_t>* beat) {
  absl::StatusOr<int> result;
  Do([&] {
    if (queues_.size() == options_.queues) {
      result = absl::ResourceExhaustedError(
          absl::StrCat("worker ", options_.index, " has frames for ", options_.queues, " queues"));
      return;
    }
    absl::StatusOr<std::unique_ptr<XskSocket>> socket = XskSocket::Open(*pool_, ifindex, queue);
    if (!socket.ok()) {
      result = socket.status();
      return;
    }
    result = (*socket)->fd();
    queues_.push_back({port, queue, std::move(*socket), beat});
    polled_.push_back({*result, POLLIN, 0});
    Beat();
  });
  return result;
}

void Worker::RemoveQueue(uint32_t port, uint32_t queue) {
  Do([&] {
    const auto found = std::find_if(queues_.begin(), queues_.end(),
                                    [&](const Queue& q) { return q.port == port && q.queue == queue; });
    if (found == queues_.end()) return;
    const auto deadline = std::chrono::steady_clock::now() + kDrain;
    while (ServeQueue(*found) != 0) Beat();
    // A device that is gone never hands back what it was sending.
    while (found->socket->in_flight() != 0 && std::chrono::steady_clock::now() < deadline) {
      found->socket->Kick();
      Beat();
    }
    closed_ = closed_ + found->socket->Statistics();
    polled_.erase(polled_.begin() + 1 + (found - queues_.begin()));
    queues_.erase(found);
  });
}

void Worker::SetHandler(uint32_t target, std::unique_ptr<Handler> handler) {
  // Swapped, so that the former is freed by the caller and not by the worker.
  Do([&] { std::swap(handlers_[target], handler); });
}

WorkerStatus Worker::Status() {
  WorkerStatus status;
  Do([&] {
    status = counters_;
    status.index = options_.index;
    status.cpu = options_.cpu;
    status.huge_pages = pool_->huge_pages();
    status.frames_free = pool_->free();
    status.frames_total = pool_->total();
    status.kernel = closed_;
    for (const Queue& queue : queues_) {
      status.kernel = status.kernel + queue.socket->Statistics();
      status.queues.push_back({queue.port, queue.queue, queue.socket->zero_copy(), queue.socket->multi_buffer()});
    }
  });
  return status;
}

void Worker::Run() {
  while (!ending_) {
    RunCommand();
    Beat();
    if (Serve() == 0 && !ending_) Wait();
  }
}

void Worker::Beat() {
  const uint64_t now = Now();
  for (const Queue& queue : queues_) queue.beat->store(now, std::memory_order_relaxed);
}

void Worker::Wait() {
  const bool sending =
      std::any_of(queues_.begin(), queues_.end(), [](const Queue& q) { return q.socket->in_flight() != 0; });
  if (poll(polled_.data(), polled_.size(), sending ? kSendingMs : kIdleMs) > 0) ++counters_.wakeups;
}

size_t Worker::Serve() {
  size_t count = 0;
  for (Queue& queue : queues_) count += ServeQueue(queue);
  return count;
}

size_t Worker::ServeQueue(Queue& queue) {
  const size_t count = queue.socket->Receive(absl::MakeSpan(packets_), absl::MakeSpan(segments_));
  const absl::Span<Packet> packets = absl::MakeSpan(packets_).first(count);
  Handle(packets);
  uint64_t bytes = 0;
  for (const Packet& packet : packets) {
    bytes += packet.length;
    Settle(queue, packet);
  }
  queue.socket->Kick();
  queue.socket->Fill();
  counters_.received += count;
  counters_.received_bytes += bytes;
  return count;
}

void Worker::Handle(absl::Span<Packet> packets) {
  while (!packets.empty()) {
    const uint16_t target = packets[0].meta.target;
    size_t count = 1;
    while (count < packets.size() && packets[count].meta.target == target) ++count;
    const absl::Span<Packet> same = packets.first(count);
    Handler* handler = target < kMaxTargets ? handlers_[target].get() : nullptr;
    if (handler != nullptr) {
      handler->Handle(same);
    } else {
      for (Packet& packet : same) packet.disposition = Disposition::kUnhandled;
    }
    packets.remove_prefix(count);
  }
}

void Worker::Settle(Queue& queue, const Packet& packet) {
  switch (packet.disposition) {
    case Disposition::kConsumed:
      ++counters_.consumed;
      return Release(packet);
    case Disposition::kDropped:
      ++counters_.dropped_handler;
      return Release(packet);
    case Disposition::kUnhandled:
      ++counters_.dropped_no_handler;
      return Release(packet);
    case Disposition::kReply:
      if (queue.socket->Transmit(packet)) {
        ++counters_.transmitted;
        return;
      }
      ++counters_.dropped_tx_full;
      return Release(packet);
  }
}

void Worker::Release(const Packet& packet) {
  for (const Segment& segment : packet.segments) pool_->Release(segment.address);
}

}  // namespace headgate
