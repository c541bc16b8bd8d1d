// SPDX-License-Identifier: Apache-2.0
#include "agent/slowpath/frame_pool.h"

#include <absl/strings/str_cat.h>
#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <string>

#include "agent/base/status.h"

namespace headgate {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;
constexpr unsigned kMaxNodes = 64;  // that a word of a mask has room for

// Nothing on a host with one node.
std::optional<unsigned> NodeOf(unsigned cpu) {
  // The CPU's directory has a link named after its node.
  for (unsigned node = 0; node < kMaxNodes; ++node) {
    const std::string link = absl::StrCat("/sys/devices/system/cpu/cpu", cpu, "/node", node);
    if (access(link.c_str(), F_OK) == 0) return node;
  }
  return std::nullopt;
}

// While it lives, memory that this thread touches first is of a node, if that has some left.
class PreferNode {
 public:
  explicit PreferNode(std::optional<unsigned> node) {
    if (!node) return;
    const unsigned long mask = 1UL << *node;
    // A preference: that it cannot be had is no error.
    set_ = syscall(SYS_set_mempolicy, MPOL_PREFERRED, &mask, kMaxNodes + 1) == 0;
  }
  ~PreferNode() {
    if (set_) syscall(SYS_set_mempolicy, MPOL_DEFAULT, nullptr, 0);
  }
  PreferNode(const PreferNode&) = delete;
  PreferNode& operator=(const PreferNode&) = delete;

 private:
  bool set_ = false;
};

}  // namespace

absl::StatusOr<std::unique_ptr<FramePool>> FramePool::Create(uint32_t frames, std::optional<unsigned> cpu) {
  const PreferNode prefer(cpu ? NodeOf(*cpu) : std::nullopt);
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
