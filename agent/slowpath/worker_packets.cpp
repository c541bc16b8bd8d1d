// SPDX-License-Identifier: Apache-2.0
//
// A worker's steady state: from a packet's arrival to what became of it.
#include <algorithm>
#include <atomic>
#include <cstring>

#include "agent/slowpath/frame_audit.h"
#include "agent/slowpath/worker.h"

namespace headgate {
namespace {

// Busy rounds in which a handler that had nothing to send is not asked again: asking may take a system call.
constexpr uint32_t kRest = 4;

}  // namespace

size_t Worker::Serve() {
  size_t count = TakeBack();
  for (Queue& queue : queues_) count += ServeQueue(queue);
  count += Borrow();
  count += Originate();
  exchange_.RingBells();
  Kick();
  AuditFrames(*pool_, queues_, exchange_.lent());
  return count;
}

void Worker::ShowWaiting(Queue& queue) {
  // First, so that a packet that comes in between is counted twice rather than not at all.
  const uint64_t given = std::atomic_ref(queue.gauge.shown->given).load(std::memory_order_acquire);
  const uint64_t looked = given << 32 | queue.socket->waiting();
  if (looked == queue.looked) return;
  std::atomic_ref(queue.gauge.shown->looked).store(looked, std::memory_order_relaxed);
  queue.looked = looked;
}

size_t Worker::ServeQueue(Queue& queue) {
  const size_t count = queue.socket->Receive(absl::MakeSpan(packets_), absl::MakeSpan(segments_));
  ShowWaiting(queue);
  if (count == 0) return 0;
  const absl::Span<Packet> packets = absl::MakeSpan(packets_).first(count);
  Handle(queue, packets);
  uint64_t bytes = 0;
  for (const Packet& packet : packets) {
    bytes += packet.length;
    Settle(&queue, packet);
  }
  queue.received += count;
  queue.gauge.received->store(queue.received, std::memory_order_relaxed);
  counters_.received += count;
  counters_.received_bytes += bytes;
  return count;
}

void Worker::Handle(Queue& queue, absl::Span<Packet> packets) {
  while (!packets.empty()) {
    const uint16_t id = packets[0].meta.target;
    size_t count = 1;
    while (count < packets.size() && packets[count].meta.target == id) ++count;
    absl::Span<Packet> same = packets.first(count);
    if (id < kMaxTargets) {
      Target& target = targets_[id];
      SpreadMode mode = target.spread.mode;
      if (mode == SpreadMode::kAuto) mode = queue.in_software ? SpreadMode::kFlowSymmetric : SpreadMode::kQueue;
      if (mode != SpreadMode::kQueue) same = same.first(Distribute(queue, target, mode, same));
    }
    HandleHere(same);
    packets.remove_prefix(count);
  }
}

size_t Worker::Distribute(Queue& queue, Target& target, SpreadMode mode, absl::Span<Packet> packets) {
  const TargetSpread& spread = target.spread;
  const LoanTerms terms{.queue = static_cast<uint16_t>(queue.queue), .shed_at = spread.shed_at};
  size_t here = 0;
  for (Packet& packet : packets) {
    uint32_t place = 0;
    if (mode == SpreadMode::kRoundRobin) {
      place = target.turn++ % spread.count;
    } else if (mode != SpreadMode::kHome) {
      place = SpreadHash(packet, mode) % spread.count;
    }
    const uint32_t worker = (spread.first + place) % spread.total;
    // A worker that hangs would keep it.
    const bool instead = mode != SpreadMode::kHome && !exchange_.IsAlive(worker, now_);
    if (worker == options_.index || instead) {
      std::swap(packets[here++], packet);
      continue;
    }
    packet.disposition = exchange_.Lend(worker, packet, terms);
    if (packet.disposition == Disposition::kLent) ++queue.lent;
  }
  return here;
}

// Of one target each run.
void Worker::HandleHere(absl::Span<Packet> packets) {
  while (!packets.empty()) {
    const uint16_t target = packets[0].meta.target;
    size_t count = 1;
    while (count < packets.size() && packets[count].meta.target == target) ++count;
    const absl::Span<Packet> same = packets.first(count);
    Handler* handler = target < kMaxTargets ? targets_[target].handler.get() : nullptr;
    if (handler != nullptr) {
      handler->Handle(same, *this);
      counters_.processed += count;
    } else {
      for (Packet& packet : same) packet.disposition = Disposition::kUnhandled;
    }
    packets.remove_prefix(count);
  }
}

void Worker::Settle(Queue* queue, const Packet& packet) {
  switch (packet.disposition) {
    case Disposition::kLent:
      return;
    case Disposition::kReply:
      if (queue != nullptr && Send(*queue, packet.segments)) {
        ++counters_.transmitted;
        return;
      }
      ++counters_.dropped_tx_full;
      break;
    case Disposition::kConsumed:
      ++counters_.consumed;
      break;
    case Disposition::kDropped:
      ++counters_.dropped_handler;
      break;
    case Disposition::kUnhandled:
      ++counters_.dropped_no_handler;
      break;
    case Disposition::kShed:
      ++counters_.dropped_overload;
      break;
    case Disposition::kNoRoom:
      ++counters_.dropped_handover;
      break;
    case Disposition::kTransmitted:
      ++counters_.transmitted;
      break;
    case Disposition::kTxFull:
      ++counters_.dropped_tx_full;
      break;
  }
  Release(packet.segments);
}

void Worker::Release(absl::Span<const Segment> segments) {
  for (const Segment& segment : segments) pool_->Release(segment.address);
}

bool Worker::Send(Queue& queue, absl::Span<const Segment> segments) {
  if (queue.socket->Transmit(segments)) {
    if (!queue.waits) queue.waits = !queue.socket->KickFullBatch();
    return true;
  }
  // More than the ring holds has come at once, as when many legs leave by one device. One that is stuck must not
  // delay others by more than that.
  if (queue.stuck) return false;
  queue.socket->Kick();
  queue.stuck = !queue.socket->Transmit(segments);
  return !queue.stuck;
}

Worker::Queue* Worker::Find(uint32_t port, uint32_t queue) {
  for (Queue& known : queues_) {
    if (known.port == port && known.queue == queue) return &known;
  }
  return nullptr;
}

size_t Worker::TakeBack() {
  return exchange_.TakeBack([this](const Packet& packet, const LoanTerms& terms) {
    Queue* queue = terms.errand == Errand::kHandle ? Find(packet.meta.port, terms.queue) : nullptr;
    if (queue != nullptr && queue->lent != 0) --queue->lent;
    Settle(queue, packet);
  });
}

size_t Worker::Borrow() {
  return exchange_.Borrow([this](absl::Span<Packet> packets, Errand errand) {
    if (errand == Errand::kHandle) return HandleHere(packets);
    for (Packet& packet : packets) packet.disposition = TransmitCopy(packet);
  });
}

Disposition Worker::TransmitCopy(const Packet& packet) {
  Queue* queue = FindPort(packet.meta.port);
  std::array<Segment, kBatch> copies;
  size_t count = 0;
  if (queue != nullptr && packet.segments.size() <= copies.size()) {
    while (count < packet.segments.size() && Take(copies[count])) {
      const Segment& from = packet.segments[count];
      copies[count].length = from.length;
      std::memcpy(copies[count++].data, from.data, from.length);
    }
  }
  const auto copy = absl::MakeConstSpan(copies).first(count);
  if (count != 0 && count == packet.segments.size() && Send(*queue, copy)) return Disposition::kTransmitted;
  Release(copy);
  return Disposition::kTxFull;
}

size_t Worker::Originate() {
  size_t count = 0;
  for (Originator& originator : originators_) {
    if (originator.rest != 0) {
      --originator.rest;
      continue;
    }
    const size_t sent = originator.handler->Originate(*this);
    if (sent == 0) originator.rest = kRest;
    count += sent;
  }
  return count;
}

bool Worker::Take(Segment& segment) {
  if (!pool_->Take(segment.address)) return false;
  segment.data = pool_->Data(segment.address);
  segment.length = FramePool::kFrameSize;
  return true;
}

bool Worker::Transmit(uint32_t port, absl::Span<const Segment> segments) {
  ++counters_.originated;
  if (Queue* queue = FindPort(port); queue != nullptr) {
    if (Send(*queue, segments)) {
      ++counters_.transmitted;
      return true;
    }
  } else if (port < senders_.size() && senders_[port] != kNobody && segments.size() <= kBatch) {
    return TransmitElsewhere(port, segments);
  }
  ++counters_.dropped_tx_full;
  Release(segments);
  return false;
}

bool Worker::TransmitElsewhere(uint32_t port, absl::Span<const Segment> segments) {
  std::array<Segment, kBatch> own;
  std::copy(segments.begin(), segments.end(), own.begin());
  Packet packet{.segments = absl::MakeSpan(own).first(segments.size())};
  packet.meta.port = static_cast<uint16_t>(port);
  for (const Segment& segment : segments) packet.length += segment.length;
  packet.disposition = exchange_.Lend(senders_[port], packet, {.errand = Errand::kTransmit});
  Settle(nullptr, packet);
  return packet.disposition == Disposition::kLent;
}

void Worker::Drop(absl::Span<const Segment> segments) {
  ++counters_.originated;
  ++counters_.dropped_handler;
  Release(segments);
}

bool Worker::Sends(uint32_t port) const {
  return port < HG_PORTS && (by_port_[port] != 0 || (port < senders_.size() && senders_[port] != kNobody));
}

bool Worker::Gathers(uint32_t port) const {
  const uint16_t place = port < HG_PORTS ? by_port_[port] : uint16_t{0};
  return place != 0 && queues_[place - 1].socket->zero_copy() && queues_[place - 1].socket->multi_buffer();
}

void Worker::Kick() {
  for (Queue& queue : queues_) {
    queue.socket->Kick();
    queue.socket->Fill();
    queue.stuck = queue.waits = false;
  }
}

}  // namespace headgate
