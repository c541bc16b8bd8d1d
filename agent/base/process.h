// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace headgate {

// Memory of this process that is in RAM, in bytes; 0 when it cannot be read.
uint64_t ResidentBytes();

}  // namespace headgate
