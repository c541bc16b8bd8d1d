// SPDX-License-Identifier: Apache-2.0
#include "agent/dataplane/device_monitor.h"

#include <absl/strings/str_cat.h>
#include <libmnl/libmnl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <poll.h>
#include "agent/base/log.h"
#include <sys/eventfd.h>

#include <algorithm>
#include <cstring>

#include "agent/base/status.h"

namespace headgate {
namespace {

constexpr int kReceiveBuffer = 4 << 20;

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
  auto& devices = *static_cast<std::map<uint32_t, Device>*>(data);
  const auto* info = static_cast<const ifinfomsg*>(mnl_nlmsg_get_payload(header));
  // Bridges report their ports in messages of a family of their own, which repeat or lack most of this.
  if (info->ifi_family != AF_UNSPEC) return MNL_CB_OK;
  const auto ifindex = static_cast<uint32_t>(info->ifi_index);
  if (header->nlmsg_type == RTM_DELLINK) {
    devices.erase(ifindex);
    return MNL_CB_OK;
  }
  Device device;
  device.ifindex = ifindex;
  device.up = (info->ifi_flags & IFF_UP) != 0 && (info->ifi_flags & IFF_RUNNING) != 0;
  mnl_attr_parse(header, sizeof(*info), ReadAttribute, &device);
  devices[ifindex] = std::move(device);
  return MNL_CB_OK;
}

}  // namespace

absl::StatusOr<std::unique_ptr<DeviceMonitor>> DeviceMonitor::Start(Callback changed) {
  std::unique_ptr<DeviceMonitor> monitor(new DeviceMonitor(std::move(changed)));
  HG_RETURN_IF_ERROR(monitor->Open());
  HG_RETURN_IF_ERROR(monitor->Dump());
  monitor->changed_(monitor->List());
  monitor->thread_ = std::jthread([raw = monitor.get()](const std::stop_token& stop) { raw->Run(stop); });
  return monitor;
}

DeviceMonitor::~DeviceMonitor() {
  thread_.request_stop();
  if (wake_) eventfd_write(wake_.get(), 1);
  if (thread_.joinable()) thread_.join();
  if (socket_ != nullptr) mnl_socket_close(socket_);
}

absl::Status DeviceMonitor::Open() {
  wake_ = Fd(eventfd(0, EFD_CLOEXEC));
  socket_ = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
  if (!wake_ || socket_ == nullptr || mnl_socket_bind(socket_, RTMGRP_LINK, MNL_SOCKET_AUTOPID) < 0) {
    return ErrnoStatus("listen for network devices by netlink");
  }
  // More than net.core.rmem_max where permitted: losing messages costs a new dump.
  if (setsockopt(mnl_socket_get_fd(socket_), SOL_SOCKET, SO_RCVBUFFORCE, &kReceiveBuffer, sizeof(kReceiveBuffer)) != 0) {
    setsockopt(mnl_socket_get_fd(socket_), SOL_SOCKET, SO_RCVBUF, &kReceiveBuffer, sizeof(kReceiveBuffer));
  }
  return absl::OkStatus();
}

absl::Status DeviceMonitor::Dump() {
  char buffer[64];
  nlmsghdr* header = mnl_nlmsg_put_header(buffer);
  header->nlmsg_type = RTM_GETLINK;
  header->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  mnl_nlmsg_put_extra_header(header, sizeof(ifinfomsg));
  bool complete = false;
  while (!complete) {
    devices_.clear();
    if (mnl_socket_sendto(socket_, header, header->nlmsg_len) < 0) return ErrnoStatus("list network devices");
    HG_ASSIGN_OR_RETURN(complete, Receive(true));
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> DeviceMonitor::Receive(bool until_done) {
  std::vector<char> buffer(MNL_SOCKET_BUFFER_SIZE * 4);
  const int fd = mnl_socket_get_fd(socket_);
  while (true) {
    const ssize_t length = recv(fd, buffer.data(), buffer.size(), until_done ? 0 : MSG_DONTWAIT);
    if (length < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK) return true;
      if (errno == ENOBUFS) return false;
      return ErrnoStatus("read network devices");
    }
    const int more = mnl_cb_run(buffer.data(), static_cast<size_t>(length), 0, 0, ReadLink, &devices_);
    // EINTR: the list changed while it was dumped.
    if (more == MNL_CB_ERROR) return false;
    if (until_done && more == MNL_CB_STOP) return true;
  }
}

DeviceList DeviceMonitor::List() const {
  DeviceList list;
  list.reserve(devices_.size());
  for (const auto& [ifindex, device] : devices_) list.push_back(device);
  return list;
}

void DeviceMonitor::Run(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    pollfd fds[] = {{mnl_socket_get_fd(socket_), POLLIN, 0}, {wake_.get(), POLLIN, 0}};
    if (poll(fds, 2, -1) < 0 && errno != EINTR) return;
    if (stop.stop_requested()) return;
    absl::StatusOr<bool> complete = Receive(false);
    const absl::Status status = !complete.ok() ? complete.status() : *complete ? absl::OkStatus() : Dump();
    if (!status.ok()) spdlog::error("network devices: {}", status);
    changed_(List());
  }
}

}  // namespace headgate
