// SPDX-License-Identifier: Apache-2.0
#include "bench/service_meter.h"

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "agent/base/status.h"
#include "bench/netns.h"
#include "bench/process.h"
#include "bench/rate_search.h"
#include "bench/report.h"

namespace headgate::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kRunIn(200), kPoll(20), kQuiet(200), kQuietTimeout(20'000);
// Slow enough for who forks a process for each flow.
constexpr uint64_t kWarmUpRate = 500;
// Of SCHED_FIFO. Who sends without an end would keep all others on its CPU from running: only runs at a rate have
// them.
constexpr int kWorkPriority = 1, kNapiPriority = 2, kMeterPriority = 3;
constexpr int kAttempts = 2;
// What was received while it was sent, at least: a buffer is no rate.
constexpr double kKeepsUp = 0.98;

}  // namespace

absl::StatusOr<std::unique_ptr<ServiceMeter>> ServiceMeter::Open(const ServicePath& path, Service& service) {
  std::unique_ptr<ServiceMeter> meter(new ServiceMeter(path, service));
  HG_RETURN_IF_ERROR(RunNapiInThreads(path.netns, path.device, {.cpu = path.cpu, .nice = path.nice}));
  HG_ASSIGN_OR_RETURN(meter->napi_, FindNapiThreads(path.device));
  if (!path.answered) return meter;
  HG_ASSIGN_OR_RETURN(meter->receiver_,
                      Receiver::Open({.device = path.sender_device, .netns = path.sender_netns}));
  // Not in the name of who sends the answer, whose time is measured.
  HG_RETURN_IF_ERROR(
      RunNapiInThreads(path.sender_netns, path.sender_device, {.cpu = path.sender_cpu, .nice = path.nice}));
  HG_ASSIGN_OR_RETURN(meter->reply_napi_, FindNapiThreads(path.sender_device));
  return meter;
}

absl::StatusOr<std::unique_ptr<Sender>> ServiceMeter::OpenSender(uint64_t rate, uint64_t count) const {
  return Sender::Open(
      {.device = path_.sender_device,
       .netns = path_.sender_netns,
       .frame = path_.frame,
       .packets_per_second = rate,
       .count = count,
       .scheduling = {.cpu = path_.sender_cpu, .realtime = path_.realtime && rate != 0 ? kWorkPriority : 0}});
}

absl::StatusOr<uint64_t> ServiceMeter::Delivered() const {
  if (receiver_ == nullptr) return service_.Delivered();
  HG_ASSIGN_OR_RETURN(const uint64_t frames, receiver_->Frames());
  return frames - replies_;
}

absl::Status ServiceMeter::Begin() {
  HG_RETURN_IF_ERROR(service_.Begin());
  replies_ = 0;
  HG_ASSIGN_OR_RETURN(replies_, Delivered());
  if (receiver_ == nullptr) replies_ = 0;
  return absl::OkStatus();
}

// What was delivered, once no more comes.
absl::StatusOr<uint64_t> ServiceMeter::End(const Sender& sender) {
  HG_ASSIGN_OR_RETURN(uint64_t delivered, Delivered());
  const auto deadline = Clock::now() + kQuietTimeout;
  for (auto since = Clock::now(); Clock::now() - since < kQuiet && Clock::now() < deadline;) {
    std::this_thread::sleep_for(kPoll);
    HG_ASSIGN_OR_RETURN(const uint64_t now, Delivered());
    if (now != delivered) since = Clock::now();
    delivered = now;
  }
  HG_RETURN_IF_ERROR(service_.Check(sender.sent(), receiver_ != nullptr ? delivered : 0));
  return delivered;
}

absl::Status ServiceMeter::WarmUp() {
  HG_RETURN_IF_ERROR(Begin());
  HG_ASSIGN_OR_RETURN(const auto sender, OpenSender(kWarmUpRate, path_.frame.flows));
  HG_RETURN_IF_ERROR(sender->Run());
  return End(*sender).status();
}

absl::Status ServiceMeter::AddClocks(const Sender& sender, Reading& reading) const {
  const std::chrono::duration<double> now = Clock::now().time_since_epoch();
  reading.seconds += now.count() / 2;
  reading.sent += static_cast<double>(sender.sent()) / 2;
  HG_ASSIGN_OR_RETURN(const uint64_t service, ReadCpuTime(service_.Threads()));
  HG_ASSIGN_OR_RETURN(const uint64_t napi, ReadCpuTime(napi_));
  reading.service_seconds += static_cast<double>(service) / 2e9;
  reading.napi_seconds += static_cast<double>(napi) / 2e9;
  return absl::OkStatus();
}

