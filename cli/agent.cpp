// SPDX-License-Identifier: Apache-2.0
//
// hgctl status, confirm, log-level, version: the agent itself.
#include <absl/time/clock.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "agent/base/status.h"
#include "cli/context.h"
#include "cli/render_event.h"

namespace headgate::cli {
namespace {

// A version is worth no longer wait.
constexpr absl::Duration kVersionTimeout = absl::Seconds(1);

absl::StatusOr<ExitCode> Status(Context& context) {
  HG_ASSIGN_OR_RETURN(Client* const client, context.client());
  HG_ASSIGN_OR_RETURN(const v1::StatusResponse response, client->GetStatus());
  if (!context.Print(response)) {
    context.out << AgentStatusText(response, absl::Now(), absl::LocalTimeZone(), context.width());
  }
  return ExitCode::kOk;
}

absl::StatusOr<ExitCode> Confirm(Context& context, uint64_t generation) {
  v1::ConfirmRequest request;
  request.set_generation(generation);
  HG_ASSIGN_OR_RETURN(Client* const client, context.client());
  HG_ASSIGN_OR_RETURN(const v1::ConfirmResponse response, client->Confirm(request));
  if (!context.Print(response)) context.out << "generation " << response.generation() << " is kept\n";
  return ExitCode::kOk;
}

absl::StatusOr<ExitCode> SetLogLevel(Context& context, const std::string& level) {
  v1::SetLogLevelRequest request;
  request.set_level(level);
  HG_ASSIGN_OR_RETURN(Client* const client, context.client());
  HG_ASSIGN_OR_RETURN(const v1::SetLogLevelResponse response, client->SetLogLevel(request));
  if (!context.Print(response))
    context.out << "log level " << level << ", was " << response.previous_level() << "\n";
  return ExitCode::kOk;
}

absl::StatusOr<ExitCode> Version(Context& context) {
  context.endpoint.timeout = std::min(context.endpoint.timeout, kVersionTimeout);
  const absl::StatusOr<Client*> client = context.client();
  const absl::StatusOr<v1::StatusResponse> agent = client.ok() ? (*client)->GetStatus() : client.status();
  if (context.format() == OutputFormat::kTable) {
    context.out << "hgctl " HG_VERSION "\nheadgated " << (agent.ok() ? agent->version() : "(not reached)") << "\n";
    return agent.ok() ? ExitCode::kOk : ExitCodeOf(agent.status());
  }
  nlohmann::ordered_json versions = {{"hgctl", HG_VERSION}};
  if (agent.ok()) versions["headgated"] = agent->version();
  if (context.format() == OutputFormat::kJson) {
    context.out << versions.dump(2) << "\n";
  } else {
    for (const auto& [name, version] : versions.items()) context.out << name << ": " << version << "\n";
  }
  return agent.ok() ? ExitCode::kOk : ExitCodeOf(agent.status());
}

}  // namespace

void AddAgent(CLI::App& app, Context& context) {
  app.add_subcommand("status", "Show the agent's state and its tables")->callback([&context] {
    context.run = [&context] { return Status(context); };
  });

  const auto generation = std::make_shared<uint64_t>(0);
  CLI::App* confirm = app.add_subcommand("confirm", "Keep what was applied with --confirm");
  confirm->add_option("generation", *generation, "Its generation; default: whichever waits")
      ->type_name("GENERATION");
  confirm->callback(
      [&context, generation] { context.run = [&context, generation] { return Confirm(context, *generation); }; });

  const auto level = std::make_shared<std::string>();
  CLI::App* log_level = app.add_subcommand("log-level", "Change the level of the agent's log until it restarts");
  log_level->add_option("level", *level, "trace, debug, info, warn or error")
      ->required()
      ->type_name("LEVEL")
      ->check(CLI::IsMember({"trace", "debug", "info", "warn", "error"}));
  log_level->callback(
      [&context, level] { context.run = [&context, level] { return SetLogLevel(context, *level); }; });

  app.add_subcommand("version", "Show the versions of hgctl and of the agent")->callback([&context] {
    context.run = [&context] { return Version(context); };
  });
}

}  // namespace headgate::cli
