// SPDX-License-Identifier: Apache-2.0
//
// hgctl: the command line client of headgated.
#include "cli/command_line.h"

int main(int argc, char** argv) {
  headgate::cli::Context context;
  return headgate::cli::RunCommandLine(context, argc, argv);
}
