// SPDX-License-Identifier: Apache-2.0
#include "bench/filter_rate.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <thread>
#include <utility>

#include "agent/base/status.h"
#include "bench/answers.h"
#include "bench/filter_lab.h"
#include "bench/headers.h"
#include "bench/loaded_headgate.h"
#include "bench/netns.h"
#include "bench/nftables.h"
#include "bench/program_run.h"
#include "bench/receiver.h"
#include "bench/sender.h"

namespace headgate::bench {
namespace {

using std::chrono::steady_clock;

constexpr int kSenderCpu = 0, kGatewayCpu = 1;
constexpr std::chrono::milliseconds kWarmUp(300), kPoll(10), kSettleTimeout(20000);
// Enough for a difference to show; nftables takes a while for more.
constexpr size_t kCheckedHeaders = 50'000;

// Drops everything that comes in by the device, until destroyed.
class Filter {
 public:
  virtual ~Filter() = default;
  virtual absl::StatusOr<Nftables::Counts> Read() = 0;
};

class HeadgateFilter : public Filter {
 public:
  absl::Status Start(const std::vector<Rule>& rules, bool flow_cache) {
    HG_RETURN_IF_ERROR(bpffs_.Mount());
    HG_ASSIGN_OR_RETURN(headgate_, LoadedHeadgate::Start({.bpffs = PrivateBpffs::kPath,
                                                          .netns = kFilterNs,
                                                          .ports = {{kFilterPort, kFilterDevice}},
                                                          .flow_cache = flow_cache},
                                                         MakeFilterState(rules)));
    return absl::OkStatus();
  }
  absl::StatusOr<Nftables::Counts> Read() override {
    BpfDataplane& dataplane = headgate_->dataplane();
    HG_ASSIGN_OR_RETURN(const auto reasons,
                        dataplane.ReadCounters(CounterId::kPorts, kFilterPort * HG_REASON_SLOTS, HG_REASON_SLOTS));
    const uint32_t fields = dataplane.CounterFields(CounterId::kPorts);
    return Nftables::Counts{.matched = reasons[HG_REASON_DROP_RULE * fields],
                            .unmatched = reasons[HG_REASON_DROP_DEFAULT * fields]};
  }

 private:
  PrivateBpffs bpffs_;  // pins go after what they name is let go
  std::unique_ptr<LoadedHeadgate> headgate_;
};

class NftablesFilter : public Filter {
 public:
  explicit NftablesFilter(std::unique_ptr<Nftables> nftables) : nftables_(std::move(nftables)) {}
  absl::StatusOr<Nftables::Counts> Read() override { return nftables_->Read(); }

 private:
  std::unique_ptr<Nftables> nftables_;
};

// The least that any XDP program takes, which neither parses nor looks anything up: what the path itself can do.
class BareDrop : public Filter {
 public:
  explicit BareDrop(std::unique_ptr<Receiver> receiver) : receiver_(std::move(receiver)) {}
  absl::StatusOr<Nftables::Counts> Read() override {
    HG_ASSIGN_OR_RETURN(const uint64_t frames, receiver_->Frames());
    return Nftables::Counts{.unmatched = frames};
  }

 private:
  std::unique_ptr<Receiver> receiver_;
};

absl::StatusOr<std::unique_ptr<Filter>> StartHeadgate(const std::vector<Rule>& rules, bool flow_cache) {
  auto filter = std::make_unique<HeadgateFilter>();
  HG_RETURN_IF_ERROR(filter->Start(rules, flow_cache));
  return filter;
}

absl::StatusOr<std::unique_ptr<Filter>> StartNftables(const std::vector<Rule>& rules) {
  HG_ASSIGN_OR_RETURN(auto nftables, Nftables::Start(kFilterNs, kFilterDevice, rules));
  return std::make_unique<NftablesFilter>(std::move(nftables));
}

absl::StatusOr<std::unique_ptr<Filter>> StartBareDrop() {
  HG_ASSIGN_OR_RETURN(auto receiver,
                      Receiver::Open({.device = kFilterDevice, .netns = kFilterNs, .count_only = true}));
  return std::make_unique<BareDrop>(std::move(receiver));
}

// What one of them did in a round.
struct RateSample {
  double rate = 0;           // packets a second
  double per_cpu_s = 0;      // packets a second that the gateway's CPU was at work
  double refused_share = 0;  // of the frames made, those that the gateway's ring had no room for
};

class RateMeter {
 public:
  RateMeter(const FilterOptions& options, std::vector<hgb_header> headers, const std::vector<Rule>& rules)
      : options_(options), headers_(std::move(headers)) {
    const size_t checked = std::min(kCheckedHeaders, headers_.size());
    answers_ = SearchLinearly(rules, absl::MakeSpan(headers_).first(checked));
  }

