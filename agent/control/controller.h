// SPDX-License-Identifier: Apache-2.0
//
// The controller: one thread that owns the desired state and everything that changes. Requests, device changes
// and timers come to it through a queue; it validates, makes durable, compiles and puts in force.
//
// Threads: Submit, Confirm, OnDevices and the getters may be called from any thread. `done` callbacks run on the
// controller's thread, those of one transaction in any order, and must return quickly. What the thread owns:
// everything not marked otherwise below.
#pragma once

#include <absl/status/statusor.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <variant>
#include <vector>

#include "agent/control/change.h"
#include "agent/control/compiler.h"
#include "agent/control/events.h"
#include "agent/control/interfaces.h"
#include "agent/control/reclaimer.h"
#include "agent/control/store.h"
#include "agent/dataplane/dataplane.h"

namespace headgate {

struct ChangeOptions {
  uint64_t expected_generation = 0;  // 0: any
  bool dry_run = false;
  bool wait_applied = false;
  std::optional<std::chrono::milliseconds> confirm_timeout;
  // Whether the outcome is to have the states before and after: keeping them costs memory when changes are many.
  bool want_states = false;
};

struct ChangeOutcome {
  absl::Status status;  // INVALID_ARGUMENT comes with violations
  Violations violations;
  uint64_t generation = 0;  // with the change, when OK
  Snapshot before, after;   // when OK and wanted
};

// All as of one moment.
struct ControllerStatus {
  Snapshot desired, applied;
  uint64_t desired_generation = 0;
  uint64_t applied_generation = 0;
  absl::Status apply_error;
  std::optional<Unconfirmed> unconfirmed;
  uint64_t unconfirmed_generation = 0;
  uint64_t drift_repaired = 0;
  uint64_t drift_checks = 0;  // comparisons of the tables with what was written that have ended
  std::optional<std::chrono::system_clock::time_point> last_drift_check;
  std::vector<std::pair<TableId, uint64_t>> table_use;  // values in use
};

// How long changes took, for metrics.
struct ControllerTimes {
  std::function<void(double)> durable_seconds = [](double) {};  // from receipt to durable
  std::function<void(double)> visible_seconds = [](double) {};  // from durable to in force
};

struct ControllerOptions {
  Limits limits;
  std::chrono::milliseconds drift_interval{30'000};
};

class Controller {
 public:
  using Done = std::function<void(ChangeOutcome)>;

  Controller(Dataplane& dataplane, Store& store, EventBus& events, const ControllerOptions& options,
             ControllerTimes times = {});
  ~Controller();

  // Loads the desired state, adopts or builds the tables, and takes over; then the thread runs. `devices`: as
  // they are now.
  absl::Status Start(DeviceList devices);
  void Stop();

  void Submit(Change change, ChangeOptions options, Done done);
  // Keeps the change that waits for confirmation. 0: whichever.
  void Confirm(uint64_t generation, std::function<void(absl::StatusOr<uint64_t>)> done);
  void OnDevices(DeviceList devices);

  Snapshot desired() const;
  Snapshot applied() const;
  ControllerStatus status() const;
  std::map<std::string, InterfaceState> interfaces() const { return binder_.States(); }
  // When the thread last came round: for the watchdog and health.
  std::chrono::steady_clock::time_point last_round() const;
  Dataplane& dataplane() const { return dataplane_; }

 private:
  using Clock = std::chrono::steady_clock;

  struct Request {
    Change change;
    ChangeOptions options;
    Done done;
    Clock::time_point received;
  };
  struct Confirmation {
    uint64_t generation;
    std::function<void(absl::StatusOr<uint64_t>)> done;
  };
  struct Devices {
    DeviceList list;
  };
  struct Quiet {  // no packet is older than this epoch
    uint64_t epoch;
  };
  using Command = std::variant<Request, Confirmation, Devices, Quiet>;
  struct Retired {
    uint64_t epoch;
    Kind kind;
    uint32_t id;
  };
  // A request whose change is part of the batch.
  struct Accepted {
    Request request;
    ChangeOutcome outcome;
  };

