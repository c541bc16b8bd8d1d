// SPDX-License-Identifier: Apache-2.0
//
// The gateway's host is a member of the groups that its routes take in: what switches and routers upstream go by.
#include <absl/strings/match.h>

#include <algorithm>

#include "tests/e2e/multicast_fixture.h"

namespace headgate::testing {
namespace {

class MulticastMembership : public MulticastTest {
 protected:
  MulticastMembership() : MulticastTest("mcastmember", 1, true) {}

  void SetUp() override {
    MulticastTest::SetUp();
    if (!IsSkipped()) lab().In("gw", "sysctl -qw net.ipv6.conf.g0.disable_ipv6=0");
  }
  bool IsMember(const std::string& group) {
    return absl::StrContains(lab().Ip("gw", "maddr show dev g0"), group + "\n") ||
           absl::StrContains(lab().Ip("gw", "maddr show dev g0"), group + " ");
  }
  // Reports of membership (RFC 3376, section 4.2) on the wire that the senders are on name all of these: groups,
  // and senders. /proc/net/mcfilter lists those of a device's newest group alone.
  bool Reports(std::vector<Bytes> addresses) {
    client().Receive([&addresses](const Bytes& frame) {
      if (!IsIp(frame, IPPROTO_IGMP) || frame.size() <= 38 || frame[38] != 0x22) return false;
      std::erase_if(addresses, [&frame](const Bytes& address) {
        return std::search(frame.begin() + 38, frame.end(), address.begin(), address.end()) != frame.end();
      });
      return addresses.empty();
    });
    return addresses.empty();
  }
};

TEST_F(MulticastMembership, IsAskedForAndGivenUp) {
  Apply(R"(
  - {name: feed, input: {interfaces: [in], group: 239.1.1.1}, legs: [{interface: out1}]}
  - {name: six, input: {interfaces: [in], group: "ff3e::1234"}, legs: [{interface: out1}]}
  - name: source
    input: {interfaces: [in], group: 232.1.1.1, sources: {include: [172.16.9.9, 172.16.9.10]}}
    legs: [{interface: out1}]
  - {name: many, input: {interfaces: [in], group: 239.5.0.0/16}, legs: [{interface: out1}]}
)");
  NowAndAfterRestart([&] {
    // Of the senders named, where there are any.
    EXPECT_TRUE(Reports({{239, 1, 1, 1}, {232, 1, 1, 1}, {172, 16, 9, 9}, {172, 16, 9, 10}}));
    EXPECT_TRUE(WaitFor([&] { return IsMember("239.1.1.1") && IsMember("232.1.1.1") && IsMember("ff3e::1234"); }));
    EXPECT_FALSE(IsMember("239.5.0.0"));
  });
  // The kernel says it again when the link comes back; the device is made anew, and so is the membership.
  lab().Ip("gw", "link set g0 down");
  lab().Ip("gw", "link set g0 up");
  EXPECT_TRUE(Reports({{239, 1, 1, 1}}));
  api().PatchYaml("delete_multicast_routes: [feed, source]");
  EXPECT_TRUE(WaitFor([&] { return !IsMember("239.1.1.1") && !IsMember("232.1.1.1"); }));
  EXPECT_TRUE(IsMember("ff3e::1234"));
}

TEST_F(MulticastMembership, FollowsTheDevice) {
  Apply("  - {name: feed, input: {interfaces: [in], group: 239.1.1.1}, legs: [{interface: out1}]}\n");
  ASSERT_TRUE(WaitFor([&] { return IsMember("239.1.1.1"); }));
  lab().Ip("gw", "link del g0");
  lab().Link("client", "c0", "gw", "g0");
  EXPECT_TRUE(WaitFor([&] { return IsMember("239.1.1.1"); }));
}

// More than one socket may hold (net.ipv4.igmp_max_memberships, igmp_max_msf).
TEST_F(MulticastMembership, HasNoLimitOfItsOwn) {
  std::string routes;
  for (int i = 1; i <= 100; ++i) {
    absl::StrAppend(&routes, "  - {name: feed", i, ", input: {interfaces: [in], group: 239.1.1.", i,
                    "}, legs: [{interface: out1}]}\n");
  }
  absl::StrAppend(&routes, "  - {name: sources, input: {interfaces: [in], group: 232.1.1.1, sources: {include: [");
  for (int i = 1; i <= 60; ++i) absl::StrAppend(&routes, "172.16.9.", i, ", ");
  Apply(routes + "]}}, legs: [{interface: out1}]}\n");
  EXPECT_TRUE(WaitFor([&] {
    for (int i = 1; i <= 100; ++i) {
      if (!IsMember(absl::StrCat("239.1.1.", i))) return false;
    }
    return IsMember("232.1.1.1");
  }));
  EXPECT_TRUE(Reports({{172, 16, 9, 1}, {172, 16, 9, 60}}));
  EXPECT_FALSE(api().Warns("may not come"));
}

// What cannot be joined is told, and joined when it can.
TEST_F(MulticastMembership, FailuresAreTold) {
  lab().In("gw", "sysctl -qw net.ipv4.igmp_max_memberships=0");
  Apply("  - {name: feed, input: {interfaces: [in], group: 239.1.1.1}, legs: [{interface: out1}]}\n");
  EXPECT_TRUE(WaitFor([&] { return api().Warns("join group 239.1.1.1"); }));
  lab().In("gw", "sysctl -qw net.ipv4.igmp_max_memberships=20");
  EXPECT_TRUE(WaitFor([&] { return IsMember("239.1.1.1") && !api().Warns("join group 239.1.1.1"); }));
}

}  // namespace
}  // namespace headgate::testing
