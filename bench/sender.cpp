// SPDX-License-Identifier: Apache-2.0
#include "bench/sender.h"

#include <absl/strings/str_cat.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <sched.h>
#include <sys/prctl.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <limits>

#include "agent/base/status.h"
#include "bench/bpf/fill.h"  // before the skeleton, which has variables of its types
#include "bench/bpf/wire.h"
#include "bench/header_table.h"
#include "bench/pacer.h"
#include "generate_bpf.skel.h"

namespace headgate::bench {
namespace {

constexpr uint32_t kLoopbackIfindex = 1;
// A prog run should last long enough to hide its cost (15 us), and end soon enough to notice a stop.
constexpr uint64_t kRunNanoseconds = 5'000'000;
constexpr uint64_t kMinRun = Pacer::kBatch, kMaxRun = 1 << 16;
// How long a device may refuse every frame.
constexpr uint64_t kPatienceNanoseconds = 2'000'000'000;
constexpr uint64_t kRetryNanoseconds = 100'000;
constexpr uint64_t kForever = std::numeric_limits<uint64_t>::max();

uint64_t Now() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * Pacer::kNanosecondsPerSecond + static_cast<uint64_t>(now.tv_nsec);
}

void SleepUntil(uint64_t time) {
  const timespec until{.tv_sec = static_cast<time_t>(time / Pacer::kNanosecondsPerSecond),
                       .tv_nsec = static_cast<long>(time % Pacer::kNanosecondsPerSecond)};
  clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr);
}

// The program writes these while this process reads them.
template <typename T>
T Peek(T& value) {
  return std::atomic_ref<T>(value).load(std::memory_order_relaxed);
}

}  // namespace

Sender::Sender(const SendOptions& options) : options_(options) {}

Sender::~Sender() {
  Stop().IgnoreError();
  for (bpf_link* link : account_links_) bpf_link__destroy(link);
  generate_bpf__destroy(skeleton_);
}

absl::StatusOr<std::unique_ptr<Sender>> Sender::Open(const SendOptions& options) {
  std::unique_ptr<Sender> sender(new Sender(options));
  HG_ASSIGN_OR_RETURN(sender->template_,
                      options.headers.empty() ? BuildTemplate(options.frame) : BuildHeaderTemplate(options.frame));
  sender->page_ = BuildFrame(options.frame, sender->template_, 0);
  HG_RETURN_IF_ERROR(InNamespace(options.netns, [&] { return sender->Load(); }));
  HG_RETURN_IF_ERROR(InNamespace("", [&] { return sender->AttachAnchor(); }));
  HG_RETURN_IF_ERROR(sender->AttachAccount());
  return sender;
}

absl::Status Sender::Load() {
  skeleton_ = generate_bpf__open();
  if (skeleton_ == nullptr) return ErrnoStatus("open the sender's BPF object");
  std::copy_n(reinterpret_cast<const char*>(&template_), sizeof(template_),
              reinterpret_cast<char*>(&skeleton_->rodata->frame));
  skeleton_->rodata->largest = options_.frame.size;
  std::copy(options_.frame.sizes.begin(), options_.frame.sizes.end(), skeleton_->rodata->sizes);
  const auto headers = static_cast<uint32_t>(options_.headers.size());
  skeleton_->rodata->header_count = headers;
  if (headers != 0) bpf_map__set_max_entries(skeleton_->maps.hgb_headers, headers);
  if (const int error = generate_bpf__load(skeleton_); error != 0) {
    return ErrnoStatusOf(error, "load the sender's BPF programs (needs root)");
  }
  HG_ASSIGN_OR_RETURN(const Device device, FindDevice(options_.device));
  const uint32_t zero = 0;
  if (bpf_map_update_elem(bpf_map__fd(skeleton_->maps.hgb_out), &zero, &device.ifindex, BPF_ANY) != 0) {
    return ErrnoStatus("redirect to ", options_.device, " (its driver may not support it)");
  }
  return FillHeaders(bpf_map__fd(skeleton_->maps.hgb_headers), options_.headers);
}

