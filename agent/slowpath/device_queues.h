// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

namespace headgate {

// Queues that the device receives by, now; 1 when the driver does not say (ETHTOOL_GCHANNELS).
uint32_t ReceiveQueues(const std::string& device);

}  // namespace headgate
