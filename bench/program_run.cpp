// SPDX-License-Identifier: Apache-2.0
#include "bench/program_run.h"

#include <absl/strings/str_cat.h>
#include <bpf/bpf.h>
#include <sys/mount.h>

#include <filesystem>

#include "agent/base/status.h"

namespace headgate::bench {

absl::StatusOr<ProgramRun> RunProgram(int program, uint32_t ifindex, absl::Span<const uint8_t> frame, int repeat) {
  xdp_md context{};
  context.data_end = static_cast<uint32_t>(frame.size());
  context.ingress_ifindex = ifindex;
  LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame.data(),
              .data_size_in = static_cast<uint32_t>(frame.size()), .ctx_in = &context,
              .ctx_size_in = sizeof(context), .repeat = repeat);
  if (bpf_prog_test_run_opts(program, &options) != 0) return ErrnoStatus("run the program on a frame");
  return ProgramRun{.verdict = options.retval, .nanoseconds = static_cast<double>(options.duration)};
}

absl::Status PrivateBpffs::Mount() {
  umount2(kPath, MNT_DETACH);
  std::error_code error;
  std::filesystem::create_directories(kPath, error);
  if (error) return absl::PermissionDeniedError(absl::StrCat("create ", kPath, ": ", error.message()));
  if (mount("bpf", kPath, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") != 0) {
    return ErrnoStatus("mount a BPF file system at ", kPath, " (needs root)");
  }
  mounted_ = true;
  return absl::OkStatus();
}

PrivateBpffs::~PrivateBpffs() {
  if (!mounted_) return;
  umount2(kPath, MNT_DETACH);
  std::error_code ignored;
  std::filesystem::remove(kPath, ignored);
  std::filesystem::remove(std::filesystem::path(kPath).parent_path(), ignored);
}

absl::StatusOr<Fd> OpenHeadgateProgram(const std::string& directory) {
  const std::string path = absl::StrCat(PrivateBpffs::kPath, "/", directory, "/programs/headgate");
  Fd program(bpf_obj_get(path.c_str()));
  if (!program) return ErrnoStatus("open ", path);
  return program;
}

}  // namespace headgate::bench
