// SPDX-License-Identifier: Apache-2.0
//
// headgated's end of one channel to an application: a worker puts packets into its memory and sends the frames
// that it finds there. Nothing that the process may have written is believed: numbers are read once and checked,
// and what is wrong breaks the channel for good. The process can neither see other memory nor have us read or
// write elsewhere, wait, or fail.
//
// Threads: the worker's alone, but for what says any.
#pragma once

#include <absl/types/span.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "agent/base/fd.h"
#include "agent/slowpath/handler.h"
#include "app/wire.h"

namespace headgate {

// A session's memory, mapped. Any thread.
class AppMemory {
 public:
  explicit AppMemory(void* memory, size_t bytes) : memory_(static_cast<uint8_t*>(memory)), bytes_(bytes) {}
  ~AppMemory();
  AppMemory(const AppMemory&) = delete;
  AppMemory& operator=(const AppMemory&) = delete;
  uint8_t* at(uint64_t offset) const { return memory_ + offset; }

 private:
  uint8_t* const memory_;
  const size_t bytes_;
};

class AppChannel {
 public:
  // `bell`: our end of the channel's socket.
  AppChannel(std::shared_ptr<const AppMemory> memory, uint32_t index, uint32_t ring_bytes, Fd bell);

  // Copies the packet. False: no room, too large, or broken.
  bool Put(const Packet& packet);
  // Lets the process see what was put, and wakes it when it sleeps.
  void Publish();
  // Sends what the process has put, up to `most` frames; how many. When there is nothing, bell() becomes readable
  // with the next.
  size_t Send(Output& output, size_t most);

  int bell() const { return bell_.get(); }
  // (any thread)
  // Why it is broken; null: it is not.
  const char* broken() const { return broken_.load(std::memory_order_acquire); }
  uint64_t beat() const { return std::atomic_ref(shared_->beat).load(std::memory_order_relaxed); }
  uint64_t delivered() const { return delivered_.load(std::memory_order_relaxed); }
  uint64_t sent() const { return sent_.load(std::memory_order_relaxed); }
  // Of those delivered, how many the process has not taken, by what it says.
  uint64_t unread() const;

 private:
  enum class Frame { kSent, kSkipped, kLater, kBroken };
  bool HasRoom(uint32_t bytes);
  void WriteHeader(uint32_t position, const hga_record& record);
  hga_record ReadHeader(uint32_t position) const;
  Frame SendOne(Output& output, uint32_t available);
  // False: there is no frame to send it with yet.
  static bool Transmit(Output& output, const hga_record& record, const uint8_t* from);
  // Whether `out` has something; arms the bell when it has not.
  bool Look(uint32_t& head);
  bool Break(const char* why);
  bool Silence();

  const std::shared_ptr<const AppMemory> memory_;
  hga_channel_memory* const shared_;
  uint8_t* const in_;  // bytes of the rings
  uint8_t* const out_;
  const uint32_t ring_bytes_;
  const Fd bell_;

  uint32_t in_head_ = 0, in_tail_ = 0;  // in_tail_: as last seen
  uint32_t in_published_ = 0;
  uint32_t out_tail_ = 0;
  bool armed_ = false;       // the process is to ring with the next frame
  bool rung_ = false;        // it has, or is about to
  uint32_t idle_looks_ = 0;  // since the bell was last silenced
  uint64_t put_ = 0;
  std::atomic<uint64_t> delivered_ = 0, sent_ = 0;  // frames
  std::atomic<const char*> broken_ = nullptr;
};

}  // namespace headgate
