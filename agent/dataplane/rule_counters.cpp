// SPDX-License-Identifier: Apache-2.0
#include "agent/dataplane/rule_counters.h"

#include <bpf/bpf.h>

#include <algorithm>
#include <numeric>

#include "agent/base/status.h"
#include "agent/dataplane/bpf_util.h"

namespace headgate {
namespace {

// Another version of the program may have pages of another size, or none.
absl::StatusOr<uint32_t> RowsPerPage(int map) {
  bpf_map_info info{};
  uint32_t length = sizeof(info);
  if (bpf_obj_get_info_by_fd(map, &info, &length) != 0) return ErrnoStatus("inspect hg_rule_stats");
  return std::max<uint32_t>(info.value_size / sizeof(hg_rule_count), 1);
}

}  // namespace

absl::StatusOr<std::vector<uint64_t>> RuleCounters::ReadStats(uint32_t first, uint32_t count) const {
  if (count == 0) return std::vector<uint64_t>();
  HG_ASSIGN_OR_RETURN(const uint32_t per_page, RowsPerPage(stats_));
  const uint32_t first_page = first / per_page, last_page = (first + count - 1) / per_page;
  HG_ASSIGN_OR_RETURN(std::vector<uint64_t> rows,
                      ReadPerCpuFields(stats_, first_page, last_page - first_page + 1, per_page * kFields));
  const size_t skip = static_cast<size_t>(first - first_page * per_page) * kFields;
  rows.erase(rows.begin(), rows.begin() + static_cast<ptrdiff_t>(skip));
  rows.resize(static_cast<size_t>(count) * kFields);
  return rows;
}

absl::StatusOr<std::vector<uint64_t>> RuleCounters::Read(uint32_t first, uint32_t count) const {
  HG_ASSIGN_OR_RETURN(std::vector<uint64_t> sums, ReadStats(first, count));
  std::vector<uint64_t> base(sums.size());
  HG_RETURN_IF_ERROR(ReadArray(base_, first, count, base.data()));
  // Modulo 2^64: a base may stand for less than nothing.
  for (size_t i = 0; i < sums.size(); ++i) sums[i] += base[i];
  return sums;
}

absl::Status RuleCounters::Clear(absl::Span<const uint32_t> rows) const {
  std::vector<uint32_t> sorted(rows.begin(), rows.end());
  std::sort(sorted.begin(), sorted.end());
  std::vector<uint64_t> base;
  base.reserve(sorted.size() * kFields);
  // Together what lies close by: a page is read for each of its rows otherwise.
  constexpr uint32_t kReach = 16 * HG_RULE_COUNTS_PER_PAGE;
  for (size_t from = 0; from < sorted.size();) {
    size_t to = from + 1;
    while (to < sorted.size() && sorted[to] - sorted[from] < kReach) ++to;
    HG_ASSIGN_OR_RETURN(const std::vector<uint64_t> sums,
                        ReadStats(sorted[from], sorted[to - 1] - sorted[from] + 1));
    for (size_t i = from; i < to; ++i) {
      const uint64_t* row = &sums[static_cast<size_t>(sorted[i] - sorted[from]) * kFields];
      for (uint32_t field = 0; field < kFields; ++field) base.push_back(0 - row[field]);
    }
    from = to;
  }
  return WriteArray(base_, sorted, base.data());
}

absl::Status RuleCounters::Carry(const RuleCounters& others, uint32_t rows) const {
  HG_ASSIGN_OR_RETURN(const std::vector<uint64_t> base, others.Read(0, rows));
  std::vector<uint32_t> indexes(rows);
  std::iota(indexes.begin(), indexes.end(), 0);
  return WriteArray(base_, indexes, base.data());
}

}  // namespace headgate
