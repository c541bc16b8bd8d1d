// SPDX-License-Identifier: Apache-2.0
//
// What may come next on a command line, from the command line's own definition: whatever verbs and options there
// are, completion knows them.
#pragma once

#include <absl/functional/function_ref.h>
#include <CLI/CLI.hpp>

#include <map>
#include <string>
#include <vector>

#include "headgate/v1/gateway.pb.h"

namespace headgate::cli {

struct Candidate {
  std::string text;
  std::string help;  // may be empty
};

struct Completion {
  std::vector<Candidate> candidates;
  bool files = false;  // file names, by the shell
};

// The names of the gateway's objects; `globals` has the global options given so far, by long name.
using NameSource =
    absl::FunctionRef<std::vector<std::string>(v1::Kind kind, const std::map<std::string, std::string>& globals)>;

// `words` are those after the program's name; the last is the one being typed, perhaps empty.
Completion Complete(const CLI::App& app, const std::vector<std::string>& words, NameSource names);

// The script that makes the shell ask hgctl.
std::string BashScript();
std::string ZshScript();

}  // namespace headgate::cli
