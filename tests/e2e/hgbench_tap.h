// SPDX-License-Identifier: Apache-2.0
//
// A raw socket at a device, beside the stack: what came is read whole, and anything can be sent.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <sys/socket.h>

#include <stdexcept>
#include <string>

#include "agent/base/fd.h"
#include "agent/base/status.h"
#include "bench/netns.h"
#include "tests/harness/packet.h"

namespace headgate::bench {

class Tap {
 public:
  Tap(const std::string& netns, const std::string& device) {
    const absl::Status status = InNamespace(netns, [&]() -> absl::Status {
      HG_ASSIGN_OR_RETURN(const Device found, FindDevice(device));
      socket_ = Fd(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL)));
      sockaddr_ll address{};
      address.sll_family = AF_PACKET;
      address.sll_protocol = htons(ETH_P_ALL);
      address.sll_ifindex = static_cast<int>(found.ifindex);
      const timeval timeout{.tv_sec = 20, .tv_usec = 0};
      setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
      const int buffer = 32 << 20;  // every frame is a page in it
      setsockopt(socket_.get(), SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof(buffer));
      return bind(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0
                 ? absl::OkStatus()
                 : ErrnoStatus("bind a packet socket to ", device);
    });
    if (!status.ok()) throw std::runtime_error(status.ToString());
  }

  testing::Bytes Receive() {
    testing::Bytes frame(2048);
    const ssize_t size = recv(socket_.get(), frame.data(), frame.size(), 0);
    frame.resize(size < 0 ? 0 : static_cast<size_t>(size));
    return frame;
  }
  void Send(const testing::Bytes& frame) {
    ASSERT_EQ(send(socket_.get(), frame.data(), frame.size(), 0), static_cast<ssize_t>(frame.size()));
  }

 private:
  Fd socket_;
};

}  // namespace headgate::bench
