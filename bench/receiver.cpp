// SPDX-License-Identifier: Apache-2.0
#include "bench/receiver.h"

#include <absl/functional/function_ref.h>
#include <absl/strings/str_cat.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/if_link.h>

#include <algorithm>
#include <thread>
#include <utility>
#include <vector>

#include "agent/base/status.h"
#include "bench/netns.h"
#include "receive_bpf.skel.h"

namespace headgate::bench {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kPollInterval(2);

// The values of all CPUs of one key of a per-CPU array.
template <typename Value>
absl::StatusOr<std::vector<Value>> ReadCpus(const bpf_map* map, uint32_t key) {
  const int cpus = libbpf_num_possible_cpus();
  if (cpus < 0) return ErrnoStatusOf(cpus, "count CPUs");
  std::vector<Value> values(static_cast<size_t>(cpus));
  static_assert(sizeof(Value) % 8 == 0);
  if (bpf_map_lookup_elem(bpf_map__fd(map), &key, values.data()) != 0) {
    return ErrnoStatus("read ", bpf_map__name(map), " of the receiver");
  }
  return values;
}

// Every few milliseconds, until it says it is done.
absl::Status Poll(milliseconds timeout, absl::FunctionRef<absl::StatusOr<bool>()> done) {
  const auto deadline = steady_clock::now() + timeout;
  while (true) {
    HG_ASSIGN_OR_RETURN(const bool is_done, done());
    if (is_done) return absl::OkStatus();
    if (steady_clock::now() >= deadline) {
      return absl::DeadlineExceededError(absl::StrCat("after ", timeout.count(), " ms"));
    }
    std::this_thread::sleep_for(kPollInterval);
  }
}

}  // namespace

Receiver::~Receiver() { receive_bpf__destroy(skeleton_); }

absl::StatusOr<std::unique_ptr<Receiver>> Receiver::Open(const ReceiveOptions& options) {
  std::unique_ptr<Receiver> receiver(new Receiver(options));
  HG_RETURN_IF_ERROR(receiver->Load());
  HG_RETURN_IF_ERROR(InNamespace(options.netns, [&] { return receiver->Attach(); }));
  return receiver;
}

absl::Status Receiver::Load() {
  skeleton_ = receive_bpf__open();
  if (skeleton_ == nullptr) return ErrnoStatus("open the receiver's BPF object");
  skeleton_->rodata->pass = options_.pass;
  skeleton_->rodata->count_only = options_.count_only;
  if (const int error = receive_bpf__load(skeleton_); error != 0) {
    return ErrnoStatusOf(error, "load the receiver's BPF program (needs root)");
  }
  return absl::OkStatus();
}

absl::Status Receiver::Attach() {
  HG_ASSIGN_OR_RETURN(const Device device, FindDevice(options_.device));
  int native_error = 0;
  for (const DriverMode mode : {DriverMode::kNative, DriverMode::kGeneric}) {
    LIBBPF_OPTS(bpf_link_create_opts, options,
                .flags = mode == DriverMode::kNative ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_SKB_MODE);
    link_ = Fd(bpf_link_create(bpf_program__fd(skeleton_->progs.hgb_receive), static_cast<int>(device.ifindex),
                               BPF_XDP, &options));
    mode_ = mode;
    if (link_) return absl::OkStatus();
    if (mode == DriverMode::kNative) native_error = errno;
  }
  return ErrnoStatusOf(-native_error, "receive at ", options_.device,
                       " (is another XDP program attached? ip link show dev ", options_.device, ")");
}

absl::Status Receiver::ReadStreams(ReceiveReport& report) const {
  std::vector<uint32_t> slots(65536), keys(slots.size());
  uint32_t count = static_cast<uint32_t>(slots.size()), next = 0;
  if (bpf_map_lookup_batch(bpf_map__fd(skeleton_->maps.hgb_slots), nullptr, &next, keys.data(), slots.data(),
                           &count, nullptr) != 0 &&
      errno != ENOENT) {
    return ErrnoStatus("read the receiver's streams");
  }
  for (size_t id = 0; id < slots.size(); ++id) {
    if (slots[id] == 0) continue;
    HG_ASSIGN_OR_RETURN(const std::vector<hgb_stream> cpus,
                        ReadCpus<hgb_stream>(skeleton_->maps.hgb_streams, slots[id] - 1));
    hgb_stream sum{};
    for (const hgb_stream& cpu : cpus) {
      sum.packets += cpu.packets;
      sum.bytes += cpu.bytes;
      sum.duplicates += cpu.duplicates;
      sum.reordered += cpu.reordered;
      sum.beyond_window += cpu.beyond_window;
      sum.next = std::max(sum.next, cpu.next);
    }
    report.streams.push_back(MakeStreamReport(static_cast<uint16_t>(id), sum));
  }
  return absl::OkStatus();
}

absl::StatusOr<ReceiveReport> Receiver::Read() const {
  ReceiveReport report;
  HG_ASSIGN_OR_RETURN(const std::vector<hgb_totals> totals, ReadCpus<hgb_totals>(skeleton_->maps.hgb_totals, 0));
  HG_ASSIGN_OR_RETURN(const std::vector<hgb_histogram> latency,
                      ReadCpus<hgb_histogram>(skeleton_->maps.hgb_latency, 0));
  uint64_t latency_max = 0;
  for (const hgb_totals& cpu : totals) {
    report.packets += cpu.packets;
    report.bytes += cpu.bytes;
    report.foreign_packets += cpu.foreign_packets;
    report.foreign_bytes += cpu.foreign_bytes;
    report.clockless += cpu.clockless;
    latency_max = std::max<uint64_t>(latency_max, cpu.latency_max);
  }
  for (const hgb_histogram& cpu : latency) {
    for (uint32_t bucket = 0; bucket < HGB_BUCKETS; ++bucket)
      report.latency.AddToBucket(bucket, cpu.bucket[bucket]);
  }
  report.latency.SetMax(latency_max);
  HG_RETURN_IF_ERROR(ReadStreams(report));
  return report;
}

absl::StatusOr<uint64_t> Receiver::Frames() const {
  HG_ASSIGN_OR_RETURN(const std::vector<hgb_totals> totals, ReadCpus<hgb_totals>(skeleton_->maps.hgb_totals, 0));
  uint64_t frames = 0;
  for (const hgb_totals& cpu : totals) frames += cpu.packets + cpu.foreign_packets;
  return frames;
}

absl::Status Receiver::AwaitFrames(uint64_t frames, milliseconds timeout) const {
  uint64_t seen = 0;
  const absl::Status status = Poll(timeout, [&]() -> absl::StatusOr<bool> {
    HG_ASSIGN_OR_RETURN(seen, Frames());
    return seen >= frames;
  });
  return Annotate(status, "wait for ", frames, " frames at ", options_.device, " (", seen, " have come)");
}

absl::Status Receiver::AwaitIdle(milliseconds idle, milliseconds timeout) const {
  uint64_t seen = 0;
  auto last = steady_clock::now();
  const absl::Status status = Poll(timeout, [&]() -> absl::StatusOr<bool> {
    HG_ASSIGN_OR_RETURN(const uint64_t frames, Frames());
    if (frames != seen) last = steady_clock::now();
    seen = frames;
    return steady_clock::now() - last >= idle;
  });
  return Annotate(status, "wait until no frame has come to ", options_.device, " for ", idle.count(), " ms");
}

}  // namespace headgate::bench
