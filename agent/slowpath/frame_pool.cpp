// SPDX-License-Identifier: Apache-2.0
#include "agent/slowpath/frame_pool.h"

#include <absl/strings/str_cat.h>
#include <sys/mman.h>

#include "agent/base/status.h"

namespace headgate {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;

}  // namespace

absl::StatusOr<std::unique_ptr<FramePool>> FramePool::Create(uint32_t frames) {
  std::unique_ptr<FramePool> pool(new FramePool);
  const size_t bytes = size_t{frames} * kFrameSize;
  pool->mapped_ = (bytes + kHugePage - 1) / kHugePage * kHugePage;
  // Populated: a page fault in a worker is a system call of sorts.
  constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE;
  void* memory = mmap(nullptr, pool->mapped_, PROT_READ | PROT_WRITE, kFlags | MAP_HUGETLB, -1, 0);
  pool->huge_pages_ = memory != MAP_FAILED;
  if (!pool->huge_pages_) {
    pool->mapped_ = bytes;
    memory = mmap(nullptr, pool->mapped_, PROT_READ | PROT_WRITE, kFlags, -1, 0);
  }
  if (memory == MAP_FAILED) return ErrnoStatus("map ", bytes, " bytes for frames");
  pool->memory_ = static_cast<uint8_t*>(memory);
  pool->total_ = frames;
  pool->references_.resize(frames);
  pool->free_list_.reserve(frames);
  for (uint32_t frame = frames; frame > 0; --frame) pool->free_list_.push_back(frame - 1);
  pool->ShowFree();
  return pool;
}

FramePool::~FramePool() {
  if (memory_ != nullptr) munmap(memory_, mapped_);
}

}  // namespace headgate
