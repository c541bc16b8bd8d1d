// SPDX-License-Identifier: Apache-2.0
//
// Word of changes to the kernel's neighbours, routes, policy rules, addresses and devices, by rtnetlink.
//
// Threads: one at a time.
#pragma once

#include <absl/status/statusor.h>

#include <functional>
#include <memory>
#include <vector>

#include "agent/resolver/messages.h"

struct mnl_socket;

namespace headgate {

class KernelChanges {
 public:
  // What of it all is of concern.
  struct Concern {
    std::function<bool(const Neighbour&)> neighbour;
    std::function<bool(const Prefix&)> route;  // to these destinations
  };

  // Of the calling thread's network namespace.
  static absl::StatusOr<KernelChanges> Open();

  int fd() const;  // readable when there is some
  // Reads what has come. True when some is of concern, or some was lost.
  bool Read(const Concern& concern);

 private:
  using Socket = std::unique_ptr<mnl_socket, int (*)(mnl_socket*)>;
  explicit KernelChanges(Socket socket);

  Socket socket_;
  std::vector<char> buffer_;
};

}  // namespace headgate
