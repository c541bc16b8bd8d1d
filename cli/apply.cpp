// SPDX-License-Identifier: Apache-2.0
//
// hgctl apply, hgctl diff.
#include <absl/strings/str_cat.h>

#include <algorithm>
#include <map>
#include <set>

#include "agent/api/convert.h"
#include "agent/base/status.h"
#include "cli/context.h"
#include "cli/document.h"
#include "cli/kinds.h"
#include "cli/render_changes.h"
#include "cli/render_objects.h"

namespace headgate::cli {
namespace {

struct ApplyOptions {
  std::string file;
  bool patch = false;
  uint64_t expect = 0;
  bool wait = false;
  bool dry_run = false;
  absl::Duration confirm = absl::ZeroDuration();
};

absl::StatusOr<ExitCode> Apply(Context& context, const ApplyOptions& options) {
  HG_ASSIGN_OR_RETURN(Document document, LoadDocument(context, options.file, options.patch));
  v1::ApplyRequest& request = document.request;
  request.set_expected_generation(options.expect);
  request.set_wait_applied(options.wait);
  request.set_dry_run(options.dry_run);
  if (options.confirm > absl::ZeroDuration()) {
    absl::Duration rest;
    request.mutable_confirm_timeout()->set_seconds(absl::IDivDuration(options.confirm, absl::Seconds(1), &rest));
    request.mutable_confirm_timeout()->set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(rest)));
  }
  HG_ASSIGN_OR_RETURN(const v1::ApplyResponse response, ApplyDocument(context, request, &document));
  PrintOutcome(context, request, response);
  return ExitCode::kOk;
}

// ---- diff ----------------------------------------------------------------------------------------------------

using ObjectKey = std::pair<v1::Kind, std::string>;

// The objects of a configuration by kind and name.
std::map<ObjectKey, const google::protobuf::Message*> ObjectsOf(const v1::GatewayConfig& config) {
  std::map<ObjectKey, const google::protobuf::Message*> objects;
  for (const auto& object : config.interfaces()) objects[{v1::KIND_INTERFACE, object.name()}] = &object;
  for (const auto& object : config.prefix_sets()) objects[{v1::KIND_PREFIX_SET, object.name()}] = &object;
  for (const auto& object : config.rules()) objects[{v1::KIND_RULE, object.name()}] = &object;
  for (const auto& object : config.next_hops()) objects[{v1::KIND_NEXT_HOP, object.name()}] = &object;
  for (const auto& object : config.steer_targets()) objects[{v1::KIND_STEER_TARGET, object.name()}] = &object;
  for (const auto& object : config.multicast_routes())
    objects[{v1::KIND_MULTICAST_ROUTE, object.name()}] = &object;
  return objects;
}

const google::protobuf::Message* MessageOf(const v1::Object& object) {
  const auto* field =
      object.GetReflection()->GetOneofFieldDescriptor(object, object.GetDescriptor()->FindOneofByName("object"));
  return field == nullptr ? nullptr : &object.GetReflection()->GetMessage(object, field);
}

v1::Settings SettingsOf(const v1::GatewayConfig& config, const v1::Settings& before, bool patch) {
  v1::Settings settings;
  settings.set_default_action(config.default_action());
  if (config.has_management()) *settings.mutable_management() = config.management();
  // A patch leaves alone what it does not give.
  if (patch && config.default_action() == v1::DEFAULT_ACTION_UNSPECIFIED) {
    settings.set_default_action(before.default_action());
  }
  if (patch && !config.has_management() && before.has_management()) {
    *settings.mutable_management() = before.management();
  }
  return settings;
}

