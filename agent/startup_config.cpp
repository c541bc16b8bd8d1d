// SPDX-License-Identifier: Apache-2.0
#include "agent/startup_config.h"

#include <absl/strings/cord.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/strip.h>

#include <fstream>
#include <future>
#include <iterator>

#include "agent/api/text.h"
#include "agent/base/log.h"
#include "agent/base/status.h"

namespace headgate {
namespace {

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string content((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (!file) return ErrnoStatus("read ", path);
  return content;
}

absl::StatusOr<Change> ReadConfigFile(const std::string& path, const std::string& text, api::ActionPool& actions,
                                      SourceMap& positions) {
  headgate::v1::GatewayConfig config;
  HG_RETURN_IF_ERROR(ParseYaml(text, path, config, &positions));
  return api::ReadConfig(config, "config", actions);
}

// Violations as ParseYaml tells its own: a line each, with its place in the file.
absl::Status Describe(const ChangeOutcome& outcome, const std::string& path, const SourceMap& positions) {
  if (outcome.violations.empty()) return outcome.status;
  std::string text;
  for (const Violation& violation : outcome.violations) {
    absl::string_view field = violation.field;
    absl::ConsumePrefix(&field, "config.");
    absl::StrAppend(&text, text.empty() ? "" : "\n", path);
    if (const auto at = positions.Find(field)) absl::StrAppend(&text, ":", at->line, ":", at->column);
    absl::StrAppend(&text, ": ", field, ": ", violation.description);
  }
  return absl::InvalidArgumentError(text);
}

}  // namespace

absl::Status CheckStartupConfig(const std::string& path, const Limits& limits) {
  api::ActionPool actions;
  HG_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  SourceMap positions;
  HG_ASSIGN_OR_RETURN(Change change, ReadConfigFile(path, text, actions, positions));
  IdAllocators ids(2 * limits.max_entries);
  ChangeResult result = BuildState(std::make_shared<const State>(), std::move(change), limits, ids, true);
  return Describe({.status = std::move(result.status), .violations = std::move(result.violations)}, path,
                  positions);
}

absl::Status StartupConfig::ApplyAtStart() {
  if (path_.empty()) return absl::OkStatus();
  HG_ASSIGN_OR_RETURN(const std::string text, ReadFile(path_));
  if (!last_.empty() && last_ == text) return absl::OkStatus();
  absl::Status status = Apply(text);
  if (absl::IsFailedPrecondition(status)) {
    Log(spdlog::level::err, "start-up configuration not applied", {{"reason", status}});
    return absl::OkStatus();
  }
  if (absl::IsInvalidArgument(status)) status.SetPayload(kStartupConfigPayload, absl::Cord());
  return status;
}

absl::Status StartupConfig::Apply() {
  if (path_.empty()) return absl::OkStatus();
  HG_ASSIGN_OR_RETURN(const std::string text, ReadFile(path_));
  return Apply(text);
}

absl::Status StartupConfig::Apply(const std::string& text) {
  SourceMap positions;
  HG_ASSIGN_OR_RETURN(Change change, ReadConfigFile(path_, text, actions_, positions));
  change.note = {kStartupConfigNote, text};
  std::promise<ChangeOutcome> promise;
  controller_.Submit(std::move(change), {.wait_applied = true},
                     [&promise](ChangeOutcome outcome) { promise.set_value(std::move(outcome)); });
  const ChangeOutcome outcome = promise.get_future().get();
  HG_RETURN_IF_ERROR(Describe(outcome, path_, positions));
  Log(spdlog::level::info, "start-up configuration applied",
      {{"file", path_}, {"generation", outcome.generation}});
  return absl::OkStatus();
}

}  // namespace headgate
