// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <absl/status/statusor.h>

#include <string>

namespace headgate::cli {

// The whole of a file; of anything that can be read to an end.
absl::StatusOr<std::string> ReadFile(const std::string& path);

}  // namespace headgate::cli
