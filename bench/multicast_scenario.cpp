// SPDX-License-Identifier: Apache-2.0
#include "bench/multicast_scenario.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <thread>
#include <utility>

#include "agent/base/status.h"
#include "bench/lab.h"
#include "bench/multicast_result.h"
#include "bench/netns.h"
#include "bench/relay_service.h"
#include "bench/service_meter.h"
#include "bench/session_nice.h"

namespace headgate::bench {
namespace {

constexpr char kSenderNs[] = "hgb-gen", kRelayNs[] = "hgb-gw", kSinkNs[] = "hgb-sink";
constexpr char kSenderDevice[] = "hgb-gen", kInput[] = "hgb-in";
constexpr int kFirstCpu = 0, kSecondCpu = 1;
constexpr uint16_t kPort = 20000;
// Before ordinary work of the machine, and yet fair to one another.
constexpr int kNice = -20;
constexpr char kUserspace[] = "userspace";

// Addresses for benchmarks (RFC 2544), groups of an organisation (RFC 2365).
constexpr char kSource[] = "198.18.0.1", kInputAddress[] = "198.18.0.254/24", kGroup[] = "239.1.1.1";
// Source ports in turn: what is set up for a first packet is there when the warm-up has been.
constexpr uint32_t kFlows = 64;
// Of these legs latency is measured, or else of the most; at the largest size.
constexpr uint32_t kLatencyLegs = 8;

std::string Output(uint32_t leg) { return absl::StrCat("hgb-o", leg); }
std::string SinkDevice(uint32_t leg) { return absl::StrCat("hgb-s", leg); }

RelayFigures ToFigures(const ServiceSample& lossless, const ServiceSample& overload, double peak, uint32_t legs) {
  const ServiceSample& costs = lossless.rate > 0 ? lossless : overload;
  return {.copies = peak,
          .lossfree_pps = lossless.rate / legs,
          .cpu_ns_per_copy = costs.napi_ns + costs.service_ns,
          .service_ns = costs.service_ns,
          .loss = lossless.loss,
          .overload = overload.rate,
          .overload_offered = overload.offered,
          .overload_refused = overload.refused,
          .overload_loss = overload.loss};
}

LatencyFigures ToFigures(const Histogram& histogram, const ServiceSample& run) {
  const auto microseconds = [&](double percent) {
    return static_cast<double>(histogram.Percentile(percent)) / 1000;
  };
  return {.p50 = microseconds(50),
          .p99 = microseconds(99),
          .p999 = microseconds(99.9),
          .rate = run.offered,
          .loss = run.loss};
}

class Scenario {
 public:
  Scenario(const MulticastOptions& options, const std::atomic<bool>& stop,
           absl::FunctionRef<void(const std::string&)> progress)
      : options_(options), stop_(stop), progress_(progress) {
    for (const std::string& path : options.paths) {
      for (const uint32_t legs : path == kUserspace ? options.userspace_legs : options.kernel_legs) {
        for (const uint32_t size : options.sizes) cases_.push_back({.path = path, .legs = legs, .size = size});
      }
    }
  }

  absl::StatusOr<Result> Run(Lab& lab) {
    const SessionNice session(kNice);
    HG_RETURN_IF_ERROR(Schedule(0, {.cpu = MeterCpu(), .nice = kNice}));
    HG_RETURN_IF_ERROR(Connect(lab));
    HG_RETURN_IF_ERROR(sinks_->Open(false));
    for (int round = 0; round < options_.rounds; ++round) {
      for (RelayCase& one : cases_) HG_RETURN_IF_ERROR(Annotate(RunRound(round, one), one.Name()));
    }
    if (!options_.chart.empty()) HG_RETURN_IF_ERROR(WriteChart(cases_, options_.chart));
    return Result{.scenario = "multicast",
                  .settings = {{"seconds", absl::StrCat(options_.seconds)},
                               {"placement", options_.placement == Placement::kSplit ? "split" : "same"},
                               {"realtime", options_.realtime ? "yes" : "no"},
                               {"max_loss", absl::StrCat(ServiceMeter::kMaxLoss)},
                               {"state", options_.directory}},
                  .rows = ToRows(cases_)};
  }

 private:
  // As many devices as the most legs that have devices of their own.
  uint32_t Devices() const {
    uint32_t devices = 1;
    for (const RelayCase& one : cases_) {
      if (one.path != kUserspace) devices = std::max(devices, one.legs);
    }
    return devices;
  }

