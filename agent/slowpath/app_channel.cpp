// SPDX-License-Identifier: Apache-2.0
#include "agent/slowpath/app_channel.h"

#include <linux/if_ether.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "app/headgate_app.h"

namespace headgate {
namespace {

// A process that rings for nothing makes us come round so many times before we empty its bell.
constexpr uint32_t kIdleLooks = 32;
constexpr size_t kSegments = 16;
constexpr uint32_t kNoPort = 0;
// What the library's users are told, and what the data path says.
static_assert(HGA_KIND_IPV4 == HG_KIND_IPV4 && HGA_KIND_IPV6 == HG_KIND_IPV6 &&
              HGA_KIND_FRAGMENT == HG_KIND_FRAGMENT && HGA_KIND_LATER == HG_KIND_LATER &&
              HGA_KIND_PORTS == HG_KIND_PORTS && HGA_KIND_ICMP == HG_KIND_ICMP);

using Words = std::array<uint64_t, sizeof(hga_record) / sizeof(uint64_t)>;

}  // namespace

AppMemory::~AppMemory() { munmap(memory_, bytes_); }

AppChannel::AppChannel(std::shared_ptr<const AppMemory> memory, uint32_t index, uint32_t ring_bytes, Fd bell)
    : memory_(std::move(memory)),
      shared_(reinterpret_cast<hga_channel_memory*>(memory_->at(hga_channel_offset(index, ring_bytes)))),
      in_(reinterpret_cast<uint8_t*>(shared_ + 1)),
      out_(in_ + ring_bytes),
      ring_bytes_(ring_bytes),
      bell_(std::move(bell)) {}

bool AppChannel::Break(const char* why) {
  broken_.store(why, std::memory_order_release);
  return false;
}

bool AppChannel::HasRoom(uint32_t bytes) {
  if (ring_bytes_ - (in_head_ - in_tail_) >= bytes) return true;
  const uint32_t tail = std::atomic_ref(shared_->in.tail).load(std::memory_order_acquire);
  if (tail - in_tail_ > in_head_ - in_tail_) return Break("it has read what was not there");
  in_tail_ = tail;
  return ring_bytes_ - (in_head_ - in_tail_) >= bytes;
}

void AppChannel::WriteHeader(uint32_t position, const hga_record& record) {
  std::memcpy(in_ + position, &record, sizeof(record));
}

bool AppChannel::Put(const Packet& packet) {
  if (packet.length > HGA_MAX_FRAME || broken() != nullptr) return false;
  const uint32_t bytes = hga_record_bytes(packet.length);
  uint32_t position = in_head_ & (ring_bytes_ - 1);
  const uint32_t skipped = position + bytes > ring_bytes_ ? ring_bytes_ - position : 0;
  if (!HasRoom(skipped + bytes)) return false;
  if (skipped != 0) {
    WriteHeader(position,
                {.length = skipped - static_cast<uint32_t>(sizeof(hga_record)), .flags = HGA_RECORD_SKIP});
    position = 0;
  }
  const hg_steer_meta& meta = packet.meta;
  WriteHeader(position, {.length = packet.length,
                         .port = meta.port,
                         .rule = meta.rule_id,
                         .kind = meta.kind,
                         .l3 = meta.l3,
                         .l4 = meta.l4});
  uint8_t* to = in_ + position + sizeof(hga_record);
  for (const Segment& segment : packet.segments) {
    std::memcpy(to, segment.data, segment.length);
    to += segment.length;
  }
  in_head_ += skipped + bytes;
  ++put_;
  return true;
}

void AppChannel::Publish() {
  if (in_head_ == in_published_) return;
  in_published_ = in_head_;
  delivered_.store(put_, std::memory_order_relaxed);
  std::atomic_ref(shared_->in.head).store(in_head_, std::memory_order_release);
  // Either the process sees that, or we see that it sleeps.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  std::atomic_ref sleeping(shared_->in.sleeping);
  if (sleeping.load(std::memory_order_relaxed) == 0 || sleeping.exchange(0) == 0) return;
  const uint8_t byte = 0;
  // Where that finds no room, the process has been woken before.
  static_cast<void>(send(bell_.get(), &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL));
}

// True when somebody had rung.
bool AppChannel::Silence() {
  uint8_t byte = 0;
  bool rung = false;
  // The queue of a datagram socket is short; what a process adds meanwhile, it may.
  for (int i = 0; i < 16 && recv(bell_.get(), &byte, 1, MSG_DONTWAIT) >= 0; ++i) rung = true;
  idle_looks_ = 0;
  return rung;
}

bool AppChannel::Look(uint32_t& head) {
  const std::atomic_ref shared_head(shared_->out.head);
  std::atomic_ref sleeping(shared_->out.sleeping);
  head = shared_head.load(std::memory_order_acquire);
  if (head == out_tail_ && !armed_) {
    if (rung_) rung_ = !Silence();
    armed_ = true;
    sleeping.store(1, std::memory_order_seq_cst);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    head = shared_head.load(std::memory_order_acquire);
  }
  if (head == out_tail_) {
    if (++idle_looks_ >= kIdleLooks) Silence();
    return false;
  }
  if (armed_) {
    armed_ = false;
    if (sleeping.exchange(0) == 0) rung_ = !Silence();
  }
  return true;
}

size_t AppChannel::Send(Output& output, size_t most) {
  uint32_t head = 0;
  if (broken() != nullptr || !Look(head)) return 0;
  if (head - out_tail_ > ring_bytes_ || head % HGA_ALIGN != 0) {
    Break("it has written more than there is room for");
    return 0;
  }
  size_t sent = 0;
  while (sent < most && out_tail_ != head) {
    const Frame frame = SendOne(output, head - out_tail_);
    if (frame == Frame::kLater || frame == Frame::kBroken) break;
    if (frame == Frame::kSent) ++sent;
  }
  std::atomic_ref(shared_->out.tail).store(out_tail_, std::memory_order_release);
  sent_.store(sent_.load(std::memory_order_relaxed) + sent, std::memory_order_relaxed);
  return sent;
}

// Word by word, so that what is checked is what is used.
hga_record AppChannel::ReadHeader(uint32_t position) const {
  Words words;
  auto* shared = reinterpret_cast<uint64_t*>(out_ + position);
  for (uint64_t& word : words) word = std::atomic_ref(*shared++).load(std::memory_order_relaxed);
  hga_record record;
  std::memcpy(&record, words.data(), sizeof(record));
  return record;
}

AppChannel::Frame AppChannel::SendOne(Output& output, uint32_t available) {
  const uint32_t position = out_tail_ & (ring_bytes_ - 1);
  const uint32_t left = ring_bytes_ - position;
  const hga_record record = ReadHeader(position);
  if ((record.flags & HGA_RECORD_SKIP) != 0) {
    if (left > available || record.length != left - sizeof(hga_record)) {
      Break("it skips what is not the rest of the ring");
      return Frame::kBroken;
    }
    out_tail_ += left;
    return Frame::kSkipped;
  }
  if (record.length < ETH_HLEN || record.length > HGA_MAX_FRAME) {
    Break("it sends a frame of a length that is none");
    return Frame::kBroken;
  }
  const uint32_t bytes = hga_record_bytes(record.length);
  if (bytes > available || bytes > left) {
    Break("it sends a frame that is not there");
    return Frame::kBroken;
  }
  if (record.port == 0 || record.port >= HG_PORTS) {
    Break("it sends by an interface that cannot be");
    return Frame::kBroken;
  }
  if (!Transmit(output, record, out_ + position + sizeof(hga_record))) return Frame::kLater;
  out_tail_ += bytes;
  return Frame::kSent;
}

bool AppChannel::Transmit(Output& output, const hga_record& record, const uint8_t* from) {
  std::array<Segment, kSegments> segments;
  size_t count = 0;
  uint32_t rest = record.length;
  while (rest != 0 && count < segments.size() && output.Take(segments[count])) {
    Segment& segment = segments[count++];
    segment.length = std::min(segment.length, rest);
    std::memcpy(segment.data, from, segment.length);
    from += segment.length;
    rest -= segment.length;
  }
  if (count == 0) return false;
  // What there were too few frames for counts as not sent.
  output.Transmit(rest == 0 ? record.port : kNoPort, absl::MakeSpan(segments).first(count));
  return true;
}

uint64_t AppChannel::unread() const {
  const uint64_t put = delivered();
  const uint64_t received = std::atomic_ref(shared_->received).load(std::memory_order_relaxed);
  return received <= put ? put - received : 0;
}

}  // namespace headgate
