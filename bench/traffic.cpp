// SPDX-License-Identifier: Apache-2.0
#include "bench/traffic.h"

#include <absl/functional/function_ref.h>
#include <absl/strings/str_cat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <thread>

#include "agent/base/status.h"
#include "bench/netns.h"
#include "bench/progress.h"
#include "bench/report.h"

namespace headgate::bench {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kPoll(10);
// What has not come this long after the last frame does not come any more.
constexpr milliseconds kIdle(200), kIdleTimeout(10'000);

absl::StatusOr<std::unique_ptr<Sender>> OpenSender(const SendCommand& command) {
  SendOptions options = command.options;
  if (!command.has_source_mac) {
    HG_RETURN_IF_ERROR(InNamespace(options.netns, [&]() -> absl::Status {
      HG_ASSIGN_OR_RETURN(const Device device, FindDevice(options.device));
      options.frame.source_mac = device.mac;
      return absl::OkStatus();
    }));
  }
  if (!command.pcap.empty()) {
    HG_ASSIGN_OR_RETURN(options.captured, ReadPcap(command.pcap, kMaxFrameBytes));
    const uint64_t all = command.loop * options.captured.size();
    if (all != 0) options.count = options.count != 0 ? std::min(options.count, all) : all;
  }
  return Sender::Open(options);
}

absl::Status CountSent(const Sender& sender, Counts& counts) {
  counts.sent = sender.sent();
  counts.refused = sender.refused();
  return absl::OkStatus();
}

absl::Status CountReceived(const Receiver& receiver, bool numbered, Counts& counts) {
  if (!numbered) {
    HG_ASSIGN_OR_RETURN(counts.received, receiver.Frames());
    return absl::OkStatus();
  }
  HG_ASSIGN_OR_RETURN(const ReceiveReport report, receiver.Read());
  counts.received = report.Unique();
  counts.lost = report.Lost();
  return absl::OkStatus();
}

// Until it has ended or is to stop.
absl::Status RunSender(Sender& sender, Progress& progress, absl::FunctionRef<absl::Status(Counts&)> count,
                       const std::atomic<bool>& stop) {
  sender.Start();
  absl::Status status;
  while (status.ok() && sender.running() && !stop.load(std::memory_order_relaxed)) {
    std::this_thread::sleep_for(kPoll);
    status = progress.Update(count);
  }
  const absl::Status ended = sender.Stop();
  return ended.ok() ? status : ended;
}

}  // namespace

absl::StatusOr<Outcome> Send(const SendCommand& command, bool quiet, const std::atomic<bool>& stop) {
  HG_ASSIGN_OR_RETURN(const auto sender, OpenSender(command));
  const CpuMeter meter;
  {
    Progress progress(quiet, STDERR_FILENO);
    HG_RETURN_IF_ERROR(RunSender(
        *sender, progress, [&](Counts& counts) { return CountSent(*sender, counts); }, stop));
  }
  const CpuReport cpu = meter.Elapsed();
  const SendReport report = sender->Report();
  return Outcome{.json = {{"send", ToJson(report)}, {"cpu", ToJson(cpu)}},
                 .text = absl::StrCat(ToText(report), "\n", ToText(cpu), "\n")};
}

absl::StatusOr<Outcome> Receive(const ReceiveCommand& command, bool quiet, const std::atomic<bool>& stop) {
  HG_ASSIGN_OR_RETURN(const auto receiver, Receiver::Open(command.options));
  const CpuMeter meter;
  const auto start = steady_clock::now();
  std::optional<Progress> progress(std::in_place, quiet, STDERR_FILENO);
  while (!stop.load(std::memory_order_relaxed)) {
    if (command.duration && steady_clock::now() - start >= *command.duration) break;
    if (command.count != 0) {
      HG_ASSIGN_OR_RETURN(const uint64_t frames, receiver->Frames());
      if (frames >= command.count) break;
    }
    std::this_thread::sleep_for(kPoll);
    HG_RETURN_IF_ERROR(progress->Update(
        [&](Counts& counts) { return CountReceived(*receiver, !command.options.count_only, counts); }));
  }
  progress.reset();
  const CpuReport cpu = meter.Elapsed();
  HG_ASSIGN_OR_RETURN(const ReceiveReport report, receiver->Read());
  const char* mode = receiver->mode() == DriverMode::kNative ? "native" : "generic";
  return Outcome{.json = {{"receive", ToJson(report)}, {"mode", mode}, {"cpu", ToJson(cpu)}},
                 .text = absl::StrCat(ToText(report), "\n", ToText(cpu), "; ", mode, " mode\n")};
}

absl::StatusOr<Outcome> SendAndReceive(const RunCommand& command, bool quiet, const std::atomic<bool>& stop) {
  // Captured frames have no numbers.
  const bool numbered = command.send.pcap.empty();
  ReceiveOptions receive = command.receive;
  receive.count_only = !numbered;
  HG_ASSIGN_OR_RETURN(const auto receiver, Receiver::Open(receive));
  HG_ASSIGN_OR_RETURN(const auto sender, OpenSender(command.send));
  const CpuMeter meter;
  {
    Progress progress(quiet, STDERR_FILENO);
    const auto count = [&](Counts& counts) -> absl::Status {
      HG_RETURN_IF_ERROR(CountSent(*sender, counts));
      return CountReceived(*receiver, numbered, counts);
    };
    HG_RETURN_IF_ERROR(RunSender(*sender, progress, count, stop));
  }
  const CpuReport cpu = meter.Elapsed();
  HG_RETURN_IF_ERROR(receiver->AwaitIdle(kIdle, kIdleTimeout));
  const SendReport sent = sender->Report();
  HG_ASSIGN_OR_RETURN(const ReceiveReport received, receiver->Read());
  // Other senders' streams may arrive as well.
  uint64_t arrived = numbered ? 0 : received.packets;
  for (const StreamReport& stream : received.streams) {
    if (stream.id == command.send.options.frame.stream) arrived = stream.packets - stream.duplicates;
  }
  const uint64_t lost = sent.sent - std::min(arrived, sent.sent);
  return Outcome{
      .code = lost == 0 ? ExitCode::kOk : ExitCode::kLost,
      .json = {{"send", ToJson(sent)}, {"receive", ToJson(received)}, {"lost", lost}, {"cpu", ToJson(cpu)}},
      .text = absl::StrCat(ToText(sent), "\n", ToText(received), "\n", "lost between: ", lost, " of ", sent.sent,
                           " frames\n", ToText(cpu), "\n")};
}

}  // namespace headgate::bench
