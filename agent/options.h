// SPDX-License-Identifier: Apache-2.0
//
// What headgated is told when it starts: flags, or environment variables in their place.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "agent/api/server.h"
#include "agent/base/log.h"
#include "agent/dataplane/loader.h"
#include "agent/slowpath/slow_path_config.h"

namespace headgate {

struct Options {
  std::string config;  // start-up configuration; empty: none
  std::string state = "/var/lib/headgate/state.db";
  std::string http = "127.0.0.1:9780";  // empty: none
  api::ServerOptions server;
  LoadOptions load;
  LogFormat log_format = LogFormat::kText;
  std::string log_level = "info";
  std::chrono::milliseconds drift_interval{30'000};
  SlowPathOptions slow_path{.app_socket = "/run/headgate/app.sock"};
  bool keep_privileges = false;
  bool check_config = false;  // say whether `config` is valid, and end
  bool detach = false;        // take Headgate off all devices, and end
};

// Nothing: the process is to exit with `exit_code`; help, version or errors have been printed.
std::optional<Options> ParseOptions(int argc, char** argv, int& exit_code);

}  // namespace headgate
