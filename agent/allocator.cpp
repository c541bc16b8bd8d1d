// SPDX-License-Identifier: Apache-2.0
//
// Settings of the memory allocator, jemalloc, which looks this variable up by name (jemalloc(3), TUNING).
//
// One writer thread allocates nearly everything, so that two arenas are enough; what a burst of changes leaves
// free goes back to the kernel within a second.
extern "C" {
extern const char* malloc_conf;
const char* malloc_conf = "narenas:2,dirty_decay_ms:1000,muzzy_decay_ms:0,background_thread:true";
}
