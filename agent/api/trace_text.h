// SPDX-License-Identifier: Apache-2.0
//
// Packets by a short description, as in "udp 10.0.0.1:1234 > 10.1.1.1:53 in eth0 vlan 5".
#pragma once

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

#include <cstdint>
#include <string>
#include <vector>

#include "agent/base/address.h"

namespace headgate::api {

struct TraceInput {
  std::vector<uint8_t> frame;
  std::string interface;  // empty: not named
};

// PROTOCOL SOURCE[:PORT] > DESTINATION[:PORT] [in INTERFACE] [vlan ID]... [len BYTES] [ttl N] [dscp N] [flags
// LIST]; IPv6 addresses with a port in brackets; for ICMP, the destination's "port" is type or type/code. Lengths
// and the checksums of IPv4, TCP, UDP, UDP-Lite and ICMP are right, Ethernet addresses made up but for
// those of groups. Errors say at which column.
absl::StatusOr<TraceInput> ParseTraceText(absl::string_view text);

// Sends the frame to this device, as a neighbour would, unless it goes to a group.
void Address(TraceInput& input, const MacAddress& device);

}  // namespace headgate::api
