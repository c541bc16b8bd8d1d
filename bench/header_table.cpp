// SPDX-License-Identifier: Apache-2.0
#include "bench/header_table.h"

#include <sys/mman.h>

#include <algorithm>

#include "agent/base/status.h"

namespace headgate::bench {

absl::Status FillHeaders(int map, absl::Span<const hgb_header> headers) {
  if (headers.empty()) return absl::OkStatus();
  const size_t bytes = headers.size() * sizeof(hgb_header);
  // A system call for each of a million headers would take a second.
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, map, 0);
  if (memory == MAP_FAILED) return ErrnoStatus("map the headers' table of ", bytes, " bytes");
  std::copy(headers.begin(), headers.end(), static_cast<hgb_header*>(memory));
  munmap(memory, bytes);
  return absl::OkStatus();
}

}  // namespace headgate::bench
