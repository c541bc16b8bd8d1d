// SPDX-License-Identifier: Apache-2.0
#include "bench/report.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <sys/resource.h>

#include <fstream>
#include <nlohmann/json.hpp>

namespace headgate::bench {
namespace {

constexpr double kPercentiles[] = {50, 90, 99, 99.9};
constexpr double kNanosecondsPerMicrosecond = 1000;

uint64_t Sum(const std::vector<StreamReport>& streams, uint64_t StreamReport::*field) {
  uint64_t sum = 0;
  for (const StreamReport& stream : streams) sum += stream.*field;
  return sum;
}

double Seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

}  // namespace

StreamReport MakeStreamReport(uint16_t id, const hgb_stream& sum) {
  StreamReport report{.id = id,
                      .packets = sum.packets,
                      .bytes = sum.bytes,
                      .duplicates = sum.duplicates,
                      .reordered = sum.reordered,
                      .beyond_window = sum.beyond_window,
                      .next = sum.next};
  const uint64_t unique = sum.packets - sum.duplicates;
  report.lost = sum.next > unique ? sum.next - unique : 0;
  return report;
}

uint64_t ReceiveReport::Lost() const { return Sum(streams, &StreamReport::lost); }
uint64_t ReceiveReport::Duplicates() const { return Sum(streams, &StreamReport::duplicates); }
uint64_t ReceiveReport::Reordered() const { return Sum(streams, &StreamReport::reordered); }

CpuMeter::Reading CpuMeter::Read() {
  Reading reading{.time = std::chrono::steady_clock::now()};
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  reading.process_seconds = Seconds(usage.ru_utime) + Seconds(usage.ru_stime);
  // proc(5): user nice system idle iowait irq softirq steal, then guest time that user time contains already
  std::ifstream stat("/proc/stat");
  std::string cpu;
  uint64_t ticks[8] = {};
  stat >> cpu;
  for (uint64_t& value : ticks) stat >> value;
  for (const uint64_t value : ticks) reading.all += value;
  reading.busy = reading.all - ticks[3] - ticks[4];
  reading.softirq = ticks[6];
  return reading;
}

CpuReport CpuMeter::Elapsed() const {
  const Reading now = Read();
  CpuReport report;
  report.seconds = std::chrono::duration<double>(now.time - start_.time).count();
  report.process_seconds = now.process_seconds - start_.process_seconds;
  const auto all = static_cast<double>(now.all - start_.all);
  if (all > 0) {
    report.busy_share = static_cast<double>(now.busy - start_.busy) / all;
    report.softirq_share = static_cast<double>(now.softirq - start_.softirq) / all;
  }
  return report;
}

nlohmann::json ToJson(const SendReport& report) {
  nlohmann::json json = {{"sent", report.sent},
                         {"refused", report.refused},
                         {"given_up", report.given_up},
                         {"seconds", report.seconds},
                         {"packets_per_second", report.Rate()},
                         {"engine", report.engine == EngineKind::kXdp ? "xdp" : "prog"}};
  if (report.zero_copy) json["zero_copy"] = *report.zero_copy;
  return json;
}

nlohmann::json ToJson(const ReceiveReport& report) {
  nlohmann::json streams = nlohmann::json::array();
  for (const StreamReport& stream : report.streams) {
    streams.push_back({{"id", stream.id},
                       {"packets", stream.packets},
                       {"bytes", stream.bytes},
                       {"lost", stream.lost},
                       {"duplicates", stream.duplicates},
                       {"reordered", stream.reordered},
                       {"beyond_window", stream.beyond_window},
                       {"highest", stream.next - 1}});
  }
  nlohmann::json latency = {{"count", report.latency.Count()}, {"max", report.latency.Max()}};
  for (const double percent : kPercentiles)
    latency[absl::StrCat("p", percent)] = report.latency.Percentile(percent);
  return {{"packets", report.packets},
          {"bytes", report.bytes},
          {"lost", report.Lost()},
          {"duplicates", report.Duplicates()},
          {"reordered", report.Reordered()},
          {"foreign_packets", report.foreign_packets},
          {"foreign_bytes", report.foreign_bytes},
          {"clockless", report.clockless},
          {"latency_ns", std::move(latency)},
          {"streams", std::move(streams)}};
}

nlohmann::json ToJson(const CpuReport& report) {
  return {{"seconds", report.seconds},
          {"process_seconds", report.process_seconds},
          {"busy_share", report.busy_share},
          {"softirq_share", report.softirq_share}};
}

std::string ToText(const SendReport& report) {
  std::string text = absl::StrFormat("sent %d frames in %.3f s, %.0f/s; %d refused by the device, %d given up",
                                     report.sent, report.seconds, report.Rate(), report.refused, report.given_up);
  if (report.zero_copy) absl::StrAppend(&text, "; AF_XDP, ", *report.zero_copy ? "zero copy" : "copying");
  return text;
}

std::string ToText(const ReceiveReport& report) {
  std::string text = absl::StrFormat(
      "received %d frames, %d bytes; %d lost, %d duplicates, %d reordered; %d foreign", report.packets,
      report.bytes, report.Lost(), report.Duplicates(), report.Reordered(), report.foreign_packets);
  if (report.latency.Count() == 0) return text;
  absl::StrAppend(&text, "\nlatency in us:");
  for (const double percent : kPercentiles) {
    absl::StrAppendFormat(&text, " p%g %.1f", percent,
                          static_cast<double>(report.latency.Percentile(percent)) / kNanosecondsPerMicrosecond);
  }
  absl::StrAppendFormat(&text, " max %.1f",
                        static_cast<double>(report.latency.Max()) / kNanosecondsPerMicrosecond);
  return text;
}

std::string ToText(const CpuReport& report) {
  return absl::StrFormat("CPU: this process %.2f s in %.2f s; machine busy %.0f %%, in softirq %.0f %%",
                         report.process_seconds, report.seconds, 100 * report.busy_share,
                         100 * report.softirq_share);
}

}  // namespace headgate::bench
