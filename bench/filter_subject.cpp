// SPDX-License-Identifier: Apache-2.0
#include "bench/filter_subject.h"

#include <algorithm>
#include <array>
#include <utility>

#include "agent/base/status.h"
#include "bench/filter_lab.h"
#include "bench/netns.h"
#include "bench/program_run.h"
#include "bench/result.h"
#include "bench/rule_changes.h"

namespace headgate::bench {
namespace {

constexpr size_t kTimedChanges = 20 * kChangeKinds;
// At a time, when their time does not matter: the room of each batch is free again some milliseconds later.
constexpr size_t kBatch = 100;
// Rules that are away meanwhile, so that a batch does not bring back what it deleted.
constexpr size_t kAway = 2 * kBatch;

void Make(const RandomChanges::Change& change, const ChangingRules& rules, State& state) {
  const Rule& rule = rules.rule(change.index);
  if (change.kind == ChangeKind::kDelete) {
    state.rules.Erase(rule.name);
  } else {
    state.rules.Set(rule);
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<FilterSubject>> FilterSubject::Start(const std::string& device, bool flow_cache) {
  std::unique_ptr<FilterSubject> subject(new FilterSubject(device));
  HG_ASSIGN_OR_RETURN(subject->headgate_, LoadedHeadgate::Start({.bpffs = PrivateBpffs::kPath,
                                                                 .directory = device,
                                                                 .netns = kFilterNs,
                                                                 .ports = {{kFilterPort, device}},
                                                                 .flow_cache = flow_cache},
                                                                MakeFilterState({})));
  HG_ASSIGN_OR_RETURN(subject->program_, subject->headgate_->OpenProgram());
  return subject;
}

absl::Status FilterSubject::SetRules(const std::vector<Rule>& rules) {
  rules_ = rules;
  state_ = MakeFilterState(rules_);
  return headgate_->Change(state_).status();
}

absl::StatusOr<double> FilterSubject::Feed(Feeder& feeder, bool timed) {
  double time = 0;
  HG_RETURN_IF_ERROR(InNamespace(kFilterNs, [&]() -> absl::Status {
    HG_ASSIGN_OR_RETURN(const Device device, FindDevice(device_));
    if (!timed) return feeder.FeedAll(program_.get(), device.ifindex);
    HG_ASSIGN_OR_RETURN(time, feeder.Time(program_.get(), device.ifindex));
    return absl::OkStatus();
  }));
  return time;
}

absl::Status FilterSubject::Check(Feeder& feeder, const Answers& answers) {
  HG_ASSIGN_OR_RETURN(const MatchCounts before, ReadMatchCounts(headgate_->dataplane(), rules_));
  HG_RETURN_IF_ERROR(Feed(feeder, false).status());
  HG_ASSIGN_OR_RETURN(const MatchCounts after, ReadMatchCounts(headgate_->dataplane(), rules_));
  return CompareCounts(rules_, CountAnswers(answers, rules_.size()), before, after);
}

absl::StatusOr<double> FilterSubject::Time(Feeder& feeder) { return Feed(feeder, true); }

absl::StatusOr<double> FilterSubject::TimeChange(std::mt19937_64& random) {
  State state = state_;
  ChangingRules rules(rules_);
  RandomChanges changes(rules, random);
  Make(changes.Delete(), rules, state);
  HG_RETURN_IF_ERROR(headgate_->Change(state).status());
  std::array<std::vector<double>, kChangeKinds> times;
  for (size_t i = 0; i < kTimedChanges; ++i) {
    const RandomChanges::Change change = changes.Next();
    Make(change, rules, state);
    HG_ASSIGN_OR_RETURN(const double seconds, headgate_->Change(state));
    times[static_cast<size_t>(change.kind)].push_back(seconds * 1e6);
  }
  HG_RETURN_IF_ERROR(headgate_->Change(state_).status());
  double sum = 0;
  for (const std::vector<double>& of_kind : times) sum += Summarize(of_kind).median;
  return sum / kChangeKinds;
}

absl::Status FilterSubject::Churn(size_t count, std::mt19937_64& random) {
  State state = state_;
  ChangingRules rules(rules_);
  RandomChanges changes(rules, random);
  size_t made = 0;
  const auto step = [&]() -> absl::Status {
    return ++made % kBatch == 0 ? headgate_->Change(state).status() : absl::OkStatus();
  };
  const size_t away = std::min(kAway, rules_.size() / 2);
  for (size_t i = 0; i < away; ++i) {
    Make(changes.Delete(), rules, state);
    HG_RETURN_IF_ERROR(step());
  }
  // One half there, one half back.
  while (made < count / 2) {
    Make(changes.Next(), rules, state);
    HG_RETURN_IF_ERROR(step());
  }
  std::vector<size_t> changed;
  for (size_t i = 0; i < rules_.size(); ++i) {
    const Rule& now = rules.rule(i);
    if (rules.IsDeleted(i) || now.priority != rules_[i].priority ||
        now.action->verdict != rules_[i].action->verdict)
      changed.push_back(i);
  }
  std::shuffle(changed.begin(), changed.end(), random);
  for (const size_t index : changed) {
    state.rules.Put(*state_.rules.Find(rules_[index].name));
    HG_RETURN_IF_ERROR(step());
  }
  return headgate_->Change(state).status();
}

}  // namespace headgate::bench
