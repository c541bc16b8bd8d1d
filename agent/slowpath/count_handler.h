// SPDX-License-Identifier: Apache-2.0
//
// Receives packets and lets them go: for measuring, and for seeing what a rule would steer. The worker counts
// them.
#pragma once

#include "agent/slowpath/handler.h"

namespace headgate {

class CountHandler : public Handler {
 public:
  void Handle(absl::Span<Packet> packets, Output&) override {
    for (Packet& packet : packets) packet.disposition = Disposition::kConsumed;
  }
};

}  // namespace headgate
