// SPDX-License-Identifier: Apache-2.0
#include "agent/control/arena.h"

#include <algorithm>
#include <cassert>

namespace headgate {

RunAllocator::RunAllocator() {
  Grow();
  Claim(0, 0);
  used_ = 0;
}

void RunAllocator::Grow() {
  const uint32_t start = end();
  free_order_.resize(start + (1U << kMaxOrder), -1);
  PutFree(start, kMaxOrder);
}

void RunAllocator::PutFree(uint32_t index, unsigned order) {
  free_order_[index] = static_cast<int8_t>(order);
  free_[order].push_back(index);
}

uint32_t RunAllocator::Allocate(unsigned order) {
  for (unsigned k = order; k <= kMaxOrder; ++k) {
    while (!free_[k].empty()) {
      const uint32_t index = free_[k].back();
      free_[k].pop_back();
      if (free_order_[index] != static_cast<int8_t>(k)) continue;
      free_order_[index] = -1;
      while (k > order) {
        --k;
        PutFree(index + (1U << k), k);
      }
      used_ += 1U << order;
      return index;
    }
  }
  Grow();
  return Allocate(order);
}

void RunAllocator::Free(uint32_t index, unsigned order) {
  used_ -= 1U << order;
  while (order < kMaxOrder) {
    const uint32_t buddy = index ^ (1U << order);
    if (free_order_[buddy] != static_cast<int8_t>(order)) break;
    free_order_[buddy] = -1;
    index = std::min(index, buddy);
    ++order;
  }
  PutFree(index, order);
}

size_t RunAllocator::listed() const {
  size_t sum = 0;
  for (const auto& list : free_) sum += list.size();
  return sum;
}

unsigned RunAllocator::FindFree(uint32_t index, unsigned order) const {
  for (unsigned k = order; k <= kMaxOrder; ++k) {
    const uint32_t start = index & ~((1U << k) - 1);
    if (start < end() && free_order_[start] == static_cast<int8_t>(k)) return k;
  }
  return kMaxOrder + 1;
}

bool RunAllocator::IsFree(uint32_t index, unsigned order) const {
  if ((index & ((1U << order) - 1)) != 0) return false;
  return index >= end() || FindFree(index, order) <= kMaxOrder;
}

void RunAllocator::Claim(uint32_t index, unsigned order) {
  while (index >= end()) Grow();
  unsigned k = FindFree(index, order);
  assert(k <= kMaxOrder);
  free_order_[index & ~((1U << k) - 1)] = -1;
  while (k > order) {
    --k;
    const uint32_t half = index & ~((1U << k) - 1);
    PutFree(half ^ (1U << k), k);
  }
  used_ += 1U << order;
}

}  // namespace headgate