  // controller.cpp: requests, up to durable.
  void Post(Command command);
  void Run(const std::stop_token& stop);
  void Handle(Request request);
  void Handle(const Confirmation& confirmation);
  void Handle(Devices devices);
  void Handle(Quiet quiet);
  static ChangeOutcome Outcome(const ChangeOptions& options, const Snapshot& before, const Snapshot& after);
  absl::Status Refusal(const ChangeOptions& options) const;
  void MakeRoom(const Change& change);
  void CommitBatch();
  void DropBatch(const absl::Status& status);
  // `next` is durable: it is the desired state from now on.
  void BecomeDesired(Snapshot next);
  void RollBack();
  Clock::time_point NextTimer() const;
  void RunTimers();
  void ShowStatus();

  // controller_apply.cpp: from durable to in force.
  absl::Status LoadState();
  absl::Status ClaimIds();
  absl::Status BuildTables();
  absl::Status RebuildTables();
  absl::Status ClearStaleCounters();
  absl::Status ClearCounters(Kind kind, const std::vector<uint32_t>& ids);
  void ApplyDesired();
  absl::Status TryApply();
  // What is staged, in the image: an error when there is no room for it, as long as it can be refused.
  absl::Status CompileStaged();
  void Compile(const Snapshot& next);
  void ForgetImage();
  absl::Status Activate();
  void ReconcileInterfaces(bool verify);
  // Notes the ids that go from one state to the next; the state in force may still use them.
  void NoteLeaving(const State& before, const State& after);
  // The state in force uses them no more; packets in flight may.
  void RetireLeaving();
  void FreeRetired();
  void CheckDrift();
  void RepairTables(Repairs& repairs);

  Dataplane& dataplane_;
  Store& store_;
  EventBus& events_;
  const ControllerOptions options_;
  const ControllerTimes times_;

  std::unique_ptr<Compiler> compiler_ = std::make_unique<Compiler>();
  InterfaceBinder binder_;
  IdAllocators ids_;
  DeviceList devices_;

  Snapshot desired_;   // durable
  Snapshot staged_;    // with the batch's changes, not durable yet
  Snapshot compiled_;  // in the compiler's image
  Snapshot applied_;   // in force
  std::vector<Accepted> batch_;
  Store::Notes notes_;                                                // of the batch
  std::vector<std::pair<Kind, uint32_t>> batch_taken_, batch_given_;  // ids that its changes took and gave back
  std::vector<std::pair<Done, ChangeOutcome>> waiting_applied_;
  std::optional<Unconfirmed> unconfirmed_;
  uint64_t unconfirmed_generation_ = 0;
  Clock::time_point confirm_by_;  // of unconfirmed_; the wall clock, which may be set, only counts over a restart

  uint64_t epoch_ = 0;                              // activations
  uint64_t quiet_epoch_ = 0;                        // no packet is older
  std::vector<std::pair<Kind, uint32_t>> leaving_;  // ids that the state in force may still use
  std::deque<Retired> retired_;                     // ids that packets in flight may still use

  absl::Status apply_error_;
  bool interfaces_failed_ = false;
  std::chrono::milliseconds retry_delay_{};
  Clock::time_point next_retry_ = Clock::time_point::max();
  Clock::time_point next_drift_check_ = Clock::time_point::max();
  uint64_t table_drift_ = 0, drift_checks_ = 0;
  std::optional<std::chrono::system_clock::time_point> last_drift_check_;

  mutable std::mutex mutex_;  // guards queue_, and what the getters return
  std::condition_variable wake_;
  std::deque<Command> queue_;
  ControllerStatus shown_status_;
  Clock::time_point last_round_;

  std::unique_ptr<Reclaimer> reclaimer_;
  std::jthread thread_;
};

}  // namespace headgate
