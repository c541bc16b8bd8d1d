// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <absl/status/status.h>

namespace headgate {

// Keeps the capabilities the running agent needs and gives up all others, for good: CAP_BPF and CAP_PERFMON for
// maps and programs, CAP_NET_ADMIN to attach to devices, CAP_NET_RAW and CAP_IPC_LOCK for AF_XDP. Before any
// thread is started.
absl::Status DropPrivileges();

// Makes the process a member of the group, for what it is to give to it later, when it may do that at all.
void JoinGroup(const std::string& name);

}  // namespace headgate
