// SPDX-License-Identifier: Apache-2.0
//
// Answers each UDP datagram with itself (RFC 862), as a server in user space would: addresses and ports swapped, a
// TTL of its own. What such a server would never see, or could not answer, is dropped: other protocols, fragments,
// wrong checksums, groups as destination.
#pragma once

#include "agent/slowpath/handler.h"

namespace headgate {

class EchoHandler : public Handler {
 public:
  void Handle(absl::Span<Packet> packets, Output&) override;
};

}  // namespace headgate
