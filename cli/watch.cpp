// SPDX-License-Identifier: Apache-2.0
//
// hgctl watch.
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include "agent/api/text_values.h"
#include "agent/base/status.h"
#include "cli/context.h"
#include "cli/render_event.h"

namespace headgate::cli {
namespace {

struct WatchOptions {
  bool samples = false;
  bool verbose = false;
  std::vector<std::string> types;
  uint64_t count = 0;
};

absl::StatusOr<ExitCode> Watch(Context& context, const WatchOptions& options) {
  const google::protobuf::EnumDescriptor& types = *v1::EventType_descriptor();
  v1::WatchRequest request;
  for (const std::string& type : options.types) {
    request.add_types(static_cast<v1::EventType>(FindEnumText(types, type)->number()));
  }
  if (options.samples) {
    // Beside the others, which come by themselves only while nothing is named.
    for (int i = 0; options.types.empty() && i < types.value_count(); ++i) {
      const auto type = static_cast<v1::EventType>(types.value(i)->number());
      if (type != v1::EVENT_TYPE_UNSPECIFIED && type != v1::EVENT_TYPE_SAMPLE) request.add_types(type);
    }
    request.add_types(v1::EVENT_TYPE_SAMPLE);
  }
  HG_ASSIGN_OR_RETURN(Client* const client, context.client());
  const absl::TimeZone zone = absl::LocalTimeZone();
  uint64_t seen = 0;
  HG_RETURN_IF_ERROR(client->Watch(request, [&](const v1::Event& event) {
    if (!context.PrintNext(event)) context.out << EventText(event, zone, options.verbose) << std::flush;
    return ++seen != options.count && context.out.good();
  }));
  return ExitCode::kOk;
}

}  // namespace

void AddWatch(CLI::App& app, Context& context) {
  const auto options = std::make_shared<WatchOptions>();
  CLI::App* watch = app.add_subcommand("watch", "Print events as they happen");
  watch->add_flag("--samples", options->samples, "Packet samples, too");
  watch->add_flag("-v,--verbose", options->verbose, "Samples with their headers and bytes");
  watch->add_option("--types", options->types, "Only events of these types")
      ->delimiter(',')
      ->type_name("TYPE")
      ->check(CLI::IsMember(EnumTexts(*v1::EventType_descriptor())));
  watch->add_option("-n,--count", options->count, "End after so many events")->type_name("NUMBER");
  watch->callback([&context, options] { context.run = [&context, options] { return Watch(context, *options); }; });
}

}  // namespace headgate::cli
