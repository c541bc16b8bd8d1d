// SPDX-License-Identifier: Apache-2.0
#include "bench/filter_rate.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include <chrono>
#include <thread>
#include <utility>

#include "agent/base/status.h"
#include "bench/filter_lab.h"
#include "bench/headers.h"
#include "bench/loaded_headgate.h"
#include "bench/netns.h"
#include "bench/nftables.h"
#include "bench/program_run.h"
#include "bench/sender.h"

namespace headgate::bench {
namespace {

using std::chrono::steady_clock;

constexpr int kSenderCpu = 0, kGatewayCpu = 1;
constexpr std::chrono::milliseconds kWarmUp(300), kPoll(10), kSettleTimeout(20000);

// Drops everything that comes in by the device, until destroyed.
class Filter {
 public:
  virtual ~Filter() = default;
  virtual absl::StatusOr<uint64_t> Dropped() = 0;
};

class HeadgateFilter : public Filter {
 public:
  absl::Status Start(const std::vector<Rule>& rules) {
    HG_RETURN_IF_ERROR(bpffs_.Mount());
    HG_ASSIGN_OR_RETURN(
        headgate_, LoadedHeadgate::Start(
                       {.bpffs = PrivateBpffs::kPath, .netns = kFilterNs, .ports = {{kFilterPort, kFilterDevice}}},
                       MakeFilterState({.sets = {}, .rules = rules, .drawn = {}})));
    return absl::OkStatus();
  }
  absl::StatusOr<uint64_t> Dropped() override {
    BpfDataplane& dataplane = headgate_->dataplane();
    HG_ASSIGN_OR_RETURN(const auto reasons,
                        dataplane.ReadCounters(CounterId::kPorts, kFilterPort * HG_REASON_SLOTS, HG_REASON_SLOTS));
    const uint32_t fields = dataplane.CounterFields(CounterId::kPorts);
    return reasons[HG_REASON_DROP_RULE * fields] + reasons[HG_REASON_DROP_DEFAULT * fields];
  }

 private:
  PrivateBpffs bpffs_;  // pins go after what they name is let go
  std::unique_ptr<LoadedHeadgate> headgate_;
};

class NftablesFilter : public Filter {
 public:
  explicit NftablesFilter(std::unique_ptr<Nftables> nftables) : nftables_(std::move(nftables)) {}
  absl::StatusOr<uint64_t> Dropped() override { return nftables_->Dropped(); }

 private:
  std::unique_ptr<Nftables> nftables_;
};

absl::StatusOr<std::unique_ptr<Filter>> StartHeadgate(const std::vector<Rule>& rules) {
  auto filter = std::make_unique<HeadgateFilter>();
  HG_RETURN_IF_ERROR(filter->Start(rules));
  return filter;
}

absl::StatusOr<std::unique_ptr<Filter>> StartNftables(const std::vector<Rule>& rules) {
  HG_ASSIGN_OR_RETURN(auto nftables, Nftables::Start(kFilterNs, kFilterDevice, rules));
  return std::make_unique<NftablesFilter>(std::move(nftables));
}

// Every frame that the device took is counted, in the end.
absl::Status CheckAccount(Filter& filter, uint64_t sent) {
  uint64_t dropped = 0;
  for (const auto end = steady_clock::now() + kSettleTimeout; steady_clock::now() < end;) {
    HG_ASSIGN_OR_RETURN(dropped, filter.Dropped());
    if (dropped == sent) return absl::OkStatus();
    std::this_thread::sleep_for(kPoll);
  }
  return absl::DataLossError(
      absl::StrCat("the account does not add up: ", sent, " frames sent, ", dropped, " dropped"));
}

// Frames a second that the filter drops.
absl::StatusOr<double> MeasureRate(const FilterOptions& options, const std::vector<hgb_header>& headers,
                                   Filter& filter) {
  const int priority = options.realtime ? 1 : 0;
  HG_RETURN_IF_ERROR(RunNapiInThreads(kFilterNs, kFilterDevice, {.cpu = kGatewayCpu, .realtime = priority}));
  HG_ASSIGN_OR_RETURN(
      const auto sender,
      Sender::Open({.device = kFilterSenderDevice,
                    .netns = kFilterSenderNs,
                    .frame = {.destination_mac = {2, 0, 0, 0, 0, 1}, .source_mac = {2, 0, 0, 0, 0, 2}},
                    .headers = headers,
                    .scheduling = {.cpu = kSenderCpu, .realtime = priority}}));
  sender->Start();
  std::this_thread::sleep_for(kWarmUp);
  HG_ASSIGN_OR_RETURN(const uint64_t first, filter.Dropped());
  const auto start = steady_clock::now();
  std::this_thread::sleep_for(std::chrono::duration<double>(options.seconds));
  HG_ASSIGN_OR_RETURN(const uint64_t last, filter.Dropped());
  const std::chrono::duration<double> time = steady_clock::now() - start;
  HG_RETURN_IF_ERROR(sender->Stop());
  HG_RETURN_IF_ERROR(CheckAccount(filter, sender->sent()));
  return static_cast<double>(last - first) / time.count();
}

// All rules drop: what a packet costs after the filter is not the filter's.
absl::StatusOr<std::vector<Rule>> LoadDroppingRules(const std::string& set, const std::string& size) {
  HG_ASSIGN_OR_RETURN(std::vector<Rule> rules, LoadFilterRules(set, size));
  const auto drop = std::make_shared<const Action>(Action{.verdict = Drop{}});
  for (Rule& rule : rules) rule.action = drop;
  return rules;
}

absl::StatusOr<ResultRow> MeasureRow(const FilterOptions& options, const std::string& name,
                                     const std::vector<Rule>& rules,
                                     absl::FunctionRef<void(const std::string&)> progress) {
  std::mt19937_64 random(options.seed);
  HG_ASSIGN_OR_RETURN(const std::vector<hgb_header> headers, DrawHeaders(rules, options.headers, random));
  ResultRow row{.name = name, .unit = "packets/s", .baseline = "nftables"};
  for (int round = 0; round < options.rounds; ++round) {
    for (int turn = 0; turn < 2; ++turn) {
      const bool headgate = (round + turn) % 2 == 1;
      HG_ASSIGN_OR_RETURN(const auto filter, headgate ? StartHeadgate(rules) : StartNftables(rules));
      HG_ASSIGN_OR_RETURN(const double rate, MeasureRate(options, headers, *filter));
      (headgate ? row.headgate : row.baseline_values).push_back(rate);
      progress(
          absl::StrFormat("round %d, %s %-9s %9.0f/s", round + 1, name, headgate ? "headgate" : "nftables", rate));
    }
  }
  return row;
}

}  // namespace

absl::Status MeasureRates(const FilterOptions& options, const std::atomic<bool>& stop,
                          absl::FunctionRef<void(const std::string&)> progress, Result& result) {
  for (const std::string& set : options.sets) {
    if (NamesSets(set)) continue;
    for (const std::string& size : options.rate_sizes) {
      if (stop.load(std::memory_order_relaxed)) return absl::CancelledError("interrupted");
      HG_ASSIGN_OR_RETURN(const std::vector<Rule> rules, LoadDroppingRules(set, size));
      auto row = MeasureRow(options, absl::StrCat(set, "/", size, "/pps"), rules, progress);
      if (absl::IsUnavailable(row.status())) {
        progress(absl::StrCat("nftables is left out: ", row.status().message()));
        return absl::OkStatus();
      }
      HG_RETURN_IF_ERROR(row.status());
      result.rows.push_back(*std::move(row));
    }
  }
  return absl::OkStatus();
}

}  // namespace headgate::bench
