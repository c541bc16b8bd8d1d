// SPDX-License-Identifier: Apache-2.0
//
// Configuration files on their way to the agent, and its complaints on their way back to the lines they are about.
#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <string>
#include <vector>

#include "agent/api/text.h"
#include "cli/context.h"
#include "headgate/v1/gateway.pb.h"

namespace headgate::cli {

// The change of an ApplyRequest and where it was read from.
struct Document {
  v1::ApplyRequest request;
  std::string source;  // for people
  SourceMap positions;
};

// Reads a GatewayConfig, or with `patch` a Patch. The error is InvalidConfiguration when the text is at fault.
absl::StatusOr<Document> LoadDocument(Context& context, const std::string& path, bool patch);

// "FILE:LINE:COLUMN: rules[3].match.source: what is wrong"; without a file "rules[3]...: what is wrong".
std::string ViolationLine(const v1::Violation& violation, const Document* document);

// What the agent said to a change of configuration: its violations become an InvalidConfiguration, in the order of
// the file, and are printed as an ApplyResponse when the output is JSON or YAML.
absl::StatusOr<v1::ApplyResponse> ApplyDocument(Context& context, const v1::ApplyRequest& request,
                                                const Document* document);

// "generation 12: 3 created, 1 updated", and what is to be known about it.
void PrintOutcome(Context& context, const v1::ApplyRequest& request, const v1::ApplyResponse& response);

}  // namespace headgate::cli
