// SPDX-License-Identifier: Apache-2.0
//
// Frames by live-frame prog runs: a program makes them, and redirects them to the device.
#include <absl/strings/str_cat.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <vector>

#include "agent/base/fd.h"
#include "agent/base/status.h"
#include "bench/bpf/fill.h"  // before the skeleton, which has variables of its types
#include "bench/bpf/wire.h"
#include "bench/engine.h"
#include "bench/header_table.h"
#include "bench/netns.h"
#include "bench/pacer.h"
#include "generate_bpf.skel.h"

namespace headgate::bench {
namespace {

constexpr uint32_t kLoopbackIfindex = 1;

// The program writes these while this process reads them.
template <typename T>
T Peek(T& value) {
  return std::atomic_ref<T>(value).load(std::memory_order_relaxed);
}

class ProgEngine : public Engine {
 public:
  explicit ProgEngine(const SendOptions& options) : options_(options) {}
  ~ProgEngine() override {
    for (bpf_link* link : account_links_) bpf_link__destroy(link);
    generate_bpf__destroy(skeleton_);
  }

  absl::Status Open();
  void SetLimit(uint64_t frames) override { skeleton_->bss->limit = frames; }
  absl::Status Send(uint64_t frames) override;
  // Numbers of refused frames that no later frame has taken over.
  uint64_t Remaining() override {
    skeleton_->bss->limit = std::min<uint64_t>(skeleton_->bss->limit, skeleton_->bss->next_number);
    return skeleton_->bss->leftover.count;
  }
  uint64_t sent() const override { return Peek<__u64>(skeleton_->bss->sent); }
  uint64_t refused() const override { return Peek<__u64>(skeleton_->bss->refused); }

 private:
  absl::Status Load();
  absl::Status FillTables();
  absl::Status AttachAnchor();
  absl::Status AttachAccount();

  SendOptions options_;
  hgb_template template_{};
  std::vector<uint8_t> page_;  // what fresh pages begin with
  generate_bpf* skeleton_ = nullptr;
  std::vector<bpf_link*> account_links_;
  Fd anchor_netns_, anchor_link_;
};

absl::Status ProgEngine::Open() {
  if (options_.captured.empty()) {
    HG_ASSIGN_OR_RETURN(
        template_, options_.headers.empty() ? BuildTemplate(options_.frame) : BuildHeaderTemplate(options_.frame));
    page_ = BuildFrame(options_.frame, template_, 0);
  } else {
    page_.resize(LargestFrame(options_));
  }
  HG_RETURN_IF_ERROR(InNamespace(options_.netns, [&] { return Load(); }));
  HG_RETURN_IF_ERROR(InNamespace("", [&] { return AttachAnchor(); }));
  return AttachAccount();
}

absl::Status ProgEngine::Load() {
  skeleton_ = generate_bpf__open();
  if (skeleton_ == nullptr) return ErrnoStatus("open the sender's BPF object");
  std::copy_n(reinterpret_cast<const char*>(&template_), sizeof(template_),
              reinterpret_cast<char*>(&skeleton_->rodata->frame));
  skeleton_->rodata->largest = static_cast<uint32_t>(page_.size());
  std::copy(options_.frame.sizes.begin(), options_.frame.sizes.end(), skeleton_->rodata->sizes);
  const auto headers = static_cast<uint32_t>(options_.headers.size());
  skeleton_->rodata->header_count = headers;
  if (headers != 0) bpf_map__set_max_entries(skeleton_->maps.hgb_headers, headers);
  const auto captured = static_cast<uint32_t>(options_.captured.size());
  skeleton_->rodata->captured_count = captured;
  if (captured != 0) bpf_map__set_max_entries(skeleton_->maps.hgb_captured, captured);
  if (const int error = generate_bpf__load(skeleton_); error != 0) {
    return ErrnoStatusOf(error, "load the sender's BPF programs (needs root)");
  }
  HG_ASSIGN_OR_RETURN(const Device device, FindDevice(options_.device));
  const uint32_t zero = 0;
  if (bpf_map_update_elem(bpf_map__fd(skeleton_->maps.hgb_out), &zero, &device.ifindex, BPF_ANY) != 0) {
    return ErrnoStatus("redirect to ", options_.device, " (its driver may not support it)");
  }
  return FillTables();
}

absl::Status ProgEngine::FillTables() {
  hgb_captured value{};
  for (uint32_t i = 0; i < options_.captured.size(); ++i) {
    const std::vector<uint8_t>& bytes = options_.captured[i].bytes;
    value.size = static_cast<uint32_t>(bytes.size());
    std::copy(bytes.begin(), bytes.end(), value.bytes);
    if (bpf_map_update_elem(bpf_map__fd(skeleton_->maps.hgb_captured), &i, &value, BPF_ANY) != 0) {
      return ErrnoStatus("store captured frame ", i + 1);
    }
  }
  return FillHeaders(bpf_map__fd(skeleton_->maps.hgb_headers), options_.headers);
}

// A prog run puts its program into the XDP dispatcher and takes it out again, which waits for an RCU grace period
// each time: 20 ms a run. A program that is attached to a device is there already. This one is attached to the
// loopback device of a namespace that has nothing else, where no packet will ever meet it.
absl::Status ProgEngine::AttachAnchor() {
  if (unshare(CLONE_NEWNET) != 0) return ErrnoStatus("make a network namespace");
  anchor_netns_ = Fd(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  if (!anchor_netns_) return ErrnoStatus("open /proc/thread-self/ns/net");
  LIBBPF_OPTS(bpf_link_create_opts, options, .flags = XDP_FLAGS_SKB_MODE);
  anchor_link_ =
      Fd(bpf_link_create(bpf_program__fd(skeleton_->progs.hgb_generate), kLoopbackIfindex, BPF_XDP, &options));
  if (!anchor_link_) return ErrnoStatus("attach the sender's program");
  return absl::OkStatus();
}

absl::Status ProgEngine::AttachAccount() {
  for (bpf_program* program : {skeleton_->progs.hgb_on_xmit, skeleton_->progs.hgb_on_error}) {
    bpf_link* link = bpf_program__attach(program);
    if (link == nullptr)
      return ErrnoStatus("attach ", bpf_program__name(program), " to the kernel's XDP tracepoints");
    account_links_.push_back(link);
  }
  return absl::OkStatus();
}

absl::Status ProgEngine::Send(uint64_t frames) {
  LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = page_.data(),
              .data_size_in = static_cast<uint32_t>(page_.size()), .repeat = static_cast<int>(frames),
              .flags = BPF_F_TEST_XDP_LIVE_FRAMES, .batch_size = Pacer::kBatch);
  if (bpf_prog_test_run_opts(bpf_program__fd(skeleton_->progs.hgb_generate), &options) != 0 && errno != EINTR) {
    return ErrnoStatus("send frames of ", page_.size(), " bytes out of ", options_.device);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> OpenProgEngine(const SendOptions& options) {
  auto engine = std::make_unique<ProgEngine>(options);
  HG_RETURN_IF_ERROR(engine->Open());
  return engine;
}

}  // namespace headgate::bench
