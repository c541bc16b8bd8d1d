// SPDX-License-Identifier: Apache-2.0
//
// The text forms of single fields: protocols, ports, TCP flags.
#pragma once

#include <absl/status/statusor.h>
#include <absl/strings/string_view.h>

#include <string>

#include "agent/control/model.h"

namespace headgate::api {

absl::StatusOr<uint8_t> ParseProtocol(absl::string_view text);
std::string ProtocolText(uint8_t protocol);

// "53" or "9000-9099".
absl::StatusOr<PortRange> ParseRange(absl::string_view text);
std::string RangeText(const PortRange& range);

// "syn,!ack".
absl::StatusOr<TcpFlagMatch> ParseTcpFlags(absl::string_view text);
std::string TcpFlagsText(const TcpFlagMatch& flags);

}  // namespace headgate::api
