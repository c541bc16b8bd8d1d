// SPDX-License-Identifier: Apache-2.0
//
// Multicast groups that this host's kernel is to be a member of: what makes switches and routers send them here,
// and the device let them in (IGMP, RFC 3376; MLD, RFC 3810). Sockets hold them, which the service manager keeps
// for the next agent: no data is read from those.
//
// Threads: one at a time.
#pragma once

#include <absl/status/status.h>

#include <compare>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "agent/base/address.h"
#include "agent/base/fd.h"

namespace headgate {

struct Membership {
  uint32_t ifindex = 0;
  IpAddress group;
  std::optional<IpAddress> source;  // nothing: all (*, G)
  friend auto operator<=>(const Membership&, const Membership&) = default;
};

class Memberships {
 public:
  // Joins and leaves until these are all there are. Why some could not be joined; to be asked for again later.
  std::map<Membership, absl::Status> Want(const std::set<Membership>& wanted);

 private:
  struct Socket {
    Fd fd;
    Family family = Family::kIpv4;
  };
  absl::Status Join(const Membership& membership);
  void Leave(const Membership& membership, size_t socket);

  std::vector<Socket> sockets_;
  std::map<Membership, size_t> joined_;  // and by which socket
};

}  // namespace headgate
