// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace headgate {

// Lets a thread of the allocator give free memory back. Not before privileges are dropped: they are a thread's
// own.
void StartAllocatorThread();

}  // namespace headgate
