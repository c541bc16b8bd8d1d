// SPDX-License-Identifier: Apache-2.0
#include "cli/render_event.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include <vector>

#include "agent/api/text_values.h"
#include "cli/kinds.h"
#include "cli/packet.h"
#include "cli/render_objects.h"
#include "cli/render_stats.h"
#include "cli/table.h"

namespace headgate::cli {
namespace {

absl::Time TimeOf(const google::protobuf::Timestamp& time) {
  return absl::FromUnixSeconds(time.seconds()) + absl::Nanoseconds(time.nanos());
}

std::string ObjectText(const v1::Event& event) {
  return absl::StrCat(KindName(event.kind()), event.name().empty() ? "" : " ", event.name());
}

std::string SampleText(const v1::PacketSample& sample, bool verbose) {
  const DecodedFrame frame = DecodeFrame(sample.data());
  std::string text = absl::StrCat("sample in ", sample.interface(), " by ", sample.rule(), ": ", sample.reason(),
                                  ", ", sample.length(), " bytes: ", frame.summary);
  if (verbose) {
    for (const std::string& header : frame.headers) absl::StrAppend(&text, "\n    ", header);
    absl::StrAppend(&text, "\n", HexDump(sample.data(), "    "));
    text.pop_back();
  }
  return text;
}

std::string WhatHappened(const v1::Event& event, bool verbose) {
  switch (event.type()) {
    case v1::EVENT_TYPE_GENERATION_APPLIED:
      return absl::StrCat("generation ", event.generation(), " applied");
    case v1::EVENT_TYPE_OBJECT_STATUS:
      return absl::StrCat(ObjectText(event), " ", StatusText(event.status()));
    case v1::EVENT_TYPE_INTERFACE_CHANGE:
      // The message says what; the status has an event of its own.
      return ObjectText(event);
    case v1::EVENT_TYPE_DRIFT_REPAIRED:
      return absl::StrCat("drift repaired",
                          event.kind() == v1::KIND_UNSPECIFIED ? "" : " in " + ObjectText(event));
    case v1::EVENT_TYPE_ROLLED_BACK:
      return absl::StrCat("rolled back, now generation ", event.generation());
    case v1::EVENT_TYPE_SAMPLE:
      return SampleText(event.sample(), verbose);
    default:
      return absl::StrCat("event type ", static_cast<int>(event.type()));
  }
}

std::string Local(const google::protobuf::Timestamp& time, absl::TimeZone zone) {
  return absl::FormatTime("%Y-%m-%d %H:%M:%S", TimeOf(time), zone);
}

void Field(absl::string_view name, const std::string& value, std::string& out) {
  absl::StrAppend(&out, name, std::string(13 - name.size(), ' '), value, "\n");
}

}  // namespace

std::string EventText(const v1::Event& event, absl::TimeZone zone, bool verbose) {
  std::string text = absl::FormatTime("%Y-%m-%d %H:%M:%E3S  ", TimeOf(event.time()), zone);
  if (event.missed() != 0) absl::StrAppend(&text, "(", event.missed(), " events missed before)  ");
  absl::StrAppend(&text, WhatHappened(event, verbose));
  if (!event.message().empty()) absl::StrAppend(&text, ": ", event.message());
  return text + "\n";
}

std::string TraceText(const v1::TraceResponse& trace) {
  std::string out;
  const DecodedFrame input = DecodeFrame(trace.frame());
  Field("packet", absl::StrCat(input.summary, ", ", trace.frame().size(), " bytes"), out);
  Field("stages", trace.stages().empty() ? "none" : absl::StrJoin(trace.stages(), " > "), out);
  Field("rule", trace.rule().empty() ? "none matched" : trace.rule(), out);
  Field("verdict", trace.verdict(), out);
  const absl::string_view meaning = ReasonText(trace.reason());
  Field("reason", meaning.empty() ? trace.reason() : absl::StrCat(trace.reason(), ": ", meaning), out);
  if (!trace.egress_interface().empty()) Field("egress", trace.egress_interface(), out);
  Field("generation", absl::StrCat(trace.generation()), out);
  Field("steps", absl::StrCat(trace.steps(), " tree nodes"), out);
  if (trace.verdict() == "drop" || trace.output().empty()) return out;

  const bool passed = trace.verdict() == "pass";
  absl::StrAppend(&out, "\n", passed ? "passed on" : "leaves", trace.output() == trace.frame() ? " unchanged" : "",
                  ", ", trace.output().size(), " bytes:\n");
  for (const std::string& header : DecodeFrame(trace.output()).headers) absl::StrAppend(&out, "  ", header, "\n");
  absl::StrAppend(&out, HexDump(trace.output(), "  "));
  return out;
}

std::string AgentStatusText(const v1::StatusResponse& status, absl::Time now, absl::TimeZone zone, size_t width) {
  std::string out;
  Field("version", status.version(), out);
  Field("started",
        absl::StrCat(Local(status.started(), zone), " (", BriefTime(now - TimeOf(status.started())), " ago)"),
        out);
  Field("generation",
        status.desired_generation() == status.applied_generation()
            ? absl::StrCat(status.desired_generation(), ", applied")
            : absl::StrCat(status.desired_generation(), ", ", status.applied_generation(), " is in use"),
        out);
  if (!status.apply_error().empty()) Field("error", status.apply_error(), out);
  if (status.unconfirmed_generation() != 0) {
    Field("unconfirmed",
          absl::StrCat("generation ", status.unconfirmed_generation(), " rolls back at ",
                       Local(status.confirm_deadline(), zone), " (in ",
                       BriefTime(TimeOf(status.confirm_deadline()) - now), ") unless confirmed"),
          out);
  }
  Field("drift",
        absl::StrCat(status.drift_repaired(), " repaired, ",
                     status.has_last_drift_check()
                         ? absl::StrCat("last checked ", Local(status.last_drift_check(), zone))
                         : "not checked yet"),
        out);
  Field("memory", BriefBytes(status.resident_bytes()), out);
  Field("log level", status.log_level(), out);
  for (const std::string& warning : status.warnings()) Field("warning", warning, out);

  Table table({{"TABLE"},
               {"USED", Table::Align::kRight},
               {"CAPACITY", Table::Align::kRight},
               {"FULL", Table::Align::kRight},
               {"MEMORY", Table::Align::kRight}});
  for (const v1::TableStatus& entry : status.tables()) {
    const double full = entry.capacity() == 0
                            ? 0
                            : 100 * static_cast<double>(entry.used()) / static_cast<double>(entry.capacity());
    table.Add({entry.name(), absl::StrCat(entry.used()), absl::StrCat(entry.capacity()),
               absl::StrCat(static_cast<int>(full), "%"), BriefBytes(entry.bytes())});
  }
  if (table.rows() > 0) absl::StrAppend(&out, "\n", table.Render(width));
  return out;
}

}  // namespace headgate::cli
