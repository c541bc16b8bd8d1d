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
  // Replaces the devices known by a new and complete list.
  absl::Status List();
  // Reads the changes that have come. False when some were lost.
  absl::StatusOr<bool> Receive();
  void Run(const std::stop_token& stop);
  void Publish() const;

  Callback changed_;
  mnl_socket* socket_ = nullptr;  // of changes
  Fd wake_;
  std::map<uint32_t, Device> devices_;
  std::jthread thread_;
};

}  // namespace headgate
