// SPDX-License-Identifier: Apache-2.0
#include "agent/membership/held_sockets.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <random>

namespace headgate {
namespace {

constexpr char kPrefix[] = "membership-";

}  // namespace

HeldSockets HeldSockets::Take() {
  HeldSockets held;
  char** names = nullptr;
  const int count = sd_listen_fds_with_names(1, &names);
  for (int i = 0; i < count; ++i) {
    // Others are not ours to keep open.
    Fd socket(SD_LISTEN_FDS_START + i);
    const std::string name = names[i];
    free(names[i]);
    if (!absl::StartsWith(name, kPrefix)) continue;
    held.sockets_.push_back(std::move(socket));
    if (std::find(held.names_.begin(), held.names_.end(), name) == held.names_.end()) held.names_.push_back(name);
  }
  free(names);
  return held;
}

// By a name of this process's, which may have the number of a former: those of that are to go alone.
void HeldSockets::Keep(int socket) {
  static const uint32_t kRandom = std::random_device()();
  const std::string message =
      absl::StrCat("FDSTORE=1\nFDPOLL=0\nFDNAME=", kPrefix, getpid(), "-", absl::Hex(kRandom));
  sd_pid_notify_with_fds(0, 0, message.c_str(), &socket, 1);
}

void HeldSockets::Release() {
  sockets_.clear();
  for (const std::string& name : names_) sd_notify(0, absl::StrCat("FDSTOREREMOVE=1\nFDNAME=", name).c_str());
  names_.clear();
}

}  // namespace headgate
