// SPDX-License-Identifier: Apache-2.0
#include "tests/harness/wire.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "tests/harness/lab.h"

namespace headgate::testing {
namespace {

constexpr int kReceiveBuffer = 64 << 20;
constexpr size_t kTagAt = 12, kTagBytes = 4;

// The kernel takes the outer tag off before a packet socket sees the frame, and says which it was.
void PutBackTag(const msghdr& message, Bytes& frame) {
  for (const cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr;
       part = CMSG_NXTHDR(const_cast<msghdr*>(&message), const_cast<cmsghdr*>(part))) {
    if (part->cmsg_level != SOL_PACKET || part->cmsg_type != PACKET_AUXDATA) continue;
    tpacket_auxdata facts{};
    std::memcpy(&facts, CMSG_DATA(part), sizeof(facts));
    if ((facts.tp_status & TP_STATUS_VLAN_VALID) == 0 || frame.size() < kTagAt) continue;
    const uint16_t tpid = (facts.tp_status & TP_STATUS_VLAN_TPID_VALID) != 0 ? facts.tp_vlan_tpid : ETH_P_8021Q;
    const uint8_t tag[kTagBytes] = {static_cast<uint8_t>(tpid >> 8), static_cast<uint8_t>(tpid),
                                    static_cast<uint8_t>(facts.tp_vlan_tci >> 8),
                                    static_cast<uint8_t>(facts.tp_vlan_tci)};
    frame.insert(frame.begin() + kTagAt, tag, tag + kTagBytes);
  }
}

}  // namespace

Wire::Wire(const std::string& netns, const std::string& device) {
  const InNetns inside(netns);
  socket_ = Fd(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(ETH_P_ALL)));
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(ETH_P_ALL);
  address.sll_ifindex = static_cast<int>(if_nametoindex(device.c_str()));
  const int on = 1;
  setsockopt(socket_.get(), SOL_SOCKET, SO_RCVBUFFORCE, &kReceiveBuffer, sizeof(kReceiveBuffer));
  setsockopt(socket_.get(), SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on));
  setsockopt(socket_.get(), SOL_PACKET, PACKET_AUXDATA, &on, sizeof(on));
  if (!socket_ || address.sll_ifindex == 0 ||
      bind(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
    throw std::runtime_error("no raw socket on " + device + ": " + std::strerror(errno));
  }
}

void Wire::Send(const Bytes& frame) {
  bool was_down = false;
  while (send(socket_.get(), frame.data(), frame.size(), 0) < 0) {
    // Of a device that went down meanwhile the socket tells once, though it be up again.
    if (errno == ENETDOWN && !was_down) {
      was_down = true;
      continue;
    }
    if (errno != EAGAIN && errno != ENOBUFS && errno != EINTR) {
      throw std::runtime_error(std::string("send: ") + std::strerror(errno));
    }
    pollfd ready{socket_.get(), POLLOUT, 0};
    poll(&ready, 1, 100);
  }
}

std::optional<Bytes> Wire::Receive(const std::function<bool(const Bytes&)>& wanted,
                                   std::chrono::milliseconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  Bytes frame;
  while (true) {
    frame.resize(65536);
    iovec room{frame.data(), frame.size()};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(tpacket_auxdata))];
    msghdr message{.msg_iov = &room, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
    const ssize_t size = recvmsg(socket_.get(), &message, 0);
    if (size >= 0) {
      frame.resize(static_cast<size_t>(size));
      PutBackTag(message, frame);
      if (wanted(frame)) return frame;
      continue;
    }
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) return std::nullopt;
    pollfd ready{socket_.get(), POLLIN, 0};
    poll(&ready, 1, static_cast<int>(left.count()));
  }
}

size_t Wire::ReceiveCount(const std::function<bool(const Bytes&)>& wanted, size_t count,
                          std::chrono::milliseconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  size_t received = 0;
  while (received < count) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    if (!Receive(wanted, std::max(left, std::chrono::milliseconds(0)))) break;
    ++received;
  }
  return received;
}

std::function<bool(const Bytes&)> CarriesPayload(Bytes payload) {
  return [payload = std::move(payload)](const Bytes& frame) {
    return std::search(frame.begin(), frame.end(), payload.begin(), payload.end()) != frame.end();
  };
}

bool IsIp(const Bytes& frame, uint8_t protocol) {
  return frame.size() >= 34 && frame[12] == 8 && frame[13] == 0 && frame[23] == protocol;
}

}  // namespace headgate::testing
