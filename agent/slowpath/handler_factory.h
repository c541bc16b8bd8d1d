// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <absl/status/statusor.h>

#include <memory>

#include "agent/slowpath/handler.h"
#include "agent/slowpath/multicast_account.h"
#include "agent/slowpath/slow_path_config.h"

namespace headgate {

class AppServer;

// Where a handler is to be.
struct HandlerPlace {
  uint32_t worker = 0;
  AppServer* apps = nullptr;                    // null: there are no applications
  const MulticastAccount* multicast = nullptr;  // of all legs
};

// A worker's handler for a target. What it needs of the system (a device) is there when this returns.
absl::StatusOr<std::unique_ptr<Handler>> MakeHandler(const SlowPathConfig::Target& target,
                                                     const HandlerPlace& place);

}  // namespace headgate
