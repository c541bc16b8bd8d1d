// SPDX-License-Identifier: Apache-2.0
//
// The wiring diagram: every object and thread of the agent is made here, in order, and unmade in reverse.
#include <absl/strings/cord.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/strip.h>
#include <systemd/sd-daemon.h>

#include <csignal>
#include <fstream>
#include <future>
#include <iostream>
#include <iterator>

#include "agent/allocator.h"
#include "agent/api/convert.h"
#include "agent/api/gateway_service.h"
#include "agent/api/server.h"
#include "agent/api/text.h"
#include "agent/base/log.h"
#include "agent/base/status.h"
#include "agent/control/controller.h"
#include "agent/dataplane/bpf_dataplane.h"
#include "agent/dataplane/device_monitor.h"
#include "agent/options.h"
#include "agent/privileges.h"
#include "agent/telemetry/http_server.h"
#include "agent/telemetry/metrics.h"
#include "agent/telemetry/samples.h"

namespace headgate {
namespace {

constexpr int kExitFailure = 1;
constexpr int kExitConfig = 5;  // as hgctl's
// A controller that has not come round for this long hangs.
constexpr std::chrono::seconds kMaxSilence{5};
// Marks the status of a run that ended because of the start-up configuration.
constexpr char kConfigPayload[] = "headgate/startup_config";
constexpr char kConfigNote[] = "startup_config";

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string content((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (!file) return ErrnoStatus("read ", path);
  return content;
}

absl::StatusOr<Change> ReadConfigFile(const std::string& path, const std::string& text, api::ActionPool& actions,
                                      SourceMap& positions) {
  headgate::v1::GatewayConfig config;
  HG_RETURN_IF_ERROR(ParseYaml(text, path, config, &positions));
  return api::ReadConfig(config, "config", actions);
}

// Violations as ParseYaml tells its own: a line each, with its place in the file.
absl::Status Describe(const ChangeOutcome& outcome, const std::string& path, const SourceMap& positions) {
  if (outcome.violations.empty()) return outcome.status;
  std::string text;
  for (const Violation& violation : outcome.violations) {
    absl::string_view field = violation.field;
    absl::ConsumePrefix(&field, "config.");
    absl::StrAppend(&text, text.empty() ? "" : "\n", path);
    if (const auto at = positions.Find(field)) absl::StrAppend(&text, ":", at->line, ":", at->column);
    absl::StrAppend(&text, ": ", field, ": ", violation.description);
  }
  return absl::InvalidArgumentError(text);
}

// --check-config: validates as Apply would, against nothing.
absl::Status CheckConfig(const Options& options) {
  api::ActionPool actions;
  HG_ASSIGN_OR_RETURN(const std::string text, ReadFile(options.config));
  SourceMap positions;
  HG_ASSIGN_OR_RETURN(Change change, ReadConfigFile(options.config, text, actions, positions));
  const Limits limits{.max_entries = options.load.sizes.max_entries,
                      .max_prefixes = options.load.sizes.max_prefixes};
  IdAllocators ids(2 * limits.max_entries);
  ChangeResult result = BuildState(std::make_shared<const State>(), std::move(change), limits, ids, true);
  return Describe({.status = std::move(result.status), .violations = std::move(result.violations)}, options.config,
                  positions);
}

// Applies the start-up file, unless it is the `last` one applied: what the API changed since stays then.
absl::Status ApplyConfigFile(const Options& options, Controller& controller, api::ActionPool& actions,
                             const std::optional<std::string>& last) {
  if (options.config.empty()) return absl::OkStatus();
  HG_ASSIGN_OR_RETURN(const std::string text, ReadFile(options.config));
  if (last == text) return absl::OkStatus();
  SourceMap positions;
  HG_ASSIGN_OR_RETURN(Change change, ReadConfigFile(options.config, text, actions, positions));
  change.note = {kConfigNote, text};
  std::promise<ChangeOutcome> promise;
  controller.Submit(std::move(change), {.wait_applied = true},
                    [&promise](ChangeOutcome outcome) { promise.set_value(std::move(outcome)); });
  const ChangeOutcome outcome = promise.get_future().get();
  HG_RETURN_IF_ERROR(Describe(outcome, options.config, positions));
  Log(spdlog::level::info, "start-up configuration applied",
      {{"file", options.config}, {"generation", outcome.generation}});
  return absl::OkStatus();
}

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

absl::Status Run(const Options& options) {
  // Blocked here for all threads: the main thread waits for them.
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&signals, signal);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);

