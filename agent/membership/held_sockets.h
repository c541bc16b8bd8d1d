// SPDX-License-Identifier: Apache-2.0
//
// Sockets of memberships that the service manager keeps while no agent runs (sd_notify(3), FDSTORE). The kernel
// leaves a group with the last socket that holds it, and what is upstream stops sending: copies that the kernel
// makes would stop with the agent.
#pragma once

#include <string>
#include <vector>

#include "agent/base/fd.h"

namespace headgate {

class HeldSockets {
 public:
  // Those of an earlier agent. To be called once, before there are other threads: it changes the environment.
  static HeldSockets Take();
  // Has the manager, if there is one, keep the socket for the next agent.
  static void Keep(int socket);

  // Lets go of them, and has the manager do so: this agent holds what is still wanted.
  void Release();
  bool empty() const { return sockets_.empty(); }

 private:
  std::vector<Fd> sockets_;
  std::vector<std::string> names_;  // by which the manager knows them
};

}  // namespace headgate
