// SPDX-License-Identifier: Apache-2.0
//
// Next hops as routes say, and as they change.
#include <atomic>
#include <fstream>
#include <random>
#include <sstream>

#include "tests/e2e/resolver_fixture.h"

namespace headgate::testing {
namespace {

TEST_F(ResolverTest, NeighboursAreNextHops) {
  Start(kByMessages);
  Want({"10.0.0.2", "2001:db8::2", "10.0.1.2", "10.0.1.2%g1"});
  EXPECT_TRUE(Is("10.0.0.2", Peer()));
  EXPECT_TRUE(Is("2001:db8::2", Peer()));
  EXPECT_TRUE(Is("10.0.1.2", Other()));
  EXPECT_TRUE(Is("10.0.1.2%g1", Other()));
  Want({"10.0.1.2"});
  EXPECT_EQ(Answer("10.0.0.2"), "not wanted");
  EXPECT_EQ(Answer("10.0.1.2"), Other());
}

TEST_F(ResolverTest, RoutesGoByGatewaysOfEitherFamily) {
  Gw("route add 192.0.2.0/24 via 10.0.0.2");
  Gw("route add 198.51.100.0/24 via inet6 2001:db8:1::2");
  Gw("route add 2001:db8:9::/48 via 2001:db8:1::2");
  Start(kByMessages);
  Want({"192.0.2.7", "192.0.2.8", "198.51.100.7", "2001:db8:9::7"});
  EXPECT_TRUE(Is("192.0.2.7", Peer()));
  EXPECT_TRUE(Is("192.0.2.8", Peer()));
  EXPECT_TRUE(Is("198.51.100.7", Other()));
  EXPECT_TRUE(Is("2001:db8:9::7", Other()));
}

TEST_F(ResolverTest, TheDeviceMayBeGiven) {
  Gw("route add 192.0.2.0/24 via 10.0.0.2 metric 1");
  Gw("route add 192.0.2.0/24 via 10.0.1.2 metric 2");
  Gw("route add 2001:db8:9::/48 via 2001:db8::2");
  lab().In("peer", "sysctl -qw net.ipv6.conf.p0.addr_gen_mode=1");
  lab().Ip("peer", "addr add fe80::2/64 dev p0 nodad");
  Start(kByMessages);
  Want({"192.0.2.7", "192.0.2.7%g0", "192.0.2.7%g1", "2001:db8:9::7%g1", "fe80::2%g0", "fe80::2", "10.0.0.2%lo"});
  EXPECT_TRUE(Is("192.0.2.7", Peer()));
  EXPECT_TRUE(Is("192.0.2.7%g0", Peer()));
  EXPECT_TRUE(Is("192.0.2.7%g1", Other()));
  EXPECT_TRUE(Is("2001:db8:9::7%g1", "2001:db8:9::7: no route by g1"));
  EXPECT_TRUE(Is("fe80::2%g0", Peer()));
  EXPECT_TRUE(Is("fe80::2", "fe80::2: is a link-local address: name the interface, too"));
  EXPECT_TRUE(Is("10.0.0.2%lo", "10.0.0.2: it leaves by lo, which is no Ethernet device: only those are sent to"));
  resolver().Want({Destination{.address = ParseAddress("10.0.0.2").value(), .ifindex = 12345}});
  EXPECT_TRUE(WaitFor([&] {
    return resolver().Resolved().begin()->second.status() ==
           absl::NotFoundError("10.0.0.2: there is no device of index 12345");
  }));
}

// Each is noticed though the kernel says nothing of the route itself: addresses, devices, rules, next hop objects.
TEST_F(ResolverTest, RoutesChange) {
  // Neighbours that do not change give no other cause to look.
  const auto fix_neighbours = [this] {
    Gw("neigh replace 10.0.0.2 lladdr " + lab().Mac("peer", "p0") + " dev g0 nud permanent");
    Gw("neigh replace 10.0.1.2 lladdr " + lab().Mac("other", "q0") + " dev g1 nud permanent");
  };
  fix_neighbours();
  Start(kByMessages);
  Want({"192.0.2.7"});
  EXPECT_TRUE(Is("192.0.2.7", "192.0.2.7: no route"));
  Gw("route add 192.0.2.0/24 via 10.0.0.2");
  EXPECT_TRUE(Is("192.0.2.7", Peer()));
  Gw("route replace 192.0.2.0/24 via 10.0.1.2");
  EXPECT_TRUE(Is("192.0.2.7", Other()));
  Gw("route add 192.0.2.7/32 via 10.0.0.2");
  EXPECT_TRUE(Is("192.0.2.7", Peer()));
  Gw("route del 192.0.2.7/32");
  EXPECT_TRUE(Is("192.0.2.7", Other()));
  Gw("link set g1 down");
  EXPECT_TRUE(Is("192.0.2.7", "192.0.2.7: no route"));
  Gw("link set g1 up");
  fix_neighbours();
  Gw("addr add 10.0.1.9/24 dev g1");
  Gw("route add 192.0.2.0/24 via 10.0.1.2 src 10.0.1.9");
  EXPECT_TRUE(Is("192.0.2.7", Other()));
  Gw("addr del 10.0.1.9/24 dev g1");
  EXPECT_TRUE(Is("192.0.2.7", "192.0.2.7: no route"));

  Gw("route add 192.0.2.0/24 via 10.0.0.2 table 100");
  Gw("rule add to 192.0.2.7 lookup 100");
  EXPECT_TRUE(Is("192.0.2.7", Peer()));
  Gw("rule del to 192.0.2.7 lookup 100");
  EXPECT_TRUE(Is("192.0.2.7", "192.0.2.7: no route"));

  lab().In("gw", "sysctl -qw net.ipv4.nexthop_compat_mode=0");
  Gw("nexthop add id 1 via 10.0.0.2 dev g0");
  Gw("route add 192.0.2.0/24 nhid 1");
  EXPECT_TRUE(Is("192.0.2.7", Peer()));
  Gw("nexthop replace id 1 via 10.0.1.2 dev g1");
  EXPECT_TRUE(Is("192.0.2.7", Other()));
}

TEST_F(ResolverTest, WhatIsNotAUnicastDestinationElsewhereIsSaidSo) {
  Gw("route add blackhole 192.0.2.1");
  Gw("route add unreachable 192.0.2.2");
  Gw("route add prohibit 192.0.2.3");
  Gw("route add throw 192.0.2.4");
  Gw("route add blackhole 2001:db8:9::1");
  Gw("route add unreachable 2001:db8:9::2");
  Gw("route add prohibit 2001:db8:9::3");
  Gw("route add 192.0.2.5 encap ip id 5 dst 10.0.0.9 via 10.0.0.2");
  const std::pair<std::string, std::string> expected[] = {
      {"192.0.2.1", "its route is a blackhole"},
      {"192.0.2.2", "its route says that it is unreachable"},
      {"192.0.2.3", "its route prohibits it"},
      {"192.0.2.4", "no route"},
      {"192.0.2.5", "its route wants an encapsulation"},
      {"2001:db8:9::1", "its route is a blackhole"},
      {"2001:db8:9::2", "its route says that it is unreachable"},
      {"2001:db8:9::3", "its route prohibits it"},
      {"2001:db8:9::4", "no route"},
      {"10.0.0.1", "is an address of this host"},
      {"127.0.0.1", "is an address of this host"},
      {"2001:db8::1", "is an address of this host"},
      {"::1", "is an address of this host"},
      {"10.0.0.255", "is a broadcast address"},
      {"255.255.255.255", "is a broadcast address"},
      {"239.1.1.1", "is a multicast address"},
      {"ff3e::1", "is a multicast address"},
      {"0.0.0.0", "is no host's address"},
      {"::", "is no host's address"},
  };
  std::vector<std::string> wanted;
  for (const auto& [destination, why] : expected) wanted.push_back(destination);
  Start(kByMessages);
  Want(wanted);
  for (const auto& [destination, why] : expected) {
    EXPECT_TRUE(Is(destination, absl::StrCat(destination, ": ", why)));
  }
}

TEST_F(ResolverTest, OnlyEthernetDevicesThatResolve) {
  Gw("tuntap add t0 mode tun");
  Gw("link set t0 up");
  Gw("route add 192.0.2.0/24 dev t0");
  Gw("link set g1 arp off");
  Start(kByMessages);
  Want({"192.0.2.7", "10.0.1.2"});
  EXPECT_TRUE(Is("192.0.2.7", "192.0.2.7: it leaves by t0, which is no Ethernet device: only those are sent to"));
  EXPECT_TRUE(Is("10.0.1.2",
                 "10.0.1.2: g1 resolves no neighbours (NOARP): give 10.0.1.2 a permanent entry "
                 "(ip neigh replace ... nud permanent)"));
  Gw("neigh replace 10.0.1.2 lladdr 02:00:00:00:00:09 dev g1 nud permanent");
  EXPECT_TRUE(Is("10.0.1.2", "g1 02:00:00:00:00:09"));
}

// Of which neither its routes nor its neighbours say anything.
TEST_F(ResolverTest, ADeviceLosesItsCarrier) {
  Gw("neigh replace 10.0.1.2 lladdr 02:00:00:00:00:09 dev g1 nud permanent");
  Start(kByMessages);
  Want({"10.0.1.2"});
  EXPECT_TRUE(Is("10.0.1.2", "g1 02:00:00:00:00:09"));
  lab().Ip("other", "link set q0 down");
  EXPECT_TRUE(Is("10.0.1.2", "10.0.1.2: g1 is down"));
  lab().Ip("other", "link set q0 up");
  EXPECT_TRUE(Is("10.0.1.2", "g1 02:00:00:00:00:09"));
}

// What comes of any series of changes, however fast, is what there is at its end.
TEST_F(ResolverTest, AnySeriesOfChanges) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937 random(seed);
  const auto one_of = [&random](unsigned count) { return random() % count; };
  // Of each destination, by which neighbour its route goes; of each neighbour, whether it is there.
  std::string routes[3];
  bool there[2] = {true, true};
  const std::string hosts[][3] = {{"peer", "p0", "10.0.0.2"}, {"other", "q0", "10.0.1.2"}};
  Start(kOften);
  Want({"192.0.2.0", "192.0.2.1", "192.0.2.2"});
  for (int round = 0; round < 6; ++round) {
    for (unsigned left = one_of(12); left > 0; --left) {
      const unsigned destination = one_of(3), host = one_of(2);
      const auto& [ns, device, address] = hosts[host];
      const std::string to = absl::StrCat("192.0.2.", destination);
      switch (one_of(5)) {
        case 0:
          if (!routes[destination].empty()) Gw("route del " + to);
          routes[destination].clear();
          break;
        case 1:
          Gw(absl::StrCat("route replace ", to, " via ", address));
          routes[destination] = address;
          break;
        case 2:
          lab().Ip(ns, absl::StrCat("addr ", there[host] ? "del " : "add ", address, "/24 dev ", device));
          there[host] = !there[host];
          break;
        case 3:
          lab().Ip(ns, absl::StrCat("link set ", device, " address 02:00:00:00:00:", 10 + one_of(90)));
          break;
        default:
          Gw(absl::StrCat("neigh flush dev g", host));
      }
    }
    for (int i = 0; i < 3; ++i) {
      const std::string to = absl::StrCat("192.0.2.", i);
      const bool by_other = routes[i] == hosts[1][2];
      std::string expected = by_other ? Other() : Peer();
      if (routes[i].empty()) {
        expected = to + ": no route";
      } else if (!there[by_other]) {
        expected = absl::StrCat(to, ": the neighbour ", routes[i], " on g", by_other, " does not answer");
      }
      ASSERT_TRUE(Is(to, expected)) << "round " << round;
    }
  }
}

// How many messages sockets of the gateway's namespace had no room for.
uint64_t Dropped(Lab& lab) {
  uint64_t dropped = 0;
  std::istringstream table(lab.In("gw", "tail -n +2 /proc/net/netlink"));
  for (std::string line; std::getline(table, line);) {
    std::istringstream row(line);
    std::string column;
    for (int i = 0; i < 9; ++i) row >> column;
    dropped += std::stoull(column);
  }
  return dropped;
}

// While the thread is busy elsewhere, more is said than its socket has room for.
TEST_F(ResolverTest, LostMessagesAreMadeGood) {
  std::atomic<bool> hold = false, held = false;
  Start(kByMessages, [&] {
    held = hold.load();
    hold.wait(true);
  });
  Gw("route add 192.0.2.0/24 via 10.0.0.2");
  Want({"192.0.2.7", "10.0.1.2"});
  EXPECT_TRUE(Is("192.0.2.7", Peer()));
  hold = true;
  Gw("neigh replace 10.0.1.2 lladdr 02:00:00:00:00:09 dev g1 nud permanent");
  EXPECT_TRUE(WaitFor([&] { return held.load(); }));

  const std::string path = lab().directory() + "/routes";
  std::ofstream file(path);
  for (int i = 0; i < 10'000; ++i) file << "route add 172.16." << i / 250 << "." << i % 250 << " dev g0\n";
  file.close();
  Gw("-batch " + path);
  Gw("route replace 192.0.2.0/24 via 10.0.1.2");
  EXPECT_GT(Dropped(lab()), 0U);
  hold = false;
  hold.notify_all();
  EXPECT_TRUE(Is("192.0.2.7", "g1 02:00:00:00:00:09"));
}

}  // namespace
}  // namespace headgate::testing
