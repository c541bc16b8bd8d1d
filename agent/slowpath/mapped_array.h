// SPDX-License-Identifier: Apache-2.0
//
// The values of a BPF array (BPF_F_MMAPABLE) in this process's memory.
#pragma once

#include <absl/status/statusor.h>
#include <sys/mman.h>

#include <cstddef>
#include <utility>

#include "agent/base/status.h"

namespace headgate {

template <typename Value>
class MappedArray {
  static_assert(sizeof(Value) % 8 == 0, "values of a mapped array are 8 bytes apart");

 public:
  // `map`: its file descriptor, not needed any more afterwards. `name`: for errors.
  static absl::StatusOr<MappedArray> Map(int map, size_t count, const char* name) {
    void* memory = mmap(nullptr, count * sizeof(Value), PROT_READ | PROT_WRITE, MAP_SHARED, map, 0);
    if (memory == MAP_FAILED) return ErrnoStatus("map ", name, " into memory");
    return MappedArray(static_cast<Value*>(memory), count);
  }
  MappedArray(MappedArray&& other) noexcept
      : values_(std::exchange(other.values_, nullptr)), count_(other.count_) {}
  MappedArray& operator=(MappedArray&&) = delete;
  ~MappedArray() {
    if (values_ != nullptr) munmap(values_, count_ * sizeof(Value));
  }

  Value& operator[](size_t index) const { return values_[index]; }
  Value* data() const { return values_; }
  size_t size() const { return count_; }

 private:
  MappedArray(Value* values, size_t count) : values_(values), count_(count) {}

  Value* values_;
  size_t count_;
};

}  // namespace headgate
