// SPDX-License-Identifier: Apache-2.0
//
// hgctl: the command line client of headgated.
#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>

#include <csignal>
#include <string>
#include <vector>

#include "cli/context.h"

namespace headgate::cli {
namespace {

constexpr char kFooter[] =
    "\nExit status: 0 done, 1 refused or failed, 2 wrong usage, 3 diff found differences, 4 no connection or no answer,\n"
    "5 invalid configuration. Details and examples: man hgctl.";

int Report(Context& context, const absl::Status& status) {
  // A list of what is wrong stands by itself, so that editors can read it.
  if (IsInvalidConfiguration(status)) {
    context.err << status.message() << "\n";
  } else {
    context.err << "hgctl: " << status.message() << "\n";
  }
  return static_cast<int>(ExitCodeOf(status));
}

int Main(int argc, char** argv) {
  Context context;
  CLI::App app{"Controls headgated, the packet gateway."};
  app.name("hgctl");
  app.footer(kFooter);
  app.require_subcommand(1);
  app.fallthrough();
  AddGlobalOptions(app, context);
  AddApply(app, context);
  AddChange(app, context);
  AddGet(app, context);
  AddWatch(app, context);
  AddStats(app, context);
  AddTop(app, context);
  AddTrace(app, context);
  AddAgent(app, context);
  AddCompletion(app, context);

  // What the completion scripts call; its words may be anything.
  if (argc > 1 && absl::string_view(argv[1]) == "__complete") {
    return static_cast<int>(RunComplete(app, context, std::vector<std::string>(argv + 2, argv + argc)));
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error, context.out, context.err);
    return code == 0 ? 0 : static_cast<int>(ExitCode::kUsage);
  }
  const absl::StatusOr<ExitCode> code = context.run();
  context.out << std::flush;
  if (!code.ok()) return Report(context, code.status());
  if (!context.out.good()) return Report(context, absl::DataLossError("writing the output failed"));
  return static_cast<int>(*code);
}

}  // namespace
}  // namespace headgate::cli

int main(int argc, char** argv) { return headgate::cli::Main(argc, argv); }
