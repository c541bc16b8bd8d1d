// SPDX-License-Identifier: Apache-2.0
#include "agent/dataplane/device_monitor.h"

#include <absl/strings/str_cat.h>
#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>

#include "agent/base/log.h"
#include "agent/base/status.h"

namespace headgate {
namespace {

constexpr int kReceiveBuffer = 4 << 20;
constexpr int kRetryMs = 1000;
constexpr int kDumpTries = 20;

int ReadAlternativeName(const nlattr* attribute, void* data) {
  if (mnl_attr_get_type(attribute) == IFLA_ALT_IFNAME) {
    static_cast<Device*>(data)->alternative_names.emplace_back(mnl_attr_get_str(attribute));
  }
  return MNL_CB_OK;
}

int ReadAttribute(const nlattr* attribute, void* data) {
  auto& device = *static_cast<Device*>(data);
  switch (mnl_attr_get_type(attribute)) {
    case IFLA_IFNAME:
      device.name = mnl_attr_get_str(attribute);
      break;
    case IFLA_MTU:
      device.mtu = mnl_attr_get_u32(attribute);
      break;
    case IFLA_ADDRESS:
      if (mnl_attr_get_payload_len(attribute) == device.mac.size()) {
        std::memcpy(device.mac.data(), mnl_attr_get_payload(attribute), device.mac.size());
      }
      break;
    case IFLA_PROP_LIST:
      return mnl_attr_parse_nested(attribute, ReadAlternativeName, data);
    default:
      break;
  }
  return MNL_CB_OK;
}

int ReadLink(const nlmsghdr* header, void* data) {
  auto& known = *static_cast<KnownDevices*>(data);
  const auto* info = static_cast<const ifinfomsg*>(mnl_nlmsg_get_payload(header));
  // Bridges report their ports in messages of a family of their own, which repeat or lack most of this.
  if (info->ifi_family != AF_UNSPEC) return MNL_CB_OK;
  const auto ifindex = static_cast<uint32_t>(info->ifi_index);
  if (header->nlmsg_type == RTM_DELLINK) {
    known.devices.erase(ifindex);
    known.addresses.erase(ifindex);
    return MNL_CB_OK;
  }
  Device device;
  device.ifindex = ifindex;
  device.up = (info->ifi_flags & IFF_UP) != 0 && (info->ifi_flags & IFF_RUNNING) != 0;
  mnl_attr_parse(header, sizeof(*info), ReadAttribute, &device);
  known.devices[ifindex] = std::move(device);
  return MNL_CB_OK;
}

struct AddressAttributes {
  Family family;
  std::optional<IpAddress> local, address;
};

int ReadAddressAttribute(const nlattr* attribute, void* data) {
  auto& found = *static_cast<AddressAttributes*>(data);
  const uint16_t type = mnl_attr_get_type(attribute);
  if (type != IFA_LOCAL && type != IFA_ADDRESS) return MNL_CB_OK;
  uint32_t words[4] = {};
  const size_t size = static_cast<size_t>(AddressBits(found.family)) / 8;
  if (mnl_attr_get_payload_len(attribute) != size) return MNL_CB_OK;
  std::memcpy(words, mnl_attr_get_payload(attribute), size);
  IpAddress address{.family = found.family};
  std::transform(words, words + size / sizeof(uint32_t), address.words.begin(), ntohl);
  (type == IFA_LOCAL ? found.local : found.address) = address;
  return MNL_CB_OK;
}

int ReadAddress(const nlmsghdr* header, void* data) {
  const auto* info = static_cast<const ifaddrmsg*>(mnl_nlmsg_get_payload(header));
  if (info->ifa_family != AF_INET && info->ifa_family != AF_INET6) return MNL_CB_OK;
  AddressAttributes found{
      .family = info->ifa_family == AF_INET ? Family::kIpv4 : Family::kIpv6, .local = {}, .address = {}};
  mnl_attr_parse(header, sizeof(*info), ReadAddressAttribute, &found);
  // On a point-to-point link IFA_ADDRESS is the peer's.
  const std::optional<IpAddress> address = found.local ? found.local : found.address;
  if (!address) return MNL_CB_OK;
  std::vector<IpAddress>& all = static_cast<KnownDevices*>(data)->addresses[info->ifa_index];
  const auto place = std::find(all.begin(), all.end(), *address);
  if (header->nlmsg_type == RTM_DELADDR) {
    if (place != all.end()) all.erase(place);
  } else if (place == all.end()) {
    all.push_back(*address);
  }
  return MNL_CB_OK;
}

int ReadMessage(const nlmsghdr* header, void* data) {
  const bool of_address = header->nlmsg_type == RTM_NEWADDR || header->nlmsg_type == RTM_DELADDR;
  return of_address ? ReadAddress(header, data) : ReadLink(header, data);
}

bool IsLinkLocal(const IpAddress& address) { return address.words[0] >> 22 == 0xfe80U >> 6; }

// One dump on a socket of its own, so that nothing left over of another can be taken for part of it. False when
// the list changed meanwhile.
absl::StatusOr<bool> Dump(uint16_t type, KnownDevices& known) {
  const std::unique_ptr<mnl_socket, int (*)(mnl_socket*)> socket(mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC),
                                                                 mnl_socket_close);
  if (!socket || mnl_socket_bind(socket.get(), 0, MNL_SOCKET_AUTOPID) < 0)
    return ErrnoStatus("open a netlink socket");
  char request[64];
  nlmsghdr* header = mnl_nlmsg_put_header(request);
  header->nlmsg_type = type;
  header->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  // The larger of the two that are asked for, all zero.
  mnl_nlmsg_put_extra_header(header, sizeof(ifinfomsg));
  if (mnl_socket_sendto(socket.get(), header, header->nlmsg_len) < 0) return ErrnoStatus("list network devices");

