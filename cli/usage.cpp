// SPDX-License-Identifier: Apache-2.0
#include "cli/usage.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include <algorithm>
#include <vector>

#include "agent/api/text_values.h"

namespace headgate::cli {
namespace {

// The first word that is neither a verb nor an option nor an argument of one.
std::string UnknownWord(const CLI::App& app) {
  const std::vector<std::string> rest = app.remaining(true);
  const auto word =
      std::find_if(rest.begin(), rest.end(), [](const std::string& text) { return !absl::StartsWith(text, "-"); });
  return word == rest.end() ? "" : *word;
}

}  // namespace

std::string UsageError(const CLI::App* app, const CLI::Error& error) {
  const CLI::App* verb = app;
  std::string command = app->get_name();
  while (!verb->get_subcommands().empty()) {
    verb = verb->get_subcommands().back();
    absl::StrAppend(&command, " ", verb->get_name());
  }
  std::string what = error.what();
  if (verb->get_require_subcommand_min() > 0) {
    std::vector<std::string> verbs;
    for (const CLI::App* one : verb->get_subcommands([](const CLI::App*) { return true; })) {
      verbs.push_back(one->get_name());
    }
    const std::string word = UnknownWord(*app);
    what = word.empty() ? absl::StrCat("a command is needed: ", absl::StrJoin(verbs, ", "))
                        : absl::StrCat("\"", word, "\" is not a command", Suggest(word, "Commands", verbs));
  }
  return absl::StrCat(command, ": ", what, "\n\"", command, " --help\" says what there is.\n");
}

}  // namespace headgate::cli
