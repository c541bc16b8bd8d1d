// SPDX-License-Identifier: Apache-2.0
//
// hgctl set, hgctl delete: changes of single things, as patches.
#include <absl/strings/ascii.h>
#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>
#include <absl/strings/strip.h>

#include <set>

#include "agent/base/status.h"
#include "cli/context.h"
#include "cli/document.h"
#include "cli/kinds.h"

namespace headgate::cli {
namespace {

struct ChangeOptions {
  std::string set;
  std::string file;
  std::string kind;
  std::vector<std::string> names;  // or prefixes
  uint64_t expect = 0;
  bool wait = false;
  bool dry_run = false;
};

void AddChangeOptions(CLI::App& app, ChangeOptions& options) {
  app.add_option("--expect", options.expect, "Refuse unless the configuration is at this generation")
      ->type_name("GENERATION");
  app.add_flag("--wait", options.wait, "Answer when the data path uses it");
  app.add_flag("--dry-run", options.dry_run, "Check, and say what would change");
}

absl::StatusOr<v1::ApplyResponse> Submit(Context& context, const ChangeOptions& options,
                                         v1::ApplyRequest& request) {
  request.set_expected_generation(options.expect);
  request.set_wait_applied(options.wait);
  request.set_dry_run(options.dry_run);
  HG_ASSIGN_OR_RETURN(v1::ApplyResponse response, ApplyDocument(context, request, nullptr));
  PrintOutcome(context, request, response);
  return response;
}

// One prefix a line; blank lines and what follows a # do not count.
std::vector<std::string> Lines(absl::string_view text, std::vector<size_t>& numbers) {
  std::vector<std::string> lines;
  size_t number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    line = absl::StripAsciiWhitespace(line.substr(0, line.find('#')));
    if (line.empty()) continue;
    lines.emplace_back(line);
    numbers.push_back(number);
  }
  return lines;
}

// "prefix_set_changes[0].add[17]: what is wrong" becomes "FILE:LINE: what is wrong" for a file of lines. Who gave
// the prefixes as arguments, or a wrong set, knows what is meant without a path.
std::string InLineOf(absl::string_view error, absl::string_view source, const std::vector<size_t>& numbers) {
  const size_t colon = error.find(": ");
  const absl::string_view path = error.substr(0, colon);
  if (colon == absl::string_view::npos || !absl::StartsWith(path, "prefix_set_changes[0]."))
    return std::string(error);
  const absl::string_view what = error.substr(colon + 2);
  const size_t open = path.rfind('[');
  size_t index = 0;
  if (absl::SimpleAtoi(path.substr(open + 1, path.size() - open - 2), &index) && open > path.find('.') &&
      index < numbers.size()) {
    return absl::StrCat(source, ":", numbers[index], ": ", what);
  }
  return std::string(what);
}

absl::StatusOr<ExitCode> ChangeSet(Context& context, const ChangeOptions& options, bool add) {
  std::vector<size_t> numbers;
  std::vector<std::string> prefixes = options.names;
  if (!options.file.empty()) {
    HG_ASSIGN_OR_RETURN(const std::string text, ReadInput(context, options.file));
    prefixes = Lines(text, numbers);
  }
  v1::ApplyRequest request;
  v1::PrefixSetChange* change = request.mutable_patch()->add_prefix_set_changes();
  change->set_name(options.set);
  auto* list = add ? change->mutable_add() : change->mutable_remove();
  list->Reserve(static_cast<int>(prefixes.size()));
  for (std::string& prefix : prefixes) *list->Add() = std::move(prefix);

  const absl::Status status = Submit(context, options, request).status();
  if (status.ok()) return ExitCode::kOk;
  if (!IsInvalidConfiguration(status)) return status;
  std::vector<std::string> errors = absl::StrSplit(status.message(), '\n');
  const std::string source = options.file == "-" ? "stdin" : options.file;
  for (std::string& error : errors) error = InLineOf(error, source, numbers);
  return InvalidConfiguration(absl::StrJoin(errors, "\n"));
}

absl::StatusOr<ExitCode> Delete(Context& context, const ChangeOptions& options, v1::Kind kind) {
  v1::ApplyRequest request;
  v1::Patch& patch = *request.mutable_patch();
  auto* names = kind == v1::KIND_INTERFACE      ? patch.mutable_delete_interfaces()
                : kind == v1::KIND_PREFIX_SET   ? patch.mutable_delete_prefix_sets()
                : kind == v1::KIND_RULE         ? patch.mutable_delete_rules()
                : kind == v1::KIND_NEXT_HOP     ? patch.mutable_delete_next_hops()
                : kind == v1::KIND_STEER_TARGET ? patch.mutable_delete_steer_targets()
                                                : patch.mutable_delete_multicast_routes();
  for (const std::string& name : options.names) *names->Add() = name;
  HG_ASSIGN_OR_RETURN(const v1::ApplyResponse response, Submit(context, options, request));

  // No error, but perhaps a misspelling.
  std::set<std::string> missing(options.names.begin(), options.names.end());
  for (const v1::Difference& difference : response.differences()) missing.erase(difference.name());
  if (response.difference_count() != static_cast<uint64_t>(response.differences_size())) missing.clear();
  for (const std::string& name : missing) {
    context.err << "hgctl: there was no " << KindName(kind) << " \"" << name << "\"\n";
  }
  return ExitCode::kOk;
}

void AddSetVerb(CLI::App& set, Context& context, const std::string& name, const std::string& help, bool add) {
  const auto options = std::make_shared<ChangeOptions>();
  CLI::App* verb = set.add_subcommand(name, help);
  verb->add_option("set", options->set, "The prefix set")->required()->type_name("SET");
  auto* prefixes = verb->add_option("prefix", options->names, "Prefixes or addresses")->type_name("PREFIX");
  auto* file = verb->add_option("-f,--file", options->file, "File with one prefix a line, - for standard input")
                   ->type_name("FILE");
  file->excludes(prefixes);
  AddChangeOptions(*verb, *options);
  verb->callback([&context, options, add] {
    if (options->names.empty() && options->file.empty()) {
      throw CLI::ValidationError("prefix", "give prefixes, or a file of them with -f");
    }
    context.run = [&context, options, add] { return ChangeSet(context, *options, add); };
  });
}

}  // namespace

void AddChange(CLI::App& app, Context& context) {
  CLI::App* set = app.add_subcommand("set", "Change single prefixes of a prefix set");
  set->require_subcommand(1);
  AddSetVerb(*set, context, "add", "Add prefixes", true);
  AddSetVerb(*set, context, "remove", "Remove prefixes", false);

  const auto options = std::make_shared<ChangeOptions>();
  CLI::App* remove = app.add_subcommand("delete", "Delete objects by name");
  remove
      ->add_option("kind", options->kind, "interface, prefix-set, rule, next-hop, steer-target or multicast-route")
      ->required()
      ->type_name("KIND");
  remove->add_option("name", options->names, "Their names")->required()->type_name("NAME");
  AddChangeOptions(*remove, *options);
  remove->callback([&context, options] {
    const std::optional<v1::Kind> kind = ParseKind(options->kind);
    if (!kind || *kind == v1::KIND_SETTINGS || *kind == v1::KIND_COUNTER) {
      throw CLI::ValidationError(
          "kind",
          absl::StrCat("\"", options->kind,
                       "\": interface, prefix-set, rule, next-hop, steer-target or multicast-route is needed"));
    }
    context.run = [&context, options, kind] { return Delete(context, *options, *kind); };
  });
}

}  // namespace headgate::cli
