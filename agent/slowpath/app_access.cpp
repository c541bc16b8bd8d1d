// SPDX-License-Identifier: Apache-2.0
#include "agent/slowpath/app_access.h"

#include <absl/strings/numbers.h>
#include <grp.h>
#include <sys/socket.h>

#include <algorithm>
#include <optional>

#include "agent/base/status.h"

#ifndef SO_PEERGROUPS
#define SO_PEERGROUPS 59
#endif

namespace headgate {
namespace {

std::optional<gid_t> GroupId(const std::string& name) {
  group entry{};
  group* found = nullptr;
  std::vector<char> buffer(1024);
  while (getgrnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found) == ERANGE) {
    buffer.resize(buffer.size() * 2);
  }
  if (found != nullptr) return found->gr_gid;
  uint32_t number = 0;
  if (absl::SimpleAtoi(name, &number)) return number;
  return std::nullopt;
}

}  // namespace

absl::StatusOr<Peer> PeerOf(int socket) {
  ucred credentials{};
  socklen_t length = sizeof(credentials);
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) {
    return ErrnoStatus("ask who an application is");
  }
  Peer peer{.pid = credentials.pid, .uid = credentials.uid, .groups = std::vector<gid_t>(64)};
  length = static_cast<socklen_t>(peer.groups.size() * sizeof(gid_t));
  int result = getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, peer.groups.data(), &length);
  if (result != 0 && errno == ERANGE) {  // says how many there are
    peer.groups.resize(length / sizeof(gid_t));
    result = getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, peer.groups.data(), &length);
  }
  if (result != 0) return ErrnoStatus("ask for an application's groups");
  peer.groups.resize(length / sizeof(gid_t));
  peer.groups.push_back(credentials.gid);
  return peer;
}

absl::Status CheckAccess(const Peer& peer, const std::string& group) {
  if (peer.uid == 0) return absl::OkStatus();
  if (group.empty()) return absl::PermissionDeniedError("the target is root's alone: it has no group");
  const std::optional<gid_t> id = GroupId(group);
  if (!id) return absl::PermissionDeniedError(absl::StrCat("the target's group ", group, " does not exist"));
  if (std::find(peer.groups.begin(), peer.groups.end(), *id) != peer.groups.end()) return absl::OkStatus();
  return absl::PermissionDeniedError(absl::StrCat("the process is not in the target's group ", group));
}

}  // namespace headgate
