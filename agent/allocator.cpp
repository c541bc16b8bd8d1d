// SPDX-License-Identifier: Apache-2.0
//
// Settings of the memory allocator, jemalloc, which looks this variable up by name (jemalloc(3), TUNING).
//
// One writer thread allocates nearly everything, so that two arenas are enough; what a burst of changes leaves
// free goes back to the kernel within a second.
#include "agent/allocator.h"

#include <cstddef>

extern "C" {
extern const char* malloc_conf;
const char* malloc_conf = "narenas:2,dirty_decay_ms:200,muzzy_decay_ms:0";
// Absent where sanitizers have an allocator of their own.
int mallctl(const char* name, void* old_value, size_t* old_size, void* value, size_t size) __attribute__((weak));
}

namespace headgate {

void StartAllocatorThread() {
  bool on = true;
  if (mallctl != nullptr) mallctl("background_thread", nullptr, nullptr, &on, sizeof(on));
}

}  // namespace headgate
