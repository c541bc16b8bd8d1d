// SPDX-License-Identifier: Apache-2.0
//
// hgbench's command line, as tests read it.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "bench/options.h"

namespace headgate::bench {

struct Parsed {
  std::optional<Command> command;
  int exit_code = -1;
  std::string out, err;
};

inline Parsed Parse(std::vector<const char*> words) {
  words.insert(words.begin(), "hgbench");
  std::ostringstream out, err;
  Parsed parsed;
  parsed.command = ParseCommand(static_cast<int>(words.size()), words.data(), out, err, parsed.exit_code);
  parsed.out = out.str();
  parsed.err = err.str();
  return parsed;
}

template <typename Verb>
Verb Get(const std::vector<const char*>& words) {
  const Parsed parsed = Parse(words);
  if (!parsed.command) throw std::runtime_error(parsed.err);
  return std::get<Verb>(parsed.command->verb);
}

}  // namespace headgate::bench
