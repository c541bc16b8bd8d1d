// SPDX-License-Identifier: Apache-2.0
//
// Two hosts that talk with each other through their namespaces' stacks: whether what one sends comes back whole.
#pragma once

#include <string>

#include "tests/harness/lab.h"

namespace headgate::testing {

// From one namespace (full name) to an IPv4 address that another's stack has.
struct Conversation {
  std::string client, server, address;
};

// A datagram that nobody waits for.
void SendDatagram(const Conversation& hosts);
// One echo request; whether the answer came and has the payload.
bool Ping(const Conversation& hosts);
// A datagram there and back. `whole`: neither may be fragmented where it is sent.
bool UdpEcho(const Conversation& hosts, size_t bytes, bool whole = false);
// A connection, so many bytes there, and then back.
bool TcpEcho(const Conversation& hosts, size_t bytes);

}  // namespace headgate::testing
