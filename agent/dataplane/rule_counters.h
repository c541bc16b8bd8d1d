// SPDX-License-Identifier: Apache-2.0
//
// What rules have counted: hg_rule_stats, which the program writes, in pages of rows for each CPU, and
// hg_rule_base, which this process alone writes, a row to be added to each. A row begins at zero by its base: a
// page that packets count in cannot be written without losing some of them.
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

  // File descriptors of the three maps.
  RuleCounters(int recent, int stats, int base) : recent_(recent), stats_(stats), base_(base) {}

  // Pages that have at least so many rows.
  static uint32_t PagesFor(uint64_t rows) {
    return static_cast<uint32_t>((rows + HG_RULE_COUNTS_PER_PAGE - 1) / HG_RULE_COUNTS_PER_PAGE);
  }

  // Rows, the fields of each one after the other.
  absl::StatusOr<std::vector<uint64_t>> Read(uint32_t first, uint32_t count) const;
  // Nothing counts in these rows meanwhile.
  absl::Status Clear(absl::Span<const uint32_t> rows) const;
  // Goes on from what others have counted, which may be of another size.
  absl::Status Carry(const RuleCounters& others, uint32_t rows) const;

 private:
  // Of `pages` pages, without the base; of one moment for each row.
  absl::StatusOr<std::vector<uint64_t>> ReadPages(uint32_t first, uint32_t pages) const;
  absl::StatusOr<std::vector<uint64_t>> ReadRows(uint32_t first, uint32_t count) const;

  int recent_;
  int stats_;
  int base_;
};

}  // namespace headgate
