// SPDX-License-Identifier: Apache-2.0
//
// Who asks for a target, and whether it may.
#pragma once

#include <absl/status/statusor.h>
#include <sys/types.h>

#include <string>
#include <vector>

namespace headgate {

// A process as it was when it connected.
struct Peer {
  pid_t pid = 0;
  uid_t uid = 0;
  std::vector<gid_t> groups;  // the effective one, and the supplementary ones
};

// Of the process at the other end of a connected unix socket.
absl::StatusOr<Peer> PeerOf(int socket);

// Root and members of the group, by its name or number, may. Others are told so.
absl::Status CheckAccess(const Peer& peer, const std::string& group);

}  // namespace headgate
