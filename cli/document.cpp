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

// What the agent calls the field, without the part that is not in the file.
absl::string_view PathInFile(const v1::Violation& violation) {
  absl::string_view path = violation.field();
  if (!absl::ConsumePrefix(&path, "config.")) absl::ConsumePrefix(&path, "patch.");
  return path;
}

// By their place in the file; those without one first.
void Sort(const Document& document, std::vector<v1::Violation>& violations) {
  const auto place = [&](const v1::Violation& violation) {
    return document.positions.Find(PathInFile(violation));
  };
  std::stable_sort(violations.begin(), violations.end(),
                   [&](const v1::Violation& a, const v1::Violation& b) { return place(a) < place(b); });
}

// For people on standard error by way of the status; for programs on standard output as well.
absl::Status Invalid(Context& context, std::vector<v1::Violation> violations, const Document* document) {
  if (document != nullptr) Sort(*document, violations);
  v1::ApplyResponse response;
  response.mutable_violations()->Assign(violations.begin(), violations.end());
  context.Print(response);
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
  const absl::string_view path = PathInFile(violation);
  std::string what = absl::StrCat(path, path.empty() ? "" : ": ", violation.description());
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
    std::vector<v1::Violation> violations = ViolationsOf(response.status());
    if (!violations.empty()) return Invalid(context, std::move(violations), document);
    // Refused as invalid without saying where.
    if (absl::IsInvalidArgument(response.status())) return InvalidConfiguration(response.status().message());
    return response.status();
  }
  if (response->violations_size() != 0) {
    return Invalid(context, {response->violations().begin(), response->violations().end()}, document);
  }
  return response;
}

void PrintOutcome(Context& context, const v1::ApplyRequest& request, const v1::ApplyResponse& response) {
  if (context.Print(response)) return;
  const uint64_t generation = response.generation();
  if (request.dry_run()) {
    context.out << "would be generation " << generation << ": " << ChangeSummary(response)
                << "; nothing was changed\n";
    return;
  }
  context.out << "generation " << generation << ": " << ChangeSummary(response) << "\n";
  if (response.applied_generation() != generation) {
    context.out << "the data path still uses generation " << response.applied_generation()
                << "; --wait waits for the new one\n";
  }
  // What changes nothing has nothing to roll back.
  if (request.has_confirm_timeout() && response.difference_count() != 0) {
    const auto& timeout = request.confirm_timeout();
    context.out << "rolls back in "
                << DurationText(absl::Seconds(timeout.seconds()) + absl::Nanoseconds(timeout.nanos()))
                << " unless confirmed: hgctl confirm " << generation << "\n";
  }
}

}  // namespace headgate::cli