  absl::StatusOr<RateSample> Measure(Filter& filter, bool check) {
    HG_RETURN_IF_ERROR(
        RunNapiInThreads(kFilterNs, kFilterDevice, {.cpu = kGatewayCpu, .realtime = options_.realtime ? 1 : 0}));
    HG_ASSIGN_OR_RETURN(threads_, FindNapiThreads(kFilterDevice));
    if (check) HG_RETURN_IF_ERROR(CheckAnswers(filter));
    HG_ASSIGN_OR_RETURN(const Nftables::Counts before, filter.Read());
    HG_ASSIGN_OR_RETURN(const auto sender, OpenSender(0));
    sender->Start();
    std::this_thread::sleep_for(kWarmUp);
    HG_ASSIGN_OR_RETURN(const Reading first, Read(filter, *sender));
    std::this_thread::sleep_for(std::chrono::duration<double>(options_.seconds));
    HG_ASSIGN_OR_RETURN(const Reading last, Read(filter, *sender));
    HG_RETURN_IF_ERROR(sender->Stop());
    HG_RETURN_IF_ERROR(AwaitAll(filter, before, sender->sent()).status());
    const double dropped = last.dropped - first.dropped, refused = last.refused - first.refused;
    return RateSample{.rate = dropped / (last.seconds - first.seconds),
                      .per_cpu_s = dropped / (last.cpu_seconds - first.cpu_seconds),
                      .refused_share = refused / (last.sent - first.sent + refused)};
  }

 private:
  // Of one moment: reading the counters takes a while, of which this is the middle.
  struct Reading {
    double seconds = 0, cpu_seconds = 0;  // since some time ago
    double dropped = 0, sent = 0, refused = 0;
  };

  absl::StatusOr<std::unique_ptr<Sender>> OpenSender(uint64_t count) const {
    return Sender::Open({.device = kFilterSenderDevice,
                         .netns = kFilterSenderNs,
                         .frame = {.destination_mac = {2, 0, 0, 0, 0, 1}, .source_mac = {2, 0, 0, 0, 0, 2}},
                         .headers = headers_,
                         .count = count,
                         .scheduling = {.cpu = kSenderCpu, .realtime = options_.realtime ? 1 : 0}});
  }

  absl::Status AddClocks(const Sender& sender, Reading& reading) const {
    const std::chrono::duration<double> now = steady_clock::now().time_since_epoch();
    reading.seconds += now.count() / 2;
    reading.sent += static_cast<double>(sender.sent()) / 2;
    reading.refused += static_cast<double>(sender.refused()) / 2;
    for (const pid_t thread : threads_) {
      HG_ASSIGN_OR_RETURN(const uint64_t nanoseconds, ReadCpuTime(thread));
      reading.cpu_seconds += static_cast<double>(nanoseconds) / 2e9;
    }
    return absl::OkStatus();
  }

  absl::StatusOr<Reading> Read(Filter& filter, const Sender& sender) const {
    Reading reading;
    HG_RETURN_IF_ERROR(AddClocks(sender, reading));
    HG_ASSIGN_OR_RETURN(const Nftables::Counts counts, filter.Read());
    HG_RETURN_IF_ERROR(AddClocks(sender, reading));
    reading.dropped = static_cast<double>(counts.matched + counts.unmatched);
    return reading;
  }

  // The first of the headers, each once: rules match as many of them as by a linear search.
  absl::Status CheckAnswers(Filter& filter) const {
    HG_ASSIGN_OR_RETURN(const Nftables::Counts before, filter.Read());
    HG_ASSIGN_OR_RETURN(const auto sender, OpenSender(answers_.size()));
    HG_RETURN_IF_ERROR(sender->Run());
    HG_ASSIGN_OR_RETURN(const Nftables::Counts after, AwaitAll(filter, before, sender->sent()));
    const auto unmatched = static_cast<uint64_t>(std::count(answers_.begin(), answers_.end(), 0));
    if (after.unmatched - before.unmatched == unmatched) return absl::OkStatus();
    return absl::InternalError(absl::StrCat("of ", answers_.size(), " headers ",
                                            after.unmatched - before.unmatched,
                                            " match no rule, and by a linear search ", unmatched));
  }

  // Every frame that the device took is counted, in the end.
  static absl::StatusOr<Nftables::Counts> AwaitAll(Filter& filter, const Nftables::Counts& before, uint64_t sent) {
    Nftables::Counts counts;
    uint64_t dropped = 0;
    for (const auto end = steady_clock::now() + kSettleTimeout; steady_clock::now() < end;) {
      HG_ASSIGN_OR_RETURN(counts, filter.Read());
      dropped = counts.matched + counts.unmatched - before.matched - before.unmatched;
      if (dropped == sent) return counts;
      std::this_thread::sleep_for(kPoll);
    }
    return absl::DataLossError(
        absl::StrCat("the account does not add up: ", sent, " frames sent, ", dropped, " dropped"));
  }