// The desired objects that the response says will be updated.
absl::StatusOr<v1::GetResponse> CurrentObjects(Context& context, const v1::ApplyResponse& response) {
  v1::GetRequest request;
  std::set<v1::Kind> kinds;
  std::set<std::string> names;
  for (const v1::Difference& difference : response.differences()) {
    if (difference.change() != v1::Difference::CHANGE_UPDATE) continue;
    kinds.insert(difference.kind());
    names.insert(difference.name());
  }
  if (kinds.empty()) return v1::GetResponse();
  for (const v1::Kind kind : kinds) request.add_kinds(kind);
  // Settings have no name to be asked for by.
  if (!names.contains("")) {
    for (const std::string& name : names) request.add_names(name);
  }
  HG_ASSIGN_OR_RETURN(Client* const client, context.client());
  return client->GetAll(request);
}

// In the agent's notation.
std::set<std::string> Prefixes(const google::protobuf::RepeatedPtrField<std::string>& given) {
  v1::GatewayConfig config;
  v1::PrefixSet set;
  *config.add_prefix_sets()->mutable_prefixes() = given;
  api::ActionPool actions;
  api::Write(api::ReadConfig(config, "", actions).prefix_sets[0].object, set);
  return {set.prefixes().begin(), set.prefixes().end()};
}

std::vector<std::string> SetChanges(const v1::PrefixSetChange& change, const v1::PrefixSet& before) {
  const std::set<std::string> removed = Prefixes(change.remove());
  std::set<std::string> present(before.prefixes().begin(), before.prefixes().end());
  v1::PrefixSet after = before;
  after.clear_prefixes();
  for (const std::string& prefix : before.prefixes()) {
    if (!removed.contains(prefix)) after.add_prefixes(prefix);
  }
  for (const std::string& prefix : Prefixes(change.add())) {
    if (!removed.contains(prefix) && present.insert(prefix).second) after.add_prefixes(prefix);
  }
  return FieldChanges(before, after);
}

// The objects that the request gives as the agent would answer with them: in its notation, with what it takes for
// what is left out.
v1::GatewayConfig ConfigOf(const v1::ApplyRequest& request) {
  const v1::GatewayConfig& given = request.has_patch() ? request.patch().upsert() : request.config();
  api::ActionPool actions;
  const Change change = api::ReadConfig(given, "", actions);
  v1::GatewayConfig config;
  for (const auto& upsert : change.interfaces) api::Write(upsert.object, *config.add_interfaces());
  for (const auto& upsert : change.prefix_sets) api::Write(upsert.object, *config.add_prefix_sets());
  for (const auto& upsert : change.next_hops) api::Write(upsert.object, *config.add_next_hops());
  for (const auto& upsert : change.steer_targets) api::Write(upsert.object, *config.add_steer_targets());
  for (const auto& upsert : change.multicast_routes) api::Write(upsert.object, *config.add_multicast_routes());
  for (const auto& upsert : change.rules) api::Write(upsert.object, *config.add_rules());
  if (change.management) {
    v1::Settings settings;
    api::Write(Settings{.management = *change.management}, settings);
    *config.mutable_management() = settings.management();
  }
  config.set_default_action(given.default_action());
  if (!request.has_patch() && config.default_action() == v1::DEFAULT_ACTION_UNSPECIFIED) {
    config.set_default_action(v1::DEFAULT_ACTION_PASS);
  }
  return config;
}

// What changes in the objects that are updated, and what a new rule does, by kind and name.
std::map<ObjectKey, std::vector<std::string>> Details(const Document& document, const v1::ApplyResponse& response,
                                                      const v1::GetResponse& current) {
  const bool patch = document.request.has_patch();
  const v1::GatewayConfig config = ConfigOf(document.request);
  const auto wanted = ObjectsOf(config);
  std::map<ObjectKey, std::vector<std::string>> fields;
  for (const v1::Difference& difference : response.differences()) {
    const ObjectKey key = {difference.kind(), difference.name()};
    if (difference.change() != v1::Difference::CHANGE_CREATE || key.first != v1::KIND_RULE) continue;
    if (const auto found = wanted.find(key); found != wanted.end()) {
      fields[key] = {RuleText(static_cast<const v1::Rule&>(*found->second))};
    }
  }
  for (const v1::Object& object : current.objects()) {
    const ObjectKey key = {KindOf(object), NameOf(object)};
    if (key.first == v1::KIND_SETTINGS) {
      fields[key] = FieldChanges(object.settings(), SettingsOf(config, object.settings(), patch));
    } else if (const auto found = wanted.find(key); found != wanted.end()) {
      fields[key] = FieldChanges(*MessageOf(object), *found->second);
    } else if (key.first == v1::KIND_PREFIX_SET) {
      for (const v1::PrefixSetChange& change : document.request.patch().prefix_set_changes()) {
        if (change.name() == key.second) fields[key] = SetChanges(change, object.prefix_set());
      }
    }
  }
  return fields;
}

