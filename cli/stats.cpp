// SPDX-License-Identifier: Apache-2.0
//
// hgctl stats.
#include <absl/strings/ascii.h>
#include <absl/strings/str_cat.h>

#include <set>

#include "agent/base/status.h"
#include "cli/context.h"
#include "cli/kinds.h"
#include "cli/render_stats.h"

namespace headgate::cli {
namespace {

struct StatsOptions {
  std::string kind = "all";
  std::vector<std::string> names;
  bool nonzero = false;
  absl::Duration interval = absl::ZeroDuration();
  uint64_t count = 0;
};

// Says which of the names asked for nothing counts by.
ExitCode CheckNames(Context& context, const std::vector<std::string>& names, const v1::StatsResponse& response) {
  std::set<std::string> missing(names.begin(), names.end());
  for (const auto& stats : response.interfaces()) missing.erase(stats.name());
  for (const auto& stats : response.rules()) missing.erase(stats.name());
  for (const auto& stats : response.counters()) missing.erase(stats.name());
  for (const auto& stats : response.multicast_routes()) missing.erase(stats.name());
  for (const std::string& name : missing)
    context.err << "hgctl: nothing is counted by the name \"" << name << "\"\n";
  return missing.empty() ? ExitCode::kOk : ExitCode::kFailed;
}

absl::StatusOr<ExitCode> Stats(Context& context, const StatsOptions& options, std::optional<v1::Kind> kind) {
  v1::StatsRequest request;
  if (kind) request.add_kinds(*kind);
  for (const std::string& name : options.names) request.add_names(name);
  request.set_nonzero_only(options.nonzero);
  HG_ASSIGN_OR_RETURN(Client* const client, context.client());
  if (options.interval == absl::ZeroDuration()) {
    HG_ASSIGN_OR_RETURN(const v1::StatsResponse response, client->Stats(request));
    if (!context.Print(response)) context.out << StatsText(response, context.width());
    return options.nonzero ? ExitCode::kOk : CheckNames(context, options.names, response);
  }
  absl::Duration rest;
  request.mutable_interval()->set_seconds(absl::IDivDuration(options.interval, absl::Seconds(1), &rest));
  request.mutable_interval()->set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(rest)));
  const absl::TimeZone zone = absl::LocalTimeZone();
  uint64_t seen = 0;
  HG_RETURN_IF_ERROR(client->StreamStats(request, [&](const v1::StatsResponse& response) {
    if (!context.PrintNext(response)) {
      const absl::Time time =
          absl::FromUnixSeconds(response.time().seconds()) + absl::Nanoseconds(response.time().nanos());
      context.out << (seen == 0 ? "" : "\n") << absl::FormatTime("%Y-%m-%d %H:%M:%E3S", time, zone) << "\n"
                  << StatsText(response, context.width()) << std::flush;
    }
    return ++seen != options.count && context.out.good();
  }));
  return ExitCode::kOk;
}

}  // namespace

void AddStats(CLI::App& app, Context& context) {
  const auto options = std::make_shared<StatsOptions>();
  CLI::App* stats = app.add_subcommand("stats", "Show counters");
  stats
      ->add_option("kind", options->kind,
                   "interfaces, rules, counters, multicast-routes, workers or all (default)")
      ->type_name("COUNTED");
  stats->add_option("name", options->names, "Only these")->type_name("NAME");
  stats->add_flag("--nonzero", options->nonzero, "Leave out what counted nothing");
  AddDuration(*stats, "--interval", options->interval, "Again every so often");
  stats->add_option("-n,--count", options->count, "With --interval: end after so many")->type_name("NUMBER");
  stats->callback([&context, options] {
    const std::optional<v1::Kind> kind = ParseCounted(options->kind);
    if (!kind && absl::AsciiStrToLower(options->kind) != "all") {
      throw CLI::ValidationError(
          "kind", absl::StrCat("\"", options->kind,
                               "\": interfaces, rules, counters, multicast-routes, workers or all is needed"));
    }
    if (kind == v1::KIND_STEER_TARGET && !options->names.empty()) {
      throw CLI::ValidationError("name", absl::StrCat("\"", options->names[0], "\": workers have no names"));
    }
    context.run = [&context, options, kind] { return Stats(context, *options, kind); };
  });
}

}  // namespace headgate::cli
