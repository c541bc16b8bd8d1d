// SPDX-License-Identifier: Apache-2.0
//
// hgctl get.
#include <absl/strings/ascii.h>
#include <absl/strings/str_cat.h>

#include <algorithm>
#include <set>

#include "agent/base/status.h"
#include "cli/context.h"
#include "cli/kinds.h"
#include "cli/render_objects.h"

namespace headgate::cli {
namespace {

struct GetOptions {
  std::string kind = "all";
  std::vector<std::string> names;
  bool applied = false;
  bool status = false;
};

void PrintTables(Context& context, const std::vector<v1::Kind>& kinds, const v1::GetResponse& response) {
  const bool all = kinds.size() > 1;
  bool first = true;
  for (const v1::Kind kind : kinds) {
    const bool any = std::any_of(response.objects().begin(), response.objects().end(),
                                 [&](const v1::Object& object) { return KindOf(object) == kind; });
    if (all && !any) continue;
    if (!first) context.out << "\n";
    first = false;
    context.out << ObjectTable(kind, response, context.width());
  }
  if (all && first) context.out << "nothing is configured\n";
}

absl::StatusOr<ExitCode> Get(Context& context, const GetOptions& options, std::optional<v1::Kind> kind) {
  v1::GetRequest request;
  if (kind) request.add_kinds(*kind);
  for (const std::string& name : options.names) request.add_names(name);
  request.set_applied(options.applied);
  HG_ASSIGN_OR_RETURN(Client* const client, context.client());
  HG_ASSIGN_OR_RETURN(const v1::GetResponse response, client->GetAll(request));

  if (options.status ? !context.Print(response) : !context.Print(ToConfig(response))) {
    PrintTables(context, kind ? std::vector<v1::Kind>{*kind} : ConfigurationKinds(), response);
  }
  std::set<std::string> missing(options.names.begin(), options.names.end());
  for (const v1::Object& object : response.objects()) missing.erase(NameOf(object));
  for (const std::string& name : missing) {
    context.err << "hgctl: there is no " << (kind ? KindName(*kind) : "object") << " \"" << name << "\"\n";
  }
  return missing.empty() ? ExitCode::kOk : ExitCode::kFailed;
}

}  // namespace

void AddGet(CLI::App& app, Context& context) {
  const auto options = std::make_shared<GetOptions>();
  CLI::App* get = app.add_subcommand("get", "Show the configuration and the status of its objects");
  get->add_option(
         "kind", options->kind,
         "interfaces, rules, prefix-sets, next-hops, steer-targets, multicast-routes, settings or all (default)")
      ->type_name("KIND");
  get->add_option("name", options->names, "Only these")->type_name("NAME");
  get->add_flag("--applied", options->applied, "What the data path uses, not what is desired");
  get->add_flag("--status", options->status,
                "With -o json or yaml: objects with status, id and device, instead of a document for apply");
  get->callback([&context, options] {
    const std::optional<v1::Kind> kind = ParseKind(options->kind);
    if ((!kind && absl::AsciiStrToLower(options->kind) != "all") || kind == v1::KIND_COUNTER) {
      throw CLI::ValidationError("kind",
                                 absl::StrCat("\"", options->kind,
                                              "\": interfaces, rules, prefix-sets, next-hops, steer-targets, "
                                              "multicast-routes, settings or all is needed"));
    }
    context.run = [&context, options, kind] { return Get(context, *options, kind); };
  });
}

}  // namespace headgate::cli
