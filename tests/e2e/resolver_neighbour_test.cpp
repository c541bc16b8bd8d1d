// SPDX-License-Identifier: Apache-2.0
//
// Neighbours that change their address, go and come back; and those that are somebody else's to look after.
#include <linux/capability.h>
#include <netinet/in.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <thread>

#include "tests/e2e/resolver_fixture.h"
#include "tests/harness/wire.h"

namespace headgate::testing {
namespace {

constexpr char kSilent[] = "10.0.0.2: the neighbour 10.0.0.2 on g0 does not answer";

bool IsArpRequest(const Bytes& frame) {
  return frame.size() >= 42 && frame[12] == 8 && frame[13] == 6 && frame[21] == 1;
}
bool IsBroadcast(const Bytes& frame) { return frame[0] == 0xff; }

TEST_F(ResolverTest, NeighboursInUseAreVerified) {
  Start(kOften);
  Want({"10.0.0.2", "2001:db8::2"});
  EXPECT_TRUE(Is("10.0.0.2", Peer()));
  EXPECT_TRUE(Is("2001:db8::2", Peer()));
  const size_t changes = Changes();
  Wire peer(lab().Name("peer"), "p0");
  const auto is_solicitation = [](const Bytes& frame) {
    return frame.size() >= 78 && frame[12] == 0x86 && frame[20] == IPPROTO_ICMPV6 && frame[54] == 135;
  };
  EXPECT_EQ(peer.ReceiveCount(IsArpRequest, 5), 5U);
  EXPECT_EQ(peer.ReceiveCount(is_solicitation, 5), 5U);
  // Nobody is told, for nothing has changed.
  EXPECT_EQ(Changes(), changes);
  EXPECT_EQ(Answer("10.0.0.2"), Peer());
}

// No more than that: not for each of its destinations, nor for each look.
TEST_F(ResolverTest, ANeighbourIsVerifiedOnceForAllItsDestinations) {
  Gw("route add 192.0.2.0/24 via 10.0.0.2");
  Start({.retry = std::chrono::milliseconds(10), .verify = kNever, .calm = std::chrono::milliseconds(1)});
  Wire peer(lab().Name("peer"), "p0");
  Want({"192.0.2.7", "192.0.2.8", "192.0.2.9", "192.0.2.10"});
  EXPECT_TRUE(Is("192.0.2.10", Peer()));
  for (int i = 0; i < 20; ++i) Gw(absl::StrCat("route replace 192.0.2.", 7 + i % 4, " via 10.0.0.2 metric ", i));
  Gw("route add 192.0.2.11 via 10.0.1.2");
  Want({"192.0.2.7", "192.0.2.8", "192.0.2.9", "192.0.2.10", "192.0.2.11"});
  EXPECT_TRUE(Is("192.0.2.11", Other()));
  // One to find it, one to verify it.
  EXPECT_LE(peer.ReceiveCount(IsArpRequest, 3, std::chrono::milliseconds(100)), 2U);
}

TEST_F(ResolverTest, AChangedMacIsFoundByVerification) {
  Start(kOften);
  Want({"10.0.0.2", "2001:db8::2"});
  EXPECT_TRUE(Is("10.0.0.2", Peer()));
  EXPECT_TRUE(Is("2001:db8::2", Peer()));
  lab().Ip("peer", "link set p0 address 02:00:00:00:00:77");
  EXPECT_TRUE(Is("10.0.0.2", "g0 02:00:00:00:00:77"));
  EXPECT_TRUE(Is("2001:db8::2", "g0 02:00:00:00:00:77"));
}

// And the kernel, which doubts what it was not asked for, is made sure of it.
TEST_F(ResolverTest, AnAnnouncedMacIsTakenAtOnce) {
  lab().In("peer", "sysctl -qw net.ipv4.conf.p0.arp_notify=1 net.ipv6.conf.p0.ndisc_notify=1");
  Start({.retry = std::chrono::milliseconds(100), .verify = kNever});
  Want({"10.0.0.2", "2001:db8::2"});
  EXPECT_TRUE(Is("10.0.0.2", Peer()));
  EXPECT_TRUE(Is("2001:db8::2", Peer()));
  lab().Ip("peer", "link set p0 address 02:00:00:00:00:77");
  EXPECT_TRUE(Is("10.0.0.2", "g0 02:00:00:00:00:77"));
  EXPECT_TRUE(Is("2001:db8::2", "g0 02:00:00:00:00:77"));
  EXPECT_TRUE(WaitFor([&] { return absl::StrContains(Gw("neigh show 10.0.0.2 dev g0"), "REACHABLE"); }));
  EXPECT_TRUE(WaitFor([&] { return absl::StrContains(Gw("neigh show 2001:db8::2 dev g0"), "REACHABLE"); }));
}

TEST_F(ResolverTest, ANeighbourThatGoesAndComesBack) {
  Start(kOften);
  Want({"10.0.0.2", "2001:db8::2"});
  EXPECT_TRUE(Is("10.0.0.2", Peer()));
  EXPECT_TRUE(Is("2001:db8::2", Peer()));
  lab().Ip("peer", "addr flush dev p0");
  EXPECT_TRUE(Is("10.0.0.2", kSilent));
  EXPECT_TRUE(Is("2001:db8::2", "2001:db8::2: the neighbour 2001:db8::2 on g0 does not answer"));
  // Asked for again and again, which changes nothing while nobody answers.
  const size_t changes = Changes();
  Wire peer(lab().Name("peer"), "p0");
  EXPECT_EQ(peer.ReceiveCount(IsArpRequest, 7), 7U);
  EXPECT_EQ(Changes(), changes);
  lab().Ip("peer", "addr add 10.0.0.2/24 dev p0");
  lab().Ip("peer", "addr add 2001:db8::2/64 dev p0 nodad");
  EXPECT_TRUE(Is("10.0.0.2", Peer()));
  EXPECT_TRUE(Is("2001:db8::2", Peer()));

  lab().Ip("peer", "link set p0 down");
  EXPECT_TRUE(Is("10.0.0.2", "10.0.0.2: g0 is down"));
  lab().Ip("peer", "link set p0 up");
  EXPECT_TRUE(Is("10.0.0.2", Peer()));
}

// The kernel asks three times; that it gives up is a message, as are others, but none is a cause to ask anew.
TEST_F(ResolverTest, OneThatDoesNotAnswerIsAskedForNowAndThenOnly) {
  Wire peer(lab().Name("peer"), "p0");
  Start(kByMessages);
  Want({"10.0.0.9"});
  EXPECT_TRUE(Is("10.0.0.9", "10.0.0.9: the neighbour 10.0.0.9 on g0 does not answer"));
  for (int i = 0; i < 20; ++i) Gw(absl::StrCat("route replace 10.0.0.9 dev g0 metric ", i));
  EXPECT_EQ(peer.ReceiveCount(IsArpRequest, 4, std::chrono::milliseconds(300)), 3U);
}

// What was found before it was wanted, and then forgotten.
TEST_F(ResolverTest, AFlushedNeighbourIsFoundAgain) {
  Start(kByMessages);
  Want({"10.0.0.2"});
  EXPECT_TRUE(Is("10.0.0.2", Peer()));
  Wire peer(lab().Name("peer"), "p0");
  const size_t changes = Changes();
  Gw("neigh flush dev g0");
  EXPECT_TRUE(peer.Receive([](const Bytes& frame) { return IsArpRequest(frame) && IsBroadcast(frame); }));
  EXPECT_TRUE(WaitFor([&] { return absl::StrContains(Gw("neigh show 10.0.0.2 dev g0"), "REACHABLE"); }));
  // Its address was in force all the while.
  EXPECT_EQ(Changes(), changes);
}

// Verification asks its owner first: not every host answers that.
TEST_F(ResolverTest, OneThatAnswersBroadcastsOnlyIsNotLost) {
  lab().Ip("peer", "link set p0 arp off");
  Wire peer(lab().Name("peer"), "p0");
  Start(kOften);
  Want({"10.0.0.2"});
  size_t changes = 0;
  for (int broadcasts = 0, unicasts = 0; broadcasts < 4 || unicasts < 4;) {
    const std::optional<Bytes> request = peer.Receive(IsArpRequest);
    ASSERT_TRUE(request);
    if (!IsBroadcast(*request)) {
      ++unicasts;
      continue;
    }
    // What it asked for is the target; the answer swaps the two.
    Bytes answer = *request;
    const Bytes mac = {0x02, 0, 0, 0, 0, 0x55};
    std::copy_n(request->begin() + 6, 6, answer.begin());
    std::copy_n(mac.begin(), 6, answer.begin() + 6);
    answer[21] = 2;
    std::copy_n(mac.begin(), 6, answer.begin() + 22);
    std::copy_n(request->begin() + 38, 4, answer.begin() + 28);
    std::copy_n(request->begin() + 22, 10, answer.begin() + 32);
    peer.Send(answer);
    if (++broadcasts == 1) {
      EXPECT_TRUE(Is("10.0.0.2", "g0 02:00:00:00:00:55"));
      changes = Changes();
    }
  }
  EXPECT_EQ(Changes(), changes);
  EXPECT_EQ(Answer("10.0.0.2"), "g0 02:00:00:00:00:55");
}

// Entries that somebody made, or that say more than an address.
TEST_F(ResolverTest, OthersEntriesAreLeftAsTheyAre) {
  Gw("neigh replace 10.0.0.5 lladdr 02:00:00:00:00:05 dev g0 nud permanent");
  Gw("neigh replace 10.0.0.6 lladdr 02:00:00:00:00:06 dev g0 nud reachable extern_learn");
  Gw("neigh replace 10.0.0.7 dev g0 managed");
  Gw("neigh replace 2001:db8::8 lladdr 02:00:00:00:00:08 dev g0 nud reachable router");
  Start(kOften);
  Want({"10.0.0.2", "10.0.0.5", "10.0.0.6", "10.0.0.7", "2001:db8::8"});
  EXPECT_TRUE(Is("10.0.0.5", "g0 02:00:00:00:00:05"));
  EXPECT_TRUE(Is("10.0.0.6", "g0 02:00:00:00:00:06"));
  EXPECT_TRUE(Is("10.0.0.7", "10.0.0.7: the neighbour 10.0.0.7 on g0 does not answer"));
  EXPECT_TRUE(Is("2001:db8::8", "2001:db8::8: the neighbour 2001:db8::8 on g0 does not answer"));
  Wire peer(lab().Name("peer"), "p0");
  const auto is_of_peer = [](const Bytes& frame) { return IsArpRequest(frame) && frame[41] == 2; };
  EXPECT_EQ(peer.ReceiveCount(is_of_peer, 5), 5U);
  EXPECT_TRUE(absl::StrContains(Gw("neigh show 10.0.0.5"), "PERMANENT"));
  EXPECT_TRUE(absl::StrContains(Gw("neigh show 10.0.0.6"), "extern_learn"));
  EXPECT_TRUE(absl::StrContains(Gw("neigh show 10.0.0.7"), "managed"));
  EXPECT_TRUE(absl::StrContains(Gw("neigh show 2001:db8::8"), "router"));
  EXPECT_EQ(Answer("10.0.0.5"), "g0 02:00:00:00:00:05");
  EXPECT_EQ(Answer("10.0.0.6"), "g0 02:00:00:00:00:06");
}

// The calling thread keeps this capability alone.
void KeepCapability(unsigned capability) {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct data[2] = {};
  data[0].effective = data[0].permitted = 1U << capability;
  ASSERT_EQ(syscall(SYS_capset, &header, data), 0);
}

TEST_F(ResolverTest, NeedsOneCapability) {
  ASSERT_NO_FATAL_FAILURE(Start(
      kByMessages, [] {}, [] { KeepCapability(CAP_NET_ADMIN); }));
  Want({"10.0.0.2"});
  EXPECT_TRUE(Is("10.0.0.2", Peer()));
  Gw("neigh flush dev g0");
  ASSERT_NO_FATAL_FAILURE(Start(
      kByMessages, [] {}, [] { KeepCapability(CAP_NET_RAW); }));
  Want({"10.0.0.2"});
  EXPECT_TRUE(Is("10.0.0.2",
                 "10.0.0.2: have the kernel ask for the neighbour 10.0.0.2 (needs CAP_NET_ADMIN): Operation not "
                 "permitted"));
}

}  // namespace
}  // namespace headgate::testing
