// SPDX-License-Identifier: Apache-2.0
//
// A program that Headgate is compared with, in a network namespace and on one CPU.
#pragma once

#include <absl/status/statusor.h>

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

namespace headgate::bench {

struct PeerSetup {
  std::vector<std::string> words;  // the program, looked for in PATH, and its arguments
  std::string netns;
  int cpu = 0;
  std::string log = "/dev/null";  // file for what it says
};

class PeerProcess {
 public:
  // It ends with the calling thread, whatever becomes of this process.
  static absl::StatusOr<std::unique_ptr<PeerProcess>> Start(const PeerSetup& setup);
  // Ends it and its children, whose end cannot be waited for.
  ~PeerProcess();
  PeerProcess(const PeerProcess&) = delete;
  PeerProcess& operator=(const PeerProcess&) = delete;

  // NOT_FOUND: there is no such program.
  absl::Status CheckRunning();
  // Its own and its children's.
  std::vector<pid_t> Threads() const;

 private:
  explicit PeerProcess(const PeerSetup& setup) : setup_(setup) {}
  absl::Status Spawn();

  PeerSetup setup_;
  pid_t pid_ = -1;
};

}  // namespace headgate::bench
