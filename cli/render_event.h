// SPDX-License-Identifier: Apache-2.0
//
// Events, traces and the agent's status in lines for people.
#pragma once

#include <absl/time/time.h>

#include <string>

#include "headgate/v1/gateway.pb.h"

namespace headgate::cli {

// One line, and with `verbose` the headers and bytes of a sample below it.
std::string EventText(const v1::Event& event, absl::TimeZone zone, bool verbose);

std::string TraceText(const v1::TraceResponse& trace);

std::string AgentStatusText(const v1::StatusResponse& status, absl::Time now, absl::TimeZone zone, size_t width);

}  // namespace headgate::cli
