// SPDX-License-Identifier: Apache-2.0
#include "agent/control/events.h"

namespace headgate {

std::optional<Event> EventBus::Watcher::Next(std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  came_.wait_for(lock, timeout, [this] { return !events_.empty() || woken_ || closed_; });
  woken_ = false;
  if (events_.empty()) return std::nullopt;
  Event event = std::move(events_.front());
  events_.pop_front();
  return event;
}

bool EventBus::Watcher::closed() {
  const std::lock_guard lock(mutex_);
  return closed_;
}

void EventBus::Watcher::Wake() {
  {
    const std::lock_guard lock(mutex_);
    woken_ = true;
  }
  came_.notify_one();
}

std::shared_ptr<EventBus::Watcher> EventBus::Watch(std::set<EventType> types) {
  auto watcher = std::make_shared<Watcher>();
  watcher->types_ = std::move(types);
  const std::lock_guard lock(mutex_);
  watcher->closed_ = closed_;
  watchers_.push_back(watcher);
  return watcher;
}

void EventBus::Publish(const Event& event) {
  const std::lock_guard lock(mutex_);
  std::erase_if(watchers_, [&event](const std::weak_ptr<Watcher>& weak) {
    const std::shared_ptr<Watcher> watcher = weak.lock();
    if (!watcher) return true;
    if (!watcher->types_.contains(event.type)) return false;
    const std::lock_guard watcher_lock(watcher->mutex_);
    // Of a full queue the last gives way: the newest, and how many it stands for, is always told.
    uint64_t missed = 0;
    if (watcher->events_.size() >= kQueue) {
      missed = watcher->events_.back().missed + 1;
      watcher->events_.pop_back();
    }
    watcher->events_.push_back(event);
    watcher->events_.back().missed = missed;
    watcher->came_.notify_one();
    return false;
  });
}

void EventBus::Close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  for (const auto& weak : watchers_) {
    if (const std::shared_ptr<Watcher> watcher = weak.lock()) {
      const std::lock_guard watcher_lock(watcher->mutex_);
      watcher->closed_ = true;
      watcher->came_.notify_all();
    }
  }
}

}  // namespace headgate
