// SPDX-License-Identifier: Apache-2.0
//
// hgctl trace.
#include <absl/strings/match.h>
#include <absl/strings/str_join.h>

#include "agent/api/text_values.h"
#include "agent/base/status.h"
#include "cli/context.h"
#include "cli/render_event.h"

namespace headgate::cli {
namespace {

absl::StatusOr<ExitCode> Trace(Context& context, const v1::TraceRequest& request) {
  HG_ASSIGN_OR_RETURN(Client* const client, context.client());
  HG_ASSIGN_OR_RETURN(const v1::TraceResponse response, client->Trace(request));
  if (!context.Print(response)) context.out << TraceText(response);
  return ExitCode::kOk;
}

}  // namespace

void AddTrace(CLI::App& app, Context& context) {
  struct TraceOptions {
    std::vector<std::string> words;
    std::string hex;
    std::string interface;
  };
  const auto options = std::make_shared<TraceOptions>();
  CLI::App* trace = app.add_subcommand("trace", "Run a packet through the live tables and say what becomes of it");
  auto* words =
      trace
          ->add_option("packet", options->words,
                       "'udp 10.0.0.1:1234 > 10.1.1.1:53 in uplink [vlan 5] [len 128] [ttl 3] [flags syn] "
                       "[dscp 46]'")
          ->type_name("WORD");
  trace->add_option("--hex", options->hex, "The frame from the Ethernet header on, in hex")
      ->type_name("HEX")
      ->excludes(words);
  trace->add_option("--interface", options->interface, "Interface it arrives on")->type_name("INTERFACE");
  trace->callback([&context, options] {
    v1::TraceRequest request;
    request.set_interface(options->interface);
    if (!options->hex.empty()) {
      const absl::StatusOr<std::string> frame = ParseHex(options->hex);
      if (!frame.ok()) throw CLI::ValidationError("--hex", std::string(frame.status().message()));
      request.set_frame(*frame);
    } else if (!options->words.empty()) {
      request.set_description(absl::StrJoin(options->words, " "));
      if (!absl::StrContains(request.description(), '>')) {
        throw CLI::ValidationError("packet",
                                   "there is no \">\": quote the description, or the shell takes it as a "
                                   "redirection: hgctl trace 'udp 10.0.0.1:1234 > 10.1.1.1:53 in uplink'");
      }
    } else {
      throw CLI::ValidationError("packet", "describe a packet, or give one with --hex");
    }
    context.run = [&context, request] { return Trace(context, request); };
  });
}

}  // namespace headgate::cli
