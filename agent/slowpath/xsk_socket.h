// SPDX-License-Identifier: Apache-2.0
//
// An AF_XDP socket of one queue of one device, over the frames of a worker's pool. Every socket registers the
// pool's memory as a UMEM of its own: so sockets come and go with their devices independently of each other,
// copying and zero-copy ones may share frames, and a frame received by one can be sent by another (ADR 11).
//
// Threads: the worker's alone.
#pragma once

#include <absl/status/statusor.h>
#include <absl/types/span.h>
#include <xdp/xsk.h>

#include <cassert>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "agent/slowpath/frame_pool.h"
#include "agent/slowpath/handler.h"
#include "agent/slowpath/worker_status.h"

namespace headgate {

struct XskOptions {
  uint32_t fill = kReceiveRing;  // frames that the kernel has to receive into, at most
  bool busy_poll = false;        // the driver's NAPI is run by BusyPoll, where kernel and driver know how to
};

// Of a socket, by its file descriptor; none when it is no AF_XDP socket. (any thread)
XskStatistics ReadStatistics(int socket);

class XskSocket {
 public:
  // Descriptors of each ring. The fill ring is always full: what it lacks is what is lost.
  static constexpr uint32_t kRing = kReceiveRing;
  // Frames that a socket can hold at most: those to receive into, those received, those being sent.
  static constexpr uint32_t kFrames = 2 * kRing;

  static absl::StatusOr<std::unique_ptr<XskSocket>> Open(FramePool& pool, uint32_t ifindex, uint32_t queue,
                                                         const XskOptions& options = {});
  // Frames that the kernel has yet are the pool's again: the kernel is done with them once the socket is closed.
  ~XskSocket();
  XskSocket(const XskSocket&) = delete;
  XskSocket& operator=(const XskSocket&) = delete;

  // Whole packets that have come; spans of `segments`, which has to have room for the largest packet. The caller
  // owns a reference to each segment.
  size_t Receive(absl::Span<Packet> packets, absl::Span<Segment> segments);
  // Queues a packet to be sent and takes over the references. False when the ring is full: nothing is taken then.
  bool Transmit(absl::Span<const Segment> segments);
  // Descriptors that wait to be received.
  uint32_t waiting() const { return __atomic_load_n(rx_.producer, __ATOMIC_ACQUIRE) - rx_.cached_cons; }
  // Has the kernel send what was queued and hands back what it has sent.
  void Kick();
  // The same of a copying socket that has as much queued as one call sends: what is sent while it is in the caches
  // costs less, and its frames come back to be used while they are. False: the device takes no more now.
  bool KickFullBatch();
  // Gives the kernel frames to receive into.
  void Fill();

  void BusyPoll();

  int fd() const { return xsk_socket__fd(socket_); }
  bool zero_copy() const { return zero_copy_; }
  bool multi_buffer() const { return multi_buffer_; }
  // Packets queued to be sent that the kernel has not handed back yet, in frames.
  uint32_t in_flight() const { return in_flight_; }
  // References that the kernel has to the frame of that number; see frame_audit.h.
  uint32_t held(uint32_t frame) const { return held_[frame]; }
  // Frames that the kernel has: to receive into, received and not read yet, being sent.
  uint32_t held_frames() const { return held_frames_; }
  XskStatistics Statistics() const { return ReadStatistics(fd()); }

 private:
  XskSocket(FramePool& pool, const XskOptions& options) : pool_(pool), options_(options), held_(pool.total()) {}
  absl::Status BindBest(const char* device, uint32_t queue);
  absl::Status Bind(const char* device, uint32_t queue, uint16_t flags);
  void PreferBusyPoll();
  void Close();
  void Complete();
  // Descriptors that the kernel has not looked at yet.
  uint32_t unsent() const { return tx_.cached_prod - __atomic_load_n(tx_.consumer, __ATOMIC_RELAXED); }
  void Hold(uint64_t address) { held_frames_ += held_[address / FramePool::kFrameSize]++ == 0 ? 1 : 0; }
  void LetGo(uint64_t address) {
    assert(held_[address / FramePool::kFrameSize] != 0);
    held_frames_ -= --held_[address / FramePool::kFrameSize] == 0 ? 1 : 0;
  }

  FramePool& pool_;
  const XskOptions options_;
  std::vector<uint16_t> held_;  // references that the kernel has, by frame
  xsk_umem* umem_ = nullptr;
  xsk_socket* socket_ = nullptr;
  xsk_ring_prod fill_{}, tx_{};
  xsk_ring_cons completion_{}, rx_{};
  uint32_t in_flight_ = 0;
  uint32_t held_frames_ = 0;
  bool zero_copy_ = false;
  bool multi_buffer_ = false;
  bool busy_poll_ = false;  // and it is possible
};

}  // namespace headgate
