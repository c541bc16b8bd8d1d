// SPDX-License-Identifier: Apache-2.0
#include "tests/harness/control_node.h"

#include <absl/strings/str_cat.h>

#include <filesystem>
#include <future>
#include <stdexcept>

#include "agent/base/log.h"

namespace headgate::testing {
namespace {

constexpr std::chrono::seconds kPatience{60};
const std::set<EventType> kAllEvents = {EventType::kGenerationApplied, EventType::kObjectStatus,
                                        EventType::kInterfaceChange,   EventType::kDriftRepaired,
                                        EventType::kRolledBack,        EventType::kSample};

template <typename T>
T Await(std::future<T> future, const char* what) {
  if (future.wait_for(kPatience) != std::future_status::ready)
    throw std::runtime_error(absl::StrCat("no answer: ", what));
  return future.get();
}

}  // namespace

Device MakeDevice(uint32_t ifindex, const std::string& name) {
  Device device{.ifindex = ifindex, .name = name, .mtu = 1500, .up = true};
  device.mac = {2, 0, 0, 0, static_cast<uint8_t>(ifindex >> 8), static_cast<uint8_t>(ifindex)};
  return device;
}

ControlNode::ControlNode(const std::string& name, ControllerOptions options, uint32_t capacity)
    : scratch_(name), options_(options), fake_(capacity) {
  // Failures are asked for: only what is wrong in itself is worth a line.
  (void)SetLogLevel("error");
  faulty_.fault = [this](absl::string_view call) { return Fault(call); };
  watcher_ = bus_.Watch(kAllEvents);
  ticks_ = bus_.Watch(kAllEvents);
}

ControlNode::~ControlNode() { Stop(); }

absl::Status ControlNode::Start() {
  auto store = Store::Open(path(), codec_);
  if (!store.ok()) return store.status();
  store_ = *std::move(store);
  controller_ = std::make_unique<Controller>(faulty_, *store_, bus_, options_);
  absl::Status status = controller_->Start(devices_);
  if (!status.ok()) Stop();
  return status;
}

void ControlNode::Stop() {
  controller_.reset();
  store_.reset();
}

ChangeOutcome ControlNode::Apply(Change change, ChangeOptions options) {
  auto promise = std::make_shared<std::promise<ChangeOutcome>>();
  controller_->Submit(std::move(change), options,
                      [promise](ChangeOutcome outcome) { promise->set_value(std::move(outcome)); });
  return Await(promise->get_future(), "Submit");
}

absl::StatusOr<uint64_t> ControlNode::Confirm(uint64_t generation) {
  auto promise = std::make_shared<std::promise<absl::StatusOr<uint64_t>>>();
  controller_->Confirm(generation,
                       [promise](absl::StatusOr<uint64_t> result) { promise->set_value(std::move(result)); });
  return Await(promise->get_future(), "Confirm");
}

void ControlNode::SetDevices(DeviceList devices) {
  devices_ = devices;
  if (controller_) controller_->OnDevices(std::move(devices));
}

std::shared_ptr<void> ControlNode::Hold() {
  auto entered = std::make_shared<std::promise<void>>();
  auto released = std::make_shared<std::promise<void>>();
  std::shared_future<void> release = released->get_future().share();
  ChangeOptions options{.dry_run = true};
  controller_->Submit(Change{}, options, [entered, release](const ChangeOutcome&) {
    entered->set_value();
    release.wait_for(kPatience);
  });
  Await(entered->get_future(), "Hold");
  return {nullptr, [released](void*) { released->set_value(); }};
}

// A confirmation that is none: it comes after all before it are durable.
void ControlNode::Sync() { (void)Confirm(~0ULL); }

bool ControlNode::Eventually(const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    ticks_->Next(std::chrono::milliseconds(5));
  }
  return true;
}

std::vector<Event> ControlNode::Events(const std::set<EventType>& types) {
  while (auto event = watcher_->Next(std::chrono::milliseconds(0))) seen_.push_back(std::move(*event));
  std::vector<Event> wanted, others;
  for (Event& event : seen_) (types.contains(event.type) ? wanted : others).push_back(std::move(event));
  seen_ = std::move(others);
  return wanted;
}

std::string ControlNode::Stored() {
  // The files as they are, as after a power failure.
  const std::string copy = scratch_.path() + "/copy.db";
  for (const char* suffix : {"", "-wal"}) {
    std::filesystem::remove(copy + suffix);
    if (std::filesystem::exists(path() + suffix)) std::filesystem::copy_file(path() + suffix, copy + suffix);
  }
  const auto store = Store::Open(copy, codec_);
  if (!store.ok()) return store.status().ToString();
  const auto loaded = (*store)->Load();
  if (!loaded.ok()) return loaded.status().ToString();
  return absl::StrCat("generation ", (*loaded)->generation, "\n", Describe(**loaded));
}

void ControlNode::SetFault(std::function<absl::Status(absl::string_view)> fault) {
  auto shared = std::make_shared<const std::function<absl::Status(absl::string_view)>>(std::move(fault));
  const std::lock_guard lock(fault_mutex_);
  fault_ = *shared ? shared : nullptr;
}

absl::Status ControlNode::Fault(absl::string_view call) {
  std::shared_ptr<const std::function<absl::Status(absl::string_view)>> fault;
  {
    const std::lock_guard lock(fault_mutex_);
    fault = fault_;
  }
  return fault ? (*fault)(call) : absl::OkStatus();
}

}  // namespace headgate::testing
