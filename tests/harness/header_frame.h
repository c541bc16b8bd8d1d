// SPDX-License-Identifier: Apache-2.0
//
// Headers of the model as frames.
#pragma once

#include "tests/harness/classbench.h"
#include "tests/harness/packet.h"

namespace headgate::testing {

// The frame that the parser makes this header of.
Bytes FrameOf(const Header& header);

// Addresses that are malformed as a source, and headers the program walks past, are other tests' matter.
bool IsUsable(const Header& header);

// A usable one.
Header DrawUsableHeader(const std::vector<Rule>& rules, std::mt19937_64& random);

}  // namespace headgate::testing
