// SPDX-License-Identifier: Apache-2.0
//
// What a loaded program costs: the verifier when it is loaded, and memory.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace headgate {

struct ProgramCost {
  std::string name;
  uint32_t verified = 0;      // instructions the verifier went through
  uint32_t instructions = 0;  // of the program as it is run
  uint32_t jit_bytes = 0;     // 0: it is interpreted
};

// Nothing when `fd` is no program.
std::optional<ProgramCost> CostOfProgram(int fd);

// A table's lines.
std::string CostHeading();
std::string CostLine(const ProgramCost& cost);

}  // namespace headgate
