// SPDX-License-Identifier: Apache-2.0
#include "agent/slowpath/app_session.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "agent/base/status.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U  // Linux 6.3
#endif

namespace headgate {
namespace {

absl::StatusOr<Fd> MakeFile(uint64_t bytes) {
  constexpr unsigned kFlags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  Fd file(memfd_create("headgate-app", kFlags | MFD_NOEXEC_SEAL));
  if (!file && errno == EINVAL) file = Fd(memfd_create("headgate-app", kFlags));
  if (!file || ftruncate(file.get(), static_cast<off_t>(bytes)) != 0) {
    return ErrnoStatus("make ", bytes, " bytes of memory for an application");
  }
  // A process that made it smaller would have the workers die of SIGBUS.
  if (fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return ErrnoStatus("seal an application's memory");
  }
  return file;
}

uint32_t RingBytes(uint32_t channels) {
  uint32_t bytes = AppSession::kMostRingBytes;
  while (bytes > AppSession::kLeastRingBytes && uint64_t{2} * bytes * channels > AppSession::kAllBytes) bytes /= 2;
  return bytes;
}

}  // namespace

absl::StatusOr<std::unique_ptr<AppSession>> AppSession::Create(uint32_t channels) {
  auto session = std::make_unique<AppSession>();
  session->ring_bytes_ = RingBytes(channels);
  const uint64_t bytes = hga_channel_offset(channels, session->ring_bytes_);
  HG_ASSIGN_OR_RETURN(session->file_, MakeFile(bytes));
  // All of it now: workers are not to wait for pages, and it is not to end halfway when memory does.
  constexpr int kMap = MAP_SHARED | MAP_POPULATE;
  void* mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, kMap, session->file_.get(), 0);
  if (mapped == MAP_FAILED) return ErrnoStatus("map ", bytes, " bytes of an application's memory");
  const auto memory = std::make_shared<AppMemory>(mapped, bytes);
  for (uint32_t index = 0; index < channels; ++index) {
    // Datagrams, as both ends are independent of each other: an eventfd's or a pipe's flags and end are shared,
    // and a process could have a worker wait, or find its file ended at every look.
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends) != 0) {
      return ErrnoStatus("make a socket pair for an application");
    }
    session->ends_.emplace_back(ends[1]);
    session->channels_.push_back(std::make_shared<AppChannel>(memory, index, session->ring_bytes_, Fd(ends[0])));
  }
  session->beats_.resize(channels);
  return session;
}

std::vector<int> AppSession::ForProcess() const {
  std::vector<int> files = {file_.get()};
  for (const Fd& end : ends_) files.push_back(end.get());
  return files;
}

void AppSession::HandedOver() {
  ends_.clear();
  file_ = Fd();
}

void AppSession::Look(std::chrono::steady_clock::time_point now) {
  for (size_t index = 0; index < channels_.size(); ++index) {
    const uint64_t beat = channels_[index]->beat();
    if (beat != beats_[index].seen) beats_[index] = {beat, now};
  }
}

bool AppSession::Beats(std::chrono::steady_clock::time_point now) const {
  return std::all_of(beats_.begin(), beats_.end(),
                     [now](const Beat& beat) { return beat.seen != 0 && now - beat.at < kMaxSilence; });
}

const char* AppSession::broken() const {
  for (const std::shared_ptr<AppChannel>& channel : channels_) {
    if (const char* why = channel->broken(); why != nullptr) return why;
  }
  return nullptr;
}

}  // namespace headgate
