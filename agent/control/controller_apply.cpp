// SPDX-License-Identifier: Apache-2.0
//
// The second half of the controller: from the durable state to tables in force and devices attached, and back to
// that whenever something is found different.
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>

#include <algorithm>
#include <set>

#include "agent/base/log.h"
#include "agent/base/status.h"
#include "agent/control/controller.h"

namespace headgate {
namespace {

constexpr std::chrono::milliseconds kFirstRetry{100};
constexpr std::chrono::milliseconds kLastRetry{10'000};
constexpr std::chrono::milliseconds kInterfaceRetry{1000};

// Counter rows that belong to an object.
template <typename Visit>
void ForEachCounterRow(Kind kind, uint32_t id, Visit&& visit) {
  switch (kind) {
    case Kind::kRule:
      visit(CounterId::kRules, id);
      break;
    case Kind::kCounter:
      visit(CounterId::kNamed, id);
      break;
    case Kind::kMulticastRoute:
      visit(CounterId::kMroutes, id);
      visit(CounterId::kMrouteLast, id);
      break;
    case Kind::kMulticastLeg:
      visit(CounterId::kLegs, id);
      visit(CounterId::kWorkerLegs, id);
      break;
    case Kind::kMulticastFeed:
      visit(CounterId::kFeeds, id);
      break;
    case Kind::kInterface:
      for (uint32_t reason = 0; reason < HG_REASON_SLOTS; ++reason) {
        visit(CounterId::kPorts, id * HG_REASON_SLOTS + reason);
      }
      visit(CounterId::kEgress, id);
      break;
    case Kind::kSettings:
    case Kind::kPrefixSet:
    case Kind::kNextHop:
    case Kind::kSteerTarget:
      break;
  }
}

std::vector<std::pair<Kind, uint32_t>> IdsOf(const State& state) {
  std::vector<std::pair<Kind, uint32_t>> ids;
  ForEachRetiredId(state, State{}, [&](Kind kind, uint32_t id) { ids.emplace_back(kind, id); });
  return ids;
}

}  // namespace

absl::Status Controller::LoadState() {
  HG_ASSIGN_OR_RETURN(desired_, store_.Load());
  HG_ASSIGN_OR_RETURN(unconfirmed_, store_.LoadUnconfirmed());
  if (unconfirmed_) {
    unconfirmed_generation_ = desired_->generation;
    confirm_by_ = Clock::now() + std::chrono::duration_cast<Clock::duration>(unconfirmed_->deadline -
                                                                             std::chrono::system_clock::now());
  }
  staged_ = desired_;
  Log(spdlog::level::info, "state loaded",
      {{"generation", desired_->generation},
       {"rules", desired_->rules.size()},
       {"prefixes", desired_->prefix_count}});
  return absl::OkStatus();
}

absl::Status Controller::ClaimIds() {
  std::set<std::pair<Kind, uint32_t>> ids;
  for (const auto& id : IdsOf(*desired_)) {
    if (!ids.insert(id).second) {
      return absl::DataLossError(
          absl::StrCat("state database: two objects of kind ", KindName(id.first), " have the id ", id.second));
    }
  }
  if (unconfirmed_) {
    for (const auto& id : IdsOf(*unconfirmed_->previous)) ids.insert(id);
  }
  for (const auto& [kind, id] : ids) {
    if (!ids_.of(kind).Claim(id)) {
      return absl::ResourceExhaustedError(absl::StrCat("the state has a ", KindName(kind), " with id ", id,
                                                       ", beyond the limits given: start headgated with a higher "
                                                       "--max-rules"));
    }
  }
  return absl::OkStatus();
}

// What an earlier process left in force is taken over and changed where it must be; failing that, all tables are
// built beside it.
absl::Status Controller::BuildTables() {
  absl::StatusOr<uint64_t> differences = compiler_->Adopt(dataplane_, *desired_);
  if (differences.ok()) {
    if (*differences != 0) {
      table_drift_ += *differences;
      Log(spdlog::level::warn, "tables in force differed from the state", {{"objects", *differences}});
    }
    compiled_ = desired_;
  }
  absl::Status status = differences.status();
  if (status.ok()) status = Activate();
  if (!status.ok()) {
    if (!absl::IsNotFound(status)) Log(spdlog::level::warn, "tables are built anew", {{"reason", status}});
    HG_RETURN_IF_ERROR(RebuildTables());
  }
  return dataplane_.TakeOver();
}

// Beside what is in force, or where there is no room for both, over it.
absl::Status Controller::RebuildTables() {
  absl::Status status;
  for (const bool beside : {true, false}) {
    compiler_ = std::make_unique<Compiler>();
    if (beside) compiler_->KeepClear(dataplane_);
    compiler_->Compile(*desired_);
    compiled_ = desired_;
    status = Activate();
    if (!absl::IsResourceExhausted(status)) break;
  }
  HG_RETURN_IF_ERROR(status);
  // What is left of the others is no drift to be found later.
  HG_RETURN_IF_ERROR(dataplane_.Quiesce());
  return compiler_->Repair(dataplane_).status();
}

absl::Status Controller::ClearCounters(Kind kind, const std::vector<uint32_t>& ids) {
  std::vector<uint32_t> rows[kCounterTables];
  for (const uint32_t id : ids) {
    ForEachCounterRow(kind, id,
                      [&](CounterId table, uint32_t row) { rows[static_cast<size_t>(table)].push_back(row); });
  }
  for (size_t table = 0; table < kCounterTables; ++table) {
    if (!rows[table].empty())
      HG_RETURN_IF_ERROR(dataplane_.ClearCounters(static_cast<CounterId>(table), rows[table]));
  }
  return absl::OkStatus();
}

// Rows of ids that nothing has: an agent that was killed may not have come to clear them.
absl::Status Controller::ClearStaleCounters() {
  auto ids = IdsOf(*desired_);
  if (unconfirmed_) {
    const auto previous = IdsOf(*unconfirmed_->previous);
    ids.insert(ids.end(), previous.begin(), previous.end());
  }
  std::vector<bool> used[kCounterTables];
  for (size_t i = 0; i < kCounterTables; ++i) used[i].resize(dataplane_.CounterRows(static_cast<CounterId>(i)));
  for (const auto& [kind, id] : ids) {
    ForEachCounterRow(kind, id, [&](CounterId table, uint32_t row) {
      auto& rows = used[static_cast<size_t>(table)];
      if (row < rows.size()) rows[row] = true;
    });
  }
  for (const CounterId table : {CounterId::kPorts, CounterId::kRules, CounterId::kNamed, CounterId::kEgress}) {
    const auto& rows = used[static_cast<size_t>(table)];
    const uint32_t fields = dataplane_.CounterFields(table);
    HG_ASSIGN_OR_RETURN(const std::vector<uint64_t> values,
                        dataplane_.ReadCounters(table, 0, static_cast<uint32_t>(rows.size())));
    std::vector<uint32_t> stale;
    // Port 0 counts what comes in on devices that are no interface.
    const uint32_t first = table == CounterId::kPorts ? HG_REASON_SLOTS : 0;
    for (uint32_t row = first; row < rows.size(); ++row) {
      const auto begin = values.begin() + static_cast<ptrdiff_t>(row) * fields;
      if (!rows[row] && std::any_of(begin, begin + fields, [](uint64_t value) { return value != 0; })) {
        stale.push_back(row);
      }
    }
    if (!stale.empty()) HG_RETURN_IF_ERROR(dataplane_.ClearCounters(table, stale));
  }
  return absl::OkStatus();
}

absl::Status Controller::Activate() {
  HG_RETURN_IF_ERROR(compiler_->Flush(dataplane_));
  HG_RETURN_IF_ERROR(dataplane_.Activate(compiler_->root()));
  compiler_->Published(++epoch_);
  applied_ = compiled_;
  RetireLeaving();
  if (reclaimer_) reclaimer_->Published(epoch_);
  return absl::OkStatus();
}

void Controller::Compile(const Snapshot& next) {
  if (compiled_ == next) return;
  // Here and not when the reclaimer reports: half of a table may be cells that only wait for it. Where packets
  // cannot be waited for, there may be room all the same.
  if (compiler_->Crowded(dataplane_) && dataplane_.Quiesce().ok()) compiler_->Reclaim(epoch_);
  compiler_->Compile(*next);
  compiled_ = next;
}

absl::Status Controller::CompileStaged() {
  Compile(staged_);
  absl::Status status = compiler_->CheckRoom(dataplane_);
  if (status.ok()) return status;
  // Once more beside nothing but what is in force.
  ForgetImage();
  Compile(staged_);
  return compiler_->CheckRoom(dataplane_);
}

absl::Status Controller::TryApply() {
  Compile(desired_);
  absl::Status status = Activate();
  if (absl::IsResourceExhausted(status)) ForgetImage();
  return status;
}

// The image has outgrown the tables, and cells beyond their end would never be written: the next try begins again
// from what is in force.
void Controller::ForgetImage() {
  auto fresh = std::make_unique<Compiler>();
  if (!dataplane_.Quiesce().ok() || !fresh->Adopt(dataplane_, *applied_).ok()) return;
  // It has a root record of its own, and what is in force is to be what it says.
  if (!fresh->Flush(dataplane_).ok() || !dataplane_.Activate(fresh->root()).ok()) return;
  compiler_ = std::move(fresh);
  compiled_ = applied_;
  compiler_->Published(++epoch_);
  if (reclaimer_) reclaimer_->Published(epoch_);
}

void Controller::ApplyDesired() {
  const Snapshot before = applied_;
  apply_error_ = applied_ == desired_ ? absl::OkStatus() : TryApply();
  if (apply_error_.ok()) {
    retry_delay_ = {};
    if (before != applied_) {
      bool interfaces_differ = false;
      Table<Interface>::ForEachDifference(before->interfaces, applied_->interfaces,
                                          [&](const auto*, const auto*) { interfaces_differ = true; });
      if (interfaces_differ) ReconcileInterfaces(false);
    }
  } else {
    retry_delay_ = std::clamp(retry_delay_ * 2, kFirstRetry, kLastRetry);
    next_retry_ = Clock::now() + retry_delay_;
    Log(spdlog::level::err, "generation not applied, will try again",
        {{"generation", desired_->generation}, {"reason", apply_error_}, {"retry_ms", retry_delay_.count()}});
  }
  ShowStatus();  // before the event: who sees it finds what it says
  if (before != applied_) {
    events_.Publish({.type = EventType::kGenerationApplied, .generation = applied_->generation});
  }
  std::vector<std::pair<Done, ChangeOutcome>> waiting;
  waiting.swap(waiting_applied_);
  for (auto& [done, outcome] : waiting) {
    if (!apply_error_.ok()) {
      outcome.status = Annotate(apply_error_, "generation ", outcome.generation,
                                " is durable but not applied yet (it will be tried again)");
    }
    done(std::move(outcome));
  }
}

void Controller::ReconcileInterfaces(bool verify) {
  interfaces_failed_ = !binder_.Reconcile(*applied_, devices_, verify);
  if (interfaces_failed_) next_retry_ = std::min(next_retry_, Clock::now() + kInterfaceRetry);
}

void Controller::NoteLeaving(const State& before, const State& after) {
  ForEachRetiredId(before, after, [this](Kind kind, uint32_t id) { leaving_.emplace_back(kind, id); });
}

void Controller::RetireLeaving() {
  for (const auto& [kind, id] : leaving_) retired_.push_back({epoch_, kind, id});
  leaving_.clear();
}

void Controller::FreeRetired() {
  std::map<Kind, std::vector<uint32_t>> free;
  while (!retired_.empty() && retired_.front().epoch <= quiet_epoch_) {
    free[retired_.front().kind].push_back(retired_.front().id);
    retired_.pop_front();
  }
  for (const auto& [kind, ids] : free) {
    if (const absl::Status status = ClearCounters(kind, ids); !status.ok()) {
      Log(spdlog::level::err, "counters of deleted objects not cleared: their ids are not used again",
          {{"kind", KindName(kind)}, {"reason", status}});
      continue;
    }
    for (const uint32_t id : ids) ids_.of(kind).Free(id);
  }
}

// What of the tables is not as written, while no generation waits to be applied: then the next try writes them.
void Controller::RepairTables(Repairs& repairs) {
  const bool in_force = dataplane_.Active() == compiler_->root();
  // Even if it is: what packets remember of flows cannot be compared with anything, but is void then.
  if (dataplane_.Activate(compiler_->root()).ok() && !in_force) ++repairs["hg_active"];
  absl::StatusOr<Repairs> repaired = compiler_->Repair(dataplane_);
  if (repaired.ok()) {
    for (const auto& [table, values] : *repaired) repairs[table] += values;
  } else {
    Log(spdlog::level::err, "cannot compare the kernel's tables with the state", {{"reason", repaired.status()}});
  }
}

void Controller::CheckDrift() {
  next_drift_check_ = Clock::now() + options_.drift_interval;
  // Attachments first, whatever is wrong with the tables.
  const uint64_t ports_before = binder_.repaired();
  ReconcileInterfaces(true);
  const uint64_t of_ports = binder_.repaired() - ports_before;
  absl::StatusOr<Repairs> swept = dataplane_.Sweep();
  if (!swept.ok()) {
    Log(spdlog::level::err, "cannot compare what is pinned with what should be", {{"reason", swept.status()}});
  }
  Repairs repairs = swept.ok() ? *std::move(swept) : Repairs{};
  if (compiled_ == applied_) RepairTables(repairs);
  for (const auto& [table, values] : repairs) table_drift_ += values;
  // Entries of bound ports and their links: counted by the binder.
  if (of_ports != 0) repairs["attachments"] += of_ports;
  last_drift_check_ = std::chrono::system_clock::now();
  ++drift_checks_;
  ShowStatus();
  if (repairs.empty()) return;
  const std::string found = absl::StrJoin(
      repairs, ", ", [](std::string* out, const auto& one) { absl::StrAppend(out, one.first, ": ", one.second); });
  Log(spdlog::level::warn, "what others changed was put right", {{"values", found}});
  events_.Publish({.type = EventType::kDriftRepaired,
                   .generation = applied_->generation,
                   .message = absl::StrCat("values that were not as written: ", found)});
}

}  // namespace headgate