  absl::Status Connect(Lab& lab) {
    const VethEnd sender{kSenderNs, kSenderDevice}, input{kRelayNs, kInput};
    HG_RETURN_IF_ERROR(lab.Connect(sender, input));
    // NAPI with and without an XDP program: what live frames and kernel threads need.
    HG_RETURN_IF_ERROR(lab.EnableGro(input));
    HG_RETURN_IF_ERROR(lab.AddAddress(input, kInputAddress));
    std::vector<VethEnd> ends;
    for (uint32_t leg = 0; leg < Devices(); ++leg) {
      const VethEnd output{kRelayNs, Output(leg)}, sink{kSinkNs, SinkDevice(leg)};
      HG_RETURN_IF_ERROR(lab.Connect(output, sink));
      HG_RETURN_IF_ERROR(lab.EnableGro(sink));
      HG_RETURN_IF_ERROR(lab.AddAddress(output, absl::StrCat("198.19.", leg, ".1/24")));
      ends.push_back(sink);
    }
    sinks_ = std::make_unique<Sinks>(std::move(ends));
    return absl::OkStatus();
  }

  absl::Status RunRound(int round, RelayCase& one) {
    const RelaySite site = MakeSite(one);
    struct Turn {
      const char* name;
      std::function<absl::StatusOr<std::unique_ptr<Service>>()> start;
    };
    std::vector<Turn> turns = {{kHeadgate, [&] { return StartHeadgateRelay(site, *sinks_, stop_); }}};
    // The kernel's changes no groups: to one device it would send one copy.
    if (IsWanted(kIpMroute, one) && !site.userspace) {
      turns.push_back({kIpMroute, [&] { return StartIpMroute(site, *sinks_); }});
    }
    if (IsWanted(kSocketRelay, one)) {
      turns.push_back({kSocketRelay, [&] { return StartSocketRelay(site, *sinks_); }});
    }
    for (size_t i = 0; i < turns.size(); ++i) {
      const Turn& turn = turns[(static_cast<size_t>(round) + i) % turns.size()];
      if (stop_.load(std::memory_order_relaxed)) return absl::CancelledError("interrupted");
      absl::StatusOr<std::unique_ptr<Service>> service = turn.start();
      if (turn.name != kHeadgate && LeftOut(turn.name, service.status(), one)) continue;
      if (!service.ok()) return Annotate(service.status(), turn.name);
      HG_RETURN_IF_ERROR(Annotate(Measure(round, turn.name, **service, one), turn.name));
    }
    return absl::OkStatus();
  }

  bool IsWanted(const char* baseline, const RelayCase& one) const {
    return !missing_.contains(baseline) && !one.left_out.contains(baseline) &&
           std::find(options_.baselines.begin(), options_.baselines.end(), baseline) != options_.baselines.end();
  }

  // Why is said once.
  bool LeftOut(const char* baseline, const absl::Status& status, RelayCase& one) {
    if (absl::IsNotFound(status)) {
      missing_.insert(baseline);
      progress_(absl::StrCat(baseline, " is left out: ", status.message(), " is installed (package smcroute)"));
      return true;
    }
    if (!absl::IsOutOfRange(status)) return false;
    one.left_out[baseline] = std::string(status.message());
    progress_(absl::StrCat(one.Name(), " ", baseline, " is left out: ", status.message()));
    return true;
  }

  absl::Status Measure(int round, const char* relay, Service& service, RelayCase& one) {
    HG_ASSIGN_OR_RETURN(const auto meter, ServiceMeter::Open(MakePath(one), service));
    HG_RETURN_IF_ERROR(meter->WarmUp());
    HG_ASSIGN_OR_RETURN(const ServiceSample overload, meter->Run(0));
    HG_ASSIGN_OR_RETURN(const ServiceSample lossless,
                        meter->FindLossless(static_cast<uint64_t>(overload.rate / one.legs), stop_));
    const RelayFigures figures = ToFigures(lossless, overload, meter->peak(), one.legs);
    one.relays[relay].push_back(figures);
    std::string line = absl::StrFormat(
        "round %d, %-18s %-12s %9.0f copies/s, %5.0f ns of CPU each; %8.0f packets/s at a loss of "
        "%.4f %%; unpaced %9.0f copies/s",
        round + 1, one.Name(), relay, figures.copies, figures.cpu_ns_per_copy, figures.lossfree_pps,
        100 * figures.loss, figures.overload);
    if (HasLatency(one) && figures.lossfree_pps > 0) {
      HG_ASSIGN_OR_RETURN(const LatencyFigures latency, MeasureLatency(figures.lossfree_pps / 2, *meter));
      one.latencies[relay].push_back(latency);
      absl::StrAppendFormat(&line, "; at half of that p50 %.1f, p99 %.1f, p99.9 %.1f us", latency.p50, latency.p99,
                            latency.p999);
    }
    progress_(line);
    return absl::OkStatus();
  }

