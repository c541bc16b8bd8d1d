// SPDX-License-Identifier: Apache-2.0
#include "bench/socket_relay.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "agent/base/status.h"
#include "bench/netns.h"

namespace headgate::bench {
namespace {

constexpr size_t kDatagramBytes = 2048;  // what is longer is cut off

absl::StatusOr<sockaddr_in> ToAddress(const std::string& group, uint16_t port) {
  sockaddr_in address{.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {}, .sin_zero = {}};
  if (inet_pton(AF_INET, group.c_str(), &address.sin_addr) == 1) return address;
  return absl::InvalidArgumentError(group + " is no IPv4 address");
}

template <typename Value>
bool Set(const Fd& socket, int level, int option, const Value& value) {
  return setsockopt(socket.get(), level, option, &value, sizeof(value)) == 0;
}

ip_mreqn Membership(in_addr group, const std::string& device) {
  return {
      .imr_multiaddr = group, .imr_address = {}, .imr_ifindex = static_cast<int>(if_nametoindex(device.c_str()))};
}

const sockaddr* Plain(const sockaddr_in& address) { return reinterpret_cast<const sockaddr*>(&address); }

}  // namespace

// Messages with their buffers, which the kernel fills.
struct SocketRelay::Batch {
  std::array<std::array<uint8_t, kDatagramBytes>, kBatch> bytes;
  std::array<iovec, kBatch> vectors;
  std::array<mmsghdr, kBatch> messages{};

  Batch() {
    for (size_t i = 0; i < kBatch; ++i) {
      vectors[i] = {bytes[i].data(), kDatagramBytes};
      messages[i].msg_hdr.msg_iov = &vectors[i];
      messages[i].msg_hdr.msg_iovlen = 1;
    }
  }
};

absl::StatusOr<std::unique_ptr<SocketRelay>> SocketRelay::Start(const SocketRelayOptions& options) {
  std::unique_ptr<SocketRelay> relay(new SocketRelay(options));
  HG_RETURN_IF_ERROR(InNamespace(options.netns, [&] { return relay->OpenSockets(); }));
  relay->thread_ = std::thread([raw = relay.get()] {
    raw->status_ = Schedule(0, {.cpu = raw->options_.cpu});
    raw->id_.store(gettid());
    raw->id_.notify_one();
    if (raw->status_.ok()) raw->Relay();
  });
  relay->id_.wait(0);
  HG_RETURN_IF_ERROR(relay->status_);
  return relay;
}

absl::Status SocketRelay::OpenSockets() {
  HG_RETURN_IF_ERROR(OpenInput());
  for (const SocketLeg& leg : options_.legs) HG_RETURN_IF_ERROR(OpenLeg(leg));
  return absl::OkStatus();
}

absl::Status SocketRelay::OpenInput() {
  HG_ASSIGN_OR_RETURN(const sockaddr_in group, ToAddress(options_.group, options_.port));
  input_ = Fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!input_ || !Set(input_, SOL_SOCKET, SO_REUSEADDR, 1) || !Set(input_, IPPROTO_IP, IP_MULTICAST_ALL, 0) ||
      bind(input_.get(), Plain(group), sizeof(group)) != 0) {
    return ErrnoStatus("open a socket of ", options_.group, ", port ", options_.port);
  }
  if (!Set(input_, IPPROTO_IP, IP_ADD_MEMBERSHIP, Membership(group.sin_addr, options_.device))) {
    return ErrnoStatus("join ", options_.group, " at ", options_.device);
  }
  const int legs = std::max(kLegsOfFullBuffer, static_cast<int>(options_.legs.size()));
  const int bytes = kReceiveBuffer / legs * kLegsOfFullBuffer;
  // Beyond net.core.rmem_max, which only root may.
  if (!Set(input_, SOL_SOCKET, SO_RCVBUFFORCE, bytes)) {
    return ErrnoStatus("give a socket a receive buffer of ", bytes, " bytes");
  }
  return absl::OkStatus();
}

absl::Status SocketRelay::OpenLeg(const SocketLeg& leg) {
  HG_ASSIGN_OR_RETURN(const sockaddr_in group, ToAddress(leg.group, options_.port));
  Fd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd || !Set(fd, IPPROTO_IP, IP_MULTICAST_IF, Membership(group.sin_addr, leg.device)) ||
      !Set(fd, IPPROTO_IP, IP_MULTICAST_TTL, kTtl) || !Set(fd, IPPROTO_IP, IP_MULTICAST_LOOP, 0) ||
      !Set(fd, SOL_SOCKET, SO_SNDBUFFORCE, kSendBuffer) || connect(fd.get(), Plain(group), sizeof(group)) != 0) {
    return ErrnoStatus("open a socket that sends to ", leg.group, " by ", leg.device);
  }
  legs_.push_back(std::move(fd));
  return absl::OkStatus();
}

SocketRelay::~SocketRelay() {
  stop_.store(true, std::memory_order_relaxed);
  // Wakes up who waits for datagrams, though it says that such a socket cannot be shut down.
  shutdown(input_.get(), SHUT_RD);
  if (thread_.joinable()) thread_.join();
}

unsigned SocketRelay::SendAll(int socket, Batch& batch, unsigned count) {
  unsigned sent = 0;
  for (unsigned done = 0; done < count;) {
    const int result = sendmmsg(socket, batch.messages.data() + done, count - done, MSG_DONTWAIT);
    // The message at fault is skipped.
    sent += result > 0 ? static_cast<unsigned>(result) : 0;
    done += result > 0 ? static_cast<unsigned>(result) : 1;
  }
  return sent;
}

void SocketRelay::Relay() {
  const auto batch = std::make_unique<Batch>();
  uint64_t received = 0, sent = 0;
  while (!stop_.load(std::memory_order_relaxed)) {
    for (iovec& vector : batch->vectors) vector.iov_len = kDatagramBytes;
    const int result = recvmmsg(input_.get(), batch->messages.data(), kBatch, MSG_WAITFORONE, nullptr);
    if (result <= 0 || stop_.load(std::memory_order_relaxed)) continue;
    const auto count = static_cast<unsigned>(result);
    for (size_t i = 0; i < count; ++i) batch->vectors[i].iov_len = batch->messages[i].msg_len;
    for (const Fd& leg : legs_) sent += SendAll(leg.get(), *batch, count);
    received += count;
    refused_.store(received * legs_.size() - sent, std::memory_order_relaxed);
    sent_.store(sent, std::memory_order_relaxed);
    received_.store(received, std::memory_order_relaxed);
  }
}

}  // namespace headgate::bench
