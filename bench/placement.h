// SPDX-License-Identifier: Apache-2.0
//
// Which CPUs the parts of a benchmark work on.
#pragma once

#include <cstdint>

namespace headgate::bench {

enum class Placement : uint8_t {
  kSame,   // all on CPU 0: the rate is that of the sum of their costs
  kSplit,  // the sender on CPU 0; the gateway and the receiver, which cannot be told apart, on CPU 1
};

}  // namespace headgate::bench
