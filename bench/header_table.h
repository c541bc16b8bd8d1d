// SPDX-License-Identifier: Apache-2.0
//
// The table from which BPF programs take the headers of their frames.
#pragma once

#include <absl/status/status.h>
#include <absl/types/span.h>

#include "bench/bpf/header.h"

namespace headgate::bench {

// `map` is an array of at least as many, and may be mapped into memory.
absl::Status FillHeaders(int map, absl::Span<const hgb_header> headers);

}  // namespace headgate::bench
