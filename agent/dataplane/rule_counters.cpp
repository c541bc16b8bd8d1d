// SPDX-License-Identifier: Apache-2.0
#include "agent/dataplane/rule_counters.h"

#include <bpf/bpf.h>

#include <algorithm>
#include <numeric>

#include "agent/base/status.h"
#include "agent/dataplane/bpf_util.h"

namespace headgate {
namespace {

constexpr size_t kPageFields = static_cast<size_t>(HG_RULE_COUNTS_PER_PAGE) * RuleCounters::kFields;
// Words are carried over once in a million packets: twice while one page is read is not to be expected.
constexpr int kAttempts = 100;

absl::StatusOr<bpf_map_info> InfoOf(int map) {
  bpf_map_info info{};
  uint32_t length = sizeof(info);
  if (bpf_obj_get_info_by_fd(map, &info, &length) != 0) return ErrnoStatus("inspect a map of rule counters");
  return info;
}

// Packets and bytes, which are carried over from hg_rule_recent; `limited` changes whenever a limit drops.
bool SameCarried(const std::vector<uint64_t>& before, const std::vector<uint64_t>& after) {
  for (size_t row = 0; row < before.size(); row += RuleCounters::kFields) {
    if (before[row] != after[row] || before[row + 1] != after[row + 1]) return false;
  }
  return true;
}

}  // namespace

absl::StatusOr<std::vector<uint64_t>> RuleCounters::ReadPages(uint32_t first, uint32_t pages) const {
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    HG_ASSIGN_OR_RETURN(std::vector<uint64_t> before, ReadPerCpuFields(stats_, first, pages, kPageFields));
    std::vector<uint64_t> sums = before;
    bool full = false;
    HG_RETURN_IF_ERROR(
        VisitPerCpu(recent_, first, pages, HG_RULE_COUNTS_PER_PAGE, [&](size_t row, uint64_t recent) {
          full = full || (recent & HG_RECENT_PACKETS) == HG_RECENT_PACKETS;
          sums[row * kFields] += recent & HG_RECENT_PACKETS;
          sums[row * kFields + 1] += recent >> HG_RECENT_PACKET_BITS;
        }));
    HG_ASSIGN_OR_RETURN(const std::vector<uint64_t> after, ReadPerCpuFields(stats_, first, pages, kPageFields));
    // Otherwise a word was carried over meanwhile, and is in neither or in both.
    if (!full && SameCarried(before, after)) return sums;
  }
  return absl::UnavailableError("read the counters of rules: they change faster than they can be read");
}

absl::StatusOr<std::vector<uint64_t>> RuleCounters::ReadRows(uint32_t first, uint32_t count) const {
  // In parts, of which few have to be read again.
  constexpr uint32_t kPages = 64;
  std::vector<uint64_t> rows;
  rows.reserve(static_cast<size_t>(count + 2 * HG_RULE_COUNTS_PER_PAGE) * kFields);
  const uint32_t first_page = first / HG_RULE_COUNTS_PER_PAGE,
                 end_page = PagesFor(static_cast<uint64_t>(first) + count);
  for (uint32_t page = first_page; page < end_page; page += kPages) {
    HG_ASSIGN_OR_RETURN(const std::vector<uint64_t> part, ReadPages(page, std::min(kPages, end_page - page)));
    rows.insert(rows.end(), part.begin(), part.end());
  }
  const ptrdiff_t skipped = first % HG_RULE_COUNTS_PER_PAGE;
  rows.erase(rows.begin(), rows.begin() + skipped * kFields);
  rows.resize(static_cast<size_t>(count) * kFields);
  return rows;
}

absl::StatusOr<std::vector<uint64_t>> RuleCounters::Read(uint32_t first, uint32_t count) const {
  HG_ASSIGN_OR_RETURN(std::vector<uint64_t> sums, ReadRows(first, count));
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
                        ReadRows(sorted[from], sorted[to - 1] - sorted[from] + 1));
    for (size_t i = from; i < to; ++i) {
      const uint64_t* row = &sums[static_cast<size_t>(sorted[i] - sorted[from]) * kFields];
      for (uint32_t field = 0; field < kFields; ++field) base.push_back(0 - row[field]);
    }
    from = to;
  }
  return WriteArray(base_, sorted, base.data());
}

absl::StatusOr<bool> RuleCounters::BelongTogether() const {
  HG_ASSIGN_OR_RETURN(const bpf_map_info base, InfoOf(base_));
  hg_rule_count bound{};
  HG_RETURN_IF_ERROR(ReadArray(base_, RowsOf(base.max_entries), 1, &bound));
  const auto is = [](int map, uint64_t id) {
    const absl::StatusOr<bpf_map_info> info = InfoOf(map);
    return info.ok() && info->id == id;
  };
  return is(recent_, bound.packets) && is(stats_, bound.bytes);
}

absl::Status RuleCounters::Bind() const {
  HG_ASSIGN_OR_RETURN(const bpf_map_info recent, InfoOf(recent_));
  HG_ASSIGN_OR_RETURN(const bpf_map_info stats, InfoOf(stats_));
  HG_ASSIGN_OR_RETURN(const bpf_map_info base, InfoOf(base_));
  const uint32_t last = RowsOf(base.max_entries);
  const hg_rule_count bound = {.packets = recent.id, .bytes = stats.id, .limited = 0};
  return WriteArray(base_, {&last, 1}, &bound);
}

absl::Status RuleCounters::Carry(const RuleCounters& others) const {
  HG_ASSIGN_OR_RETURN(const bpf_map_info ours, InfoOf(base_));
  HG_ASSIGN_OR_RETURN(const bpf_map_info theirs, InfoOf(others.base_));
  HG_ASSIGN_OR_RETURN(const bool with_counts, others.BelongTogether());
  const uint32_t rows = RowsOf(std::min(ours.max_entries, theirs.max_entries));
  std::vector<uint64_t> base(static_cast<size_t>(rows) * kFields);
  if (with_counts) {
    HG_ASSIGN_OR_RETURN(base, others.Read(0, rows));
  } else {
    HG_RETURN_IF_ERROR(ReadArray(others.base_, 0, rows, base.data()));
  }
  std::vector<uint32_t> indexes(rows);
  std::iota(indexes.begin(), indexes.end(), 0);
  HG_RETURN_IF_ERROR(WriteArray(base_, indexes, base.data()));
  return Bind();
}

}  // namespace headgate