  std::vector<char> buffer(MNL_SOCKET_BUFFER_SIZE * 4);
  while (true) {
    const ssize_t length = mnl_socket_recvfrom(socket.get(), buffer.data(), buffer.size());
    if (length < 0 && errno == EINTR) continue;
    if (length < 0) return ErrnoStatus("list network devices");
    const int more = mnl_cb_run(buffer.data(), static_cast<size_t>(length), 0, 0, ReadMessage, &known);
    if (more == MNL_CB_STOP) return true;
    if (more == MNL_CB_ERROR && errno == EINTR) return false;  // NLM_F_DUMP_INTR
    if (more == MNL_CB_ERROR) return ErrnoStatus("list network devices");
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<DeviceMonitor>> DeviceMonitor::Open() {
  std::unique_ptr<DeviceMonitor> monitor(new DeviceMonitor);
  HG_RETURN_IF_ERROR(monitor->Listen());
  HG_RETURN_IF_ERROR(monitor->List());
  return monitor;
}

void DeviceMonitor::Follow(Callback changed) {
  changed_ = std::move(changed);
  thread_ = std::jthread([this](const std::stop_token& stop) { Run(stop); });
}

DeviceMonitor::~DeviceMonitor() {
  thread_.request_stop();
  if (wake_) eventfd_write(wake_.get(), 1);
  if (thread_.joinable()) thread_.join();
  if (socket_ != nullptr) mnl_socket_close(socket_);
}

absl::Status DeviceMonitor::Listen() {
  wake_ = Fd(eventfd(0, EFD_CLOEXEC));
  socket_ = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
  if (!wake_ || socket_ == nullptr ||
      mnl_socket_bind(socket_, RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR, MNL_SOCKET_AUTOPID) < 0) {
    return ErrnoStatus("listen for network devices by netlink");
  }
  // More than net.core.rmem_max where permitted: losing messages costs a new dump.
  if (setsockopt(mnl_socket_get_fd(socket_), SOL_SOCKET, SO_RCVBUFFORCE, &kReceiveBuffer,
                 sizeof(kReceiveBuffer)) != 0) {
    setsockopt(mnl_socket_get_fd(socket_), SOL_SOCKET, SO_RCVBUF, &kReceiveBuffer, sizeof(kReceiveBuffer));
  }
  return absl::OkStatus();
}

absl::Status DeviceMonitor::List() {
  for (int i = 0; i < kDumpTries; ++i) {
    KnownDevices known;
    HG_ASSIGN_OR_RETURN(const bool links, Dump(RTM_GETLINK, known));
    HG_ASSIGN_OR_RETURN(const bool addresses, Dump(RTM_GETADDR, known));
    if (!links || !addresses) continue;
    known_ = std::move(known);
    return absl::OkStatus();
  }
  return absl::UnavailableError("list network devices: they change faster than they can be listed");
}

absl::StatusOr<bool> DeviceMonitor::Receive() {
  std::vector<char> buffer(MNL_SOCKET_BUFFER_SIZE * 4);
  bool complete = true;
  while (true) {
    const ssize_t length = recv(mnl_socket_get_fd(socket_), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (length < 0) {
      if (errno == EAGAIN || errno == EWOULDBLOCK) return complete;
      if (errno == ENOBUFS) complete = false;
      if (errno == EINTR || errno == ENOBUFS) continue;
      return ErrnoStatus("read changes of network devices");
    }
    if (mnl_cb_run(buffer.data(), static_cast<size_t>(length), 0, 0, ReadMessage, &known_) == MNL_CB_ERROR) {
      complete = false;
    }
  }
}

DeviceList DeviceMonitor::devices() const {
  DeviceList list;
  list.reserve(known_.devices.size());
  for (const auto& [ifindex, device] : known_.devices) {
    list.push_back(device);
    const auto found = known_.addresses.find(ifindex);
    if (found == known_.addresses.end()) continue;
    std::optional<IpAddress>&first = list.back().address4, &first6 = list.back().address6;
    for (const IpAddress& address : found->second) {
      if (address.family == Family::kIpv4) {
        if (!first) first = address;
      } else if (!first6 || (IsLinkLocal(*first6) && !IsLinkLocal(address))) {
        first6 = address;
      }
    }
  }
  return list;
}

// What is known to have holes is not published: a device that is missing would be let go.
void DeviceMonitor::Run(const std::stop_token& stop) {
  bool complete = true;
  while (!stop.stop_requested()) {
    pollfd fds[] = {{mnl_socket_get_fd(socket_), POLLIN, 0}, {wake_.get(), POLLIN, 0}};
    if (poll(fds, 2, complete ? -1 : kRetryMs) < 0 && errno != EINTR) return;
    if (stop.stop_requested()) return;
    absl::StatusOr<bool> received = Receive();
    absl::Status status = received.status();
    complete = complete && received.ok() && *received;
    if (!complete) {
      status.Update(List());
      complete = status.ok();
    }
    if (complete) {
      changed_(devices());
    } else {
      Log(spdlog::level::err, "network devices cannot be followed, will try again", {{"reason", status}});
    }
  }
}

}  // namespace headgate
