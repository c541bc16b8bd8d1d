// SPDX-License-Identifier: Apache-2.0
//
// The verbs that send and receive. Each prints its report, and returns it as JSON with the exit code.
#pragma once

#include <absl/status/statusor.h>

#include <atomic>
#include <nlohmann/json.hpp>

#include "bench/options.h"

namespace headgate::bench {

struct Outcome {
  ExitCode code = ExitCode::kOk;
  nlohmann::json json;
  std::string text;
};

// `stop` ends them early, which is no error. Unless `quiet`, a line each second goes to standard error.
absl::StatusOr<Outcome> Send(const SendCommand& command, bool quiet, const std::atomic<bool>& stop);
absl::StatusOr<Outcome> Receive(const ReceiveCommand& command, bool quiet, const std::atomic<bool>& stop);
absl::StatusOr<Outcome> SendAndReceive(const RunCommand& command, bool quiet, const std::atomic<bool>& stop);

}  // namespace headgate::bench