  const FilterOptions& options_;
  std::vector<hgb_header> headers_;
  Answers answers_;  // to the first of them
  std::vector<pid_t> threads_;
};

// All rules drop: what a packet costs after the filter is not the filter's.
absl::StatusOr<std::vector<Rule>> LoadDroppingRules(const std::string& set, const std::string& size) {
  HG_ASSIGN_OR_RETURN(std::vector<Rule> rules, LoadFilterRules(set, size));
  const auto drop = std::make_shared<const Action>(Action{.verdict = Drop{}});
  for (Rule& rule : rules) rule.action = drop;
  return rules;
}

std::vector<double> Column(const std::vector<RateSample>& samples, double RateSample::*field) {
  std::vector<double> values;
  values.reserve(samples.size());
  for (const RateSample& sample : samples) values.push_back(sample.*field);
  return values;
}

struct RateSamples {
  std::vector<RateSample> headgate, nftables, bare;  // by round
};

ResultRow MakeRow(const std::string& name, const RateSamples& samples) {
  const auto& [headgate, nftables, bare] = samples;
  ResultRow row{.name = name, .unit = "packets/s", .headgate = Column(headgate, &RateSample::rate)};
  const auto median = [](const std::vector<RateSample>& rounds, double RateSample::*field) {
    return Summarize(Column(rounds, field)).median;
  };
  row.details = {{"per_cpu_s", median(headgate, &RateSample::per_cpu_s)},
                 {"refused_share", median(headgate, &RateSample::refused_share)},
                 {"bare_drop_per_cpu_s", median(bare, &RateSample::per_cpu_s)}};
  if (nftables.empty()) return row;
  row.baseline = "nftables";
  row.baseline_values = Column(nftables, &RateSample::rate);
  std::vector<double> ratios;
  for (size_t i = 0; i < headgate.size(); ++i) ratios.push_back(headgate[i].per_cpu_s / nftables[i].per_cpu_s);
  const Summary ratio = Summarize(ratios);
  row.details.insert(row.details.end(), {{"baseline_per_cpu_s", median(nftables, &RateSample::per_cpu_s)},
                                         {"baseline_refused_share", median(nftables, &RateSample::refused_share)},
                                         {"per_cpu_ratio", ratio.median},
                                         {"per_cpu_ratio_min", ratio.min},
                                         {"per_cpu_ratio_max", ratio.max}});
  return row;
}

absl::StatusOr<ResultRow> MeasureRow(const FilterOptions& options, const std::string& name,
                                     const std::vector<Rule>& rules, bool with_nftables,
                                     const std::atomic<bool>& stop,
                                     absl::FunctionRef<void(const std::string&)> progress) {
  std::mt19937_64 random(options.seed);
  HG_ASSIGN_OR_RETURN(std::vector<hgb_header> headers, DrawHeaders(rules, options.headers, random));
  RateMeter meter(options, std::move(headers), rules);
  RateSamples samples;
  struct Turn {
    const char* name;
    std::function<absl::StatusOr<std::unique_ptr<Filter>>()> start;
    std::vector<RateSample>& samples;
    bool looks_up;
  };
  std::vector<Turn> turns = {
      {"headgate", [&] { return StartHeadgate(rules, options.flow_cache); }, samples.headgate, true},
      {"bare drop", [] { return StartBareDrop(); }, samples.bare, false}};
  if (with_nftables) turns.push_back({"nftables", [&] { return StartNftables(rules); }, samples.nftables, true});
  for (int round = 0; round < options.rounds; ++round) {
    for (size_t i = 0; i < turns.size(); ++i) {
      if (stop.load(std::memory_order_relaxed)) return absl::CancelledError("interrupted");
      const Turn& turn = turns[(static_cast<size_t>(round) + i) % turns.size()];
      HG_ASSIGN_OR_RETURN(const auto filter, turn.start());
      HG_ASSIGN_OR_RETURN(const RateSample sample, meter.Measure(*filter, round == 0 && turn.looks_up));
      turn.samples.push_back(sample);
      progress(absl::StrFormat("round %d, %s %-9s %9.0f/s, %9.0f a second of its CPU%s", round + 1, name,
                               turn.name, sample.rate, sample.per_cpu_s,
                               sample.refused_share == 0 ? "; no more were sent" : ""));
    }
  }
  return MakeRow(name, samples);
}

}  // namespace

absl::Status MeasureRates(const FilterOptions& options, const std::atomic<bool>& stop,
                          absl::FunctionRef<void(const std::string&)> progress, Result& result) {
  if (options.rate_sizes.empty()) return absl::OkStatus();
  const absl::Status installed = Nftables::CheckInstalled();
  if (absl::IsUnavailable(installed)) {
    progress(absl::StrCat("nftables is left out: ", installed.message()));
  } else {
    HG_RETURN_IF_ERROR(installed);
  }
  for (const std::string& set : options.sets) {
    for (const std::string& size : options.rate_sizes) {
      HG_ASSIGN_OR_RETURN(const std::vector<Rule> rules, LoadDroppingRules(set, size));
      HG_ASSIGN_OR_RETURN(ResultRow row, MeasureRow(options, absl::StrCat(set, "/", size, "/pps"), rules,
                                                    installed.ok(), stop, progress));
      result.rows.push_back(std::move(row));
    }
  }
  return absl::OkStatus();
}

}  // namespace headgate::bench
