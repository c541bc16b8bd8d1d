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

// Of hg_queue.waiting.
constexpr uint32_t kWhole = 256;
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

size_t Worker::ServeQueue(Queue& queue) {
  const size_t count = queue.socket->Receive(absl::MakeSpan(packets_), absl::MakeSpan(segments_));
  const uint32_t waiting = queue.socket->waiting();
  std::atomic_ref(queue.gauge.shown->waiting)
      .store(waiting * kWhole / XskSocket::kRing, std::memory_order_relaxed);
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

size_t Worker::Distribute(const Queue& queue, Target& target, SpreadMode mode, absl::Span<Packet> packets) {
  const TargetSpread& spread = target.spread;
  const LoanTerms terms{.queue = static_cast<uint16_t>(queue.queue), .shed_at = spread.shed_at};
  size_t here = 0;
  for (Packet& packet : packets) {
    uint32_t place = 0;
    if (mode == SpreadMode::kRoundRobin) {
      place = turn_++ % spread.count;
    } else if (mode != SpreadMode::kHome) {
      place = SpreadHash(packet, mode) % spread.count;
    }
    const uint32_t worker = (spread.first + place) % spread.total;
    if (worker == options_.index) {
      std::swap(packets[here++], packet);
    } else {
      packet.disposition = exchange_.Lend(worker, packet, terms);
    }
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
      handler->Handle(same);
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
      if (queue != nullptr && queue->socket->Transmit(packet)) {
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
  Release(packet);
}

void Worker::Release(const Packet& packet) {
  for (const Segment& segment : packet.segments) pool_->Release(segment.address);
}

Worker::Queue* Worker::Find(uint32_t port, uint32_t queue) {
  for (Queue& known : queues_) {
    if (known.port == port && known.queue == queue) return &known;
  }
  return nullptr;
}

Worker::Queue* Worker::FindPort(uint32_t port) {
  for (Queue& known : queues_) {
    if (known.port == port) return &known;
  }
  return nullptr;
}

size_t Worker::TakeBack() {
  return exchange_.TakeBack([this](const Packet& packet, const LoanTerms& terms) {
    Settle(packet.disposition == Disposition::kReply ? Find(packet.meta.port, terms.queue) : nullptr, packet);
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
  Packet copy{.segments = absl::MakeSpan(copies).first(count), .length = packet.length};
  if (count == packet.segments.size() && queue->socket->Transmit(copy)) return Disposition::kTransmitted;
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

void Worker::Transmit(uint32_t port, absl::Span<const Segment> segments) {
  ++counters_.originated;
  std::array<Segment, kBatch> own;
  const size_t count = std::min(segments.size(), own.size());
  std::copy_n(segments.begin(), count, own.begin());
  Packet packet{.segments = absl::MakeSpan(own).first(count), .disposition = Disposition::kReply};
  packet.meta.port = static_cast<uint16_t>(port);
  for (const Segment& segment : packet.segments) packet.length += segment.length;
  Queue* queue = FindPort(port);
  if (queue == nullptr && port < senders_.size() && senders_[port] != kNobody) {
    packet.disposition = exchange_.Lend(senders_[port], packet, {.errand = Errand::kTransmit});
  }
  Settle(queue, packet);
}

void Worker::Drop(absl::Span<const Segment> segments) {
  ++counters_.originated;
  ++counters_.dropped_handler;
  for (const Segment& segment : segments) pool_->Release(segment.address);
}

void Worker::Kick() {
  const auto queues = static_cast<uint32_t>(std::max<size_t>(1, queues_.size()));
  for (Queue& queue : queues_) {
    queue.socket->Kick();
    queue.socket->Fill(pool_->total() / 2 / queues);
  }
}

}  // namespace headgate
