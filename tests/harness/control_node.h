// SPDX-License-Identifier: Apache-2.0
//
// The control plane as main.cpp puts it together, over a data plane that stands in for the kernel and can be told
// to fail: a controller with its store, and the means to wait for what it does.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "agent/control/controller.h"
#include "agent/dataplane/fake_dataplane.h"
#include "tests/harness/model.h"
#include "tests/harness/scratch.h"

namespace headgate::testing {

// A device, up, with a MAC made from its ifindex.
Device MakeDevice(uint32_t ifindex, const std::string& name);

class ControlNode {
 public:
  // `capacity`: entries of each table.
  explicit ControlNode(const std::string& name,
                       ControllerOptions options = {.drift_interval = std::chrono::hours(1)},
                       uint32_t capacity = 1 << 14);
  ~ControlNode();

  // A new process: opens the database and starts. The tables and links stay as they are.
  absl::Status Start();
  void Stop();
  absl::Status Restart() { return Stop(), Start(); }

  // Waits for the answer.
  ChangeOutcome Apply(Change change, ChangeOptions options = {.wait_applied = true, .want_states = true});
  absl::StatusOr<uint64_t> Confirm(uint64_t generation = 0);
  // Given now, or when it starts.
  void SetDevices(DeviceList devices);

  // Holds the controller's thread until what this returns is gone: what is submitted meanwhile is one batch.
  std::shared_ptr<void> Hold();
  // Returns when everything submitted before has been handled.
  void Sync();
  // Looks again whenever something has happened; false when it never came true.
  bool Eventually(const std::function<bool()>& condition);
  // Of these types, since the last call (or the start).
  std::vector<Event> Events(const std::set<EventType>& types);

  std::string path() const { return scratch_.path() + "/state.db"; }
  const ObjectCodec& codec() const { return codec_; }
  // What a process that started now would load.
  std::string Stored();

  Controller& controller() { return *controller_; }
  FakeDataplane& fake() { return fake_; }
  const State& desired() { return *(desired_ = controller_->desired()); }
  InterfaceState interface(const std::string& name) { return controller_->interfaces()[name]; }

  // Asked before each call of the data plane. May be exchanged at any time.
  void SetFault(std::function<absl::Status(absl::string_view call)> fault);

 private:
  absl::Status Fault(absl::string_view call);

  Scratch scratch_;
  const ControllerOptions options_;
  api::ProtoCodec codec_{Actions()};
  FakeDataplane fake_;
  FaultyDataplane faulty_{fake_};
  std::mutex fault_mutex_;
  std::shared_ptr<const std::function<absl::Status(absl::string_view)>> fault_;
  EventBus bus_;
  std::shared_ptr<EventBus::Watcher> watcher_, ticks_;
  std::vector<Event> seen_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<Controller> controller_;
  DeviceList devices_;
  Snapshot desired_;
};

}  // namespace headgate::testing
