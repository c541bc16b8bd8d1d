// SPDX-License-Identifier: Apache-2.0
#include "agent/membership/memberships.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "agent/base/status.h"
#include "agent/membership/held_sockets.h"

namespace headgate {
namespace {

sockaddr_storage SocketAddress(const IpAddress& address) {
  sockaddr_storage storage{};
  if (address.family == Family::kIpv4) {
    auto& ip4 = reinterpret_cast<sockaddr_in&>(storage);
    ip4.sin_family = AF_INET;
    ip4.sin_addr.s_addr = htonl(address.words[0]);
  } else {
    auto& ip6 = reinterpret_cast<sockaddr_in6&>(storage);
    ip6.sin6_family = AF_INET6;
    uint32_t words[4];
    std::transform(address.words.begin(), address.words.end(), words, htonl);
    std::memcpy(&ip6.sin6_addr, words, sizeof(words));
  }
  return storage;
}

// RFC 3678, section 5: by the device's number, so that a device needs no address.
int Change(int socket, const Membership& membership, bool join) {
  const int level = membership.group.family == Family::kIpv4 ? IPPROTO_IP : IPPROTO_IPV6;
  if (membership.source) {
    group_source_req request{};
    request.gsr_interface = membership.ifindex;
    request.gsr_group = SocketAddress(membership.group);
    request.gsr_source = SocketAddress(*membership.source);
    return setsockopt(socket, level, join ? MCAST_JOIN_SOURCE_GROUP : MCAST_LEAVE_SOURCE_GROUP, &request,
                      sizeof(request));
  }
  group_req request{};
  request.gr_interface = membership.ifindex;
  request.gr_group = SocketAddress(membership.group);
  return setsockopt(socket, level, join ? MCAST_JOIN_GROUP : MCAST_LEAVE_GROUP, &request, sizeof(request));
}

}  // namespace

std::map<Membership, absl::Status> Memberships::Want(const std::set<Membership>& wanted) {
  for (auto joined = joined_.begin(); joined != joined_.end();) {
    if (wanted.contains(joined->first)) {
      ++joined;
      continue;
    }
    Leave(joined->first, joined->second);
    joined = joined_.erase(joined);
  }
  std::map<Membership, absl::Status> failures;
  for (const Membership& membership : wanted) {
    if (joined_.contains(membership)) continue;
    if (absl::Status status = Join(membership); !status.ok()) failures[membership] = std::move(status);
  }
  return failures;
}

// A socket has room for so many groups and sources (net.ipv4.igmp_max_memberships, igmp_max_msf,
// net.core.optmem_max): the kernel says when it is full, and the next one is asked.
absl::Status Memberships::Join(const Membership& membership) {
  const Family family = membership.group.family;
  int error = ENOBUFS;
  for (size_t i = 0; i < sockets_.size(); ++i) {
    if (sockets_[i].family != family) continue;
    if (Change(sockets_[i].fd.get(), membership, true) == 0) {
      joined_[membership] = i;
      return absl::OkStatus();
    }
    error = errno;
    if (error != ENOBUFS && error != ENOMEM) break;
  }
  if (error == ENOBUFS || error == ENOMEM) {
    Fd socket(::socket(family == Family::kIpv4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (!socket) return ErrnoStatus("open a socket to join groups by");
    if (Change(socket.get(), membership, true) == 0) {
      joined_[membership] = sockets_.size();
      HeldSockets::Keep(socket.get());
      sockets_.push_back({std::move(socket), family});
      return absl::OkStatus();
    }
    error = errno;
  }
  return ErrnoStatusOf(error, "join group ", ToString(membership.group),
                       membership.source ? " of " + ToString(*membership.source) : std::string(), " on ifindex ",
                       membership.ifindex);
}

// Fails when the device is gone, and the membership with it.
void Memberships::Leave(const Membership& membership, size_t socket) {
  static_cast<void>(Change(sockets_[socket].fd.get(), membership, false));
}

}  // namespace headgate
