// SPDX-License-Identifier: Apache-2.0
//
// What an agent's worker threads call: every system call, by a tracepoint; and the heap's and the locks' functions
// of the libraries it runs with, by probes in them. The kernel counts; the agent is the one that is shipped.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

struct worker_calls_bpf;  // the skeleton
struct bpf_link;

namespace headgate::testing {

class WorkerCallCount {
 public:
  // Throws when nothing can be counted.
  explicit WorkerCallCount(pid_t agent);
  ~WorkerCallCount();
  WorkerCallCount(const WorkerCallCount&) = delete;
  WorkerCallCount& operator=(const WorkerCallCount&) = delete;

  // Counts from Start to Stop, on top of what it has counted.
  void Start();
  void Stop();
  void Clear();

  // By name: "malloc". Where several libraries have a function of that name, the sum.
  std::map<std::string, uint64_t> LibraryCalls() const;
  struct SystemCall {
    uint32_t number = 0;
    bool on_xdp_socket = false;  // its first argument is one of the agent's AF_XDP sockets
    bool on_eventfd = false;     // or one of its eventfds
    uint64_t calls = 0;
  };
  std::vector<SystemCall> SystemCalls() const;
  // The functions that are probed.
  const std::vector<std::string>& probed() const { return probed_; }

 private:
  void Probe(const std::string& library, const std::string& function);
  bool IsXdpSocket(int fd) const;
  bool IsEventfd(int fd) const;

  const pid_t agent_;
  worker_calls_bpf* skeleton_;
  std::vector<bpf_link*> links_;
  std::vector<std::string> probed_;
};

}  // namespace headgate::testing
