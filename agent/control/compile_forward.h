// SPDX-License-Identifier: Apache-2.0
//
// Actions, next hops and steer targets, from model to table cells; and the kinds of tables that hold small
// records.
#pragma once

#include <absl/container/flat_hash_map.h>

#include <array>
#include <cstring>
#include <optional>
#include <string>

#include "agent/control/arena.h"
#include "agent/control/state.h"
#include "bpf/hg_abi.h"

namespace headgate {

// The kernel's form of a rule's action. What it refers to must exist in the state.
hg_action CompileAction(const Action& action, const State& state);
hg_next_hop CompileNextHop(const NextHop& hop, const State& state);
hg_target CompileTarget(const SteerTarget& target);

uint8_t VlanModeOf(const std::optional<uint16_t>& vlan);  // enum hg_next_hop_vlan

// In 2^-14 ns.
struct PolicerCost {
  uint64_t cost = 0;  // of a packet or byte
  uint64_t depth = 0;
};
PolicerCost CompilePolicer(const RateLimit& limit);

// One cell for each different value, shared by those that have it.
template <typename Cell>
class SharedTable {
 public:
  // The value's cell, with one reference more.
  uint32_t Acquire(const Cell& value) {
    const auto [found, added] = shared_.try_emplace(Bytes(value), Shared{0, 0});
    if (added) {
      found->second.index = cells.Allocate(0);
      cells.Write(found->second.index) = value;
    }
    ++found->second.references;
    return found->second.index;
  }
  void Release(uint32_t index) {
    const auto found = shared_.find(Bytes(cells[index]));
    if (--found->second.references > 0) return;
    cells.Release(index, 0);
    shared_.erase(found);
  }
  // Counts a reference that a table read back holds. False when the cell is none that Acquire made.
  bool Adopt(uint32_t index) {
    if (index == 0 || index >= cells.size()) return false;
    const auto [found, added] = shared_.try_emplace(Bytes(cells[index]), Shared{index, 0});
    // Two cells with the same bytes are not something Acquire makes.
    if (found->second.index != index) return false;
    if (added) cells.Claim(index, 0);
    ++found->second.references;
    return true;
  }

  Arena<Cell, 1> cells;

 private:
  struct Shared {
    uint32_t index;
    uint32_t references;
  };
  static std::string Bytes(const Cell& value) { return {reinterpret_cast<const char*>(&value), sizeof(value)}; }

  absl::flat_hash_map<std::string, Shared> shared_;  // by the cell's bytes
};

using ActionTable = SharedTable<hg_action>;

// Small records by id, in pages that the root record lists: changing a record copies its page.
template <typename Page, auto kRecords, uint32_t kPages>
class PagedTable {
 public:
  using Directory = std::array<uint32_t, kPages>;
  using Record = std::decay_t<decltype((std::declval<Page&>().*kRecords)[0])>;
  static constexpr uint32_t kRecordsPerPage = sizeof(Page) / sizeof(Record);

  void Set(uint32_t id, const Record& record) {
    uint32_t& page = directory_[id / kRecordsPerPage];
    if (page == 0) {
      page = cells.Allocate(0);
    } else if (!cells.IsFresh(page)) {
      const uint32_t copy = cells.Allocate(0);
      cells.Write(copy) = Page(cells[page]);
      cells.Release(page, 0);
      page = copy;
    }
    (cells.Write(page).*kRecords)[id % kRecordsPerPage] = record;
  }
  void Clear(uint32_t id) {
    if (directory_[id / kRecordsPerPage] != 0) Set(id, Record{});
  }
  Record Get(uint32_t id) const {
    const uint32_t page = directory_[id / kRecordsPerPage];
    return page == 0 ? Record{} : (cells[page].*kRecords)[id % kRecordsPerPage];
  }

  // Takes over the pages that a root record read back lists.
  bool Adopt(const uint32_t* directory) {
    for (uint32_t i = 0; i < kPages; ++i) {
      if (directory[i] == 0) continue;
      if (directory[i] >= cells.size() || !cells.CanClaim(directory[i], 0)) return false;
      cells.Claim(directory[i], 0);
      directory_[i] = directory[i];
    }
    return true;
  }
  // Makes the records those that are wanted: how many were not.
  uint64_t Reconcile(const absl::flat_hash_map<uint32_t, Record>& wanted) {
    uint64_t differences = 0;
    for (uint32_t id = 0; id < kPages * kRecordsPerPage; ++id) {
      const auto found = wanted.find(id);
      const Record record = found == wanted.end() ? Record{} : found->second, held = Get(id);
      if (std::memcmp(&record, &held, sizeof(record)) == 0) continue;
      Set(id, record);
      ++differences;
    }
    return differences;
  }
  const Directory& directory() const { return directory_; }

  Arena<Page, 1> cells;

 private:
  Directory directory_{};
};

using NextHopTable = PagedTable<hg_next_hop_page, &hg_next_hop_page::hop, HG_NEXT_HOP_PAGES>;
using TargetTable = PagedTable<hg_target_page, &hg_target_page::target, HG_TARGET_PAGES>;

}  // namespace headgate
