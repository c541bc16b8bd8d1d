// SPDX-License-Identifier: Apache-2.0
#include "bench/filter_scenario.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <netinet/in.h>

#include <algorithm>
#include <functional>
#include <thread>
#include <utility>

#include "agent/base/status.h"
#include "bench/feeder.h"
#include "bench/filter_lab.h"
#include "bench/filter_rate.h"
#include "bench/headers.h"
#include "bench/loaded_headgate.h"
#include "bench/netns.h"
#include "bench/program_run.h"
#include "bench/rte_acl.h"

namespace headgate::bench {
namespace {

constexpr char kUnit[] = "ns";
constexpr int kCpu = 1, kPriority = 1;
constexpr int kChanges = 21;
constexpr size_t kCheckedHeaders = 2000;

// A set at one size, measured.
struct CostSample {
  std::vector<double> headgate, scalar, vector;  // ns, by round
  std::vector<double> whole;                     // ns of a packet, with what it costs without rules
  double change_us = 0;                          // one rule, until packets see it
  double build_seconds = 0;                      // of rte_acl
  std::string vector_method;
};

class CostMeter {
 public:
  CostMeter(const FilterOptions& options, const std::atomic<bool>& stop,
            absl::FunctionRef<void(const std::string&)> progress)
      : options_(options), stop_(stop), progress_(progress) {}

  absl::Status Start() {
    HG_RETURN_IF_ERROR(bpffs_.Mount());
    HG_ASSIGN_OR_RETURN(headgate_, Load("headgate", kFilterDevice));
    HG_ASSIGN_OR_RETURN(empty_, Load("empty", kEmptyDevice));
    HG_ASSIGN_OR_RETURN(program_, headgate_->OpenProgram());
    HG_ASSIGN_OR_RETURN(empty_program_, empty_->OpenProgram());
    return absl::OkStatus();
  }

  absl::StatusOr<CostSample> Measure(const std::string& name, const testing::SetRules& rules,
                                     std::vector<hgb_header> headers) {
    headers_ = std::move(headers);
    HG_ASSIGN_OR_RETURN(feeder_, Feeder::Open(headers_));
    HG_RETURN_IF_ERROR(headgate_->Change(MakeFilterState(rules)).status());
    acl_.reset();  // one at a time: they are large
    if (rules.sets.empty()) HG_RETURN_IF_ERROR(BuildPeer(rules.rules));
    CostSample sample;
    for (int round = 0; round < options_.rounds; ++round) {
      if (stop_.load(std::memory_order_relaxed)) return absl::CancelledError("interrupted");
      HG_RETURN_IF_ERROR(MeasureRound(round, sample));
      progress_(
          absl::StrFormat("round %d, %-9s headgate %6.1f ns%s", round + 1, name, sample.headgate.back(),
                          acl_ ? absl::StrFormat(", rte_acl scalar %6.1f ns, %s %6.1f ns", sample.scalar.back(),
                                                 acl_->vector_method(), sample.vector.back())
                               : ""));
    }
    HG_ASSIGN_OR_RETURN(sample.change_us, TimeChange(rules));
    if (acl_) sample.build_seconds = acl_->build_seconds();
    if (acl_) sample.vector_method = acl_->vector_method();
    return sample;
  }

 private:
  absl::StatusOr<std::unique_ptr<LoadedHeadgate>> Load(const std::string& directory, const std::string& device) {
    return LoadedHeadgate::Start({.bpffs = PrivateBpffs::kPath,
                                  .directory = directory,
                                  .netns = kFilterNs,
                                  .ports = {{kFilterPort, device}},
                                  .flow_cache = options_.flow_cache},
                                 MakeFilterState({}));
  }

  absl::Status BuildPeer(const std::vector<Rule>& rules) {
    auto acl = RteAcl::Build(rules);
    if (absl::IsUnavailable(acl.status())) {
      if (!std::exchange(peer_missing_, true))
        progress_(absl::StrCat("rte_acl is left out: ", acl.status().message()));
      return absl::OkStatus();
    }
    HG_RETURN_IF_ERROR(acl.status());
    acl_ = *std::move(acl);
    return CheckPeer(rules);
  }

  // That the peer has the same rules is a claim of the comparison.
  absl::Status CheckPeer(const std::vector<Rule>& rules) {
    const absl::Span<const hgb_header> some =
        absl::MakeSpan(headers_).first(std::min(kCheckedHeaders, headers_.size()));
    HG_ASSIGN_OR_RETURN(const std::vector<uint32_t> found, acl_->Classify(some));
    for (size_t i = 0; i < some.size(); ++i) {
      // To rte_acl a header without ports has zeros there.
      if (some[i].protocol != IPPROTO_TCP && some[i].protocol != IPPROTO_UDP) continue;
      const Rule* rule = testing::LinearSearch(rules, ToHeader(some[i]));
      if (found[i] != (rule ? static_cast<uint32_t>(rule - rules.data()) + 1 : 0)) {
        return absl::InternalError("rte_acl finds another rule than a linear search");
      }
    }
    return absl::OkStatus();
  }

