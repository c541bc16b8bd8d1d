// SPDX-License-Identifier: Apache-2.0
#include "agent/slowpath/xsk_socket.h"

#include <absl/strings/str_cat.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <utility>

#include "agent/base/fd.h"
#include "agent/base/status.h"

namespace headgate {
namespace {

// Of linux/if_xdp.h, kernel 6.6; Debian 12's headers are older.
constexpr uint16_t kUseSg = 1 << 4;            // XDP_USE_SG
constexpr uint32_t kPacketContinues = 1 << 0;  // XDP_PKT_CONTD
// What a copying socket sends at a call (kernel's TX_BATCH_SIZE).
constexpr uint32_t kSendBatch = 32;
// Bytes in flight: the default holds no more than a hundred packets.
constexpr int kSendBuffer = 32 << 20;

// The largest packet of a device, with two VLAN tags.
bool FitsAFrame(const char* device) {
  constexpr int kHeadroom = 256, kEthernet = 22;
  ifreq request{};
  std::snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", device);
  const Fd any(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  return any && ioctl(any.get(), SIOCGIFMTU, &request) == 0 &&
         request.ifr_mtu + kEthernet + kHeadroom <= static_cast<int>(FramePool::kFrameSize);
}

}  // namespace

absl::StatusOr<std::unique_ptr<XskSocket>> XskSocket::Open(FramePool& pool, uint32_t ifindex, uint32_t queue,
                                                           const XskOptions& options) {
  char device[IF_NAMESIZE];
  if (if_indextoname(ifindex, device) == nullptr) return ErrnoStatus("name device ", ifindex);
  std::unique_ptr<XskSocket> socket(new XskSocket(pool, options));
  HG_RETURN_IF_ERROR(socket->BindBest(device, queue));
  // Beyond net.core.wmem_max, which only root may set; where even this is refused, fewer packets are in flight.
  setsockopt(socket->fd(), SOL_SOCKET, SO_SNDBUFFORCE, &kSendBuffer, sizeof(kSendBuffer));
  if (options.busy_poll) socket->PreferBusyPoll();
  xdp_options actual{};
  socklen_t length = sizeof(actual);
  if (getsockopt(socket->fd(), SOL_XDP, XDP_OPTIONS, &actual, &length) == 0) {
    socket->zero_copy_ = (actual.flags & XDP_OPTIONS_ZEROCOPY) != 0;
  }
  socket->Fill();
  return socket;
}

// Left to choose, the kernel copies where a driver knows zero copy but not packets of several frames.
absl::Status XskSocket::BindBest(const char* device, uint32_t queue) {
  const std::pair<uint16_t, bool> tries[] = {{XDP_ZEROCOPY | kUseSg, true},
                                             {XDP_ZEROCOPY, FitsAFrame(device)},
                                             {XDP_COPY | kUseSg, true},
                                             {XDP_COPY, true}};
  absl::Status status;
  for (const auto& [flags, worthwhile] : tries) {
    if (!worthwhile) continue;
    status = Bind(device, queue, XDP_USE_NEED_WAKEUP | flags);
    multi_buffer_ = status.ok() && (flags & kUseSg) != 0;
    // These say that driver or kernel cannot; any other, that it would not do otherwise either.
    if (!absl::IsInvalidArgument(status) && !absl::IsUnimplemented(status)) break;
  }
  return status;
}

absl::Status XskSocket::Bind(const char* device, uint32_t queue, uint16_t flags) {
  Close();
  const xsk_umem_config umem = {.fill_size = kRing,
                                .comp_size = kRing,
                                .frame_size = FramePool::kFrameSize,
                                .frame_headroom = 0,
                                .flags = 0};
  int error = xsk_umem__create(&umem_, pool_.memory(), pool_.bytes(), &fill_, &completion_, &umem);
  if (error != 0) {
    umem_ = nullptr;
    return ErrnoStatusOf(error, "share ", pool_.bytes(), " bytes with the kernel for AF_XDP (ENOBUFS: raise ",
                         "LimitMEMLOCK, or give CAP_IPC_LOCK)");
  }
  xsk_socket_config config{};
  config.rx_size = kRing;
  config.tx_size = kRing;
  config.libxdp_flags = XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD;
  config.bind_flags = flags;
  error = xsk_socket__create(&socket_, device, queue, umem_, &rx_, &tx_, &config);
  if (error == 0) return absl::OkStatus();
  socket_ = nullptr;
  return ErrnoStatusOf(error, "open an AF_XDP socket on ", device, " queue ", queue);
}

void XskSocket::PreferBusyPoll() {
  const int prefer = 1, microseconds = 20, budget = 64;
  busy_poll_ = setsockopt(fd(), SOL_SOCKET, SO_PREFER_BUSY_POLL, &prefer, sizeof(prefer)) == 0 &&
               setsockopt(fd(), SOL_SOCKET, SO_BUSY_POLL, &microseconds, sizeof(microseconds)) == 0 &&
               setsockopt(fd(), SOL_SOCKET, SO_BUSY_POLL_BUDGET, &budget, sizeof(budget)) == 0;
}

void XskSocket::BusyPoll() {
  if (busy_poll_) recvfrom(fd(), nullptr, 0, MSG_DONTWAIT, nullptr, nullptr);
}

void XskSocket::Close() {
  if (socket_ != nullptr) xsk_socket__delete(socket_);
  if (umem_ != nullptr) xsk_umem__delete(umem_);
  socket_ = nullptr;
  umem_ = nullptr;
}

XskSocket::~XskSocket() {
  Close();
  for (uint32_t frame = 0; frame < held_.size(); ++frame) {
    for (; held_[frame] != 0; --held_[frame]) pool_.Release(uint64_t{frame} * FramePool::kFrameSize);
  }
}

size_t XskSocket::Receive(absl::Span<Packet> packets, absl::Span<Segment> segments) {
  uint32_t index = 0;
  const auto wanted = static_cast<uint32_t>(std::min(packets.size(), segments.size()));
  const uint32_t descriptors = xsk_ring_cons__peek(&rx_, wanted, &index);
  size_t count = 0;
  uint32_t used = 0;  // by packets that are whole
  for (uint32_t i = 0, first = 0; i < descriptors; ++i) {
    const xdp_desc& descriptor = *xsk_ring_cons__rx_desc(&rx_, index + i);
    segments[i] = {descriptor.addr, pool_.Data(descriptor.addr), descriptor.len};
    if ((descriptor.options & kPacketContinues) != 0) continue;
    Packet& packet = packets[count++];
    packet.segments = segments.subspan(first, i + 1 - first);
    packet.length = 0;
    for (const Segment& segment : packet.segments) packet.length += segment.length;
    packet.disposition = Disposition::kConsumed;
    std::memcpy(&packet.meta, packet.segments[0].data - sizeof(hg_steer_meta), sizeof(hg_steer_meta));
    used = first = i + 1;
  }
  for (uint32_t i = 0; i < used; ++i) LetGo(segments[i].address);
  // A packet of which not all has come yet is looked at again.
  xsk_ring_cons__cancel(&rx_, descriptors - used);
  xsk_ring_cons__release(&rx_, used);
  return count;
}

bool XskSocket::Transmit(absl::Span<const Segment> segments) {
  uint32_t index = 0;
  const auto count = static_cast<uint32_t>(segments.size());
  if (count > 1 && !multi_buffer_) return false;
  // The completion ring has to have room for all that is in flight, or nothing is sent any more.
  if (in_flight_ + count > kRing || xsk_ring_prod__reserve(&tx_, count, &index) != count) return false;
  for (uint32_t i = 0; i < count; ++i) {
    const Segment& segment = segments[i];
    *xsk_ring_prod__tx_desc(&tx_, index + i) = {
        .addr = segment.address, .len = segment.length, .options = i + 1 < count ? kPacketContinues : 0};
    Hold(segment.address);
  }
  xsk_ring_prod__submit(&tx_, count);
  in_flight_ += count;
  return true;
}

void XskSocket::Complete() {
  uint32_t index = 0;
  const uint32_t count = xsk_ring_cons__peek(&completion_, kRing, &index);
  for (uint32_t i = 0; i < count; ++i) {
    const uint64_t address = *xsk_ring_cons__comp_addr(&completion_, index + i);
    LetGo(address);
    pool_.Release(address);
  }
  xsk_ring_cons__release(&completion_, count);
  in_flight_ -= count;
}

bool XskSocket::KickFullBatch() {
  const uint32_t before = unsent();
  if (zero_copy_ || before < kSendBatch) return true;
  sendto(fd(), nullptr, 0, MSG_DONTWAIT, nullptr, 0);
  Complete();
  return unsent() < before;
}

void XskSocket::Kick() {
  if (in_flight_ != 0 && xsk_ring_prod__needs_wakeup(&tx_) != 0) {
    // A copying socket sends a part at each call, and EAGAIN says that there is more.
    for (uint32_t sent = 0; sent < in_flight_; sent += kSendBatch) {
      if (sendto(fd(), nullptr, 0, MSG_DONTWAIT, nullptr, 0) >= 0 || errno != EAGAIN) break;
    }
  }
  Complete();
}

void XskSocket::Fill() {
  uint32_t index = 0;
  const uint32_t given = kRing - xsk_prod_nb_free(&fill_, kRing);
  const uint32_t count = std::min(options_.fill - std::min(given, options_.fill), pool_.free());
  if (count == 0 || xsk_ring_prod__reserve(&fill_, count, &index) != count) return;
  for (uint32_t i = 0; i < count; ++i) {
    uint64_t address = 0;
    pool_.Take(address);
    Hold(address);
    *xsk_ring_prod__fill_addr(&fill_, index + i) = address;
  }
  xsk_ring_prod__submit(&fill_, count);
  if (xsk_ring_prod__needs_wakeup(&fill_) != 0) recvfrom(fd(), nullptr, 0, MSG_DONTWAIT, nullptr, nullptr);
}

XskStatistics ReadStatistics(int socket) {
  xdp_statistics kernel{};
  socklen_t length = sizeof(kernel);
  if (getsockopt(socket, SOL_XDP, XDP_STATISTICS, &kernel, &length) != 0) return {};
  // A copying socket counts a packet that finds no frame under rx_dropped too.
  const uint64_t no_frame = std::min(kernel.rx_fill_ring_empty_descs, kernel.rx_dropped);
  return {.rx_ring_full = kernel.rx_ring_full,
          .fill_ring_empty = no_frame,
          .other = kernel.rx_dropped - no_frame + kernel.rx_invalid_descs + kernel.tx_invalid_descs};
}

}  // namespace headgate
