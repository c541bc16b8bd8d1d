// SPDX-License-Identifier: Apache-2.0
//
// A receiver of multicast as applications are: a socket of the kernel's that joins a group.
#pragma once

#include <arpa/inet.h>
#include <net/if.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <chrono>
#include <cstring>
#include <stdexcept>
#include <string>

#include "agent/base/fd.h"
#include "tests/harness/lab.h"

namespace headgate::testing {

class ListenerHost {
 public:
  // On the device eth0 of a namespace (full name), port 5001. `source`: the one sender; empty: all.
  ListenerHost(const std::string& netns, const std::string& group, const std::string& source)
      : ipv6_(group.find(':') != std::string::npos) {
    const InNetns inside(netns);
    device_ = if_nametoindex("eth0");
    socket_ = Fd(::socket(ipv6_ ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const int on = 1;
    setsockopt(socket_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    const sockaddr_storage address = AddressOf(group, kPort);
    const socklen_t length = ipv6_ ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
    if (bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), length) != 0) Fail("bind to " + group);
    const int level = ipv6_ ? static_cast<int>(IPPROTO_IPV6) : static_cast<int>(IPPROTO_IP);
    int result = 0;
    if (source.empty()) {
      group_req request{};
      request.gr_interface = device_;
      request.gr_group = AddressOf(group, 0);
      result = setsockopt(socket_.get(), level, MCAST_JOIN_GROUP, &request, sizeof(request));
    } else {
      group_source_req request{};
      request.gsr_interface = device_;
      request.gsr_group = AddressOf(group, 0);
      request.gsr_source = AddressOf(source, 0);
      result = setsockopt(socket_.get(), level, MCAST_JOIN_SOURCE_GROUP, &request, sizeof(request));
    }
    if (result != 0) Fail("join " + group);
  }

  // All but this sender, from now on.
  void Block(const std::string& group, const std::string& source) {
    group_source_req request{};
    request.gsr_interface = device_;
    request.gsr_group = AddressOf(group, 0);
    request.gsr_source = AddressOf(source, 0);
    const int level = ipv6_ ? static_cast<int>(IPPROTO_IPV6) : static_cast<int>(IPPROTO_IP);
    if (setsockopt(socket_.get(), level, MCAST_BLOCK_SOURCE, &request, sizeof(request)) != 0)
      Fail("block " + source);
  }

  // A datagram has come, or comes within a moment.
  bool Received(std::chrono::milliseconds timeout = std::chrono::milliseconds(50)) {
    const timeval time{0, static_cast<suseconds_t>(std::chrono::microseconds(timeout).count())};
    setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &time, sizeof(time));
    char buffer[2048];
    return recv(socket_.get(), buffer, sizeof(buffer), 0) > 0;
  }
  // How many have come when `count` have, or none comes any more.
  size_t Count(size_t count) {
    size_t received = 0;
    while (received < count && Received(std::chrono::milliseconds(900))) ++received;
    return received;
  }
  void Drain() {
    while (Received()) {
    }
  }
  // The kernel says that it leaves.
  void Leave() { socket_ = Fd(); }

 private:
  static constexpr uint16_t kPort = 5001;

  static void Fail(const std::string& what) { throw std::runtime_error(what + ": " + std::strerror(errno)); }
  sockaddr_storage AddressOf(const std::string& text, uint16_t port) const {
    sockaddr_storage storage{};
    if (ipv6_) {
      auto& ip6 = reinterpret_cast<sockaddr_in6&>(storage);
      ip6.sin6_family = AF_INET6;
      ip6.sin6_port = htons(port);
      inet_pton(AF_INET6, text.c_str(), &ip6.sin6_addr);
    } else {
      auto& ip4 = reinterpret_cast<sockaddr_in&>(storage);
      ip4.sin_family = AF_INET;
      ip4.sin_port = htons(port);
      inet_pton(AF_INET, text.c_str(), &ip4.sin_addr);
    }
    return storage;
  }

  bool ipv6_;
  uint32_t device_ = 0;
  Fd socket_;
};

}  // namespace headgate::testing