  // All next to each other, in an order that turns.
  absl::Status MeasureRound(int round, CostSample& sample) {
    double full = 0, empty = 0;
    std::vector<std::function<absl::Status()>> turns = {
        [&]() -> absl::Status {
          HG_ASSIGN_OR_RETURN(full, TimeProgram(program_, kFilterDevice));
          return absl::OkStatus();
        },
        [&]() -> absl::Status {
          HG_ASSIGN_OR_RETURN(empty, TimeProgram(empty_program_, kEmptyDevice));
          return absl::OkStatus();
        }};
    if (acl_) {
      turns.push_back([&]() -> absl::Status {
        HG_ASSIGN_OR_RETURN(const double time, acl_->TimeScalar(headers_));
        sample.scalar.push_back(time);
        return absl::OkStatus();
      });
      turns.push_back([&]() -> absl::Status {
        HG_ASSIGN_OR_RETURN(const double time, acl_->TimeVector(headers_));
        sample.vector.push_back(time);
        return absl::OkStatus();
      });
    }
    std::rotate(turns.begin(), turns.begin() + round % static_cast<int>(turns.size()), turns.end());
    for (const auto& turn : turns) HG_RETURN_IF_ERROR(turn());
    sample.headgate.push_back(full - empty);
    sample.whole.push_back(full);
    return absl::OkStatus();
  }

  absl::StatusOr<double> TimeProgram(const Fd& program, const char* name) {
    double time = 0;
    HG_RETURN_IF_ERROR(InNamespace(kFilterNs, [&]() -> absl::Status {
      HG_ASSIGN_OR_RETURN(const Device device, FindDevice(name));
      HG_ASSIGN_OR_RETURN(time, feeder_->Time(program.get(), device.ifindex));
      return absl::OkStatus();
    }));
    return time;
  }

  // The median of changes that turn a rule's verdict round, in microseconds.
  absl::StatusOr<double> TimeChange(const testing::SetRules& given) {
    const std::vector<Rule>& rules = given.rules;
    std::vector<double> times;
    State state = MakeFilterState(given);
    HG_RETURN_IF_ERROR(headgate_->Change(state).status());
    for (int i = 0; i < kChanges; ++i) {
      Rule rule = rules[static_cast<size_t>(i) * rules.size() / kChanges];
      const bool drops = std::holds_alternative<Drop>(rule.action->verdict);
      rule.action = std::make_shared<const Action>(drops ? Action{.verdict = Pass{}} : Action{.verdict = Drop{}});
      state.rules.Set(std::move(rule));
      HG_ASSIGN_OR_RETURN(const double seconds, headgate_->Change(state));
      times.push_back(seconds * 1e6);
    }
    return Summarize(times).median;
  }

  const FilterOptions& options_;
  const std::atomic<bool>& stop_;
  absl::FunctionRef<void(const std::string&)> progress_;
  PrivateBpffs bpffs_;
  std::unique_ptr<LoadedHeadgate> headgate_, empty_;
  Fd program_, empty_program_;
  std::vector<hgb_header> headers_;
  std::unique_ptr<Feeder> feeder_;
  std::unique_ptr<RteAcl> acl_;
  bool peer_missing_ = false;
};

void AddCostRows(const std::string& name, const CostSample& sample, double hundred, Result& result) {
  ResultRow row{.name = name, .unit = kUnit, .headgate = sample.headgate};
  if (hundred > 0) row.details.emplace_back("of_100", Summarize(sample.headgate).median / hundred);
  row.details.emplace_back("whole_ns", Summarize(sample.whole).median);
  row.details.emplace_back("change_us", sample.change_us);
  if (sample.scalar.empty()) {
    result.rows.push_back(std::move(row));
    return;
  }
  row.details.emplace_back("rte_acl_build_s", sample.build_seconds);
  row.baseline = "rte_acl_scalar";
  row.baseline_values = sample.scalar;
  result.rows.push_back(row);
  row.baseline = "rte_acl_vector";
  row.baseline_values = sample.vector;
  result.rows.push_back(std::move(row));
  result.settings["rte_acl_vector"] = sample.vector_method;
}

absl::Status MeasureCosts(const FilterOptions& options, const std::atomic<bool>& stop,
                          absl::FunctionRef<void(const std::string&)> progress, Result& result) {
  CostMeter meter(options, stop, progress);
  HG_RETURN_IF_ERROR(meter.Start());
  std::mt19937_64 random(options.seed);
  for (const std::string& set : options.sets) {
    double hundred = 0;
    for (const std::string& size : options.sizes) {
      HG_ASSIGN_OR_RETURN(const testing::SetRules rules, LoadSetRules(set, size));
      HG_ASSIGN_OR_RETURN(std::vector<hgb_header> headers, DrawHeaders(rules.drawn, options.headers, random));
      const std::string name = absl::StrCat(set, "/", size);
      HG_ASSIGN_OR_RETURN(const CostSample sample, meter.Measure(name, rules, std::move(headers)));
      if (size == "100") hundred = Summarize(sample.headgate).median;
      AddCostRows(name, sample, hundred, result);
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Result> RunFilter(const FilterOptions& options, const std::atomic<bool>& stop,
                                 absl::FunctionRef<void(const std::string&)> progress) {
  HG_ASSIGN_OR_RETURN(const Fd lock, LockBenchmarks(options.wait));
  HG_ASSIGN_OR_RETURN(const auto lab, MakeFilterLab());
  Result result{.scenario = "filter",
                .settings = {{"headers", absl::StrCat(options.headers)},
                             {"flow_cache", options.flow_cache ? "yes" : "no"},
                             {"seed", absl::StrCat(options.seed)},
                             {"realtime", options.realtime ? "yes" : "no"}}};
  absl::Status status;
  std::thread([&] {
    status = Schedule(0, {.cpu = kCpu, .realtime = options.realtime ? kPriority : 0});
    if (status.ok()) status = MeasureCosts(options, stop, progress, result);
  }).join();
  HG_RETURN_IF_ERROR(status);
  HG_RETURN_IF_ERROR(MeasureRates(options, stop, progress, result));
  return result;
}

}  // namespace headgate::bench
