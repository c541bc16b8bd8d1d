// SPDX-License-Identifier: Apache-2.0
//
// What one worker does with the others: it lends them packets to deal with or to send, and gets them back with
// what became of them, so that a frame never leaves its pool and is counted by the worker that received it.
// Bounded lock-free rings between each two; a worker that sleeps is woken.
//
// Threads: the worker's alone, but for Doorbell::Ring.
#pragma once

#include <absl/functional/function_ref.h>
#include <absl/types/span.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "agent/slowpath/handler.h"
#include "agent/slowpath/spsc_ring.h"

namespace headgate {

// Wakes a worker that sleeps in poll(), and costs nothing while it does not.
class Doorbell {
 public:
  explicit Doorbell(int eventfd) : eventfd_(eventfd) {}
  void Ring();
  // Before the worker looks whether there is something to do a last time; and after it slept.
  void SetSleeping(bool sleeping) {
    sleeping_.store(sleeping, std::memory_order_release);
    // The look must not come before the store.
    if (sleeping) std::atomic_thread_fence(std::memory_order_seq_cst);
  }
  // When the worker came round last, as hg_queue's beat.
  void Beat(uint64_t now) { beat_.store(now, std::memory_order_relaxed); }
  bool Hangs(uint64_t now) const {
    return static_cast<int64_t>(now - beat_.load(std::memory_order_relaxed)) > static_cast<int64_t>(HG_BEAT_NS);
  }

 private:
  const int eventfd_;
  std::atomic<uint64_t> beat_ = 0;
  std::atomic<bool> sleeping_ = false;
};

enum class Errand : uint8_t { kHandle, kTransmit };

// A segment of a lent packet.
struct Parcel {
  Segment segment;
  hg_steer_meta meta;   // to be transmitted: port is the egress interface's id
  uint32_t length = 0;  // of the packet
  uint16_t queue = 0;   // that it came by
  Errand errand = Errand::kHandle;
  Disposition disposition = Disposition::kLent;
  bool continues = false;  // the packet has more segments
};

// From one worker to another, and back.
struct Link {
  explicit Link(uint32_t parcels) : work(parcels), done(parcels) {}
  SpscRing<Parcel> work, done;
};

// Of a packet, besides itself.
struct LoanTerms {
  uint16_t queue = 0;
  Errand errand = Errand::kHandle;
  uint8_t shed_at = 0;  // how much of the ring may be in use, in 256ths; 0: all of it
};

class Exchange {
 public:
  struct Peer {
    uint32_t worker = 0;
    std::shared_ptr<Link> to, from;
    Doorbell* bell = nullptr;  // of the worker
  };

  void Add(const Peer& peer);
  // Nothing more is lent to it; what was lent comes back yet.
  void Close(uint32_t worker);
  // Nothing may be lent to it or by it any more.
  void Remove(uint32_t worker);

  // kLent, kShed or kNoRoom; the caller keeps its segments until the packet is back.
  Disposition Lend(uint32_t worker, const Packet& packet, const LoanTerms& terms);
  using Returned = absl::FunctionRef<void(const Packet& packet, const LoanTerms& terms)>;
  // Packets that are back, with what became of them. How many.
  size_t TakeBack(Returned returned);
  // Packets of others: `deal` sets their dispositions. How many.
  using Deal = absl::FunctionRef<void(absl::Span<Packet> packets, Errand errand)>;
  size_t Borrow(Deal deal);
  // Wakes whom something was put into a ring for since the last call.
  void RingBells();
  // The worker is there, is to stay and comes round.
  bool IsAlive(uint32_t worker, uint64_t now);
  // Something waits in a ring to this worker.
  bool HasMail() const;
  // Segments that others have, all of them or of one.
  uint32_t lent() const;
  uint32_t lent_to(uint32_t worker);

 private:
  static constexpr size_t kBatch = 64;
  struct Known : Peer {
    uint32_t lent = 0;  // never more than a ring has room for, so that returning cannot fail
    bool called = false;
    bool closed = false;
  };
  size_t Borrow(Known& peer, Deal deal);
  Known* Find(uint32_t worker);
  // Makes packets of parcels that are whole; how many parcels that are.
  size_t Unpack(size_t parcels);

  std::vector<Known> peers_;
  std::vector<uint32_t> places_;  // by worker: where it is among peers_, from 1; 0: nowhere
  std::array<Parcel, kBatch> parcels_;
  std::array<Segment, kBatch> segments_;
  std::array<Packet, kBatch> packets_;
  size_t packet_count_ = 0;
};

}  // namespace headgate
