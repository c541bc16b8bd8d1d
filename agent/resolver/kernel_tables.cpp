// SPDX-License-Identifier: Apache-2.0
#include "agent/resolver/kernel_tables.h"

#include <libmnl/libmnl.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <sys/time.h>

#include <utility>

#include "agent/base/status.h"

namespace headgate {
namespace {

// The kernel answers before sendto() returns; only an answer that it had no memory for never comes.
constexpr timeval kTimeout{.tv_sec = 1, .tv_usec = 0};

template <typename Answer, std::optional<Answer> (*kRead)(const nlmsghdr*)>
int Read(const nlmsghdr* message, void* answer) {
  *static_cast<std::optional<Answer>*>(answer) = kRead(message);
  return MNL_CB_STOP;
}

int ReadOneLink(const nlmsghdr* message, void* answer) {
  *static_cast<LinkMessage*>(answer) = ReadLink(message);
  return MNL_CB_STOP;
}

// Routes that say that there is none.
std::optional<RouteMessage> RefusedBy(int error) {
  switch (error) {
    case EINVAL:
      return RouteMessage{.type = RTN_BLACKHOLE};
    case EHOSTUNREACH:
      return RouteMessage{.type = RTN_UNREACHABLE};
    case EACCES:
      return RouteMessage{.type = RTN_PROHIBIT};
    case ENETUNREACH:
    case EAGAIN:  // every table threw
      return RouteMessage{.type = RTN_UNSPEC};
    default:
      return std::nullopt;
  }
}

absl::Status CannotAsk(int error, const Neighbour& neighbour) {
  return StatusOfErrno(error, "have the kernel ask for the neighbour ", ToString(neighbour.address),
                       error == EPERM ? " (needs CAP_NET_ADMIN)" : "");
}

}  // namespace

KernelTables::KernelTables(Socket socket)
    : socket_(std::move(socket)), request_(MNL_SOCKET_BUFFER_SIZE), answer_(MNL_SOCKET_BUFFER_SIZE * 4) {}

absl::StatusOr<KernelTables> KernelTables::Open() {
  Socket socket(mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC), mnl_socket_close);
  if (!socket || mnl_socket_bind(socket.get(), 0, MNL_SOCKET_AUTOPID) < 0 ||
      setsockopt(mnl_socket_get_fd(socket.get()), SOL_SOCKET, SO_RCVTIMEO, &kTimeout, sizeof(kTimeout)) != 0) {
    return ErrnoStatus("open a netlink socket to look up routes and neighbours");
  }
  return KernelTables(std::move(socket));
}

nlmsghdr* KernelTables::Request(uint16_t type, uint16_t flags) {
  nlmsghdr* header = mnl_nlmsg_put_header(request_.data());
  header->nlmsg_type = type;
  header->nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | flags);
  header->nlmsg_seq = ++sequence_;
  return header;
}

int KernelTables::Ask(int (*read)(const nlmsghdr*, void*), void* answer) {
  const auto* header = reinterpret_cast<const nlmsghdr*>(request_.data());
  if (mnl_socket_sendto(socket_.get(), header, header->nlmsg_len) < 0) return errno;
  while (true) {
    const ssize_t length = mnl_socket_recvfrom(socket_.get(), answer_.data(), answer_.size());
    if (length < 0 && errno == EINTR) continue;
    if (length < 0) return errno == EAGAIN ? ETIMEDOUT : errno;
    // Late, of a question that was given up.
    if (reinterpret_cast<const nlmsghdr*>(answer_.data())->nlmsg_seq != sequence_) continue;
    const int result = mnl_cb_run(answer_.data(), static_cast<size_t>(length), sequence_, 0, read, answer);
    return result == MNL_CB_ERROR ? errno : 0;
  }
}

absl::StatusOr<RouteMessage> KernelTables::Route(const IpAddress& destination, uint32_t ifindex) {
  nlmsghdr* header = Request(RTM_GETROUTE, 0);
  auto* info = static_cast<rtmsg*>(mnl_nlmsg_put_extra_header(header, sizeof(rtmsg)));
  info->rtm_family = AddressFamily(destination.family);
  info->rtm_dst_len = static_cast<uint8_t>(AddressBits(destination.family));
  PutAddress(header, RTA_DST, destination);
  if (ifindex != 0) mnl_attr_put_u32(header, RTA_OIF, ifindex);
  std::optional<RouteMessage> route;
  const int error = Ask(Read<RouteMessage, ReadRoute>, &route);
  if (error != 0) route = RefusedBy(error);
  if (!route) return StatusOfErrno(error == 0 ? EBADMSG : error, "look up the route");
  return *route;
}

absl::StatusOr<std::optional<NeighbourMessage>> KernelTables::Entry(const Neighbour& neighbour) {
  nlmsghdr* header = Request(RTM_GETNEIGH, 0);
  auto* info = static_cast<ndmsg*>(mnl_nlmsg_put_extra_header(header, sizeof(ndmsg)));
  info->ndm_family = AddressFamily(neighbour.address.family);
  info->ndm_ifindex = static_cast<int>(neighbour.ifindex);
  PutAddress(header, NDA_DST, neighbour.address);
  std::optional<NeighbourMessage> entry;
  const int error = Ask(Read<NeighbourMessage, ReadNeighbour>, &entry);
  if (error != 0 && error != ENOENT) {
    return StatusOfErrno(error, "look up the neighbour ", ToString(neighbour.address));
  }
  return entry;
}

absl::StatusOr<LinkMessage> KernelTables::Link(uint32_t ifindex) {
  nlmsghdr* header = Request(RTM_GETLINK, 0);
  auto* info = static_cast<ifinfomsg*>(mnl_nlmsg_put_extra_header(header, sizeof(ifinfomsg)));
  info->ifi_index = static_cast<int>(ifindex);
  mnl_attr_put_u32(header, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
  LinkMessage link;
  const int error = Ask(ReadOneLink, &link);
  if (error == ENODEV) return absl::NotFoundError(absl::StrCat("there is no device of index ", ifindex));
  if (error != 0) return StatusOfErrno(error, "look up the device of index ", ifindex);
  return link;
}

// Neither replaces: that would take from an IPv6 router's entry that it is one.
int KernelTables::SetNeighbour(const Neighbour& neighbour, uint16_t request_flags, uint16_t state, uint8_t flags) {
  nlmsghdr* header = Request(RTM_NEWNEIGH, static_cast<uint16_t>(NLM_F_ACK | request_flags));
  auto* info = static_cast<ndmsg*>(mnl_nlmsg_put_extra_header(header, sizeof(ndmsg)));
  info->ndm_family = AddressFamily(neighbour.address.family);
  info->ndm_ifindex = static_cast<int>(neighbour.ifindex);
  info->ndm_state = state;
  info->ndm_flags = flags;
  PutAddress(header, NDA_DST, neighbour.address);
  return Ask(nullptr, nullptr);
}

absl::Status KernelTables::Resolve(const Neighbour& neighbour) {
  const int error = SetNeighbour(neighbour, NLM_F_CREATE, NUD_NONE, NTF_USE);
  return error == 0 ? absl::OkStatus() : CannotAsk(error, neighbour);
}

absl::Status KernelTables::Verify(const Neighbour& neighbour) {
  const int error = SetNeighbour(neighbour, 0, NUD_PROBE, 0);
  // It has no MAC address any more: word of that is under way.
  if (error == 0 || error == ENOENT || error == EINVAL) return absl::OkStatus();
  return CannotAsk(error, neighbour);
}

}  // namespace headgate
