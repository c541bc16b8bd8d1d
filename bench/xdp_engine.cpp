// SPDX-License-Identifier: Apache-2.0
//
// Frames by an AF_XDP socket that only sends. What the device took is what the kernel has taken off the ring, less
// what it says was dropped: it says so one frame at a time, so that the account is exact.
#include <absl/strings/str_cat.h>
#include <bpf/libbpf.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <xdp/xsk.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>
#include <vector>

#include "agent/base/status.h"
#include "bench/bpf/fill.h"
#include "bench/engine.h"
#include "bench/netns.h"

namespace headgate::bench {
namespace {

constexpr uint32_t kRing = 2048, kFrames = kRing;  // so that rings never overflow
constexpr uint32_t kChunk = 4096;                  // a frame's place
constexpr uint32_t kBatch = 64;
static_assert(kMaxFrameBytes <= kChunk);

uint64_t Now() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

class XdpEngine : public Engine {
 public:
  explicit XdpEngine(const SendOptions& options) : options_(options) {}
  ~XdpEngine() override {
    if (socket_ != nullptr) xsk_socket__delete(socket_);
    if (umem_ != nullptr) xsk_umem__delete(umem_);
    if (memory_ != MAP_FAILED) munmap(memory_, size_t{kFrames} * kChunk);
  }

  absl::Status Open();
  void SetLimit(uint64_t frames) override { limit_ = frames; }
  absl::Status Send(uint64_t frames) override;
  // What was given to the kernel it has yet to take.
  uint64_t Remaining() override {
    limit_ = 0;
    Complete();
    return queued_ - Handled();
  }
  uint64_t sent() const override { return sent_.load(std::memory_order_relaxed); }
  uint64_t refused() const override { return refused_.load(std::memory_order_relaxed); }
  std::optional<bool> zero_copy() const override { return zero_copy_; }

 private:
  absl::Status Bind(uint16_t flags);
  uint32_t Make(uint64_t address);
  uint32_t Queue(uint64_t frames);
  absl::Status Kick();
  void Complete();
  // Frames that are the kernel's or the device's no longer to take. A dropped one may never be taken off the ring,
  // but is completed.
  uint64_t Handled() const { return std::max(taken_, completed_); }

