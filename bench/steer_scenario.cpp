// SPDX-License-Identifier: Apache-2.0
#include "bench/steer_scenario.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>

#include <functional>
#include <map>
#include <memory>
#include <thread>
#include <utility>

#include "agent/base/status.h"
#include "bench/lab.h"
#include "bench/netns.h"
#include "bench/service_meter.h"
#include "bench/session_nice.h"
#include "bench/steer_service.h"

namespace headgate::bench {
namespace {

constexpr char kSenderNs[] = "hgb-gen", kServerNs[] = "hgb-gw";
constexpr char kSenderDevice[] = "hgb-gen", kServerDevice[] = "hgb-in";
constexpr int kSenderCpu = 0, kServerCpu = 1;
constexpr uint16_t kPort = 20000;
// Before ordinary work of the machine, and yet fair to one another.
constexpr int kNice = -20;
constexpr char kHeadgate[] = "headgate", kServer[] = "recvmmsg", kSocat[] = "socat";

// Addresses for benchmarks (RFC 2544). Sources are behind a next hop, so that answers need no ARP.
constexpr char kServerAddress[] = "198.19.0.1", kFirstSource[] = "198.18.0.1";
constexpr char kSources[] = "198.18.0.0/16", kNextHop[] = "198.19.255.254", kNextHopMac[] = "02:00:00:00:00:02";

// One service over one case in one round.
struct Measured {
  ServiceSample lossless, overload;
};
using Rounds = std::vector<Measured>;

std::vector<double> Column(const Rounds& rounds, ServiceSample Measured::*run, double ServiceSample::*field) {
  std::vector<double> values;
  values.reserve(rounds.size());
  for (const Measured& round : rounds) values.push_back(round.*run.*field);
  return values;
}

void AddDetails(const std::string& prefix, const Rounds& rounds, ResultRow& row) {
  const auto add = [&](const char* name, ServiceSample Measured::*run, double ServiceSample::*field,
                       double unit = 1) {
    row.details.emplace_back(prefix + name, Summarize(Column(rounds, run, field)).median * unit);
  };
  add("loss", &Measured::lossless, &ServiceSample::loss);
  add("cpu_share", &Measured::lossless, &ServiceSample::cpu_share);
  add("machine_share", &Measured::lossless, &ServiceSample::machine_share);
  std::vector<double> per_million;
  for (const Measured& round : rounds) {
    const ServiceSample& run = round.lossless;
    per_million.push_back(run.rate > 0 ? run.cpu_share / run.rate * 1e6 : 0);
  }
  row.details.emplace_back(prefix + "cpu_share_per_million", Summarize(per_million).median);
  add("napi_ns", &Measured::lossless, &ServiceSample::napi_ns);
  add("service_ns", &Measured::lossless, &ServiceSample::service_ns);
  add("overload", &Measured::overload, &ServiceSample::rate);
  add("overload_offered", &Measured::overload, &ServiceSample::offered);
  add("overload_loss", &Measured::overload, &ServiceSample::loss);
  add("overload_refused", &Measured::overload, &ServiceSample::refused);
  add("overload_per_cpu_s", &Measured::overload, &ServiceSample::per_cpu_s);
  add("overload_napi_ns", &Measured::overload, &ServiceSample::napi_ns);
  add("overload_service_ns", &Measured::overload, &ServiceSample::service_ns);
}

// One row with each peer; without any, Headgate's alone.
void AddRows(const std::string& name, const std::map<std::string, Rounds>& services, double ServiceSample::*field,
             bool details, Result& result) {
  const Rounds& headgate = services.at(kHeadgate);
  std::vector<std::string> peers;
  for (const char* peer : {kServer, kSocat}) {
    if (services.contains(peer)) peers.emplace_back(peer);
  }
  for (const std::string& peer : peers) {
    ResultRow row{.name = name,
                  .unit = "packets/s",
                  .headgate = Column(headgate, &Measured::lossless, field),
                  .baseline = peer,
                  .baseline_values = Column(services.at(peer), &Measured::lossless, field)};
    if (details) {
      AddDetails("", headgate, row);
      AddDetails("baseline_", services.at(peer), row);
    }
    result.rows.push_back(std::move(row));
  }
}

// A share has no ratio: the peers' are beside it.
void AddLossRow(const std::string& name, const std::map<std::string, Rounds>& services, Result& result) {
  ResultRow row{.name = name,
                .unit = "share",
                .headgate = Column(services.at(kHeadgate), &Measured::lossless, &ServiceSample::loss)};
  for (const auto& [service, rounds] : services) {
    const std::string prefix = service == kHeadgate ? "" : service + "_";
    const auto median = [&all = rounds](ServiceSample Measured::*run, double ServiceSample::*field) {
      return Summarize(Column(all, run, field)).median;
    };
    if (!prefix.empty()) {
      row.details.emplace_back(prefix + "loss", median(&Measured::lossless, &ServiceSample::loss));
    }
    row.details.emplace_back(prefix + "overload_loss", median(&Measured::overload, &ServiceSample::loss));
  }
  result.rows.push_back(std::move(row));
}

class Scenario {
 public:
  Scenario(const SteerOptions& options, const std::atomic<bool>& stop,
           absl::FunctionRef<void(const std::string&)> progress)
      : options_(options), stop_(stop), progress_(progress) {}