// A prog run puts its program into the XDP dispatcher and takes it out again, which waits for an RCU grace period
// each time: 20 ms a run. A program that is attached to a device is there already. This one is attached to the
// loopback device of a namespace that has nothing else, where no packet will ever meet it.
absl::Status Sender::AttachAnchor() {
  if (unshare(CLONE_NEWNET) != 0) return ErrnoStatus("make a network namespace");
  anchor_netns_ = Fd(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  if (!anchor_netns_) return ErrnoStatus("open /proc/thread-self/ns/net");
  LIBBPF_OPTS(bpf_link_create_opts, options, .flags = XDP_FLAGS_SKB_MODE);
  anchor_link_ =
      Fd(bpf_link_create(bpf_program__fd(skeleton_->progs.hgb_generate), kLoopbackIfindex, BPF_XDP, &options));
  if (!anchor_link_) return ErrnoStatus("attach the sender's program");
  return absl::OkStatus();
}

absl::Status Sender::AttachAccount() {
  for (bpf_program* program : {skeleton_->progs.hgb_on_xmit, skeleton_->progs.hgb_on_error}) {
    bpf_link* link = bpf_program__attach(program);
    if (link == nullptr)
      return ErrnoStatus("attach ", bpf_program__name(program), " to the kernel's XDP tracepoints");
    account_links_.push_back(link);
  }
  return absl::OkStatus();
}

void Sender::Start() {
  running_.store(true, std::memory_order_release);
  thread_ = std::thread([this] {
    status_ = Send();
    running_.store(false, std::memory_order_release);
  });
}

absl::Status Sender::Wait() {
  if (thread_.joinable()) thread_.join();
  return status_;
}

absl::Status Sender::Stop() {
  stop_.store(true, std::memory_order_relaxed);
  return Wait();
}

absl::Status Sender::Run() {
  Start();
  return Wait();
}

uint64_t Sender::sent() const { return Peek<__u64>(skeleton_->bss->sent); }
uint64_t Sender::refused() const { return Peek<__u64>(skeleton_->bss->refused); }

SendReport Sender::Report() const {
  const uint64_t end = running() ? Now() : ended_;
  return {.sent = sent(),
          .refused = refused(),
          .given_up = given_up_,
          .seconds = static_cast<double>(end - started_) / static_cast<double>(Pacer::kNanosecondsPerSecond)};
}

bool Sender::Ended() const {
  return stop_.load(std::memory_order_relaxed) || (options_.count != 0 && sent() >= options_.count);
}

// Makes up to `frames` frames. How many the device took, sent() says; fails when it takes none for long.
absl::Status Sender::RunProgram(uint64_t frames) {
  LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = page_.data(),
              .data_size_in = static_cast<uint32_t>(page_.size()), .repeat = static_cast<int>(frames),
              .flags = BPF_F_TEST_XDP_LIVE_FRAMES, .batch_size = Pacer::kBatch);
  const uint64_t before = sent();
  if (bpf_prog_test_run_opts(bpf_program__fd(skeleton_->progs.hgb_generate), &options) != 0 && errno != EINTR) {
    return ErrnoStatus("send frames of ", page_.size(), " bytes out of ", options_.device);
  }
  if (sent() != before) {
    stuck_since_ = 0;
    return absl::OkStatus();
  }
  const uint64_t now = Now();
  if (stuck_since_ == 0) stuck_since_ = now;
  if (now - stuck_since_ > kPatienceNanoseconds) {
    return absl::UnavailableError(
        absl::StrCat(options_.device, " takes no frames: is it up, is a frame of ", page_.size(),
                     " bytes within its MTU, and if it "
                     "is a veth, is its peer up and has NAPI (an XDP program, or ethtool -K PEER gro on)?"));
  }
  SleepUntil(now + kRetryNanoseconds);
  return absl::OkStatus();
}

absl::Status Sender::Send() {
  HG_RETURN_IF_ERROR(Schedule(0, options_.scheduling));
  prctl(PR_SET_TIMERSLACK, 1UL);  // sleeps end when they are to
  skeleton_->bss->limit = options_.count != 0 ? options_.count : kForever;
  started_ = Now();
  const uint64_t deadline =
      options_.duration ? started_ + static_cast<uint64_t>(options_.duration->count()) : kForever;
  absl::Status status = options_.packets_per_second != 0 ? SendPaced(deadline) : SendUnpaced(deadline);
  if (status.ok()) status = SettleLeftover();
  ended_ = Now();
  return status;
}

absl::Status Sender::SendPaced(uint64_t deadline) {
  Pacer pacer(options_.packets_per_second, started_);
  while (!Ended()) {
    const uint64_t now = std::min(Now(), deadline);
    const uint64_t due = pacer.Due(now);
    given_up_ = pacer.given_up();
    if (due < pacer.Burst() && now < deadline) {
      SleepUntil(std::min(pacer.NextBurst(), deadline));
      continue;
    }
    if (due >= pacer.Burst()) lateness_.Add(now - pacer.NextBurst());
    const uint64_t before = sent();
    if (due != 0) HG_RETURN_IF_ERROR(RunProgram(due));
    pacer.Take(sent() - before);
    if (now == deadline) return absl::OkStatus();
  }
  return absl::OkStatus();
}

absl::Status Sender::SendUnpaced(uint64_t deadline) {
  uint64_t run = kMinRun;
  for (uint64_t before = Now(); before < deadline && !Ended();) {
    const uint64_t left = options_.count != 0 ? options_.count - sent() : kForever;
    HG_RETURN_IF_ERROR(RunProgram(std::min(run, left)));
    const uint64_t after = Now();
    if (after - before < kRunNanoseconds) run = std::min(2 * run, kMaxRun);
    if (after - before > 2 * kRunNanoseconds) run = std::max(run / 2, kMinRun);
    before = after;
  }
  return absl::OkStatus();
}

// Numbers of refused frames that no later frame has taken over go out now.
absl::Status Sender::SettleLeftover() {
  skeleton_->bss->limit = std::min<uint64_t>(skeleton_->bss->limit, skeleton_->bss->next_number);
  while (skeleton_->bss->leftover.count != 0) HG_RETURN_IF_ERROR(RunProgram(skeleton_->bss->leftover.count));
  return absl::OkStatus();
}

}  // namespace headgate::bench
