// SPDX-License-Identifier: Apache-2.0
//
// The wiring diagram: every object and thread of the agent is made here, in order, and unmade in reverse.
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <systemd/sd-daemon.h>

#include <csignal>
#include <iostream>

#include "agent/allocator.h"
#include "agent/api/convert.h"
#include "agent/api/gateway_service.h"
#include "agent/api/server.h"
#include "agent/base/log.h"
#include "agent/base/status.h"
#include "agent/control/controller.h"
#include "agent/dataplane/bpf_dataplane.h"
#include "agent/dataplane/device_monitor.h"
#include "agent/listener_feed.h"
#include "agent/membership_feed.h"
#include "agent/options.h"
#include "agent/privileges.h"
#include "agent/slow_path_feed.h"
#include "agent/startup_config.h"
#include "agent/telemetry/http_server.h"
#include "agent/telemetry/metrics.h"
#include "agent/telemetry/samples.h"

namespace headgate {
namespace {

constexpr int kExitFailure = 1;
constexpr int kExitConfig = 5;  // as hgctl's
// A controller that has not come round for this long hangs.
constexpr std::chrono::seconds kMaxSilence{5};

absl::Status Alive(const Controller& controller) {
  const auto silence = std::chrono::steady_clock::now() - controller.last_round();
  if (silence < kMaxSilence) return absl::OkStatus();
  return absl::UnavailableError("the controller has not come round for seconds");
}

absl::Status Ready(const Controller& controller) {
  HG_RETURN_IF_ERROR(Alive(controller));
  const ControllerStatus status = controller.status();
  HG_RETURN_IF_ERROR(status.apply_error);
  for (const auto& [name, interface] : controller.interfaces()) {
    if (interface.status.state == ObjectState::kError) {
      return absl::UnavailableError(absl::StrCat("interface ", name, ": ", interface.status.reason));
    }
  }
  return absl::OkStatus();
}

// Waits for signals and feeds the watchdog; returns when the agent is to end.
void Serve(const sigset_t& signals, const Controller& controller, const std::function<void()>& reload) {
  uint64_t watchdog_us = 0;
  sd_watchdog_enabled(0, &watchdog_us);
  const auto pause =
      std::chrono::microseconds(watchdog_us != 0 ? std::min<uint64_t>(watchdog_us / 3, 1'000'000) : 1'000'000);
  const timespec timeout{static_cast<time_t>(pause.count() / 1'000'000),
                         static_cast<long>(pause.count() % 1'000'000 * 1000)};
  sd_notify(0, "READY=1");
  while (true) {
    const int signal = sigtimedwait(&signals, nullptr, &timeout);
    if (signal == SIGTERM || signal == SIGINT) return;
    if (signal == SIGHUP) {
      sd_notify(0, "RELOADING=1");
      reload();
      sd_notify(0, "READY=1");
    }
    if (Alive(controller).ok()) sd_notify(0, "WATCHDOG=1");
    const ControllerStatus status = controller.status();
    sd_notifyf(0, "STATUS=generation %llu in force", static_cast<unsigned long long>(status.applied_generation));
  }
}

// For all threads: the main thread waits for them.
sigset_t BlockSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals, signal);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  return signals;
}

// One for each agent of a host, as the directory of its pins is.
std::string CopierDevice(const LoadOptions& load) {
  // FNV-1a: the same of all versions, for each removes what one before it left.
  uint32_t hash = 2166136261;
  for (const char c : load.bpffs + "/" + load.directory) hash = (hash ^ static_cast<uint8_t>(c)) * 16777619;
  return absl::StrFormat("hgcopy%06x", hash & 0xffffff);
}

