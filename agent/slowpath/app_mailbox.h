// SPDX-License-Identifier: Apache-2.0
//
// Where a worker's handler finds the channel of the process that has its target at the moment. Looking whether
// there is another one takes no lock.
//
// Threads: any.
#pragma once

#include <sys/eventfd.h>

#include <atomic>
#include <memory>
#include <mutex>

#include "agent/base/fd.h"
#include "agent/slowpath/app_channel.h"

namespace headgate {

class AppMailbox {
 public:
  AppMailbox() : wake_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}

  // Null: no process has the target. The former channel lives until the handler has looked.
  void Put(std::shared_ptr<AppChannel> channel) {
    {
      const std::lock_guard lock(mutex_);
      channel_ = std::move(channel);
      version_.fetch_add(1, std::memory_order_release);
    }
    const uint64_t one = 1;
    // Cannot fail: the counter is far from full.
    static_cast<void>(write(wake_.get(), &one, sizeof(one)) == sizeof(one));
  }
  // The handler has taken what was put last.
  bool Taken() const { return taken_.load(std::memory_order_acquire) == version_.load(std::memory_order_acquire); }

  // For the handler. `version`: that it knows, or 0.
  bool IsNew(uint32_t version) const { return version_.load(std::memory_order_acquire) != version; }
  std::shared_ptr<AppChannel> Take(uint32_t& version) {
    uint64_t count = 0;
    static_cast<void>(read(wake_.get(), &count, sizeof(count)) == sizeof(count));
    const std::lock_guard lock(mutex_);
    version = version_.load(std::memory_order_relaxed);
    taken_.store(version, std::memory_order_release);
    return channel_;
  }
  // Readable when there may be another channel.
  int fd() const { return wake_.get(); }

 private:
  const Fd wake_;
  std::mutex mutex_;  // guards channel_
  std::shared_ptr<AppChannel> channel_;
  std::atomic<uint32_t> version_ = 1, taken_ = 0;
};

}  // namespace headgate
