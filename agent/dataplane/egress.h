// SPDX-License-Identifier: Apache-2.0
//
// Counting at egress: the tracepoint programs, and how one process hands them over to the next.
#pragma once

#include <absl/status/status.h>

#include <functional>

#include "agent/dataplane/loader.h"

namespace headgate {

// Attaches this process's counters in place of those of the last one, so that each frame is counted once.
// `quiesce`: Dataplane::Quiesce.
absl::Status AttachEgressCounters(Loader& loader, const std::function<absl::Status()>& quiesce);

// Attached by the above: attaches again what was unpinned, which ended it, and puts right who counts.
absl::Status RepairEgressCounters(Loader& loader, Repairs& repairs);

}  // namespace headgate
