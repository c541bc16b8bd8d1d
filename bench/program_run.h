// SPDX-License-Identifier: Apache-2.0
//
// Runs of an XDP program by BPF_PROG_TEST_RUN, as if a frame came in by a device; and a BPF file system of one
// run's own to pin programs in.
#pragma once

#include <absl/status/statusor.h>
#include <absl/types/span.h>

#include <cstdint>
#include <string>

#include "agent/base/fd.h"

namespace headgate::bench {

struct ProgramRun {
  uint32_t verdict = 0;    // XDP_*
  double nanoseconds = 0;  // mean over the repetitions
};

// The device is one of the calling thread's namespace.
absl::StatusOr<ProgramRun> RunProgram(int program, uint32_t ifindex, absl::Span<const uint8_t> frame,
                                      int repeat = 1);

// Mounted until destroyed; what an earlier run left there is unmounted first.
class PrivateBpffs {
 public:
  static constexpr char kPath[] = "/run/hgbench/bpf";

  PrivateBpffs() = default;
  ~PrivateBpffs();
  PrivateBpffs(const PrivateBpffs&) = delete;
  PrivateBpffs& operator=(const PrivateBpffs&) = delete;

  absl::Status Mount();

 private:
  bool mounted_ = false;
};

// The entry program that an agent or a loader with a directory of this file system has pinned.
absl::StatusOr<Fd> OpenHeadgateProgram(const std::string& directory = "headgate");

}  // namespace headgate::bench
