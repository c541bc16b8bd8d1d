// SPDX-License-Identifier: Apache-2.0
//
// The whole command line: global options and every verb.
#pragma once

#include <CLI/CLI.hpp>

#include "cli/context.h"

namespace headgate::cli {

void DefineCommandLine(CLI::App& app, Context& context);

// Parses, does what was asked and reports errors; the exit status.
int RunCommandLine(Context& context, int argc, const char* const* argv);

}  // namespace headgate::cli
