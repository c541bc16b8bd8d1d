// SPDX-License-Identifier: Apache-2.0
//
// The start-up configuration: one YAML file that holds the message Apply takes.
#pragma once

#include <absl/status/status.h>

#include <string>

#include "agent/api/convert.h"
#include "agent/control/controller.h"

namespace headgate {

// Marks the status of a start that failed because of what the file says.
inline constexpr char kStartupConfigPayload[] = "headgate/startup_config";
// The store's note of the file applied last.
inline constexpr char kStartupConfigNote[] = "startup_config";

class StartupConfig {
 public:
  // `path` empty: there is none. `last`: the note, empty when none was applied yet.
  StartupConfig(std::string path, std::string last, Controller& controller, api::ActionPool& actions)
      : path_(std::move(path)), last_(std::move(last)), controller_(controller), actions_(actions) {}

  // Applies the file unless it is the one applied last: what the API has changed since stays then. A file that has
  // to wait, for the confirmation of another change, is no error: the next start or Apply tries again.
  absl::Status ApplyAtStart();
  // Applies it in any case, and waits until it is in force.
  absl::Status Apply();

 private:
  absl::Status Apply(const std::string& text);

  const std::string path_, last_;
  Controller& controller_;
  api::ActionPool& actions_;
};

// Validates the file as Apply would, against nothing: INVALID_ARGUMENT names line and column of each violation.
absl::Status CheckStartupConfig(const std::string& path, const Limits& limits);

}  // namespace headgate
