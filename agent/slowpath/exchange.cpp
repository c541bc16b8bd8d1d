// SPDX-License-Identifier: Apache-2.0
#include "agent/slowpath/exchange.h"

#include <unistd.h>

#include <algorithm>

namespace headgate {
namespace {

// Shares of rings are told in 256ths.
constexpr uint32_t kWhole = 256;

}  // namespace

void Doorbell::Ring() {
  // Either the sleeper sees what was put into the ring before, or we see that it sleeps.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (!sleeping_.load(std::memory_order_relaxed)) return;
  const uint64_t one = 1;
  // Cannot fail: the counter is far from full.
  static_cast<void>(write(eventfd_, &one, sizeof(one)) == sizeof(one));
}

void Exchange::Add(const Peer& peer) {
  peers_.push_back({{peer}});
  if (places_.size() <= peer.worker) places_.resize(peer.worker + 1);
  places_[peer.worker] = static_cast<uint32_t>(peers_.size());
}

void Exchange::Close(uint32_t worker) {
  if (Known* peer = Find(worker)) peer->closed = true;
}

void Exchange::Remove(uint32_t worker) {
  std::erase_if(peers_, [worker](const Known& peer) { return peer.worker == worker; });
  std::fill(places_.begin(), places_.end(), 0);
  for (uint32_t i = 0; i < peers_.size(); ++i) places_[peers_[i].worker] = i + 1;
}

Exchange::Known* Exchange::Find(uint32_t worker) {
  return worker < places_.size() && places_[worker] != 0 ? &peers_[places_[worker] - 1] : nullptr;
}

bool Exchange::IsAlive(uint32_t worker, uint64_t now) {
  const Known* peer = Find(worker);
  return peer != nullptr && !peer->closed && !peer->bell->Hangs(now);
}

Disposition Exchange::Lend(uint32_t worker, const Packet& packet, const LoanTerms& terms) {
  Known* peer = Find(worker);
  if (peer == nullptr || peer->closed || packet.segments.size() > kBatch) return Disposition::kNoRoom;
  const auto count = static_cast<uint32_t>(packet.segments.size());
  const uint32_t size = peer->to->work.size();
  if (terms.shed_at != 0 && peer->lent * kWhole >= terms.shed_at * size) return Disposition::kShed;
  if (peer->lent + count > size) return Disposition::kNoRoom;
  Parcel parcel{
      .segment = {}, .meta = packet.meta, .length = packet.length, .queue = terms.queue, .errand = terms.errand};
  if (count == 1) {
    parcel.segment = packet.segments[0];
    peer->to->work.Push({&parcel, 1});
  } else {
    for (uint32_t i = 0; i < count; ++i) {
      parcel.segment = packet.segments[i];
      parcel.continues = i + 1 < count;
      parcels_[i] = parcel;
    }
    peer->to->work.Push(absl::MakeSpan(parcels_).first(count));
  }
  peer->lent += count;
  peer->called = true;
  return Disposition::kLent;
}

size_t Exchange::Unpack(size_t parcels) {
  packet_count_ = 0;
  size_t whole = 0;
  for (size_t i = 0, first = 0; i < parcels; ++i) {
    segments_[i] = parcels_[i].segment;
    if (parcels_[i].continues) continue;
    packets_[packet_count_++] = {.meta = parcels_[i].meta,
                                 .segments = absl::MakeSpan(segments_).subspan(first, i + 1 - first),
                                 .length = parcels_[i].length,
                                 .disposition = parcels_[i].disposition};
    whole = first = i + 1;
  }
  return whole;
}

size_t Exchange::TakeBack(Returned returned) {
  size_t count = 0;
  for (Known& peer : peers_) {
    if (peer.lent == 0) continue;
    const size_t parcels = Unpack(peer.to->done.Peek(absl::MakeSpan(parcels_)));
    if (parcels == 0) continue;
    size_t parcel = 0;
    for (const Packet& packet : absl::MakeSpan(packets_).first(packet_count_)) {
      parcel += packet.segments.size();
      const Parcel& last = parcels_[parcel - 1];
      returned(packet, {.queue = last.queue, .errand = last.errand});
    }
    peer.to->done.Release(parcels);
    peer.lent -= static_cast<uint32_t>(parcels);
    count += packet_count_;
  }
  return count;
}

size_t Exchange::Borrow(Deal deal) {
  size_t count = 0;
  for (Known& peer : peers_) count += Borrow(peer, deal);
  return count;
}

size_t Exchange::Borrow(Known& peer, Deal deal) {
  const size_t parcels = Unpack(peer.from->work.Peek(absl::MakeSpan(parcels_)));
  if (parcels == 0) return 0;
  // Runs of one errand; handlers find the runs of one target.
  absl::Span<Packet> packets = absl::MakeSpan(packets_).first(packet_count_);
  for (Packet& packet : packets) packet.borrowed = true;
  for (size_t first = 0, parcel = 0; first < packets.size();) {
    const Errand errand = parcels_[parcel].errand;
    size_t end = first;
    while (end < packets.size() && parcels_[parcel].errand == errand) parcel += packets[end++].segments.size();
    deal(packets.subspan(first, end - first), errand);
    first = end;
  }
  size_t parcel = 0;
  for (const Packet& packet : packets) {
    for (size_t i = 0; i < packet.segments.size(); ++i, ++parcel) {
      parcels_[parcel].disposition = packet.disposition;
      parcels_[parcel].segment = packet.segments[i];
      parcels_[parcel].length = packet.length;
    }
  }
  peer.from->work.Release(parcels);
  // Always has room: its owner lends no more than that.
  peer.from->done.Push(absl::MakeSpan(parcels_).first(parcels));
  peer.called = true;
  return packet_count_;
}

void Exchange::RingBells() {
  for (Known& peer : peers_) {
    if (!peer.called) continue;
    peer.called = false;
    peer.bell->Ring();
  }
}

bool Exchange::HasMail() const {
  return std::any_of(peers_.begin(), peers_.end(), [](const Known& peer) {
    return !peer.from->work.empty() || (peer.lent != 0 && !peer.to->done.empty());
  });
}

uint32_t Exchange::lent() const {
  uint32_t sum = 0;
  for (const Known& peer : peers_) sum += peer.lent;
  return sum;
}

uint32_t Exchange::lent_to(uint32_t worker) {
  const Known* peer = Find(worker);
  return peer == nullptr ? 0 : peer->lent;
}

}  // namespace headgate