// As get shows them, then by name.
void Sort(v1::ApplyResponse& response) {
  const auto place = [](const v1::Difference& difference) {
    const std::vector<v1::Kind>& kinds = ConfigurationKinds();
    return std::pair(std::find(kinds.begin(), kinds.end(), difference.kind()),
                     absl::string_view(difference.name()));
  };
  std::sort(response.mutable_differences()->begin(), response.mutable_differences()->end(),
            [&](const v1::Difference& a, const v1::Difference& b) { return place(a) < place(b); });
}

absl::StatusOr<ExitCode> Diff(Context& context, const ApplyOptions& options) {
  HG_ASSIGN_OR_RETURN(Document document, LoadDocument(context, options.file, options.patch));
  document.request.set_dry_run(true);
  HG_ASSIGN_OR_RETURN(v1::ApplyResponse response, ApplyDocument(context, document.request, &document));
  Sort(response);
  const ExitCode code = response.difference_count() == 0 ? ExitCode::kOk : ExitCode::kDifferent;
  if (context.Print(response)) return code;

  HG_ASSIGN_OR_RETURN(const v1::GetResponse current, CurrentObjects(context, response));
  const auto details = Details(document, response, current);
  for (const v1::Difference& difference : response.differences()) {
    context.out << DifferenceLine(difference) << "\n";
    const auto found = details.find({difference.kind(), difference.name()});
    if (found == details.end()) continue;
    for (const std::string& line : found->second) context.out << "    " << line << "\n";
  }
  if (code == ExitCode::kDifferent) context.out << ChangeSummary(response) << "\n";
  return code;
}

// By its place or by its option.
void AddFile(CLI::App& app, std::string& file) {
  auto* place = app.add_option("file", file, "YAML or JSON file, - for standard input")->type_name("FILE");
  app.add_option("-f,--file", file, "The same, as an option")->type_name("FILE")->excludes(place);
}

void RequireFile(const std::string& file) {
  if (file.empty()) throw CLI::ValidationError("file", "a file is needed, - for standard input");
}

}  // namespace

void AddApply(CLI::App& app, Context& context) {
  const auto options = std::make_shared<ApplyOptions>();
  CLI::App* apply = app.add_subcommand("apply", "Make a configuration file the gateway's configuration");
  AddFile(*apply, options->file);
  apply->add_flag("--patch", options->patch, "The file is a patch: it changes what it names and leaves the rest");
  apply->add_option("--expect", options->expect, "Refuse unless the configuration is at this generation")
      ->type_name("GENERATION");
  apply->add_flag("--wait", options->wait, "Answer when the data path uses it");
  AddDuration(*apply, "--confirm", options->confirm, "Roll back after this time unless confirmed");
  apply->add_flag("--dry-run", options->dry_run, "Check, and say what would change");
  apply->callback([&context, options] {
    RequireFile(options->file);
    context.run = [&context, options] { return Apply(context, *options); };
  });

  const auto diff_options = std::make_shared<ApplyOptions>();
  CLI::App* diff = app.add_subcommand("diff", "Show what applying a file would change; exits 3 if anything");
  AddFile(*diff, diff_options->file);
  diff->add_flag("--patch", diff_options->patch, "The file is a patch");
  diff->callback([&context, diff_options] {
    RequireFile(diff_options->file);
    context.run = [&context, diff_options] { return Diff(context, *diff_options); };
  });
}

}  // namespace headgate::cli
