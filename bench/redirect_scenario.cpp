// SPDX-License-Identifier: Apache-2.0
#include "bench/redirect_scenario.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <algorithm>
#include <chrono>
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
constexpr std::chrono::milliseconds kReadTime(1), kStopTime(100);
constexpr int kReadAttempts = 100;
constexpr std::chrono::milliseconds kIdle(50), kIdleTimeout(5000);
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
  return absl::UnavailableError(
      "the machine is too busy to read counters in time; --realtime puts the benchmark first");
}

absl::Status Sleep(std::chrono::duration<double> duration, const std::atomic<bool>& stop) {
  const auto end = steady_clock::now() + std::chrono::duration_cast<steady_clock::duration>(duration);
  while (steady_clock::now() < end) {
    if (stop.load(std::memory_order_relaxed)) return absl::CancelledError("interrupted");
    std::this_thread::sleep_for(std::min<steady_clock::duration>(kStopTime, end - steady_clock::now()));
  }
  return absl::OkStatus();
}

// In a thread of its own priority; the gateway is in place.
absl::StatusOr<RedirectSample> Measure(const RedirectOptions& options, const FrameSpec& spec, Gateway& gateway,
                                       const std::atomic<bool>& stop) {
  HG_RETURN_IF_ERROR(Schedule(0, {.realtime = options.realtime ? kMeterPriority : 0}));
  const int priority = options.realtime ? kTrafficPriority : 0;
  HG_ASSIGN_OR_RETURN(const auto receiver,
                      Receiver::Open({.device = kSink, .netns = kSinkNs, .count_only = true}));
  if (options.placement == Placement::kSplit) {
    HG_RETURN_IF_ERROR(RunNapiInThreads(kGatewayNs, kIn, {.cpu = kGatewayCpu, .realtime = priority}));
  }
  HG_ASSIGN_OR_RETURN(const auto sender, Sender::Open({.device = kSenderDevice,
                                                       .netns = kSenderNs,
                                                       .frame = spec,
                                                       .scheduling = {.cpu = kSenderCpu, .realtime = priority}}));
  sender->Start();
  HG_RETURN_IF_ERROR(Sleep(kWarmUp, stop));
  HG_ASSIGN_OR_RETURN(const Count first, ReadCount(*receiver, *sender));
  HG_RETURN_IF_ERROR(Sleep(std::chrono::duration<double>(options.seconds), stop));
  HG_ASSIGN_OR_RETURN(const Count last, ReadCount(*receiver, *sender));
  HG_RETURN_IF_ERROR(sender->Stop());
  const double seconds = std::chrono::duration<double>(last.time - first.time).count();
  HG_RETURN_IF_ERROR(receiver->AwaitIdle(kIdle, kIdleTimeout));
  HG_ASSIGN_OR_RETURN(const uint64_t received, receiver->Frames());
  HG_ASSIGN_OR_RETURN(const uint64_t lost, gateway.CheckAccount(sender->sent(), received));
  const auto rate = [&](uint64_t Count::*field) {
    return static_cast<double>(last.*field - first.*field) / seconds;
  };
  return RedirectSample{.rate = rate(&Count::received),
                        .offered = rate(&Count::sent),
                        .refused = rate(&Count::refused),
                        .lost = static_cast<double>(lost)};
}

absl::StatusOr<RedirectSample> MeasureGateway(const RedirectOptions& options, uint32_t size, bool headgate,
                                              const std::atomic<bool>& stop) {
  const FrameSpec spec = MakeSpec(options, size);
  HG_ASSIGN_OR_RETURN(const hgb_template frame, BuildTemplate(spec));
  const std::vector<uint8_t> bytes = BuildFrame(spec, frame, 0);
  HG_ASSIGN_OR_RETURN(const auto gateway, headgate ? StartHeadgate(kPath, bytes) : StartBareRedirect(kPath));
  absl::StatusOr<RedirectSample> measured;
  std::thread([&] { measured = Measure(options, spec, *gateway, stop); }).join();
  HG_ASSIGN_OR_RETURN(RedirectSample sample, std::move(measured));
  HG_ASSIGN_OR_RETURN(sample.program_nanoseconds, gateway->ProgramNanoseconds(bytes));
  return sample;
}

std::vector<double> Values(const std::vector<RedirectSample>& samples, double RedirectSample::*field) {
  std::vector<double> values;
  values.reserve(samples.size());
  for (const RedirectSample& sample : samples) values.push_back(sample.*field);
  return values;
}

double Median(const std::vector<RedirectSample>& samples, double RedirectSample::*field) {
  return Summarize(Values(samples, field)).median;
}

}  // namespace

absl::StatusOr<std::vector<RedirectRow>> RunRedirect(const RedirectOptions& options, const std::atomic<bool>& stop,
                                                     absl::FunctionRef<void(const std::string&)> progress) {
  HG_ASSIGN_OR_RETURN(const Fd lock, LockBenchmarks(options.wait));
  HG_ASSIGN_OR_RETURN(const auto lab, Lab::Create({kSenderNs, kGatewayNs, kSinkNs}));
  HG_RETURN_IF_ERROR(lab->Connect({kSenderNs, kSenderDevice}, {kGatewayNs, kIn}));
  HG_RETURN_IF_ERROR(lab->Connect({kGatewayNs, kOut}, {kSinkNs, kSink}));
  std::vector<RedirectRow> rows;
  for (const uint32_t size : options.sizes) rows.push_back({.size = size});
  for (int round = 0; round < options.rounds; ++round) {
    for (RedirectRow& row : rows) {
      for (int turn = 0; turn < 2; ++turn) {
        const bool headgate = (round + turn) % 2 == 1;
        HG_ASSIGN_OR_RETURN(const RedirectSample sample, MeasureGateway(options, row.size, headgate, stop));
        (headgate ? row.headgate : row.bare).push_back(sample);
        progress(
            absl::StrFormat("round %d, %4d bytes, %-13s %9.0f/s (%9.0f in, %9.0f refused), %5.1f ns a frame, "
                            "program %5.1f ns",
                            round + 1, row.size, headgate ? "headgate" : "bare_redirect", sample.rate,
                            sample.offered, sample.refused, 1e9 / sample.rate, sample.program_nanoseconds));
      }
    }
  }
  return rows;
}

Result ToResult(const RedirectOptions& options, const std::vector<RedirectRow>& rows) {
  Result result{.scenario = "redirect",
                .settings = {{"placement", options.placement == Placement::kSplit ? "split" : "same"},
                             {"seconds", absl::StrCat(options.seconds)},
                             {"flows", absl::StrCat(options.flows)},
                             {"realtime", options.realtime ? "yes" : "no"}}};
  for (const RedirectRow& row : rows) {
    result.rows.push_back(
        {.name = absl::StrCat("redirect/", row.size),
         .unit = "packets/s",
         .headgate = Values(row.headgate, &RedirectSample::rate),
         .baseline = "bare_redirect",
         .baseline_values = Values(row.bare, &RedirectSample::rate),
         .details = {{"program_ns", Median(row.headgate, &RedirectSample::program_nanoseconds)},
                     {"baseline_program_ns", Median(row.bare, &RedirectSample::program_nanoseconds)},
                     {"lost", Median(row.headgate, &RedirectSample::lost)},
                     {"baseline_lost", Median(row.bare, &RedirectSample::lost)}}});
  }
  return result;
}

}  // namespace headgate::bench
