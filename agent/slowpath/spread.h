// SPDX-License-Identifier: Apache-2.0
//
// Which of a target's workers deals with a packet.
#pragma once

#include <cstdint>

#include "agent/slowpath/handler.h"

namespace headgate {

enum class SpreadMode : uint8_t {
  kAuto,  // by queue, or by symmetric flow when the queue is one that is to be spread in software
  kQueue,
  kFlow,
  kFlowSymmetric,
  kSource,
  kRoundRobin,
  kHome,  // always the first of them
};

// The same for all packets of a flow, or of a source, in any process: nothing in it is random. Fragments have
// their addresses and protocol, so that all of a datagram go together. `mode`: kFlow, kFlowSymmetric or kSource.
uint32_t SpreadHash(const Packet& packet, SpreadMode mode);

}  // namespace headgate
