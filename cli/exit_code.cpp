// SPDX-License-Identifier: Apache-2.0
#include "cli/exit_code.h"

#include <absl/strings/cord.h>

namespace headgate::cli {
namespace {

constexpr char kInvalidConfiguration[] = "headgate/invalid-configuration";

}  // namespace

absl::Status InvalidConfiguration(absl::string_view lines) {
  absl::Status status = absl::InvalidArgumentError(lines);
  status.SetPayload(kInvalidConfiguration, absl::Cord());
  return status;
}

bool IsInvalidConfiguration(const absl::Status& status) {
  return status.GetPayload(kInvalidConfiguration).has_value();
}

ExitCode ExitCodeOf(const absl::Status& status) {
  if (status.ok()) return ExitCode::kOk;
  if (IsInvalidConfiguration(status)) return ExitCode::kInvalid;
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
      return ExitCode::kUnreachable;
    default:
      return ExitCode::kFailed;
  }
}

}  // namespace headgate::cli
