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
// For what handlers send, and what other workers have in hand.
constexpr uint32_t kSpareFrames = 4096;
// What is being sent when a socket is to be closed has so long to leave.
constexpr auto kDrain = std::chrono::milliseconds(500);
// A worker that has not come round for so long hangs.
constexpr auto kPatience = std::chrono::milliseconds(1000);

// Every socket pins all of them, so that there is an end to what many queues get.
constexpr uint32_t kMostFrames = 1U << 17;

uint32_t FramesFor(uint32_t queues) { return std::min(queues * XskSocket::kFrames, kMostFrames) + kSpareFrames; }

uint64_t Now() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace

Worker::Worker(const Options& options, std::unique_ptr<FramePool> pool, Fd wake)
    : options_(options),
      wake_(std::move(wake)),
      bell_(wake_.get()),
      pool_(std::move(pool)),
      fill_share_(std::min(XskSocket::kRing,
                           (pool_->total() - kSpareFrames) / kQueuesPerShare / std::max(1U, options.queues))) {
  WatchFiles();
}

absl::StatusOr<std::unique_ptr<Worker>> Worker::Start(const Options& options) {
  HG_ASSIGN_OR_RETURN(std::unique_ptr<FramePool> pool, FramePool::Create(FramesFor(options.queues), options.cpu));
  Fd wake(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!wake) return ErrnoStatus("make an eventfd for worker ", options.index);
  std::unique_ptr<Worker> worker(new Worker(options, std::move(pool), std::move(wake)));
  worker->thread_ = std::thread([raw = worker.get()] { raw->Run(); });
  const std::string name = absl::StrCat("hg-worker-", options.index);
  pthread_setname_np(worker->thread_.native_handle(), name.c_str());
  if (options.cpu) {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(*options.cpu, &cpus);
    if (const int error = pthread_setaffinity_np(worker->thread_.native_handle(), sizeof(cpus), &cpus);
        error != 0) {
      return StatusOfErrno(error, "pin worker ", options.index, " to CPU ", *options.cpu);
    }
  }
  return worker;
}

Worker::~Worker() {
  if (!thread_.joinable()) return;
  Do([this] { ending_ = true; });
  thread_.join();
}

bool Worker::Do(absl::FunctionRef<void()> command, std::optional<std::chrono::milliseconds> patience) {
  std::unique_lock lock(mutex_);
  command_ = &command;
  has_command_.store(true, std::memory_order_release);
  const uint64_t one = 1;
  // Cannot fail: the counter is far from full.
  static_cast<void>(write(wake_.get(), &one, sizeof(one)) == sizeof(one));
  const auto done = [this] { return command_ == nullptr; };
  if (!patience.has_value()) {
    done_.wait(lock, done);
  } else if (!done_.wait_for(lock, *patience, done)) {
    // It has not begun: it would have the lock.
    command_ = nullptr;
    has_command_.store(false, std::memory_order_relaxed);
    return false;
  }
  return true;
}

void Worker::RunCommand() {
  if (!has_command_.load(std::memory_order_acquire)) return;
  {
    const std::lock_guard lock(mutex_);
    // Its knock is no reason to wake up later. Peers' knocks go with it: their mail is looked for before a sleep.
    ClearKnocks();
    if (command_ == nullptr) return;  // whoever gave it waits no more
    (*command_)();
    command_ = nullptr;
    has_command_.store(false, std::memory_order_relaxed);
  }
  done_.notify_all();
}

absl::StatusOr<int> Worker::AddQueue(uint32_t port, uint32_t ifindex, uint32_t queue, const QueueGauge& gauge,
                                     bool in_software) {
  absl::StatusOr<int> result;
  Do([&] {
    if (queues_.size() == options_.queues * kQueuesPerShare) {
      result = absl::ResourceExhaustedError(
          absl::StrCat("worker ", options_.index, " has frames for ", options_.queues, " queues"));
      return;
    }
    absl::StatusOr<std::unique_ptr<XskSocket>> socket = XskSocket::Open(
        *pool_, ifindex, queue, {.fill = fill_share_, .busy_poll = options_.busy_poll.count() != 0});
    if (!socket.ok()) {
      result = socket.status();
      return;
    }
    result = (*socket)->fd();
    const uint32_t flags = (*socket)->multi_buffer() ? HG_QUEUE_FRAGS : 0;
    std::atomic_ref(gauge.shown->flags).store(flags, std::memory_order_relaxed);
    queues_.push_back({port, queue, std::move(*socket), gauge, in_software});
    WatchFiles();
    now_ = 0;
    Beat();
  });
  return result;
}

void Worker::RemoveQueue(uint32_t port, uint32_t queue, std::chrono::steady_clock::time_point deadline) {
  Do([&] {
    Queue* found = Find(port, queue);
    if (found == nullptr) return;
    // A device that is gone never hands back what it was sending; a worker that hangs has what was lent to it.
    ServeUntil(
        [&] { return found->socket->waiting() == 0 && found->socket->in_flight() == 0 && found->lent == 0; },
        deadline);
    closed_ = closed_ + found->socket->Statistics();
    queues_.erase(queues_.begin() + (found - queues_.data()));
    WatchFiles();
  });
}

