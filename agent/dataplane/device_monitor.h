// SPDX-License-Identifier: Apache-2.0
//
// The network devices of this network namespace with their addresses, and word of every change to them, by
// rtnetlink.
#pragma once

#include <absl/status/statusor.h>

#include <functional>
#include <map>
#include <memory>
#include <stop_token>
#include <thread>
#include <vector>

#include "agent/base/fd.h"
#include "agent/dataplane/device.h"

struct mnl_socket;

namespace headgate {

// What the kernel has told of devices.
struct KnownDevices {
  std::map<uint32_t, Device> devices;                    // by ifindex
  std::map<uint32_t, std::vector<IpAddress>> addresses;  // by ifindex, in the kernel's order
};

class DeviceMonitor {
 public:
  using Callback = std::function<void(DeviceList)>;

  static absl::StatusOr<std::unique_ptr<DeviceMonitor>> Open();
  ~DeviceMonitor();

  // As they were when it was opened. Not to be called once it follows them.
  DeviceList devices() const;
  // From now on calls `changed`, from a thread of its own, whenever one has appeared, changed, been renamed or
  // gone since then.
  void Follow(Callback changed);

 private:
  DeviceMonitor() = default;
  absl::Status Listen();
  // Replaces the devices known by a new and complete list.
  absl::Status List();
  // Reads the changes that have come. False when some were lost.
  absl::StatusOr<bool> Receive();
  void Run(const std::stop_token& stop);

  Callback changed_;
  mnl_socket* socket_ = nullptr;  // of changes
  Fd wake_;
  KnownDevices known_;
  std::jthread thread_;
};

}  // namespace headgate
