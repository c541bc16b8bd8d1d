// SPDX-License-Identifier: Apache-2.0
#include "agent/privileges.h"

#include <cap-ng.h>
#include <grp.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "agent/base/log.h"
#include "agent/base/status.h"

namespace headgate {

absl::Status DropPrivileges() {
  capng_get_caps_process();
  const bool may_bound = capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP) != 0;
  // CAP_IPC_LOCK: the frames of AF_XDP sockets count against RLIMIT_MEMLOCK otherwise.
  constexpr unsigned kNeeded[] = {CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN, CAP_NET_RAW, CAP_IPC_LOCK};
  bool held[std::size(kNeeded)];
  for (size_t i = 0; i < std::size(kNeeded); ++i)
    held[i] = capng_have_capability(CAPNG_PERMITTED, kNeeded[i]) != 0;
  capng_clear(may_bound ? CAPNG_SELECT_BOTH : CAPNG_SELECT_CAPS);
  for (size_t i = 0; i < std::size(kNeeded); ++i) {
    // What was not given cannot be kept; whoever needs it says so when it fails.
    if (!held[i]) continue;
    const auto type =
        static_cast<capng_type_t>(CAPNG_EFFECTIVE | CAPNG_PERMITTED | (may_bound ? CAPNG_BOUNDING_SET : 0));
    capng_update(CAPNG_ADD, type, kNeeded[i]);
  }
  if (const int error = capng_apply(may_bound ? CAPNG_SELECT_BOTH : CAPNG_SELECT_CAPS); error != 0) {
    return absl::PermissionDeniedError(absl::StrCat("drop privileges: capng_apply failed (", error, ")"));
  }
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return ErrnoStatus("set no_new_privs");
  return absl::OkStatus();
}

void JoinGroup(const std::string& name) {
  const group* entry = name.empty() ? nullptr : getgrnam(name.c_str());
  if (entry == nullptr) return;
  std::vector<gid_t> groups(static_cast<size_t>(std::max(getgroups(0, nullptr), 0)));
  if (getgroups(static_cast<int>(groups.size()), groups.data()) < 0) return;
  groups.push_back(entry->gr_gid);
  // Without CAP_SETGID this fails, and the service manager has to see to it (SupplementaryGroups=).
  if (setgroups(groups.size(), groups.data()) != 0 && errno != EPERM) {
    Log(spdlog::level::warn, "cannot join group", {{"group", name}, {"reason", ErrnoStatus("setgroups")}});
  }
}

}  // namespace headgate
