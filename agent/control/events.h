// SPDX-License-Identifier: Apache-2.0
//
// What happens, for whoever watches: a bus with a bounded queue for each watcher, so that a slow one loses events
// (and is told how many) instead of holding anything up.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent/control/model.h"

namespace headgate {

enum class EventType : uint8_t {
  kGenerationApplied,
  kObjectStatus,
  kInterfaceChange,
  kDriftRepaired,
  kRolledBack,
  kSample,
};

enum class ObjectState : uint8_t { kPending, kApplied, kError };

struct ObjectStatus {
  ObjectState state = ObjectState::kPending;
  std::string reason;
  friend bool operator==(const ObjectStatus&, const ObjectStatus&) = default;
};

struct PacketSample {
  std::string rule;
  std::string interface;
  std::string reason;
  uint32_t length = 0;
  std::vector<uint8_t> data;
};

struct Event {
  EventType type = EventType::kGenerationApplied;
  std::chrono::system_clock::time_point time = std::chrono::system_clock::now();
  uint64_t generation = 0;
  std::optional<Kind> kind;
  std::string name;
  std::optional<ObjectStatus> status;
  std::string message;
  std::optional<PacketSample> sample;
  uint64_t missed = 0;  // events dropped before this one because the watcher was slow
};

class EventBus {
 public:
  class Watcher {
   public:
    // The next event; nothing when none came in time or the bus is closed.
    std::optional<Event> Next(std::chrono::milliseconds timeout);
    // Has Next return with nothing, once, though its time is not over. (any thread)
    void Wake();
    // No event comes any more. (any thread)
    bool closed();

   private:
    friend class EventBus;
    std::mutex mutex_;
    std::condition_variable came_;
    std::deque<Event> events_;
    std::set<EventType> types_;
    bool woken_ = false;
    bool closed_ = false;
  };

  // Events of these types from now on, for as long as the watcher is held.
  std::shared_ptr<Watcher> Watch(std::set<EventType> types);
  // Any thread; does not wait for watchers.
  void Publish(const Event& event);
  // Wakes all watchers for good.
  void Close();

 private:
  static constexpr size_t kQueue = 4096;
  std::mutex mutex_;
  std::vector<std::weak_ptr<Watcher>> watchers_;
  bool closed_ = false;
};

}  // namespace headgate