  SendOptions options_;
  hgb_template template_{};
  hgb_turn turn_{};
  void* memory_ = MAP_FAILED;
  xsk_umem* umem_ = nullptr;
  xsk_socket* socket_ = nullptr;
  xsk_ring_prod fill_{}, tx_{};
  xsk_ring_cons completion_{};
  bool zero_copy_ = false;
  std::vector<uint64_t> free_;  // addresses
  uint64_t limit_ = std::numeric_limits<uint64_t>::max();
  uint64_t queued_ = 0, taken_ = 0, completed_ = 0;  // frames so far; the next one's number is queued_
  std::atomic<uint64_t> sent_ = 0, refused_ = 0;
};

absl::Status XdpEngine::Open() {
  if (!options_.headers.empty()) return absl::UnimplementedError("headers are sent by prog runs only");
  if (options_.captured.empty()) {
    HG_ASSIGN_OR_RETURN(template_, BuildTemplate(options_.frame));
  }
  memory_ = mmap(nullptr, size_t{kFrames} * kChunk, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory_ == MAP_FAILED) return ErrnoStatus("allocate ", kFrames, " frames");
  for (uint64_t frame = kFrames; frame-- > 0;) free_.push_back(frame * kChunk);
  return InNamespace(options_.netns, [&]() -> absl::Status {
    HG_RETURN_IF_ERROR(FindDevice(options_.device).status());
    zero_copy_ = Bind(XDP_ZEROCOPY).ok();
    return zero_copy_ ? absl::OkStatus() : Bind(XDP_COPY);
  });
}

absl::Status XdpEngine::Bind(uint16_t flags) {
  if (umem_ != nullptr) xsk_umem__delete(umem_);
  umem_ = nullptr;
  const xsk_umem_config memory{.fill_size = kRing,  // has to be there, though nothing is received
                               .comp_size = kRing,
                               .frame_size = kChunk,
                               .frame_headroom = 0,
                               .flags = 0};
  if (const int error =
          xsk_umem__create(&umem_, memory_, uint64_t{kFrames} * kChunk, &fill_, &completion_, &memory);
      error != 0) {
    umem_ = nullptr;
    return ErrnoStatusOf(error, "register frames with AF_XDP (needs root)");
  }
  const xsk_socket_config config{.rx_size = 0,
                                 .tx_size = kRing,
                                 .libxdp_flags = XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD,
                                 .xdp_flags = 0,
                                 .bind_flags = flags};
  if (const int error =
          xsk_socket__create(&socket_, options_.device.c_str(), options_.queue, umem_, nullptr, &tx_, &config);
      error != 0) {
    socket_ = nullptr;
    return ErrnoStatusOf(error, "open an AF_XDP socket for queue ", options_.queue, " of ", options_.device);
  }
  return absl::OkStatus();
}

// Returns its size.
uint32_t XdpEngine::Make(uint64_t address) {
  uint8_t* data = static_cast<uint8_t*>(xsk_umem__get_data(memory_, address));
  if (!options_.captured.empty()) {
    const std::vector<uint8_t>& bytes = options_.captured[queued_ % options_.captured.size()].bytes;
    std::memcpy(data, bytes.data(), bytes.size());
    return static_cast<uint32_t>(bytes.size());
  }
  const std::vector<uint32_t>& sizes = options_.frame.sizes;
  const uint32_t size = sizes.empty() ? options_.frame.size : sizes[queued_ % sizes.size()];
  hgb_write_template(data, &template_);
  uint32_t sum = sizes.empty() ? 0 : hgb_write_lengths(data, &template_, size);
  sum = hgb_add(sum, hgb_write_flow(data, &template_, &turn_));
  hgb_write_record(data, &template_, queued_, Now(), sum);
  return size;
}

// Puts frames on the ring, as many as there is memory for. Returns how many.
uint32_t XdpEngine::Queue(uint64_t frames) {
  const auto count = static_cast<uint32_t>(std::min<uint64_t>({frames, kBatch, free_.size()}));
  uint32_t index = 0;
  if (count == 0 || xsk_ring_prod__reserve(&tx_, count, &index) != count) return 0;
  for (uint32_t i = 0; i < count; ++i) {
    xdp_desc* descriptor = xsk_ring_prod__tx_desc(&tx_, index + i);
    descriptor->addr = free_.back();
    descriptor->len = Make(free_.back());
    descriptor->options = 0;
    free_.pop_back();
    ++queued_;
  }
  xsk_ring_prod__submit(&tx_, count);
  return count;
}

// Has the kernel take what is on the ring.
absl::Status XdpEngine::Kick() {
  if (sendto(xsk_socket__fd(socket_), nullptr, 0, MSG_DONTWAIT, nullptr, 0) < 0) {
    // Too much at once, or a frame that the device dropped: the kernel stops there.
    if (errno == EBUSY) {
      refused_.store(refused() + 1, std::memory_order_relaxed);
    } else if (errno != EAGAIN && errno != ENOBUFS && errno != EINTR && errno != ENETDOWN) {
      return ErrnoStatus("send out of ", options_.device, " by AF_XDP");
    }
  }
  Complete();
  return absl::OkStatus();
}

void XdpEngine::Complete() {
  uint32_t index = 0;
  const uint32_t count = xsk_ring_cons__peek(&completion_, kRing, &index);
  for (uint32_t i = 0; i < count; ++i) free_.push_back(*xsk_ring_cons__comp_addr(&completion_, index + i));
  xsk_ring_cons__release(&completion_, count);
  completed_ += count;
  // The ring's own counter is of 32 bits.
  taken_ +=
      std::atomic_ref<uint32_t>(*tx_.consumer).load(std::memory_order_acquire) - static_cast<uint32_t>(taken_);
  const uint64_t handled = Handled(), dropped = refused();
  sent_.store(std::max(sent(), handled - std::min(handled, dropped)), std::memory_order_relaxed);
}

absl::Status XdpEngine::Send(uint64_t frames) {
  // No more than are wanted in all, counting those under way.
  const uint64_t room = limit_ - std::min(limit_, queued_ - refused());
  uint64_t left = std::min(frames, room);
  // A copying socket sends within the call: what waits for it would only grow old.
  const uint64_t depth = zero_copy_ ? kRing : kBatch;
  while (true) {
    const uint64_t before = Handled();
    if (queued_ - before < depth) left -= Queue(left);
    if (Handled() == queued_) return absl::OkStatus();
    HG_RETURN_IF_ERROR(Kick());
    if (Handled() == before) return absl::OkStatus();
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> OpenXdpEngine(const SendOptions& options) {
  auto engine = std::make_unique<XdpEngine>(options);
  HG_RETURN_IF_ERROR(engine->Open());
  return engine;
}

}  // namespace headgate::bench
