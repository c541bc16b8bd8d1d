// SPDX-License-Identifier: Apache-2.0
#include "bench/running_agent.h"

#include <chrono>
#include <thread>
#include <utility>

#include "agent/base/status.h"

namespace headgate::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kStartTimeout(30'000), kPoll(2);
// The agent gives memory back a second after a large change.
constexpr std::chrono::milliseconds kRest(1500), kRestTimeout(60'000);

}  // namespace

absl::StatusOr<std::unique_ptr<RunningAgent>> RunningAgent::Start(const RunningAgentSetup& setup,
                                                                  const std::atomic<bool>& stop) {
  std::unique_ptr<RunningAgent> agent(new RunningAgent);
  HG_RETURN_IF_ERROR(agent->bpffs_.Mount());
  const auto start = Clock::now();
  HG_ASSIGN_OR_RETURN(agent->process_, AgentProcess::Start({.binary = setup.binary,
                                                            .netns = setup.netns,
                                                            .bpffs = PrivateBpffs::kPath,
                                                            .directory = setup.directory,
                                                            .cpu = setup.cpu,
                                                            .flow_cache = setup.flow_cache}));
  HG_RETURN_IF_ERROR(agent->AwaitServing(stop));
  agent->start_seconds_ = std::chrono::duration<double>(Clock::now() - start).count();
  return agent;
}

absl::Status RunningAgent::AwaitServing(const std::atomic<bool>& stop) {
  const auto deadline = Clock::now() + kStartTimeout;
  while (true) {
    // A channel that was refused once may take seconds to try again.
    if (!client_ && process_->Listens()) client_ = std::make_unique<GatewayClient>(process_->socket());
    if (client_ && client_->GetStatus().ok()) return absl::OkStatus();
    HG_RETURN_IF_ERROR(process_->CheckRunning());
    if (stop.load(std::memory_order_relaxed)) return absl::CancelledError("interrupted");
    if (Clock::now() > deadline) return absl::DeadlineExceededError("the agent does not serve");
    std::this_thread::sleep_for(kPoll);
  }
}

absl::StatusOr<double> RunningAgent::Apply(const v1::ApplyRequest& request) {
  const auto start = Clock::now();
  HG_ASSIGN_OR_RETURN(const v1::ApplyResponse response, client_->Apply(request));
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  if (response.applied_generation() >= response.generation()) return seconds;
  return absl::InternalError("the agent says that a configuration is in force which is not");
}

absl::Status RunningAgent::AwaitRest() { return process_->AwaitIdle(kRest, kRestTimeout); }

v1::ApplyRequest ApplyUntilInForce(v1::GatewayConfig config) {
  v1::ApplyRequest request;
  *request.mutable_config() = std::move(config);
  request.set_wait_applied(true);
  return request;
}

}  // namespace headgate::bench
