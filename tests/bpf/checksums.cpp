// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <netinet/in.h>

#include "tests/bpf/lab_gateway.h"

namespace headgate::testing {
namespace {

unsigned Word(const Bytes& frame, size_t at) {
  return static_cast<unsigned>(frame.at(at) << 8 | frame.at(at + 1));
}

bool HasPseudoHeader(int protocol) {
  return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_ICMPV6;
}

// Over the payload and a pseudo header with `addresses` bytes of addresses from `at`.
void ExpectL4(const Bytes& frame, int protocol, size_t at, size_t addresses, size_t l4, size_t end) {
  if (!HasPseudoHeader(protocol)) return;
  uint32_t sum = static_cast<uint32_t>(protocol) + static_cast<uint32_t>(end - l4);
  for (size_t i = at; i < at + addresses; i += 2) sum += Word(frame, i);
  EXPECT_EQ(InternetChecksum(frame.data() + l4, end - l4, sum), 0) << "checksum of protocol " << protocol;
}

}  // namespace

void ExpectChecksums(const Bytes& frame) {
  size_t l3 = 14;
  while (Word(frame, l3 - 2) == 0x8100 || Word(frame, l3 - 2) == 0x88a8) l3 += 4;
  const unsigned type = Word(frame, l3 - 2);
  if (type == 0x86dd) {
    return ExpectL4(frame, frame.at(l3 + 6), l3 + 8, 32, l3 + 40, l3 + 40 + Word(frame, l3 + 4));
  }
  if (type != 0x0800) return;
  const size_t header = (frame.at(l3) & 15) * 4;
  EXPECT_EQ(InternetChecksum(frame.data() + l3, header), 0) << "checksum of IPv4";
  const bool fragment = (Word(frame, l3 + 6) & 0x3fff) != 0;
  if (!fragment) ExpectL4(frame, frame.at(l3 + 9), l3 + 12, 8, l3 + header, l3 + Word(frame, l3 + 2));
}

}  // namespace headgate::testing
