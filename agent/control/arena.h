// SPDX-License-Identifier: Apache-2.0
//
// The agent's image of one kernel table: an array of cells handed out in runs, never changed in place once
// packets may see them.
//
// A run allocated in the current batch is fresh: nothing the data path reaches refers to it, so it may be
// written freely. Everything else is copied first and released; a released run is reused only after the data
// path has moved on (Reclaim). What was written is remembered by page, the unit in which the kernel's array is
// updated, until Flushed().
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <utility>
#include <vector>

#include "bpf/hg_abi.h"

namespace headgate {

inline constexpr unsigned kMaxOrder = HG_WINDOW_BITS;  // runs of 1 << order cells

// Hands out aligned runs of 1, 2, .. 256 cells (a buddy allocator). Cell 0 is never given: 0 means none.
class RunAllocator {
 public:
  RunAllocator();
  uint32_t Allocate(unsigned order);
  void Free(uint32_t index, unsigned order);
  // Takes the given run, which must be free: for adopting an image written by an earlier process.
  void Claim(uint32_t index, unsigned order);
  bool IsFree(uint32_t index, unsigned order) const;
  // Cells ever handed out end here.
  uint32_t end() const { return static_cast<uint32_t>(free_order_.size()); }
  uint32_t used() const { return used_; }
  // Entries of the lists of free runs, stale ones among them.
  size_t listed() const;

 private:
  void Grow();
  void PutFree(uint32_t index, unsigned order);
  // The free run that contains the given one; its order, or kMaxOrder + 1.
  unsigned FindFree(uint32_t index, unsigned order) const;

  // Order of the free run that starts at a cell, -1 where none does.
  std::vector<int8_t> free_order_;
  // Starts of free runs by order; may hold stale ones, which free_order_ tells.
  std::vector<uint32_t> free_[kMaxOrder + 1];
  uint32_t used_ = 0;
};

template <typename Cell, uint32_t kCellsPerPage>
class Arena {
 public:
  using CellType = Cell;
  static constexpr uint32_t kPerPage = kCellsPerPage;

  const Cell& operator[](uint32_t index) const { return cells_[index]; }

  // For a cell of a fresh run.
  Cell& Write(uint32_t index) {
    MarkDirty(index / kCellsPerPage);
    return cells_[index];
  }

  // A fresh run of zeroed cells.
  uint32_t Allocate(unsigned order) {
    const uint32_t index = allocator_.Allocate(order);
    Grow();
    for (uint32_t i = 0; i < (1U << order); ++i) Write(index + i) = Cell{};
    fresh_[index] = true;
    fresh_runs_.push_back(index);
    return index;
  }

  bool IsFresh(uint32_t index) const { return fresh_[index]; }

  void Release(uint32_t index, unsigned order) {
    if (fresh_[index]) {
      fresh_[index] = false;
      allocator_.Free(index, order);
    } else {
      released_.emplace_back(index, order);
    }
  }

  // Ends a batch: what was fresh may now be seen by packets of generation `epoch` and later.
  void Publish(uint64_t epoch) {
    for (const uint32_t index : fresh_runs_) fresh_[index] = false;
    fresh_runs_.clear();
    for (const auto& run : released_) limbo_.push_back({epoch, run.first, run.second});
    released_.clear();
  }

  // No packet is older than `epoch` any more.
  void Reclaim(uint64_t epoch) {
    while (!limbo_.empty() && limbo_.front().epoch <= epoch) {
      allocator_.Free(limbo_.front().index, limbo_.front().order);
      limbo_.pop_front();
    }
  }

  // Takes over a run that an earlier process wrote.
  bool CanClaim(uint32_t index, unsigned order) const { return allocator_.IsFree(index, order); }
  void Claim(uint32_t index, unsigned order) {
    allocator_.Claim(index, order);
    Grow();
  }
  // Leaves free cells alone until what is published next is all that packets see: they may look there now.
  void KeepClear(uint32_t first, uint32_t end) {
    for (uint32_t index = std::max(first, 1U); index < end;) {
      unsigned order = std::min(static_cast<unsigned>(std::countr_zero(index)), kMaxOrder);
      while (index + (1U << order) > end && order > 0) --order;
      Claim(index, order);
      released_.emplace_back(index, order);
      index += 1U << order;
    }
  }
  // The content read back from the kernel, before any Claim.
  void Load(std::vector<Cell> cells) {
    cells_ = std::move(cells);
    Grow();
  }

  // Pages written and not yet flushed. A page may be listed although it lies beyond the table: the writer of the
  // table says so then.
  const std::vector<uint32_t>& dirty_pages() const { return dirty_list_; }
  void Flushed() {
    for (const uint32_t page : dirty_list_) dirty_[page] = false;
    dirty_list_.clear();
  }
  void MarkDirty(uint32_t page) {
    if (dirty_[page]) return;
    dirty_[page] = true;
    dirty_list_.push_back(page);
  }
  const Cell* page(uint32_t number) const { return &cells_[number * kCellsPerPage]; }
  uint32_t pages() const { return static_cast<uint32_t>(cells_.size() / kCellsPerPage); }
  uint32_t size() const { return static_cast<uint32_t>(cells_.size()); }
  uint32_t used() const { return allocator_.used(); }
  // Entries of all lists kept beside the cells: what must not grow with the number of changes.
  size_t listed() const {
    return allocator_.listed() + fresh_runs_.size() + released_.size() + limbo_.size() + dirty_list_.size();
  }

 private:
  struct Limbo {
    uint64_t epoch;
    uint32_t index;
    unsigned order;
  };

  void Grow() {
    if (allocator_.end() > cells_.size()) cells_.resize(allocator_.end());
    // Whole pages: reading one back compares all of it.
    if (cells_.size() % kCellsPerPage != 0) cells_.resize((cells_.size() / kCellsPerPage + 1) * kCellsPerPage);
    fresh_.resize(cells_.size());
    dirty_.resize(cells_.size() / kCellsPerPage);
  }

  RunAllocator allocator_;
  std::vector<Cell> cells_;
  std::vector<bool> fresh_;  // by first cell of a run
  std::vector<uint32_t> fresh_runs_;
  std::vector<std::pair<uint32_t, unsigned>> released_;
  std::deque<Limbo> limbo_;
  std::vector<bool> dirty_;
  std::vector<uint32_t> dirty_list_;
};

}  // namespace headgate