  absl::StatusOr<Result> Run(Lab& lab) {
    const SessionNice session(kNice);
    HG_RETURN_IF_ERROR(Schedule(0, {.cpu = kSenderCpu, .nice = kNice}));
    HG_RETURN_IF_ERROR(Connect(lab));
    std::map<std::string, std::map<std::string, Rounds>> cases;
    std::vector<std::string> names;
    for (int round = 0; round < options_.rounds; ++round) {
      for (const std::string& handler : options_.handlers) {
        for (const uint32_t size : options_.sizes) {
          const std::string name = absl::StrCat(handler, "/", size);
          if (round == 0) names.push_back(name);
          HG_RETURN_IF_ERROR(Annotate(RunRound(round, name, handler == "echo", size, cases[name]), name));
        }
      }
    }
    Result result{.scenario = "steer",
                  .settings = {{"seconds", absl::StrCat(options_.seconds)},
                               {"flows", absl::StrCat(options_.flows)},
                               {"realtime", options_.realtime ? "yes" : "no"},
                               {"max_loss", absl::StrCat(ServiceMeter::kMaxLoss)},
                               {"state", options_.directory}}};
    for (const std::string& name : names) {
      AddRows(name, cases[name], &ServiceSample::rate, true, result);
      AddRows(name + "/per_cpu_s", cases[name], &ServiceSample::per_cpu_s, false, result);
      AddLossRow(name + "/loss", cases[name], result);
    }
    return result;
  }

 private:
  absl::Status Connect(Lab& lab) {
    const VethEnd sender{kSenderNs, kSenderDevice}, server{kServerNs, kServerDevice};
    HG_RETURN_IF_ERROR(lab.Connect(sender, server));
    // NAPI at both ends, with and without an XDP program: what live frames and kernel threads need.
    HG_RETURN_IF_ERROR(lab.EnableGro(server));
    HG_RETURN_IF_ERROR(lab.EnableGro(sender));
    HG_RETURN_IF_ERROR(lab.AddAddress(server, kServerAddress));
    HG_RETURN_IF_ERROR(lab.AddNeighbor(server, kNextHop, kNextHopMac));
    HG_RETURN_IF_ERROR(lab.AddRoute(server, kSources, kNextHop));
    return InNamespace(kServerNs, [this]() -> absl::Status {
      HG_ASSIGN_OR_RETURN(const Device device, FindDevice(kServerDevice));
      server_mac_ = device.mac;
      return absl::OkStatus();
    });
  }

