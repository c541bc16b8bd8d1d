// SPDX-License-Identifier: Apache-2.0
//
// The command lines of what sends and receives: each adds its subcommand, which sets the command's verb.
#pragma once

#include <CLI/CLI.hpp>

#include "bench/options.h"

namespace headgate::bench {

void AddSend(CLI::App& root, Command& command);
void AddReceive(CLI::App& root, Command& command);
void AddRun(CLI::App& root, Command& command);

}  // namespace headgate::bench