absl::Status Run(const Options& options) {
  const sigset_t signals = BlockSignals();
  HeldSockets held = HeldSockets::Take();
  HG_ASSIGN_OR_RETURN(const std::unique_ptr<BpfDataplane> dataplane, BpfDataplane::Open(options.load));
  JoinGroup(options.server.unix_group);
  if (!options.keep_privileges) HG_RETURN_IF_ERROR(DropPrivileges());
  StartAllocatorThread();

  api::ActionPool actions;
  const api::ProtoCodec codec(actions);
  HG_ASSIGN_OR_RETURN(const std::unique_ptr<Store> store, Store::Open(options.state, codec));
  HG_ASSIGN_OR_RETURN(const std::string last_config, store->GetNote(kStartupConfigNote));
  EventBus events;
  Metrics metrics;
  const Limits limits{options.load.sizes.max_entries, options.load.sizes.max_prefixes};
  Controller controller(*dataplane, *store, events, {.limits = limits, .drift_interval = options.drift_interval},
                        metrics.Times());
  StartupConfig config(options.config, last_config, controller, actions);
  HG_ASSIGN_OR_RETURN(const std::unique_ptr<DeviceMonitor> monitor, DeviceMonitor::Open());
  HG_RETURN_IF_ERROR(controller.Start(monitor->devices()));
  monitor->Follow([&controller](DeviceList devices) { controller.OnDevices(std::move(devices)); });
  HG_RETURN_IF_ERROR(config.ApplyAtStart());

  HG_ASSIGN_OR_RETURN(const std::unique_ptr<ListenerFeed> listeners,
                      ListenerFeed::Start(controller, events, *dataplane));
  HG_ASSIGN_OR_RETURN(const std::unique_ptr<SlowPath> slow_path,
                      SlowPath::Start({.sockets = dataplane->sockets_map(),
                                       .queues = dataplane->queues_map(),
                                       .target_states = dataplane->target_states_map(),
                                       .worker_legs = dataplane->worker_legs_map(),
                                       .leg_limiters = dataplane->leg_limiters_map(),
                                       .quiesce = [&dataplane] { return dataplane->Quiesce(); }},
                                      options.slow_path));
  const BpfDataplane::CopierFds copier = dataplane->copier();
  HG_ASSIGN_OR_RETURN(const std::unique_ptr<SlowPathFeed> slow_path_feed,
                      SlowPathFeed::Start(controller, events, *slow_path, *listeners,
                                          {.copier = {.bundles = copier.bundles,
                                                      .bundle_maps = copier.bundle_maps,
                                                      .ingress = copier.ingress,
                                                      .egress = copier.egress},
                                           .copier_device = CopierDevice(options.load)}));
  const MembershipFeed memberships(controller, events, *listeners, std::move(held));

  const SamplePump samples(*dataplane, controller, events);
  std::unique_ptr<HttpServer> http;
  if (!options.http.empty()) {
    HG_ASSIGN_OR_RETURN(
        http,
        HttpServer::Start(
            options.http,
            {.alive = [&] { return Alive(controller); },
             .ready = [&] { return Ready(controller); },
             .metrics = [&] { return metrics.Text(controller, dataplane->AllMaps(), slow_path->Status()); }}));
  }
  api::AgentFacts facts;
  facts.slow_path_troubles = [&slow_path] { return slow_path->Troubles(); };
  facts.membership_troubles = [&memberships, &listeners] {
    std::vector<std::string> troubles = memberships.Troubles();
    for (std::string& trouble : listeners->Troubles()) troubles.push_back(std::move(trouble));
    return troubles;
  };
  facts.multicast = [&](const MulticastRoute& route) {
    const InterfaceStates interfaces = controller.interfaces();
    return MulticastView{PathOf(route, interfaces), memberships.Of(route),
                         LegViews(route, interfaces, slow_path_feed->hops()), listeners->Of(route)};
  };
  facts.workers = [&slow_path] { return slow_path->Status(); };
  facts.maps = [&dataplane] { return dataplane->AllMaps(); };
  HG_ASSIGN_OR_RETURN(const auto server,
                      api::ApiServer::Start(options.server, controller, events, actions, std::move(facts)));

  Serve(signals, controller, [&config] {
    const absl::Status status = config.Apply();
    if (!status.ok()) Log(spdlog::level::err, "reload failed, the configuration stays", {{"reason", status}});
  });
  sd_notify(0, "STOPPING=1");
  Log(spdlog::level::info, "ending; the data path stays in place");
  events.Close();
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  int exit_code = 0;
  const std::optional<Options> options = ParseOptions(argc, argv, exit_code);
  if (!options) return exit_code;
  SetUpLog(options->log_format);
  if (const absl::Status status = SetLogLevel(options->log_level); !status.ok()) return kExitFailure;
  if (options->check_config) {
    const TableSizes& sizes = options->load.sizes;
    const absl::Status status = CheckStartupConfig(options->config, {sizes.max_entries, sizes.max_prefixes});
    (status.ok() ? std::cout : std::cerr)
        << (status.ok() ? options->config + ": valid" : std::string(status.message())) << '\n';
    return status.ok() ? 0 : kExitConfig;
  }
  if (options->detach) Copier::RemoveStale(CopierDevice(options->load));
  const absl::Status status = options->detach ? RemoveFrom(options->load) : Run(*options);
  if (status.ok()) return 0;
  Log(spdlog::level::err, "headgated cannot go on", {{"reason", status}});
  sd_notifyf(0, "STATUS=%s", std::string(status.message()).c_str());
  return status.GetPayload(kStartupConfigPayload) ? kExitConfig : kExitFailure;
}

}  // namespace
}  // namespace headgate

int main(int argc, char** argv) { return headgate::Main(argc, argv); }
