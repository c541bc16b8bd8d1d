// SPDX-License-Identifier: Apache-2.0
//
// A headgated of our own: in a network namespace, with its state in a fresh directory.
#pragma once

#include <absl/status/statusor.h>

#include <sys/types.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>

namespace headgate::bench {

struct AgentSetup {
  std::string binary;           // looked for in PATH when it has no slash
  std::string netns;            // its network namespace
  std::string bpffs;            // for its pins
  std::string directory;        // below which its own is made
  std::optional<int> cpu = {};  // that all of it runs on
  bool flow_cache = true;
};

class AgentProcess {
 public:
  // Running, but not serving yet. The agent ends with the calling thread, whatever becomes of this process.
  static absl::StatusOr<std::unique_ptr<AgentProcess>> Start(const AgentSetup& setup);
  // Ends it and removes its directory.
  ~AgentProcess();
  AgentProcess(const AgentProcess&) = delete;
  AgentProcess& operator=(const AgentProcess&) = delete;

  // OK, or how it ended, with the end of its log.
  absl::Status CheckRunning();
  // Whether somebody takes connections at its socket.
  bool Listens() const;
  pid_t pid() const { return pid_; }
  std::string socket() const { return directory_ + "/headgated.sock"; }

  struct Memory {
    uint64_t resident = 0;  // VmRSS, bytes
    uint64_t peak = 0;      // VmHWM, bytes
  };
  absl::StatusOr<Memory> ReadMemory() const;
  // The peak of what comes.
  absl::Status ResetPeak();
  // Processor time it has used, of all its threads.
  absl::StatusOr<double> ReadCpuSeconds() const;
  // Until it has used next to no processor time for `quiet`.
  absl::Status AwaitIdle(std::chrono::milliseconds quiet, std::chrono::milliseconds timeout);

 private:
  AgentProcess() = default;
  absl::Status Spawn(const AgentSetup& setup);
  absl::StatusOr<uint64_t> ReadTicks() const;

  std::string directory_;
  pid_t pid_ = -1;
};

}  // namespace headgate::bench
