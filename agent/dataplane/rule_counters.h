// SPDX-License-Identifier: Apache-2.0
//
// What rules have counted: hg_rule_recent and hg_rule_stats, which the program writes, in pages of rows for each
// CPU, and hg_rule_base, which this process alone writes, a row to be added to each. A row begins at zero by its
// base: a page that packets count in cannot be written without losing some of them.
#pragma once

#include <absl/status/statusor.h>
#include <absl/types/span.h>

#include <cstdint>
#include <vector>

#include "bpf/hg_abi.h"

namespace headgate {

class RuleCounters {
 public:
  static constexpr uint32_t kFields = sizeof(hg_rule_count) / sizeof(uint64_t);

  // File descriptors of the three maps; -1: there is none.
  RuleCounters(int recent, int stats, int base) : recent_(recent), stats_(stats), base_(base) {}

  // Pages that have at least so many rows.
  static uint32_t PagesFor(uint64_t rows) {
    return static_cast<uint32_t>((rows + HG_RULE_COUNTS_PER_PAGE - 1) / HG_RULE_COUNTS_PER_PAGE);
  }
  // Entries of hg_rule_base for so many pages: the last names the maps it is the base of.
  static uint32_t BaseEntriesFor(uint32_t pages) { return pages * HG_RULE_COUNTS_PER_PAGE + 1; }
  static uint32_t RowsOf(uint32_t base_entries) { return base_entries - 1; }

  // Whether the base is that of these maps. When it is not, its maker came no further than to pin the base: then
  // what the others have counted is in the base already.
  absl::StatusOr<bool> BelongTogether() const;
  // Makes the base that of these maps.
  absl::Status Bind() const;

  // Rows, the fields of each one after the other.
  absl::StatusOr<std::vector<uint64_t>> Read(uint32_t first, uint32_t count) const;
  // Nothing counts in these rows meanwhile.
  absl::Status Clear(absl::Span<const uint32_t> rows) const;
  // Goes on from what others have counted, which may be of another size, and binds the base.
  absl::Status Carry(const RuleCounters& others) const;

 private:
  // Of `pages` pages, without the base; of one moment for each row.
  absl::StatusOr<std::vector<uint64_t>> ReadPages(uint32_t first, uint32_t pages) const;
  absl::StatusOr<std::vector<uint64_t>> ReadRows(uint32_t first, uint32_t count) const;

  int recent_;
  int stats_;
  int base_;
};

}  // namespace headgate
