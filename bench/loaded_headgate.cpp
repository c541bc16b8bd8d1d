// SPDX-License-Identifier: Apache-2.0
#include "bench/loaded_headgate.h"

#include <chrono>

#include "agent/base/status.h"
#include "bench/netns.h"
#include "bench/program_run.h"

namespace headgate::bench {

absl::StatusOr<std::unique_ptr<LoadedHeadgate>> LoadedHeadgate::Start(const HeadgateSpec& spec,
                                                                      const State& state) {
  std::unique_ptr<LoadedHeadgate> headgate(new LoadedHeadgate(spec));
  HG_RETURN_IF_ERROR(InNamespace(spec.netns, [&] { return headgate->Load(state); }));
  return headgate;
}

absl::Status LoadedHeadgate::Load(const State& state) {
  LoadOptions options;
  options.bpffs = spec_.bpffs;
  options.directory = spec_.directory;
  options.flow_cache = spec_.flow_cache;
  HG_ASSIGN_OR_RETURN(dataplane_, BpfDataplane::Open(options));
  HG_RETURN_IF_ERROR(Change(state).status());
  HG_RETURN_IF_ERROR(dataplane_->TakeOver());
  for (const auto& [port, name] : spec_.ports) {
    HG_ASSIGN_OR_RETURN(const Device device, FindDevice(name));
    HG_RETURN_IF_ERROR(dataplane_->Attach(port, device, DriverMode::kNative).status());
  }
  return absl::OkStatus();
}

absl::StatusOr<double> LoadedHeadgate::Change(const State& state) {
  const auto start = std::chrono::steady_clock::now();
  compiler_.Compile(state);
  HG_RETURN_IF_ERROR(compiler_.Flush(*dataplane_));
  HG_RETURN_IF_ERROR(dataplane_->Activate(compiler_.root()));
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  compiler_.Published(++epoch_);
  HG_RETURN_IF_ERROR(dataplane_->Quiesce());
  compiler_.Reclaim(epoch_);
  return seconds.count();
}

absl::StatusOr<Fd> LoadedHeadgate::OpenProgram() const { return OpenHeadgateProgram(spec_.directory); }

}  // namespace headgate::bench
