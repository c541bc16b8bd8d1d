// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>

#include <string>

namespace headgate::cli {

// What is wrong with the command line that `app` has tried to parse, and where to read on.
std::string UsageError(const CLI::App* app, const CLI::Error& error);

}  // namespace headgate::cli
