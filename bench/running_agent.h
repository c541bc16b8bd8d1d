// SPDX-License-Identifier: Apache-2.0
//
// A headgated of our own that serves, and a client of it.
#pragma once

#include <absl/status/statusor.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>

#include "bench/agent_process.h"
#include "bench/gateway_client.h"
#include "bench/program_run.h"

namespace headgate::bench {

struct RunningAgentSetup {
  std::string binary;
  std::string netns;
  std::string directory;
  std::optional<int> cpu = {};
  bool flow_cache = true;
};

class RunningAgent {
 public:
  // Serving, with nothing configured. See AgentProcess::Start.
  static absl::StatusOr<std::unique_ptr<RunningAgent>> Start(const RunningAgentSetup& setup,
                                                             const std::atomic<bool>& stop);

  GatewayClient& client() { return *client_; }
  AgentProcess& process() { return *process_; }

  // A whole configuration, until it is in force. The seconds that the call took.
  absl::StatusOr<double> Apply(const v1::ApplyRequest& request);

  // Until it has come to rest after a change, and given back the memory that this took.
  absl::Status AwaitRest();

  // From the start of its process until it served, programs loaded and all.
  double start_seconds() const { return start_seconds_; }

 private:
  RunningAgent() = default;
  absl::Status AwaitServing(const std::atomic<bool>& stop);

  PrivateBpffs bpffs_;  // pins go after who made them
  std::unique_ptr<AgentProcess> process_;
  std::unique_ptr<GatewayClient> client_;
  double start_seconds_ = 0;
};

// A request for the configuration, answered when it is in force.
v1::ApplyRequest ApplyUntilInForce(v1::GatewayConfig config);

}  // namespace headgate::bench
