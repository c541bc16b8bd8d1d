// SPDX-License-Identifier: Apache-2.0
#include "tools/verifier/program_cost.h"

#include <bpf/bpf.h>
#include <linux/bpf.h>

#include <cstdio>

namespace headgate {

std::optional<ProgramCost> CostOfProgram(int fd) {
  bpf_prog_info info{};
  uint32_t length = sizeof(info);
  if (bpf_obj_get_info_by_fd(fd, &info, &length) != 0) return std::nullopt;
  return ProgramCost{.name = info.name,
                     .verified = info.verified_insns,
                     .instructions = info.xlated_prog_len / static_cast<uint32_t>(sizeof(bpf_insn)),
                     .jit_bytes = info.jited_prog_len};
}

std::string CostHeading() {
  char line[128];
  std::snprintf(line, sizeof(line), "%-20s %12s %12s %12s", "program", "verified", "instructions", "JIT bytes");
  return line;
}

std::string CostLine(const ProgramCost& cost) {
  char line[128];
  std::snprintf(line, sizeof(line), "%-20s %12u %12u %12u", cost.name.c_str(), cost.verified, cost.instructions,
                cost.jit_bytes);
  return line;
}

}  // namespace headgate