void Worker::SpreadInSoftware(uint32_t port, bool in_software) {
  Do([&] {
    for (Queue& queue : queues_) {
      if (queue.port == port) queue.in_software = in_software;
    }
  });
}

std::unique_ptr<Handler> Worker::SetHandler(uint32_t target, std::unique_ptr<Handler> handler) {
  Do([&] {
    std::swap(targets_[target].handler, handler);
    originators_.clear();
    for (const Target& known : targets_) {
      if (known.handler != nullptr && known.handler->fd() >= 0) originators_.push_back({known.handler.get()});
    }
    WatchFiles();
  });
  return handler;
}

bool Worker::Reconfigure(uint32_t target, const HandlerSetup& setup) {
  bool done = false;
  Do([&] { done = targets_[target].handler->Reconfigure(setup); });
  return done;
}

void Worker::SetSpread(uint32_t target, const TargetSpread& spread) {
  Do([&] { targets_[target].spread = spread; });
}

void Worker::SetSenders(std::vector<uint16_t> senders) {
  Do([&] { std::swap(senders_, senders); });
}

void Worker::AddPeer(const Exchange::Peer& peer) {
  Do([&] { exchange_.Add(peer); });
}

void Worker::AwaitPeer(uint32_t worker) {
  Do([&] {
    exchange_.Close(worker);
    ServeUntil([&] { return exchange_.lent_to(worker) == 0; }, DrainDeadline());
  });
}

void Worker::RemovePeer(uint32_t worker) {
  Do([&] { exchange_.Remove(worker); });
}

std::chrono::steady_clock::time_point Worker::DrainDeadline() { return std::chrono::steady_clock::now() + kDrain; }

void Worker::ServeUntil(absl::FunctionRef<bool()> done, std::chrono::steady_clock::time_point deadline) {
  while (!done() && std::chrono::steady_clock::now() < deadline) {
    Serve();
    Beat();
  }
}

WorkerStatus Worker::Status() {
  const auto read = [this] {
    WorkerStatus status = counters_;
    status.index = options_.index;
    status.cpu = options_.cpu;
    status.huge_pages = pool_->huge_pages();
    status.frames_free = pool_->free();
    status.frames_total = pool_->total();
    status.lent = exchange_.lent();
    status.frames_held = status.lent;
    status.kernel = closed_;
    timespec cpu{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu);
    status.cpu_seconds = static_cast<double>(cpu.tv_sec) + static_cast<double>(cpu.tv_nsec) / 1e9;
    for (const Queue& queue : queues_) {
      status.kernel = status.kernel + queue.socket->Statistics();
      status.waiting += queue.socket->waiting();
      status.frames_held += queue.socket->held_frames();
      status.queues.push_back({queue.port, queue.queue, queue.socket->zero_copy(), queue.socket->multi_buffer(),
                               queue.in_software, queue.received});
    }
    return status;
  };
  last_status_.stale = !Do([&] { last_status_ = read(); }, kPatience);
  return last_status_;
}

void Worker::Run() {
  auto worked = std::chrono::steady_clock::now();
  for (RunCommand(); !ending_; RunCommand()) {
    Beat();
    const bool busy = Serve() != 0;
    if (options_.busy_poll.count() == 0) {
      if (!busy) Wait();
      continue;
    }
    const auto now = std::chrono::steady_clock::now();
    if (busy) {
      worked = now;
    } else if (now - worked < options_.busy_poll) {
      for (Queue& queue : queues_) queue.socket->BusyPoll();
    } else {
      Wait();
    }
  }
}

void Worker::Beat() {
  const uint64_t now = Now();
  // Once a tick: others read it for every packet.
  if (now == now_) return;
  now_ = now;
  bell_.Beat(now);
  for (const Queue& queue : queues_)
    std::atomic_ref(queue.gauge.shown->beat).store(now, std::memory_order_relaxed);
}

void Worker::WatchFiles() {
  by_port_.fill(0);
  for (size_t i = queues_.size(); i-- != 0;) by_port_[queues_[i].port] = static_cast<uint16_t>(i + 1);
  polled_ = {{wake_.get(), POLLIN, 0}};
  for (const Queue& queue : queues_) polled_.push_back({queue.socket->fd(), POLLIN, 0});
  for (const Originator& originator : originators_) polled_.push_back({originator.handler->fd(), POLLIN, 0});
}

bool Worker::IsSending() const {
  return std::any_of(queues_.begin(), queues_.end(), [](const Queue& q) { return q.socket->in_flight() != 0; });
}

void Worker::ClearKnocks() {
  uint64_t count = 0;
  static_cast<void>(read(wake_.get(), &count, sizeof(count)) == sizeof(count));
}

void Worker::Wait() {
  bell_.SetSleeping(true);
  if (!exchange_.HasMail()) {
    if (poll(polled_.data(), polled_.size(), IsSending() ? kSendingMs : kIdleMs) > 0) ++counters_.wakeups;
    if (polled_[0].revents != 0) ClearKnocks();
  }
  bell_.SetSleeping(false);
  for (Originator& originator : originators_) originator.rest = 0;
}

}  // namespace headgate
