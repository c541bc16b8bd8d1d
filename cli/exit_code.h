// SPDX-License-Identifier: Apache-2.0
//
// What hgctl's exit status says; documented in hgctl(1).
#pragma once

#include <absl/status/status.h>
#include <absl/strings/string_view.h>

namespace headgate::cli {

enum class ExitCode {
  kOk = 0,
  kFailed = 1,       // the agent refused, or a file could not be read
  kUsage = 2,        // the command line is wrong
  kDifferent = 3,    // diff: there are differences
  kUnreachable = 4,  // no connection to the agent, or no answer in time
  kInvalid = 5,      // the configuration is invalid
};

// An error whose message is a complete list of what is wrong with a configuration, a line each.
absl::Status InvalidConfiguration(absl::string_view lines);
bool IsInvalidConfiguration(const absl::Status& status);

ExitCode ExitCodeOf(const absl::Status& status);

}  // namespace headgate::cli
