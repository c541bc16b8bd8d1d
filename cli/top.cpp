// SPDX-License-Identifier: Apache-2.0
//
// hgctl top.
#include <absl/strings/str_cat.h>

#include <atomic>
#include <mutex>
#include <optional>
#include <thread>

#include "agent/base/status.h"
#include "cli/context.h"
#include "cli/kinds.h"
#include "cli/render_stats.h"
#include "cli/terminal.h"

namespace headgate::cli {
namespace {

struct TopOptions {
  std::string kind = "interfaces";
  std::string order = "packets";
  absl::Duration interval = absl::Seconds(1);
  uint64_t count = 0;

  // Nothing: there is no such view.
  std::optional<TopView> Parse() const {
    switch (counted()) {
      case v1::KIND_INTERFACE:
        return TopView::kInterfaces;
      case v1::KIND_RULE:
        return TopView::kRules;
      case v1::KIND_MULTICAST_ROUTE:
        return TopView::kMulticastRoutes;
      case v1::KIND_STEER_TARGET:
        return TopView::kWorkers;
      default:
        return std::nullopt;
    }
  }
  v1::Kind counted() const { return ParseCounted(kind).value_or(v1::KIND_UNSPECIFIED); }
  TopView view() const { return Parse().value_or(TopView::kInterfaces); }
};

TopOrder OrderOf(absl::string_view name) {
  return name == "bits" ? TopOrder::kBits : name == "name" ? TopOrder::kName : TopOrder::kPackets;
}

v1::StatsRequest RequestFor(const TopOptions& options) {
  v1::StatsRequest request;
  request.add_kinds(options.counted());
  // Of 100,000 rules most may never have matched.
  request.set_nonzero_only(options.counted() == v1::KIND_RULE);
  absl::Duration rest;
  request.mutable_interval()->set_seconds(absl::IDivDuration(options.interval, absl::Seconds(1), &rest));
  request.mutable_interval()->set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(rest)));
  return request;
}

// The last two readings, written by the thread that receives them.
class Readings {
 public:
  void Add(const v1::StatsResponse& reading) {
    const std::lock_guard lock(mutex_);
    before_ = std::move(now_);
    now_ = reading;
  }
  std::string Text(TopView view, TopOrder order, TopSize size) {
    const std::lock_guard lock(mutex_);
    if (!before_) return "waiting for a second reading\n";
    return TopText(*before_, *now_, view, order, size, absl::LocalTimeZone());
  }

 private:
  std::mutex mutex_;
  std::optional<v1::StatsResponse> before_, now_;
};

absl::Status OnScreen(Context& context, const TopOptions& options) {
  HG_ASSIGN_OR_RETURN(const std::unique_ptr<Terminal> terminal, Terminal::Open());
  HG_ASSIGN_OR_RETURN(Client* const client, context.client());
  Readings readings;
  absl::Status result;  // the receiver's, until it is joined
  std::atomic<bool> ended = false;
  std::jthread receiver([&] {
    result = client->StreamStats(RequestFor(options), [&](const v1::StatsResponse& reading) {
      readings.Add(reading);
      terminal->Wake();
      return true;
    });
    ended = true;
    terminal->Wake();
  });
  TopOrder order = OrderOf(options.order);
  bool running = true;
  while (running && !ended) {
    const size_t height = terminal->height();
    terminal->Draw(absl::StrCat(readings.Text(options.view(), order, {context.width(), height - 1}),
                                "q quit  p by packets  b by bits  n by name"));
    switch (terminal->Next()) {
      case Terminal::Event::kQuit:
        running = false;
        break;
      case Terminal::Event::kKey:
        running = terminal->key() != 'q';
        if (terminal->key() == 'p') order = TopOrder::kPackets;
        if (terminal->key() == 'b') order = TopOrder::kBits;
        if (terminal->key() == 'n') order = TopOrder::kName;
        break;
      case Terminal::Event::kResize:
      case Terminal::Event::kWake:
        break;
    }
  }
  client->Cancel();
  receiver.join();
  return result;
}

absl::Status AsLines(Context& context, const TopOptions& options) {
  HG_ASSIGN_OR_RETURN(Client* const client, context.client());
  std::optional<v1::StatsResponse> before;
  uint64_t seen = 0;
  return client->StreamStats(RequestFor(options), [&](const v1::StatsResponse& now) {
    if (before) {
      context.out << (seen == 0 ? "" : "\n")
                  << TopText(*before, now, options.view(), OrderOf(options.order), {.width = context.width()},
                             absl::LocalTimeZone())
                  << std::flush;
      ++seen;
    }
    before = now;
    return (options.count == 0 || seen < options.count) && context.out.good();
  });
}

}  // namespace

void AddTop(CLI::App& app, Context& context) {
  const auto options = std::make_shared<TopOptions>();
  CLI::App* top = app.add_subcommand(
      "top", "Show the busiest interfaces, rules, multicast routes or workers, on the whole screen");
  top->add_option("kind", options->kind, "interfaces (default), rules, multicast-routes or workers")
      ->type_name("BUSY");
  top->add_option("--sort", options->order, "packets, bits or name")
      ->type_name("ORDER")
      ->check(CLI::IsMember({"packets", "bits", "name"}))
      ->capture_default_str();
  AddDuration(*top, "--interval", options->interval, "How often to look (1s)");
  top->add_option("-n,--count", options->count, "When not on a terminal: end after so many")->type_name("NUMBER");
  top->callback([&context, options] {
    if (!options->Parse()) {
      throw CLI::ValidationError(
          "kind",
          absl::StrCat("\"", options->kind, "\": interfaces, rules, multicast-routes or workers is needed"));
    }
    if (context.format() != OutputFormat::kTable) {
      throw CLI::ValidationError("--output", "top is for people; programs have stats --interval");
    }
    context.run = [&context, options]() -> absl::StatusOr<ExitCode> {
      HG_RETURN_IF_ERROR(Terminal::IsPossible() ? OnScreen(context, *options) : AsLines(context, *options));
      return ExitCode::kOk;
    };
  });
}

}  // namespace headgate::cli
