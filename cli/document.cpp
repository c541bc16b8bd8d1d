// SPDX-License-Identifier: Apache-2.0
#include "cli/document.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <absl/strings/strip.h>

#include <algorithm>

#include "agent/api/text_values.h"
#include "agent/base/status.h"
#include "cli/render_changes.h"

namespace headgate::cli {
namespace {

template <typename Violations>
absl::Status Invalid(const Violations& violations, const Document* document) {
  return InvalidConfiguration(
      absl::StrJoin(violations, "\n", [&](std::string* out, const v1::Violation& violation) {
        absl::StrAppend(out, ViolationLine(violation, document));
      }));
}

}  // namespace

absl::StatusOr<Document> LoadDocument(Context& context, const std::string& path, bool patch) {
  Document document;
  document.source = path == "-" ? "stdin" : path;
  HG_ASSIGN_OR_RETURN(const std::string text, ReadInput(context, path));
  google::protobuf::Message* message = document.request.mutable_config();
  if (patch) message = document.request.mutable_patch();
  const absl::Status status = ParseYaml(text, document.source, *message, &document.positions);
  if (!status.ok()) return InvalidConfiguration(status.message());
  return document;
}

std::string ViolationLine(const v1::Violation& violation, const Document* document) {
  absl::string_view path = violation.field();
  // The file holds what is below these.
  if (!absl::ConsumePrefix(&path, "config.")) absl::ConsumePrefix(&path, "patch.");
  const std::string what = absl::StrCat(path, path.empty() ? "" : ": ", violation.description());
  if (document == nullptr) return what;
  const std::optional<TextPosition> position = document->positions.Find(path);
  if (!position) return absl::StrCat(document->source, ": ", what);
  return absl::StrCat(document->source, ":", position->line, ":", position->column, ": ", what);
}

absl::StatusOr<v1::ApplyResponse> ApplyDocument(Context& context, const v1::ApplyRequest& request,
                                                const Document* document) {
  HG_ASSIGN_OR_RETURN(Client* const client, context.client());
  absl::StatusOr<v1::ApplyResponse> response = client->Apply(request);
  if (!response.ok()) {
    const std::vector<v1::Violation> violations = ViolationsOf(response.status());
    if (!violations.empty()) return Invalid(violations, document);
    // Refused as invalid without saying where.
    if (absl::IsInvalidArgument(response.status())) return InvalidConfiguration(response.status().message());
    return response.status();
  }
  if (response->violations_size() != 0) return Invalid(response->violations(), document);
  return response;
}

void PrintOutcome(Context& context, const v1::ApplyRequest& request, const v1::ApplyResponse& response) {
  if (context.Print(response)) return;
  const uint64_t generation = response.generation();
  if (request.dry_run()) {
    context.out << "would be generation " << generation << ": " << ChangeSummary(response) << "; nothing was changed\n";
    return;
  }
  context.out << "generation " << generation << ": " << ChangeSummary(response) << "\n";
  if (response.applied_generation() != generation) {
    context.out << "not in use yet, generation " << response.applied_generation() << " is\n";
  }
  if (request.has_confirm_timeout()) {
    const auto& timeout = request.confirm_timeout();
    context.out << "rolls back in "
                << DurationText(absl::Seconds(timeout.seconds()) + absl::Nanoseconds(timeout.nanos()))
                << " unless confirmed: hgctl confirm " << generation << "\n";
  }
}

}  // namespace headgate::cli
