// SPDX-License-Identifier: Apache-2.0
#include "bench/udp_server.h"

#include <absl/strings/str_cat.h>
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>

#include "agent/base/status.h"
#include "bench/netns.h"

namespace headgate::bench {
namespace {

constexpr unsigned kBatch = 64;
constexpr size_t kDatagramBytes = 2048;  // what is longer is cut off

// Messages with their buffers, which the kernel fills.
struct Batch {
  std::array<std::array<uint8_t, kDatagramBytes>, kBatch> bytes;
  std::array<sockaddr_in, kBatch> peers;
  std::array<iovec, kBatch> vectors;
  std::array<mmsghdr, kBatch> messages{};

  Batch() {
    for (size_t i = 0; i < kBatch; ++i) {
      vectors[i] = {bytes[i].data(), kDatagramBytes};
      messages[i].msg_hdr.msg_name = &peers[i];
      messages[i].msg_hdr.msg_iov = &vectors[i];
      messages[i].msg_hdr.msg_iovlen = 1;
      Reset(i);
    }
  }
  void Reset(size_t i) {
    vectors[i].iov_len = kDatagramBytes;
    messages[i].msg_hdr.msg_namelen = sizeof(sockaddr_in);
  }
};

// How many were sent.
unsigned Answer(int socket, Batch& batch, unsigned count) {
  for (size_t i = 0; i < count; ++i) batch.vectors[i].iov_len = batch.messages[i].msg_len;
  unsigned sent = 0, done = 0;
  while (done < count) {
    const int result = sendmmsg(socket, batch.messages.data() + done, count - done, 0);
    // The message at fault is skipped.
    sent += result > 0 ? static_cast<unsigned>(result) : 0;
    done += result > 0 ? static_cast<unsigned>(result) : 1;
  }
  for (size_t i = 0; i < count; ++i) batch.Reset(i);
  return sent;
}

}  // namespace

absl::StatusOr<std::unique_ptr<UdpServer>> UdpServer::Start(const UdpServerOptions& options) {
  std::unique_ptr<UdpServer> server(new UdpServer(options));
  for (size_t i = 0; i < options.cpus.size(); ++i) {
    server->threads_.push_back(std::make_unique<Thread>());
    Thread& thread = *server->threads_.back();
    HG_RETURN_IF_ERROR(InNamespace(options.netns, [&] { return server->OpenSocket(thread); }));
    const int cpu = options.cpus[i];
    thread.thread = std::thread([raw = server.get(), &thread, cpu] {
      thread.status = Schedule(0, {.cpu = cpu});
      thread.id.store(gettid());
      thread.id.notify_one();
      if (thread.status.ok()) raw->Serve(thread);
    });
    thread.id.wait(0);
    HG_RETURN_IF_ERROR(thread.status);
  }
  return server;
}

absl::Status UdpServer::OpenSocket(Thread& thread) {
  thread.socket = Fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const int fd = thread.socket.get(), on = 1;
  sockaddr_in address{.sin_family = AF_INET, .sin_port = htons(port_), .sin_addr = {}, .sin_zero = {}};
  socklen_t length = sizeof(address), buffer_length = sizeof(receive_buffer_);
  if (!thread.socket || setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) != 0 ||
      bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
      getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    return ErrnoStatus("open a socket of UDP port ", port_);
  }
  port_ = ntohs(address.sin_port);
  // Beyond net.core.rmem_max, which only root may.
  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &kReceiveBuffer, sizeof(kReceiveBuffer)) != 0 ||
      getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer_, &buffer_length) != 0) {
    return ErrnoStatus("give a socket a receive buffer of ", kReceiveBuffer, " bytes");
  }
  return absl::OkStatus();
}

UdpServer::~UdpServer() {
  stop_.store(true, std::memory_order_relaxed);
  // Wakes up who waits for datagrams, though it says that such a socket cannot be shut down.
  for (const auto& thread : threads_) shutdown(thread->socket.get(), SHUT_RD);
  for (const auto& thread : threads_) {
    if (thread->thread.joinable()) thread->thread.join();
  }
}

void UdpServer::Serve(Thread& thread) const {
  const auto batch = std::make_unique<Batch>();
  uint64_t received = 0, replied = 0;
  while (!stop_.load(std::memory_order_relaxed)) {
    const int count = recvmmsg(thread.socket.get(), batch->messages.data(), kBatch, MSG_WAITFORONE, nullptr);
    if (count <= 0 || stop_.load(std::memory_order_relaxed)) continue;
    received += static_cast<unsigned>(count);
    thread.received.store(received, std::memory_order_relaxed);
    if (!options_.echo) continue;
    replied += Answer(thread.socket.get(), *batch, static_cast<unsigned>(count));
    thread.replied.store(replied, std::memory_order_relaxed);
  }
}

uint64_t UdpServer::received() const {
  uint64_t sum = 0;
  for (const auto& thread : threads_) sum += thread->received.load(std::memory_order_relaxed);
  return sum;
}

uint64_t UdpServer::replied() const {
  uint64_t sum = 0;
  for (const auto& thread : threads_) sum += thread->replied.load(std::memory_order_relaxed);
  return sum;
}

std::vector<pid_t> UdpServer::threads() const {
  std::vector<pid_t> ids;
  for (const auto& thread : threads_) ids.push_back(thread->id.load());
  return ids;
}

}  // namespace headgate::bench
