// SPDX-License-Identifier: Apache-2.0
#include "cli/command_line.h"

#include <absl/strings/string_view.h>

#include <string>
#include <vector>

#include "cli/usage.h"

namespace headgate::cli {
namespace {

constexpr char kFooter[] =
    "\nExit status: 0 done, 1 refused or failed, 2 wrong usage, 3 diff found differences, 4 no connection or no "
    "answer,\n"
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

}  // namespace

void DefineCommandLine(CLI::App& app, Context& context) {
  app.description("Controls headgated, the packet gateway.");
  app.name("hgctl");
  app.footer(kFooter);
  app.failure_message(UsageError);
  app.set_version_flag("--version", "hgctl " HG_VERSION, "Print hgctl's version and exit");
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
}

int RunCommandLine(Context& context, int argc, const char* const* argv) {
  CLI::App app;
  DefineCommandLine(app, context);
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

}  // namespace headgate::cli
