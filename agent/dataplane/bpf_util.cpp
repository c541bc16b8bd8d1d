// SPDX-License-Identifier: Apache-2.0
#include "agent/dataplane/bpf_util.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <algorithm>

namespace headgate {
namespace {

// Rows of one system call: bounds the buffer of per-CPU reads.
constexpr uint32_t kRowsPerCall = 4096;
constexpr size_t kBytesPerCall = 4 << 20;

// The kernel continues a batch after the key it is given, and begins at 0 when given none.
absl::Status LookupBatch(int map, uint32_t first, uint32_t count, std::vector<uint32_t>& keys, void* values) {
  uint32_t in = first - 1, out = 0;
  keys.resize(count);
  if (bpf_map_lookup_batch(map, first == 0 ? nullptr : &in, &out, keys.data(), values, &count, nullptr) != 0 &&
      errno != ENOENT) {
    return ErrnoStatus("read ", count, " values of a map from ", first);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadArray(int map, uint32_t first, uint32_t count, void* values) {
  std::vector<uint32_t> keys;
  return count == 0 ? absl::OkStatus() : LookupBatch(map, first, count, keys, values);
}

absl::Status WriteArray(int map, absl::Span<const uint32_t> indexes, const void* values) {
  uint32_t count = static_cast<uint32_t>(indexes.size());
  if (count == 0) return absl::OkStatus();
  if (bpf_map_update_batch(map, indexes.data(), values, &count, nullptr) != 0) {
    return ErrnoStatus("write ", indexes.size(), " values of a map (", count, " were written)");
  }
  return absl::OkStatus();
}

absl::StatusOr<size_t> CountCpus() {
  const int cpus = libbpf_num_possible_cpus();
  if (cpus < 0) return ErrnoStatusOf(cpus, "count CPUs");
  return static_cast<size_t>(cpus);
}

absl::Status LookupCpus(int map, uint32_t key, void* values) {
  return bpf_map_lookup_elem(map, &key, values) == 0 ? absl::OkStatus() : ErrnoStatus("read a per-CPU map");
}

absl::Status UpdateCpus(int map, uint32_t key, const void* values) {
  return bpf_map_update_elem(map, &key, values, BPF_ANY) == 0 ? absl::OkStatus()
                                                              : ErrnoStatus("write a per-CPU map");
}

absl::Status VisitPerCpu(int map, uint32_t first, uint32_t count, size_t fields,
                         absl::FunctionRef<void(size_t, uint64_t)> visit) {
  HG_ASSIGN_OR_RETURN(const size_t cpus, CountCpus());
  const auto per_call = static_cast<uint32_t>(
      std::clamp<size_t>(kBytesPerCall / (cpus * fields * sizeof(uint64_t)), 1, kRowsPerCall));
  std::vector<uint64_t> values;
  std::vector<uint32_t> keys;
  for (uint32_t done = 0; done < count;) {
    const uint32_t rows = std::min(per_call, count - done);
    values.resize(rows * cpus * fields);
    HG_RETURN_IF_ERROR(LookupBatch(map, first + done, rows, keys, values.data()));
    for (size_t row = 0; row < rows; ++row) {
      for (size_t cpu = 0; cpu < cpus; ++cpu) {
        const uint64_t* fields_of = &values[(row * cpus + cpu) * fields];
        for (size_t f = 0; f < fields; ++f) visit((done + row) * fields + f, fields_of[f]);
      }
    }
    done += rows;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<uint64_t>> ReadPerCpuFields(int map, uint32_t first, uint32_t count, size_t fields) {
  std::vector<uint64_t> sums(count * fields);
  HG_RETURN_IF_ERROR(
      VisitPerCpu(map, first, count, fields, [&](size_t field, uint64_t value) { sums[field] += value; }));
  return sums;
}

absl::Status ClearPerCpu(int map, absl::Span<const uint32_t> rows, size_t fields) {
  HG_ASSIGN_OR_RETURN(const size_t cpus, CountCpus());
  const std::vector<uint64_t> zeros(std::min<size_t>(rows.size(), kRowsPerCall) * cpus * fields);
  for (size_t done = 0; done < rows.size(); done += kRowsPerCall) {
    HG_RETURN_IF_ERROR(WriteArray(map, rows.subspan(done, kRowsPerCall), zeros.data()));
  }
  return absl::OkStatus();
}

}  // namespace headgate
