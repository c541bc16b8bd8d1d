// SPDX-License-Identifier: Apache-2.0
#include "bench/redirect_scenario.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <absl/strings/strip.h>
#include <sys/utsname.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "agent/base/status.h"
#include "bench/gateway.h"
#include "bench/lab.h"
#include "bench/netns.h"
#include "bench/receiver.h"
#include "bench/sender.h"

namespace headgate::bench {
namespace {

using std::chrono::steady_clock;

constexpr char kSenderNs[] = "hgb-gen", kGatewayNs[] = "hgb-gw", kSinkNs[] = "hgb-sink";
constexpr char kSenderDevice[] = "hgb-gen", kIn[] = "hgb-in", kOut[] = "hgb-out", kSink[] = "hgb-sink";
constexpr int kSenderCpu = 0, kGatewayCpu = 1;
constexpr std::chrono::milliseconds kWarmUp(300);
constexpr std::chrono::milliseconds kReadTime(1);
constexpr int kReadAttempts = 100;
constexpr int kTrafficPriority = 1, kMeterPriority = 2;  // of SCHED_FIFO

const GatewayPath kPath = {.netns = kGatewayNs,
                           .in = kIn,
                           .out = kOut,
                           .source_mac = {2, 0, 0, 0, 1, 1},
                           .destination_mac = {2, 0, 0, 0, 1, 2}};

FrameSpec MakeSpec(const RedirectOptions& options, uint32_t size) {
  // Addresses for benchmarks (RFC 2544), which no ClassBench rule names.
  return {.destination_mac = {2, 0, 0, 0, 0, 1},
          .source_mac = {2, 0, 0, 0, 0, 2},
          .source = {{0xc6120001}, Family::kIpv4},       // 198.18.0.1
          .destination = {{0xc6130001}, Family::kIpv4},  // 198.19.0.1
          .size = size,
          .flows = options.flows};
}

struct Count {
  uint64_t received = 0, sent = 0, refused = 0;
  steady_clock::time_point time;
};

// All at one time: again when this thread was held up between the readings.
absl::StatusOr<Count> ReadCount(const Receiver& receiver, const Sender& sender) {
  for (int attempt = 0; attempt < kReadAttempts; ++attempt) {
    Count count{.sent = sender.sent(), .refused = sender.refused(), .time = steady_clock::now()};
    HG_ASSIGN_OR_RETURN(count.received, receiver.Frames());
    if (steady_clock::now() - count.time < kReadTime) return count;
  }
  return absl::UnavailableError("the machine is too busy to read counters in time; --realtime puts the benchmark first");
}

// In a thread of its own priority; the gateway is in place.
absl::StatusOr<RedirectSample> Measure(const RedirectOptions& options, const FrameSpec& spec) {
  HG_RETURN_IF_ERROR(Schedule(0, {.realtime = options.realtime ? kMeterPriority : 0}));
  const int priority = options.realtime ? kTrafficPriority : 0;
  HG_ASSIGN_OR_RETURN(const auto receiver, Receiver::Open({.device = kSink, .netns = kSinkNs, .count_only = true}));
  if (options.placement == Placement::kSplit) {
    HG_RETURN_IF_ERROR(RunNapiInThreads(kGatewayNs, kIn, {.cpu = kGatewayCpu, .realtime = priority}));
  }
  HG_ASSIGN_OR_RETURN(const auto sender, Sender::Open({.device = kSenderDevice,
                                                       .netns = kSenderNs,
                                                       .frame = spec,
                                                       .scheduling = {.cpu = kSenderCpu, .realtime = priority}}));
  sender->Start();
  std::this_thread::sleep_for(kWarmUp);
  HG_ASSIGN_OR_RETURN(const Count first, ReadCount(*receiver, *sender));
  std::this_thread::sleep_for(std::chrono::duration<double>(options.seconds));
  HG_ASSIGN_OR_RETURN(const Count last, ReadCount(*receiver, *sender));
  HG_RETURN_IF_ERROR(sender->Stop());
  const double seconds = std::chrono::duration<double>(last.time - first.time).count();
  const auto rate = [&](uint64_t Count::*field) { return static_cast<double>(last.*field - first.*field) / seconds; };
  return RedirectSample{.rate = rate(&Count::received), .offered = rate(&Count::sent), .refused = rate(&Count::refused)};
}

absl::StatusOr<RedirectSample> MeasureGateway(const RedirectOptions& options, uint32_t size, bool headgate) {
  const FrameSpec spec = MakeSpec(options, size);
  HG_ASSIGN_OR_RETURN(const hgb_template frame, BuildTemplate(spec));
  const std::vector<uint8_t> bytes = BuildFrame(spec, frame, 0);
  HG_ASSIGN_OR_RETURN(const auto gateway, headgate ? StartHeadgate(kPath, bytes) : StartBareRedirect(kPath));
  absl::StatusOr<RedirectSample> measured;
  std::thread([&] { measured = Measure(options, spec); }).join();
  HG_ASSIGN_OR_RETURN(RedirectSample sample, std::move(measured));
  HG_ASSIGN_OR_RETURN(sample.program_nanoseconds, gateway->ProgramNanoseconds(bytes));
  return sample;
}

std::vector<double> Rates(const std::vector<RedirectSample>& samples) {
  std::vector<double> rates;
  for (const RedirectSample& sample : samples) rates.push_back(sample.rate);
  return rates;
}

// Of the rounds: both sides of a ratio were measured one after the other.
std::vector<double> Ratios(const RedirectRow& row) {
  std::vector<double> ratios;
  for (size_t i = 0; i < row.bare.size(); ++i) ratios.push_back(row.headgate[i].rate / row.bare[i].rate);
  return ratios;
}

double MedianProgram(const std::vector<RedirectSample>& samples) {
  std::vector<double> values;
  for (const RedirectSample& sample : samples) values.push_back(sample.program_nanoseconds);
  return Summarize(std::move(values)).median;
}

double Spread(const Summary& summary) { return (summary.max - summary.min) / summary.median; }

std::string Machine() {
  std::ifstream cpuinfo("/proc/cpuinfo");
  std::string model = "unknown CPU";
  for (std::string line; std::getline(cpuinfo, line);) {
    if (!absl::StartsWith(line, "model name")) continue;
    model = std::string(absl::StripAsciiWhitespace(line.substr(line.find(':') + 1)));
    break;
  }
  utsname system{};
  uname(&system);
  return absl::StrCat(model, ", ", std::thread::hardware_concurrency(), " cores, kernel ", system.release);
}

}  // namespace

Summary Summarize(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  const double median = values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
  return {median, values.front(), values.back()};
}

absl::StatusOr<std::vector<RedirectRow>> RunRedirect(const RedirectOptions& options, const std::atomic<bool>& stop,
                                                     absl::FunctionRef<void(const std::string&)> progress) {
  HG_ASSIGN_OR_RETURN(const auto lab, Lab::Create({kSenderNs, kGatewayNs, kSinkNs}));
  HG_RETURN_IF_ERROR(lab->Connect({kSenderNs, kSenderDevice}, {kGatewayNs, kIn}));
  HG_RETURN_IF_ERROR(lab->Connect({kGatewayNs, kOut}, {kSinkNs, kSink}));
  std::vector<RedirectRow> rows;
  for (const uint32_t size : options.sizes) rows.push_back({.size = size});
  for (int round = 0; round < options.rounds; ++round) {
    for (RedirectRow& row : rows) {
      for (int turn = 0; turn < 2; ++turn) {
        if (stop.load(std::memory_order_relaxed)) return absl::CancelledError("interrupted");
        const bool headgate = (round + turn) % 2 == 1;
        HG_ASSIGN_OR_RETURN(const RedirectSample sample, MeasureGateway(options, row.size, headgate));
        (headgate ? row.headgate : row.bare).push_back(sample);
        progress(absl::StrFormat("round %d, %4d bytes, %-13s %9.0f/s (%9.0f in, %9.0f refused), %5.1f ns a frame, "
                                 "program %5.1f ns", round + 1,
                                 row.size, headgate ? "headgate" : "bare_redirect", sample.rate, sample.offered,
                                 sample.refused, 1e9 / sample.rate,
                                 sample.program_nanoseconds));
      }
    }
  }
  return rows;
}

std::string RedirectTable(const std::vector<RedirectRow>& rows) {
  std::string table = absl::StrFormat("%-14s %12s %14s %6s %7s %22s %22s\n", "packets/s", "headgate", "bare_redirect",
                                      "ratio", "spread", "ns a frame (hg, bare)", "program ns (hg, bare)");
  for (const RedirectRow& row : rows) {
    const Summary headgate = Summarize(Rates(row.headgate)), bare = Summarize(Rates(row.bare));
    const Summary ratio = Summarize(Ratios(row));
    absl::StrAppendFormat(&table, "%-14s %12.0f %14.0f %6.3f %6.1f%% %14.1f %7.1f %14.1f %7.1f\n",
                          absl::StrCat("redirect/", row.size), headgate.median, bare.median, ratio.median,
                          100 * Spread(ratio), 1e9 / headgate.median, 1e9 / bare.median, MedianProgram(row.headgate),
                          MedianProgram(row.bare));
  }
  return table;
}

std::string RedirectJson(const RedirectOptions& options, const std::vector<RedirectRow>& rows) {
  nlohmann::json out = {{"scenario", "redirect"},
                        {"machine", Machine()},
                        {"rounds", options.rounds},
                        {"seconds", options.seconds},
                        {"placement", options.placement == Placement::kSplit ? "split" : "same"},
                        {"rows", nlohmann::json::array()}};
  for (const RedirectRow& row : rows) {
    const Summary ratio = Summarize(Ratios(row));
    out["rows"].push_back({{"name", absl::StrCat("redirect/", row.size)},
                           {"unit", "packets/s"},
                           {"headgate", Summarize(Rates(row.headgate)).median},
                           {"baseline", "bare_redirect"},
                           {"baseline_value", Summarize(Rates(row.bare)).median},
                           {"ratio", ratio.median},
                           {"spread", Spread(ratio)},
                           {"program_ns", MedianProgram(row.headgate)},
                           {"baseline_program_ns", MedianProgram(row.bare)}});
  }
  return out.dump(2);
}

}  // namespace headgate::bench
