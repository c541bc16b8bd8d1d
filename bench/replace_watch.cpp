// SPDX-License-Identifier: Apache-2.0
#include "bench/replace_watch.h"

#include <absl/strings/str_cat.h>

#include <utility>

#include "agent/base/status.h"
#include "bench/netns.h"
#include "bench/program_run.h"

namespace headgate::bench {

absl::StatusOr<std::unique_ptr<ReplaceWatch>> ReplaceWatch::Start(const std::string& netns,
                                                                  const std::string& device, Fd program,
                                                                  std::vector<JudgedFrame> frames) {
  std::unique_ptr<ReplaceWatch> watch(new ReplaceWatch);
  watch->program_ = std::move(program);
  watch->frames_ = std::move(frames);
  watch->thread_ = std::thread([self = watch.get(), netns, device] { self->Run(netns, device); });
  watch->begun_.wait(false);
  return watch;
}

ReplaceWatch::~ReplaceWatch() {
  stop_ = true;
  if (thread_.joinable()) thread_.join();
}

absl::Status ReplaceWatch::RunAll(uint32_t ifindex) {
  for (const JudgedFrame& frame : frames_) {
    HG_ASSIGN_OR_RETURN(const ProgramRun run, RunProgram(program_.get(), ifindex, frame.frame));
    ++runs_;
    if (frame.before != frame.after && run.verdict == frame.after) changed_ = true;
    // All at once: after the first verdict of the new generation none of the old may come.
    if (run.verdict != (changed_ ? frame.after : frame.before)) ++wrong_;
  }
  return absl::OkStatus();
}

void ReplaceWatch::Run(const std::string& netns, const std::string& device) {
  error_ = EnterNamespace(netns);
  absl::StatusOr<Device> found = absl::UnknownError("");
  if (error_.ok()) {
    found = FindDevice(device);
    error_ = found.status();
  }
  if (error_.ok()) error_ = RunAll(found->ifindex);
  if (error_.ok() && changed_) error_ = absl::InternalError("verdicts changed before the change");
  begun_ = true;
  begun_.notify_all();
  bool last = false;
  while (error_.ok() && !last) {
    last = stop_;
    error_ = RunAll(found->ifindex);
  }
}

absl::StatusOr<uint64_t> ReplaceWatch::Finish() {
  stop_ = true;
  thread_.join();
  HG_RETURN_IF_ERROR(error_);
  if (wrong_ != 0) {
    return absl::InternalError(absl::StrCat("wrong verdicts while the set was replaced: ", wrong_, " of ", runs_));
  }
  if (!changed_) return absl::InternalError("no verdict has changed with the set");
  return runs_;
}

}  // namespace headgate::bench
