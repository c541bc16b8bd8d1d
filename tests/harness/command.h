// SPDX-License-Identifier: Apache-2.0
//
// Programs as a shell would run them: arguments, standard input, what they print, how they end.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

#include "agent/base/fd.h"

namespace headgate::testing {

struct CommandResult {
  int code = -1;  // 128 + N: ended by signal N
  std::string out, err;
};

struct CommandOptions {
  std::string input;                     // standard input; then its end
  std::vector<std::string> environment;  // NAME=VALUE, beside the test's own
  std::string netns;                     // full name; empty: the test's own
  bool terminal = false;                 // on a terminal of 24 lines of 80: everything printed is in `out`
};

// Running until it ends by itself, or this goes.
class Command {
 public:
  explicit Command(const std::vector<std::string>& argv, const CommandOptions& options = {});
  ~Command();
  Command(const Command&) = delete;
  Command& operator=(const Command&) = delete;

  // What it has printed so far.
  std::string Out();
  bool Running();
  pid_t pid() const { return pid_; }  // -1: it has ended
  void Signal(int number) const;
  // Presses keys; terminals only.
  void Type(const std::string& keys) const;
  // Waits for its end; after the timeout it is killed, which is a failure of the test.
  CommandResult Wait(std::chrono::milliseconds timeout = std::chrono::seconds(30));

 private:
  pid_t pid_ = -1;  // -1: ended
  int status_ = 0;
  Fd out_, err_, terminal_;
  std::string screen_;
};

// Start, wait.
CommandResult RunCommand(const std::vector<std::string>& argv, const CommandOptions& options = {});

}  // namespace headgate::testing
