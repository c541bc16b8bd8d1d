// SPDX-License-Identifier: Apache-2.0
//
// What senders and receivers have counted, and its forms as text and JSON.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bench/bpf/account.h"
#include "bench/histogram.h"

namespace headgate::bench {

// By which frames are sent: live-frame prog runs, or AF_XDP.
enum class EngineKind : uint8_t { kProg, kXdp };

struct SendReport {
  uint64_t sent = 0;      // frames the device took: exactly what a veth's peer gets
  uint64_t refused = 0;   // frames the device did not take; their numbers went to later frames
  uint64_t given_up = 0;  // frames not made, because the rate asked for was not reached
  double seconds = 0;     // from the first frame to the last
  EngineKind engine = EngineKind::kProg;
  std::optional<bool> zero_copy = {};  // of AF_XDP: whether the device reads frames where they lie

  double Rate() const { return seconds > 0 ? static_cast<double>(sent) / seconds : 0; }
};

struct StreamReport {
  uint16_t id = 0;
  uint64_t packets = 0;
  uint64_t bytes = 0;
  uint64_t lost = 0;           // numbers up to the highest that came of which no frame did
  uint64_t duplicates = 0;     // frames whose number had come before
  uint64_t reordered = 0;      // frames that came after one with a higher number
  uint64_t beyond_window = 0;  // frames more than 65,536 numbers behind: taken for first arrivals
  uint64_t next = 0;           // the highest number, plus one
};

// From the sums over CPUs, but `next` the highest of theirs.
StreamReport MakeStreamReport(uint16_t id, const hgb_stream& sum);

struct ReceiveReport {
  uint64_t packets = 0;  // of senders of ours; all frames when only counting
  uint64_t bytes = 0;
  uint64_t foreign_packets = 0;  // any other frames
  uint64_t foreign_bytes = 0;
  uint64_t clockless = 0;  // frames whose time of sending makes no sense here: left out of the latency
  std::vector<StreamReport> streams;
  Histogram latency;  // ns

  // Sums over the streams.
  uint64_t Lost() const;
  uint64_t Duplicates() const;
  uint64_t Reordered() const;
  // First arrivals.
  uint64_t Unique() const { return packets - Duplicates(); }
};

// Processor time from one reading to another.
struct CpuReport {
  double seconds = 0;
  double process_seconds = 0;  // of this process, user and system
  double busy_share = 0;       // of the machine's CPUs, 0 to 1
  double softirq_share = 0;    // of the machine's CPUs, 0 to 1
};

class CpuMeter {
 public:
  CpuMeter() : start_(Read()) {}
  CpuReport Elapsed() const;

 private:
  struct Reading {
    std::chrono::steady_clock::time_point time;
    double process_seconds = 0;
    uint64_t busy = 0, softirq = 0, all = 0;  // ticks
  };
  static Reading Read();
  Reading start_;
};

nlohmann::json ToJson(const SendReport& report);
nlohmann::json ToJson(const ReceiveReport& report);
nlohmann::json ToJson(const CpuReport& report);

std::string ToText(const SendReport& report);
std::string ToText(const ReceiveReport& report);
std::string ToText(const CpuReport& report);

}  // namespace headgate::bench
