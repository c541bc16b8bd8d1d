// SPDX-License-Identifier: Apache-2.0
//
// hgctl completion, and the hidden verb the scripts call.
#include <absl/strings/match.h>

#include "cli/completion.h"
#include "cli/context.h"
#include "cli/kinds.h"

namespace headgate::cli {
namespace {

// Somebody waits for the key press to take effect.
constexpr absl::Duration kNamesTimeout = absl::Milliseconds(500);
constexpr int kMaxNames = 1000;

std::vector<std::string> CounterNames(Client& client) {
  v1::StatsRequest request;
  request.add_kinds(v1::KIND_COUNTER);
  std::vector<std::string> names;
  const absl::StatusOr<v1::StatsResponse> response = client.Stats(request);
  if (!response.ok()) return names;
  for (const v1::CounterStats& counter : response->counters()) names.push_back(counter.name());
  return names;
}

// Silent when there is no agent: completion is no place for errors.
std::vector<std::string> AgentNames(Endpoint endpoint, v1::Kind kind,
                                    const std::map<std::string, std::string>& globals) {
  const auto set = [&](const char* name, std::string& value) {
    if (const auto found = globals.find(name); found != globals.end()) value = found->second;
  };
  set("address", endpoint.address);
  set("tls-ca", endpoint.tls_ca);
  set("tls-cert", endpoint.tls_cert);
  set("tls-key", endpoint.tls_key);
  if (absl::StartsWith(endpoint.address, "/")) endpoint.address = "unix:" + endpoint.address;
  // Plain text only where it was asked for, or the socket is local.
  endpoint.insecure = globals.contains("insecure");
  endpoint.timeout = kNamesTimeout;
  const absl::StatusOr<std::unique_ptr<Client>> client = Client::Create(endpoint);
  if (!client.ok()) return {};
  if (kind == v1::KIND_COUNTER) return CounterNames(**client);
  v1::GetRequest request;
  request.add_kinds(kind);
  request.set_page_size(kMaxNames);
  std::vector<std::string> names;
  const absl::StatusOr<v1::GetResponse> response = (*client)->Get(request);
  if (!response.ok()) return names;
  for (const v1::Object& object : response->objects()) names.push_back(NameOf(object));
  return names;
}

}  // namespace

void AddCompletion(CLI::App& app, Context& context) {
  const auto shell = std::make_shared<std::string>();
  CLI::App* completion = app.add_subcommand("completion", "Print the completion script for a shell");
  completion->add_option("shell", *shell, "bash or zsh")
      ->required()
      ->type_name("SHELL")
      ->check(CLI::IsMember({"bash", "zsh"}));
  completion->callback([&context, shell] {
    context.run = [&context, shell]() -> absl::StatusOr<ExitCode> {
      context.out << (*shell == "bash" ? BashScript() : ZshScript());
      return ExitCode::kOk;
    };
  });
}

ExitCode RunComplete(const CLI::App& app, Context& context, const std::vector<std::string>& words) {
  if (const char* address = std::getenv("HEADGATE_ADDRESS")) context.endpoint.address = address;
  const Completion completion =
      Complete(app, words, [&](v1::Kind kind, const std::map<std::string, std::string>& globals) {
        return AgentNames(context.endpoint, kind, globals);
      });
  if (completion.files) context.out << ":files\n";
  for (const Candidate& candidate : completion.candidates) {
    context.out << candidate.text << (candidate.help.empty() ? "" : "\t") << candidate.help << "\n";
  }
  return ExitCode::kOk;
}

}  // namespace headgate::cli
