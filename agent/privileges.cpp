// SPDX-License-Identifier: Apache-2.0
#include "agent/privileges.h"

#include <cap-ng.h>
#include <sys/prctl.h>

#include "agent/base/status.h"

namespace headgate {

absl::Status DropPrivileges() {
  capng_get_caps_process();
  const bool may_bound = capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP) != 0;
  constexpr unsigned kNeeded[] = {CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN, CAP_NET_RAW};
  bool held[std::size(kNeeded)];
  for (size_t i = 0; i < std::size(kNeeded); ++i) held[i] = capng_have_capability(CAPNG_PERMITTED, kNeeded[i]) != 0;
  capng_clear(may_bound ? CAPNG_SELECT_BOTH : CAPNG_SELECT_CAPS);
  for (size_t i = 0; i < std::size(kNeeded); ++i) {
    // What was not given cannot be kept; whoever needs it says so when it fails.
    if (!held[i]) continue;
    const auto type = static_cast<capng_type_t>(CAPNG_EFFECTIVE | CAPNG_PERMITTED |
                                                (may_bound ? CAPNG_BOUNDING_SET : 0));
    capng_update(CAPNG_ADD, type, kNeeded[i]);
  }
  if (const int error = capng_apply(may_bound ? CAPNG_SELECT_BOTH : CAPNG_SELECT_CAPS); error != 0) {
    return absl::PermissionDeniedError(absl::StrCat("drop privileges: capng_apply failed (", error, ")"));
  }
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return ErrnoStatus("set no_new_privs");
  return absl::OkStatus();
}

}  // namespace headgate
