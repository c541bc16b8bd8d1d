// SPDX-License-Identifier: Apache-2.0
//
// Requests: from the queue to durable.
#include "agent/control/controller.h"

#include <absl/strings/str_cat.h>

#include <algorithm>

#include "agent/base/log.h"
#include "agent/base/status.h"

namespace headgate {
namespace {

// The thread comes round at least this often, for whoever watches that it does.
constexpr std::chrono::milliseconds kHeartbeat{500};
// Commands taken from the queue at once; what comes meanwhile shares the next transaction.
constexpr size_t kMaxBatch = 2048;

size_t LegsOf(const Change& change) {
  size_t legs = 0;
  for (const Upsert<MulticastRoute>& route : change.multicast_routes) legs += route.object.legs.size();
  return legs;
}

}  // namespace

Controller::Controller(Dataplane& dataplane, Store& store, EventBus& events, const ControllerOptions& options,
                       ControllerTimes times)
    : dataplane_(dataplane),
      store_(store),
      events_(events),
      options_(options),
      times_(std::move(times)),
      binder_(dataplane, events),
      // Twice what may be in force: a document may replace all rules by others of other names.
      ids_(2 * options.limits.max_entries) {}

Controller::~Controller() { Stop(); }

absl::Status Controller::Start(DeviceList devices) {
  devices_ = std::move(devices);
  HG_RETURN_IF_ERROR(LoadState());
  HG_RETURN_IF_ERROR(ClaimIds());
  HG_RETURN_IF_ERROR(BuildTables());
  if (unconfirmed_ && confirm_by_ <= Clock::now()) RollBack();
  ReconcileInterfaces(true);
  // After the last packet of interfaces that were let go.
  HG_RETURN_IF_ERROR(dataplane_.Quiesce());
  HG_RETURN_IF_ERROR(ClearStaleCounters());
  next_drift_check_ = Clock::now() + options_.drift_interval;
  ShowStatus();
  reclaimer_ = std::make_unique<Reclaimer>(dataplane_, [this](uint64_t epoch) { Post(Quiet{epoch}); });
  reclaimer_->Published(epoch_);
  thread_ = std::jthread([this](const std::stop_token& stop) { Run(stop); });
  return absl::OkStatus();
}

void Controller::Stop() {
  if (!thread_.joinable()) return;
  thread_.request_stop();
  wake_.notify_all();
  thread_.join();
  reclaimer_.reset();
}

void Controller::Submit(Change change, ChangeOptions options, Done done) {
  Post(Request{std::move(change), options, std::move(done), Clock::now()});
}

void Controller::Confirm(uint64_t generation, std::function<void(absl::StatusOr<uint64_t>)> done) {
  Post(Confirmation{generation, std::move(done)});
}

void Controller::OnDevices(DeviceList devices) { Post(Devices{std::move(devices)}); }

void Controller::Post(Command command) {
  const std::lock_guard lock(mutex_);
  queue_.push_back(std::move(command));
  wake_.notify_one();
}

void Controller::Run(const std::stop_token& stop) {
  while (true) {
    std::deque<Command> commands;
    {
      std::unique_lock lock(mutex_);
      last_round_ = Clock::now();
      wake_.wait_until(lock, NextTimer(), [&] { return !queue_.empty() || stop.stop_requested(); });
      while (!queue_.empty() && commands.size() < kMaxBatch) {
        commands.push_back(std::move(queue_.front()));
        queue_.pop_front();
      }
      // What was asked for before the end is answered.
      if (commands.empty() && stop.stop_requested()) return;
    }
    for (Command& command : commands) {
      std::visit([this](auto& one) { Handle(std::move(one)); }, command);
    }
    CommitBatch();
    RunTimers();
  }
}

ChangeOutcome Controller::Outcome(const ChangeOptions& options, const Snapshot& before, const Snapshot& after) {
  ChangeOutcome outcome{.generation = after->generation};
  if (options.want_states) {
    outcome.before = before;
    outcome.after = after;
  }
  return outcome;
}

absl::Status Controller::Refusal(const ChangeOptions& options) const {
  if (options.expected_generation != 0 && options.expected_generation != staged_->generation) {
    return absl::FailedPreconditionError(absl::StrCat("the desired state is at generation ", staged_->generation,
                                                      ", not at the expected ", options.expected_generation,
                                                      ": read it again and repeat the change on it"));
  }
  if (unconfirmed_ && !options.dry_run) {
    return absl::FailedPreconditionError(absl::StrCat(
        "generation ", unconfirmed_generation_, " waits for confirmation: confirm it or let it roll back first"));
  }
  return absl::OkStatus();
}

void Controller::Handle(Request request) {
  const bool to_be_confirmed = request.options.confirm_timeout && !request.options.dry_run;
  // A transaction of its own, after all before it.
  if (to_be_confirmed) CommitBatch();
  if (absl::Status refusal = Refusal(request.options); !refusal.ok()) {
    request.done({.status = std::move(refusal)});
    return;
  }
  MakeRoom(request.change);
  std::optional<std::pair<std::string, std::string>> note = std::move(request.change.note);
  ChangeResult result =
      BuildState(staged_, std::move(request.change), options_.limits, ids_, request.options.dry_run);
  if (!result.state || request.options.dry_run) {
    if (!result.violations.empty()) {
      result.status = absl::InvalidArgumentError(
          absl::StrCat(result.violations.size(), " violations, the first: ", result.violations[0].field, ": ",
                       result.violations[0].description));
    }
    ChangeOutcome outcome;
    if (result.state) outcome = Outcome(request.options, staged_, result.state);
    outcome.status = std::move(result.status);
    outcome.violations = std::move(result.violations);
    request.done(std::move(outcome));
    return;
  }
  if (note) notes_.push_back(*std::move(note));
  ChangeOutcome outcome = Outcome(request.options, staged_, result.state);
  batch_.push_back({std::move(request), std::move(outcome)});
  // One by one: what came and went within the batch is in neither its first nor its last state.
  ForEachRetiredId(*staged_, *result.state,
                   [this](Kind kind, uint32_t id) { batch_given_.emplace_back(kind, id); });
  ForEachRetiredId(*result.state, *staged_,
                   [this](Kind kind, uint32_t id) { batch_taken_.emplace_back(kind, id); });
  staged_ = std::move(result.state);
  if (to_be_confirmed) CommitBatch();
}

// Deleted objects give their ids back when no packet can use them any more: waits for that where the rest may not
// do.
void Controller::MakeRoom(const Change& change) {
  const std::pair<Kind, size_t> wanted[] = {{Kind::kInterface, change.interfaces.size()},
                                            {Kind::kPrefixSet, change.prefix_sets.size()},
                                            {Kind::kNextHop, change.next_hops.size()},
                                            {Kind::kSteerTarget, change.steer_targets.size()},
                                            {Kind::kCounter, change.rules.size()},
                                            {Kind::kRule, change.rules.size()},
                                            {Kind::kMulticastRoute, change.multicast_routes.size()},
                                            {Kind::kMulticastLeg, LegsOf(change)},
                                            {Kind::kMulticastFeed, change.multicast_routes.size()}};
  const bool enough = std::all_of(std::begin(wanted), std::end(wanted), [this](const auto& want) {
    return ids_.of(want.first).available() >= want.second;
  });
  if (enough) return;
  CommitBatch();
  if (retired_.empty() || !dataplane_.Quiesce().ok()) return;
  Handle(Quiet{epoch_});
}

void Controller::CommitBatch() {
  if (batch_.empty()) return;
  const Store::Notes notes = std::exchange(notes_, {});
  // One that is to be confirmed is alone in its batch. When it changes nothing, there is nothing to confirm.
  std::optional<std::chrono::milliseconds> confirm_timeout = batch_.back().request.options.confirm_timeout;
  if (staged_ == desired_) confirm_timeout.reset();
  std::optional<Unconfirmed> unconfirmed;
  if (confirm_timeout) unconfirmed = {std::chrono::system_clock::now() + *confirm_timeout, desired_};
  if (staged_ != desired_ || !notes.empty()) {
    // Nothing is durable that there is no room for.
    absl::Status status = staged_ != desired_ ? CompileStaged() : absl::OkStatus();
    if (status.ok()) {
      status = store_.Commit(*desired_, *staged_, notes,
                             unconfirmed ? std::optional(unconfirmed->deadline) : std::nullopt);
    }
    if (!status.ok()) {
      DropBatch(status);
      return;
    }
  }
  const auto now = Clock::now();
  if (unconfirmed) {
    // The ids of what it deletes are not free before it is confirmed.
    unconfirmed_ = std::move(unconfirmed);
    unconfirmed_generation_ = staged_->generation;
    confirm_by_ = now + *confirm_timeout;
  } else {
    leaving_.insert(leaving_.end(), batch_given_.begin(), batch_given_.end());
  }
  batch_taken_.clear();
  batch_given_.clear();
  if (staged_ != desired_) BecomeDesired(staged_);
  std::vector<Accepted> batch;
  batch.swap(batch_);
  // The last first: who answers in the order of the requests finds all answers there when it has the first.
  for (auto accepted = batch.rbegin(); accepted != batch.rend(); ++accepted) {
    times_.durable_seconds(std::chrono::duration<double>(now - accepted->request.received).count());
    if (accepted->request.options.wait_applied) {
      waiting_applied_.emplace_back(std::move(accepted->request.done), std::move(accepted->outcome));
    } else {
      accepted->request.done(std::move(accepted->outcome));
    }
  }
  ApplyDesired();
  if (apply_error_.ok()) times_.visible_seconds(std::chrono::duration<double>(Clock::now() - now).count());
}

// As if the batch had not been asked for.
void Controller::DropBatch(const absl::Status& status) {
  Log(spdlog::level::err, "changes are not taken", {{"reason", status}});
  for (const auto& [kind, id] : batch_taken_) ids_.of(kind).Free(id);
  batch_taken_.clear();
  batch_given_.clear();
  staged_ = desired_;
  if (compiled_ != applied_) ForgetImage();
  for (Accepted& accepted : batch_) accepted.request.done({.status = status});
  batch_.clear();
}

void Controller::BecomeDesired(Snapshot next) {
  desired_ = std::move(next);
  staged_ = desired_;
  ShowStatus();
}

void Controller::Handle(const Confirmation& confirmation) {
  CommitBatch();
  if (!unconfirmed_ || (confirmation.generation != 0 && confirmation.generation != unconfirmed_generation_)) {
    confirmation.done(absl::FailedPreconditionError(
        unconfirmed_ ? absl::StrCat("generation ", unconfirmed_generation_, " waits for confirmation, not ",
                                    confirmation.generation)
                     : std::string("nothing waits for confirmation: it was confirmed, or rolled back")));
    return;
  }
  if (absl::Status status = store_.Confirm(); !status.ok()) {
    confirmation.done(std::move(status));
    return;
  }
  const Snapshot previous = unconfirmed_->previous;
  unconfirmed_.reset();
  NoteLeaving(*previous, *desired_);
  if (applied_ == desired_) RetireLeaving();
  FreeRetired();
  ShowStatus();
  confirmation.done(unconfirmed_generation_);
}

void Controller::RollBack() {
  State state = *unconfirmed_->previous;
  state.generation = desired_->generation + 1;
  auto next = std::make_shared<const State>(std::move(state));
  if (const absl::Status status = store_.Commit(*desired_, *next); !status.ok()) {
    Log(spdlog::level::err, "cannot roll back, will try again", {{"reason", status}});
    confirm_by_ = Clock::now() + kHeartbeat;
    return;
  }
  unconfirmed_.reset();
  Log(spdlog::level::warn, "rolled back",
      {{"generation", unconfirmed_generation_}, {"new_generation", next->generation}});
  events_.Publish({.type = EventType::kRolledBack,
                   .generation = next->generation,
                   .message = absl::StrCat("generation ", unconfirmed_generation_, " was not confirmed in time")});
  NoteLeaving(*desired_, *next);
  BecomeDesired(std::move(next));
  ApplyDesired();
}

void Controller::Handle(Devices devices) {
  CommitBatch();
  devices_ = std::move(devices.list);
  ReconcileInterfaces(false);
}

void Controller::Handle(Quiet quiet) {
  quiet_epoch_ = quiet.epoch;
  compiler_->Reclaim(quiet.epoch);
  FreeRetired();
}

Controller::Clock::time_point Controller::NextTimer() const {
  auto next = std::min({Clock::now() + kHeartbeat, next_retry_, next_drift_check_});
  if (unconfirmed_) next = std::min(next, confirm_by_);
  return next;
}

void Controller::RunTimers() {
  const auto now = Clock::now();
  if (unconfirmed_ && confirm_by_ <= now) RollBack();
  if (now >= next_retry_) {
    next_retry_ = Clock::time_point::max();
    if (!apply_error_.ok()) ApplyDesired();
    if (interfaces_failed_) ReconcileInterfaces(false);
  }
  if (now >= next_drift_check_) CheckDrift();
}

void Controller::ShowStatus() {
  const std::lock_guard lock(mutex_);
  shown_status_.desired = desired_;
  shown_status_.applied = applied_;
  shown_status_.desired_generation = desired_->generation;
  shown_status_.applied_generation = applied_ ? applied_->generation : 0;
  shown_status_.apply_error = apply_error_;
  shown_status_.unconfirmed = unconfirmed_;
  shown_status_.unconfirmed_generation = unconfirmed_ ? unconfirmed_generation_ : 0;
  shown_status_.drift_repaired = table_drift_ + binder_.repaired();
  shown_status_.drift_checks = drift_checks_;
  shown_status_.last_drift_check = last_drift_check_;
  shown_status_.table_use.clear();
  const std::array<Compiler::Use, kTables> uses = compiler_->Uses();
  for (size_t table = 0; table < kTables; ++table) {
    shown_status_.table_use.emplace_back(static_cast<TableId>(table), uses[table].values);
  }
}

Snapshot Controller::desired() const {
  const std::lock_guard lock(mutex_);
  return shown_status_.desired;
}

Snapshot Controller::applied() const {
  const std::lock_guard lock(mutex_);
  return shown_status_.applied;
}

ControllerStatus Controller::status() const {
  const std::lock_guard lock(mutex_);
  return shown_status_;
}

std::chrono::steady_clock::time_point Controller::last_round() const {
  const std::lock_guard lock(mutex_);
  return last_round_;
}

}  // namespace headgate
