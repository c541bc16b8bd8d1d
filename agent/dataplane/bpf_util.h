// SPDX-License-Identifier: Apache-2.0
//
// Bulk access to BPF arrays.
#pragma once

#include <absl/functional/function_ref.h>
#include <absl/status/statusor.h>
#include <absl/types/span.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "agent/base/status.h"

namespace headgate {

// Values of an array map, one after the other.
absl::Status ReadArray(int map, uint32_t first, uint32_t count, void* values);
absl::Status WriteArray(int map, absl::Span<const uint32_t> indexes, const void* values);

// The values that a per-CPU map has for one key, by CPU.
absl::StatusOr<size_t> CountCpus();
absl::Status LookupCpus(int map, uint32_t key, void* values);
absl::Status UpdateCpus(int map, uint32_t key, const void* values);

template <typename Value>
absl::StatusOr<std::vector<Value>> ReadCpus(int map, uint32_t key) {
  static_assert(sizeof(Value) % 8 == 0);
  HG_ASSIGN_OR_RETURN(const size_t cpus, CountCpus());
  std::vector<Value> values(cpus);
  HG_RETURN_IF_ERROR(LookupCpus(map, key, values.data()));
  return values;
}

// Calls visit(i, value) for each u64 of the values that a per-CPU array has at `count` indexes from `first` on:
// `fields` of each index and CPU. Field f of index first + n is i = n * fields + f, on every CPU.
absl::Status VisitPerCpu(int map, uint32_t first, uint32_t count, size_t fields,
                         absl::FunctionRef<void(size_t, uint64_t)> visit);
// Rows of a per-CPU array whose values are made of u64 fields, summed over CPUs; fields one after the other.
absl::StatusOr<std::vector<uint64_t>> ReadPerCpuFields(int map, uint32_t first, uint32_t count, size_t fields);
// Sets rows to zero on all CPUs.
absl::Status ClearPerCpu(int map, absl::Span<const uint32_t> rows, size_t fields);

template <typename Row>
absl::StatusOr<std::vector<Row>> ReadPerCpu(int map, uint32_t first, uint32_t count) {
  constexpr size_t kFields = sizeof(Row) / sizeof(uint64_t);
  HG_ASSIGN_OR_RETURN(const std::vector<uint64_t> fields, ReadPerCpuFields(map, first, count, kFields));
  std::vector<Row> rows(count);
  for (uint32_t i = 0; i < count; ++i) {
    for (size_t f = 0; f < kFields; ++f) reinterpret_cast<uint64_t*>(&rows[i])[f] = fields[i * kFields + f];
  }
  return rows;
}

}  // namespace headgate
