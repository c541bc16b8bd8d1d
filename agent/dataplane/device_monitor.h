// SPDX-License-Identifier: Apache-2.0
//
// The network devices of this network namespace, and word of every change to them, by rtnetlink.
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

// All devices there are, ordered by ifindex.
using DeviceList = std::vector<Device>;

class DeviceMonitor {
 public:
  using Callback = std::function<void(DeviceList)>;

  // Lists the devices once before it returns, and calls `changed` from a thread of its own whenever one
  // appears, changes, is renamed or goes.
  static absl::StatusOr<std::unique_ptr<DeviceMonitor>> Start(Callback changed);
  ~DeviceMonitor();

 private:
  explicit DeviceMonitor(Callback changed) : changed_(std::move(changed)) {}
  absl::Status Open();
  absl::Status Dump();
  // Reads what the socket has; with `until_done`, up to the end of a dump. False when messages were lost.
  absl::StatusOr<bool> Receive(bool until_done);
  void Run(const std::stop_token& stop);
  DeviceList List() const;

  Callback changed_;
  mnl_socket* socket_ = nullptr;
  Fd wake_;
  std::map<uint32_t, Device> devices_;
  std::jthread thread_;
};

}  // namespace headgate