  absl::StatusOr<LatencyFigures> MeasureLatency(double rate, ServiceMeter& meter) {
    HG_RETURN_IF_ERROR(sinks_->Open(true));
    HG_ASSIGN_OR_RETURN(const ServiceSample run, meter.Run(static_cast<uint64_t>(rate)));
    HG_ASSIGN_OR_RETURN(const Histogram histogram, sinks_->Latency());
    HG_RETURN_IF_ERROR(sinks_->Open(false));
    return ToFigures(histogram, run);
  }

  // One case of each path.
  bool HasLatency(const RelayCase& one) const {
    const std::vector<uint32_t>& legs = one.path == kUserspace ? options_.userspace_legs : options_.kernel_legs;
    const bool has = std::find(legs.begin(), legs.end(), kLatencyLegs) != legs.end();
    return options_.latency && one.legs == (has ? kLatencyLegs : *std::max_element(legs.begin(), legs.end())) &&
           one.size == *std::max_element(options_.sizes.begin(), options_.sizes.end());
  }

  RelaySite MakeSite(const RelayCase& one) const {
    RelaySite site{.netns = kRelayNs,
                   .device = kInput,
                   .source = kSource,
                   .group = kGroup,
                   .port = kPort,
                   .legs = {},
                   .userspace = one.path == kUserspace,
                   .cpu = RelayCpu(),
                   .agent = options_.agent,
                   .directory = options_.directory};
    for (uint32_t leg = 0; leg < one.legs; ++leg) {
      site.legs.push_back(site.userspace
                              ? RelayLeg{Output(0), absl::StrCat("239.2.", leg / 250, ".", 1 + leg % 250)}
                              : RelayLeg{Output(leg), kGroup});
    }
    return site;
  }

  ServicePath MakePath(const RelayCase& one) const {
    return {.netns = kRelayNs,
            .device = kInput,
            .cpu = RelayCpu(),
            .sender_netns = kSenderNs,
            .sender_device = kSenderDevice,
            .sender_cpu = kFirstCpu,
            .frame = {.source_mac = {2, 0, 0, 0, 0, 2},
                      .source = *ParseAddress(kSource),
                      .destination = *ParseAddress(kGroup),
                      .destination_port = kPort,
                      .size = one.size,
                      .flows = kFlows,
                      .group_macs = true},
            .copies = one.legs,
            .seconds = options_.seconds,
            .realtime = options_.realtime,
            .nice = kNice};
  }

  static int SecondCpu() { return std::thread::hardware_concurrency() > 1 ? kSecondCpu : kFirstCpu; }
  int RelayCpu() const { return options_.placement == Placement::kSplit ? SecondCpu() : kFirstCpu; }
  // Not the relay's.
  int MeterCpu() const { return options_.placement == Placement::kSplit ? kFirstCpu : SecondCpu(); }

  const MulticastOptions& options_;
  const std::atomic<bool>& stop_;
  absl::FunctionRef<void(const std::string&)> progress_;
  std::vector<RelayCase> cases_;
  std::unique_ptr<Sinks> sinks_;
  std::set<std::string> missing_;  // baselines that are not installed
};

}  // namespace

absl::StatusOr<Result> RunMulticast(const MulticastOptions& options, const std::atomic<bool>& stop,
                                    absl::FunctionRef<void(const std::string&)> progress) {
  HG_ASSIGN_OR_RETURN(const Fd lock, LockBenchmarks(options.wait));
  HG_ASSIGN_OR_RETURN(const auto lab, Lab::Create({kSenderNs, kRelayNs, kSinkNs}));
  absl::StatusOr<Result> result;
  std::thread([&] { result = Scenario(options, stop, progress).Run(*lab); }).join();
  return result;
}

}  // namespace headgate::bench
