// SPDX-License-Identifier: Apache-2.0
#include "agent/resolver/kernel_changes.h"

#include <libmnl/libmnl.h>
#include <linux/rtnetlink.h>

#include <utility>

#include "agent/base/log.h"
#include "agent/base/status.h"

namespace headgate {
namespace {

// Losing messages costs a look at everything.
constexpr int kReceiveBuffer = 1 << 20;

constexpr unsigned Bit(rtnetlink_groups group) { return 1U << (group - 1); }
// Addresses and links, too: routes go with them without a word of their own (with addresses, before 6.6).
constexpr unsigned kGroups = Bit(RTNLGRP_NEIGH) | Bit(RTNLGRP_LINK) | Bit(RTNLGRP_IPV4_IFADDR) |
                             Bit(RTNLGRP_IPV6_IFADDR) | Bit(RTNLGRP_IPV4_ROUTE) | Bit(RTNLGRP_IPV6_ROUTE) |
                             Bit(RTNLGRP_IPV4_RULE) | Bit(RTNLGRP_IPV6_RULE) | Bit(RTNLGRP_NEXTHOP);

struct Reading {
  const KernelChanges::Concern& concern;
  bool concerns = false;
};

bool Concerns(const nlmsghdr* message, const KernelChanges::Concern& concern) {
  switch (message->nlmsg_type) {
    case RTM_NEWNEIGH:
    case RTM_DELNEIGH: {
      const std::optional<NeighbourMessage> found = ReadNeighbour(message);
      return found && concern.neighbour(found->neighbour);
    }
    case RTM_NEWROUTE:
    case RTM_DELROUTE: {
      const std::optional<RouteMessage> found = ReadRoute(message);
      return found && concern.route(found->destination);
    }
    default:
      return true;
  }
}

int ReadChange(const nlmsghdr* message, void* data) {
  auto& reading = *static_cast<Reading*>(data);
  reading.concerns = reading.concerns || Concerns(message, reading.concern);
  return MNL_CB_OK;
}

}  // namespace

KernelChanges::KernelChanges(Socket socket) : socket_(std::move(socket)), buffer_(MNL_SOCKET_BUFFER_SIZE * 4) {}

absl::StatusOr<KernelChanges> KernelChanges::Open() {
  Socket socket(mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC | SOCK_NONBLOCK), mnl_socket_close);
  if (!socket || mnl_socket_bind(socket.get(), kGroups, MNL_SOCKET_AUTOPID) < 0) {
    return ErrnoStatus("listen for changes of routes and neighbours by netlink");
  }
  // More than net.core.rmem_max where permitted.
  const int fd = mnl_socket_get_fd(socket.get());
  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &kReceiveBuffer, sizeof(kReceiveBuffer)) != 0) {
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &kReceiveBuffer, sizeof(kReceiveBuffer));
  }
  return KernelChanges(std::move(socket));
}

int KernelChanges::fd() const { return mnl_socket_get_fd(socket_.get()); }

bool KernelChanges::Read(const Concern& concern) {
  Reading reading{concern};
  while (true) {
    const ssize_t length = mnl_socket_recvfrom(socket_.get(), buffer_.data(), buffer_.size());
    if (length >= 0) {
      const int result = mnl_cb_run(buffer_.data(), static_cast<size_t>(length), 0, 0, ReadChange, &reading);
      if (result == MNL_CB_ERROR) reading.concerns = true;
    } else if (errno == ENOBUFS) {
      reading.concerns = true;
    } else if (errno == EAGAIN) {
      return reading.concerns;
    } else if (errno != EINTR) {
      Log(spdlog::level::err, "changes of routes cannot be read, will look at all",
          {{"reason", ErrnoStatus("read changes of routes and neighbours")}});
      return true;
    }
  }
}

}  // namespace headgate
