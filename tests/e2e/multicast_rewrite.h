// SPDX-License-Identifier: Apache-2.0
//
// What the tests of rewritten copies share: three receivers, and what each is to see of a frame.
#pragma once

#include <map>

#include "tests/e2e/multicast_fixture.h"

namespace headgate::testing {

inline constexpr size_t kLink = 14, kTag = 4, kIpv4Header = 20, kIpv4Checksum = 10, kIpv6Header = 40,
                        kUdpChecksum = 6;
inline constexpr char kMac[] = "01:00:5e:01:01:01", kMac2[] = "01:00:5e:02:02:02";  // of 239.1.1.1 and 239.2.2.2
inline constexpr char kMac6[] = "33:33:00:00:12:34",
                      kMac62[] = "33:33:80:00:00:01";  // of ff3e::1234 and ff3e::8000:1

inline int Word(const Bytes& bytes, size_t at) { return bytes.at(at) << 8 | bytes.at(at + 1); }
inline void SetWord(Bytes& bytes, size_t at, int value) {
  bytes.at(at) = static_cast<uint8_t>(value >> 8);
  bytes.at(at + 1) = static_cast<uint8_t>(value);
}

class MulticastRewrite : public MulticastTest {
 protected:
  MulticastRewrite() : MulticastTest("mcastrewrite", 3, true) {}

  // Whatever is sent to a group that a stack does not send to by itself; fragments and foreign protocols too.
  static bool IsOurs(const Bytes& frame) {
    return frame.size() > 6 && ((frame[0] == 1 && frame[1] == 0 && frame[3] < 0x80) ||
                                (frame[0] == 0x33 && (frame[2] == 0x80 || frame[4] == 0x12)));
  }
  Bytes Copy(int i) { return receivers_[static_cast<size_t>(i)]->Receive(IsOurs).value_or(Bytes{}); }

  // The frame as it is sent, and as each receiver is to see it. Until all have it the next one waits.
  void ExpectCopies(const char* name, const Bytes& sent, const std::map<int, Bytes>& wanted) {
    SCOPED_TRACE(name);
    client().Send(sent);
    for (const auto& [receiver, frame] : wanted) EXPECT_EQ(Copy(receiver), frame) << "at receiver " << receiver;
  }
};

}  // namespace headgate::testing