  absl::Status RunRound(int round, const std::string& name, bool echo, uint32_t size,
                        std::map<std::string, Rounds>& services) {
    const ServicePath path = MakePath(echo, size);
    const SteerSite site = MakeSite(echo);
    struct Turn {
      const char* name;
      std::function<absl::StatusOr<std::unique_ptr<Service>>()> start;
    };
    std::vector<Turn> turns = {{kHeadgate, [&] { return StartHeadgateService(site, stop_); }},
                               {kServer, [&] { return StartUdpServer(site); }}};
    if (with_socat_ && options_.socat) turns.push_back({kSocat, [&] { return StartSocat(site); }});
    for (size_t i = 0; i < turns.size(); ++i) {
      const Turn& turn = turns[(static_cast<size_t>(round) + i) % turns.size()];
      absl::StatusOr<std::unique_ptr<Service>> service = turn.start();
      if (turn.name == kSocat && absl::IsNotFound(service.status())) {
        with_socat_ = false;
        progress_("socat is not installed, and left out");
        continue;
      }
      HG_RETURN_IF_ERROR(service.status());
      absl::StatusOr<Measured> measured = Measure(path, **service);
      if (!measured.ok()) return Annotate(measured.status(), turn.name);
      services[turn.name].push_back(*measured);
      progress_(Line(round, name, turn.name, *measured));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<Measured> Measure(const ServicePath& path, Service& service) {
    if (stop_.load(std::memory_order_relaxed)) return absl::CancelledError("interrupted");
    HG_ASSIGN_OR_RETURN(const auto meter, ServiceMeter::Open(path, service));
    HG_RETURN_IF_ERROR(meter->WarmUp());
    Measured measured;
    HG_ASSIGN_OR_RETURN(measured.overload, meter->Run(0));
    HG_ASSIGN_OR_RETURN(measured.lossless,
                        meter->FindLossless(static_cast<uint64_t>(measured.overload.rate), stop_));
    return measured;
  }

  static std::string Line(int round, const std::string& name, const char* service, const Measured& measured) {
    const auto& [lossless, overload] = measured;
    return absl::StrFormat(
        "round %d, %-10s %-8s %8.0f/s at a loss of %.4f %%, %8.0f a CPU second, %4.1f %% of the machine; "
        "unpaced %8.0f/s of %8.0f, %8.0f a CPU second",
        round + 1, name, service, lossless.rate, 100 * lossless.loss, lossless.per_cpu_s, 100 * lossless.cpu_share,
        overload.rate, overload.offered, overload.per_cpu_s);
  }

  SteerSite MakeSite(bool echo) const {
    return {.netns = kServerNs,
            .device = kServerDevice,
            .port = kPort,
            .echo = echo,
            .cpu = ServerCpu(),
            .agent = options_.agent,
            .directory = options_.directory};
  }

  ServicePath MakePath(bool echo, uint32_t size) const {
    return {.netns = kServerNs,
            .device = kServerDevice,
            .cpu = ServerCpu(),
            .sender_netns = kSenderNs,
            .sender_device = kSenderDevice,
            .sender_cpu = kSenderCpu,
            .frame = {.destination_mac = server_mac_,
                      .source_mac = {2, 0, 0, 0, 0, 2},
                      .source = *ParseAddress(kFirstSource),
                      .destination = *ParseAddress(kServerAddress),
                      .destination_port = kPort,
                      .size = size,
                      .flows = options_.flows},
            .answered = echo,
            .seconds = options_.seconds,
            .realtime = options_.realtime,
            .nice = kNice};
  }

  static int ServerCpu() { return std::thread::hardware_concurrency() > 1 ? kServerCpu : kSenderCpu; }

  const SteerOptions& options_;
  const std::atomic<bool>& stop_;
  absl::FunctionRef<void(const std::string&)> progress_;
  MacAddress server_mac_{};
  bool with_socat_ = true;
};

}  // namespace

absl::StatusOr<Result> RunSteer(const SteerOptions& options, const std::atomic<bool>& stop,
                                absl::FunctionRef<void(const std::string&)> progress) {
  HG_ASSIGN_OR_RETURN(const Fd lock, LockBenchmarks(options.wait));
  HG_ASSIGN_OR_RETURN(const auto lab, Lab::Create({kSenderNs, kServerNs}));
  absl::StatusOr<Result> result;
  std::thread([&] { result = Scenario(options, stop, progress).Run(*lab); }).join();
  return result;
}

}  // namespace headgate::bench
