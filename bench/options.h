// SPDX-License-Identifier: Apache-2.0
//
// hgbench's command line.
#pragma once

#include <chrono>
#include <optional>
#include <ostream>
#include <string>
#include <variant>

#include "bench/control_scenario.h"
#include "bench/filter_scenario.h"
#include "bench/multicast_scenario.h"
#include "bench/receiver.h"
#include "bench/redirect_scenario.h"
#include "bench/replace_scenario.h"
#include "bench/sender.h"
#include "bench/steer_scenario.h"

namespace headgate::bench {

// As documented in hgbench(1).
enum class ExitCode { kOk = 0, kFailed = 1, kUsage = 2, kLost = 3 };

struct SendCommand {
  SendOptions options;
  bool has_source_mac = false;                     // else: the device's own
  std::optional<MacAddress> destination_mac = {};  // as it was given; `options` have what comes of it
  std::string pcap;                                // file of frames to send instead of made ones; empty: none
  uint64_t loop = 1;                               // times to send it; 0: no limit
};

// Until a signal, a number of frames or a time.
struct ReceiveCommand {
  ReceiveOptions options;
  uint64_t count = 0;  // 0: no limit
  std::optional<std::chrono::nanoseconds> duration;
};

// Sends and receives, and compares.
struct RunCommand {
  SendCommand send;
  ReceiveOptions receive;
};

struct Command {
  std::variant<SendCommand, ReceiveCommand, RunCommand, RedirectOptions, FilterOptions, ControlOptions,
               ReplaceOptions, SteerOptions, MulticastOptions>
      verb;
  std::string json;  // file for the results; empty: none
  bool quiet = false;
};

// Nothing: the process is to exit with `exit_code`; help, version or errors have been printed.
std::optional<Command> ParseCommand(int argc, const char* const* argv, std::ostream& out, std::ostream& err,
                                    int& exit_code);

}  // namespace headgate::bench
