// SPDX-License-Identifier: Apache-2.0
#include "bench/feeder.h"

#include <absl/strings/str_cat.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "agent/base/status.h"
#include "bench/frame.h"
#include "bench/header_table.h"
#include "bench/program_run.h"
#include "feed_bpf.skel.h"

namespace headgate::bench {
namespace {

constexpr size_t kPackets = 1'000'000;  // at least, to be timed
// The kernel gives the mean of a run in whole nanoseconds: that of several is finer.
constexpr size_t kRuns = 8;

}  // namespace

Feeder::~Feeder() { feed_bpf__destroy(skeleton_); }

absl::StatusOr<std::unique_ptr<Feeder>> Feeder::Open(absl::Span<const hgb_header> headers) {
  std::unique_ptr<Feeder> feeder(new Feeder);
  HG_RETURN_IF_ERROR(feeder->Load(headers));
  return feeder;
}

absl::Status Feeder::Load(absl::Span<const hgb_header> headers) {
  count_ = headers.size();
  const FrameSpec spec{.destination_mac = {2, 0, 0, 0, 0, 1}, .source_mac = {2, 0, 0, 0, 0, 2}};
  HG_ASSIGN_OR_RETURN(const hgb_template frame, BuildHeaderTemplate(spec));
  frame_ = BuildFrame(spec, frame, 0);
  skeleton_ = feed_bpf__open();
  if (skeleton_ == nullptr) return ErrnoStatus("open the feeder's BPF object");
  skeleton_->rodata->header_count = static_cast<uint32_t>(count_);
  bpf_map__set_max_entries(skeleton_->maps.hgb_headers, static_cast<uint32_t>(count_));
  if (const int error = feed_bpf__load(skeleton_); error != 0) {
    return ErrnoStatusOf(error, "load the feeder's BPF program (needs root)");
  }
  return FillHeaders(bpf_map__fd(skeleton_->maps.hgb_headers), headers);
}

absl::StatusOr<double> Feeder::Run(int program, uint32_t ifindex, size_t packets) {
  const uint32_t slot = 0;
  if (bpf_map_update_elem(bpf_map__fd(skeleton_->maps.hgb_fed), &slot, &program, BPF_ANY) != 0) {
    return ErrnoStatus("call the program under test by its tail");
  }
  HG_ASSIGN_OR_RETURN(const ProgramRun run, RunProgram(bpf_program__fd(skeleton_->progs.hgb_feed), ifindex, frame_,
                                                       static_cast<int>(packets)));
  if (run.verdict != XDP_PASS && run.verdict != XDP_DROP) {
    return absl::InternalError(absl::StrCat("the program under test answers ", run.verdict, ", not pass or drop"));
  }
  return run.nanoseconds;
}

absl::Status Feeder::FeedAll(int program, uint32_t ifindex) { return Run(program, ifindex, count_).status(); }

absl::StatusOr<double> Feeder::Time(int program, uint32_t ifindex) {
  const size_t packets = count_ * ((kPackets + count_ - 1) / count_);
  double sum = 0;
  for (size_t run = 0, fed = 0; run < kRuns; ++run) {
    const size_t some = packets * (run + 1) / kRuns - fed;
    fed += some;
    HG_ASSIGN_OR_RETURN(const double mean, Run(program, ifindex, some));
    sum += mean * static_cast<double>(some);
  }
  return sum / static_cast<double>(packets);
}

}  // namespace headgate::bench