absl::StatusOr<ServiceMeter::Reading> ServiceMeter::Read(const Sender& sender) const {
  Reading reading;
  HG_RETURN_IF_ERROR(AddClocks(sender, reading));
  HG_ASSIGN_OR_RETURN(const uint64_t delivered, Delivered());
  HG_RETURN_IF_ERROR(AddClocks(sender, reading));
  reading.delivered = static_cast<double>(delivered);
  return reading;
}

absl::Status ServiceMeter::ScheduleAll(bool realtime) const {
  const auto priority = [realtime](int of_realtime) { return Scheduling{.realtime = realtime ? of_realtime : 0}; };
  HG_RETURN_IF_ERROR(ScheduleThreads(napi_, priority(kNapiPriority)));
  if (!reply_napi_.empty()) HG_RETURN_IF_ERROR(ScheduleThreads(reply_napi_, priority(kNapiPriority)));
  if (const std::vector<pid_t> threads = service_.PacketThreads(); !threads.empty()) {
    HG_RETURN_IF_ERROR(ScheduleThreads(threads, priority(kWorkPriority)));
  }
  return Schedule(0, priority(kMeterPriority));
}

absl::StatusOr<ServiceSample> ServiceMeter::Run(uint64_t rate) {
  HG_RETURN_IF_ERROR(Begin());
  HG_ASSIGN_OR_RETURN(const auto sender, OpenSender(rate, 0));
  const bool realtime = path_.realtime && rate != 0;
  if (realtime) HG_RETURN_IF_ERROR(ScheduleAll(true));
  absl::StatusOr<ServiceSample> sample = Measure(*sender);
  if (realtime) HG_RETURN_IF_ERROR(ScheduleAll(false));
  if (sample.ok()) peak_ = std::max(peak_, sample->rate);
  return sample;
}

absl::StatusOr<ServiceSample> ServiceMeter::Measure(Sender& sender) {
  sender.Start();
  std::this_thread::sleep_for(kRunIn);
  const CpuMeter machine;
  HG_ASSIGN_OR_RETURN(const Reading first, Read(sender));
  std::this_thread::sleep_for(std::chrono::duration<double>(path_.seconds));
  HG_ASSIGN_OR_RETURN(const Reading last, Read(sender));
  const CpuReport busy = machine.Elapsed();
  HG_RETURN_IF_ERROR(sender.Stop());
  HG_ASSIGN_OR_RETURN(const uint64_t delivered, End(sender));
  const double seconds = last.seconds - first.seconds, received = last.delivered - first.delivered;
  const double napi = last.napi_seconds - first.napi_seconds;
  const double service = last.service_seconds - first.service_seconds;
  const auto sent = static_cast<double>(sender.sent()), refused = static_cast<double>(sender.refused());
  const double due = sent * path_.copies;
  ServiceSample sample{.rate = received / seconds,
                       .offered = (last.sent - first.sent) / seconds,
                       .loss = (due - static_cast<double>(delivered)) / due,
                       .refused = refused / (sent + refused),
                       .cpu_share = (napi + service) / seconds / std::thread::hardware_concurrency(),
                       .machine_share = busy.busy_share,
                       .napi_ns = 1e9 * napi / received,
                       .service_ns = 1e9 * service / received,
                       .per_cpu_s = received / (napi + service)};
  sample.at_the_most = sender.Report().given_up != 0;
  return sample;
}

absl::StatusOr<ServiceSample> ServiceMeter::FindLossless(uint64_t start, const std::atomic<bool>& stop) {
  ServiceSample best;
  RateSearch search(start);
  while (const std::optional<uint64_t> rate = search.Next()) {
    ServiceSample sample;
    bool held = false;
    // Once more: something else on the machine may have been what held it up.
    for (int attempt = 0; attempt < kAttempts && !held; ++attempt) {
      if (stop.load(std::memory_order_relaxed)) return absl::CancelledError("interrupted");
      HG_ASSIGN_OR_RETURN(sample, Run(*rate));
      held = sample.loss < kMaxLoss && sample.rate > kKeepsUp * static_cast<double>(*rate) * path_.copies;
    }
    if (!held) {
      search.Failed();
      continue;
    }
    best = sample;
    if (sample.at_the_most) {
      search.HeldAtTheMost();
    } else {
      search.Held();
    }
  }
  return best;
}

}  // namespace headgate::bench