  HG_ASSIGN_OR_RETURN(const std::unique_ptr<BpfDataplane> dataplane, BpfDataplane::Open(options.load));
  JoinGroup(options.server.unix_group);
  if (!options.keep_privileges) HG_RETURN_IF_ERROR(DropPrivileges());
  StartAllocatorThread();

  api::ActionPool actions;
  const api::ProtoCodec codec(actions);
  HG_ASSIGN_OR_RETURN(const std::unique_ptr<Store> store, Store::Open(options.state, codec));
  HG_ASSIGN_OR_RETURN(const std::string last_config, store->GetNote(kConfigNote));
  EventBus events;
  Metrics metrics;
  const TableSizes& sizes = options.load.sizes;
  Controller controller(*dataplane, *store, events,
                        {.limits = {sizes.max_entries, sizes.max_prefixes, sizes.max_sources},
                         .drift_interval = options.drift_interval},
                        metrics.Times());
  // The monitor's first list is there when Start returns; later ones go to the controller, which must be running.
  DeviceList devices;
  std::function<void(DeviceList)> on_devices = [&devices](DeviceList list) { devices = std::move(list); };
  std::mutex devices_mutex;
  HG_ASSIGN_OR_RETURN(const std::unique_ptr<DeviceMonitor> monitor, DeviceMonitor::Start([&](DeviceList list) {
                        const std::lock_guard lock(devices_mutex);
                        on_devices(std::move(list));
                      }));
  {
    const std::lock_guard lock(devices_mutex);
    HG_RETURN_IF_ERROR(controller.Start(devices));
    on_devices = [&controller](DeviceList list) { controller.OnDevices(std::move(list)); };
  }
  absl::Status configured = ApplyConfigFile(options, controller, actions,
                                            last_config.empty() ? std::nullopt : std::optional(last_config));
  if (absl::IsInvalidArgument(configured)) configured.SetPayload(kConfigPayload, absl::Cord());
  // A change that waits for its confirmation comes first; the next start or SIGHUP tries again.
  if (absl::IsFailedPrecondition(configured)) {
    Log(spdlog::level::err, "start-up configuration not applied", {{"reason", configured}});
  } else {
    HG_RETURN_IF_ERROR(configured);
  }

  const SamplePump samples(*dataplane, controller, events);
  std::unique_ptr<HttpServer> http;
  if (!options.http.empty()) {
    HG_ASSIGN_OR_RETURN(
        http, HttpServer::Start(options.http,
                                {.alive = [&] { return Alive(controller); },
                                 .ready = [&] { return Ready(controller); },
                                 .metrics = [&] { return metrics.Text(controller, dataplane->AllMaps()); }}));
  }
  api::AgentFacts facts;
  facts.maps = [&dataplane] { return dataplane->AllMaps(); };
  HG_ASSIGN_OR_RETURN(const auto server,
                      api::ApiServer::Start(options.server, controller, events, actions, std::move(facts)));

  Serve(signals, controller, [&] {
    const absl::Status status = ApplyConfigFile(options, controller, actions, std::nullopt);
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
    const absl::Status status = CheckConfig(*options);
    (status.ok() ? std::cout : std::cerr)
        << (status.ok() ? options->config + ": valid" : std::string(status.message())) << '\n';
    return status.ok() ? 0 : kExitConfig;
  }
  const absl::Status status = options->detach ? RemoveFrom(options->load) : Run(*options);
  if (status.ok()) return 0;
  Log(spdlog::level::err, "headgated cannot go on", {{"reason", status}});
  sd_notifyf(0, "STATUS=%s", std::string(status.message()).c_str());
  return status.GetPayload(kConfigPayload) ? kExitConfig : kExitFailure;
}

}  // namespace
}  // namespace headgate

int main(int argc, char** argv) { return headgate::Main(argc, argv); }
