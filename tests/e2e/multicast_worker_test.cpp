// SPDX-License-Identifier: Apache-2.0
//
// Multicast that workers replicate, packet by packet: what the kernel's path cannot do.
#include <algorithm>

#include "tests/e2e/multicast_fixture.h"

namespace headgate::testing {
namespace {

constexpr char kGroupMac[] = "01:00:5e:01:01:01";  // of 239.1.1.1
constexpr char kReceiverMac[] = "02:00:00:00:00:77";

class MulticastWorker : public MulticastTest {
 protected:
  MulticastWorker() : MulticastTest("mcworker", 3, true) {}

  static Packet ToGroup(const Bytes& payload, Ipv4 ip = {}) {
    ip.source = "172.16.9.9";
    ip.destination = "239.1.1.1";
    return Ethernet{.destination = kGroupMac} / ip / Udp{.source_port = 4000, .destination_port = 5001} /
           Payload(payload);
  }
  // Sent until a worker takes it: one begins after the change that needs it.
  bool TakenByWorker(const Bytes& frame) {
    return WaitFor([&] { return Fate(frame) == "forward_multicast_worker"; });
  }
  // As it comes in at a leg's receiver.
  static Bytes Copy(const std::string& mac, const std::string& egress_mac, const std::string& group, uint16_t port,
                    const Bytes& payload, uint8_t tos = 0) {
    return Ethernet{.destination = mac, .source = egress_mac} /
           Ipv4{.source = "172.16.9.9", .destination = group, .ttl = 63, .tos = tos} /
           Udp{.source_port = 4000, .destination_port = port} / Payload(payload);
  }
};

TEST_F(MulticastWorker, ManyLegsLeaveByOneInterface) {
  Apply(R"(
  - name: feed
    input: {interfaces: [in], group: 239.1.1.1}
    legs:
      - {name: a, interface: out1}
      - {name: b, interface: out1, group: 239.2.2.2, port: 5002, source: egress, source_port: 6000, ttl: {set: 9}, dscp: 46}
      - {name: c, interface: out1, group: 239.3.3.3, vlan: 42}
      - {name: d, interface: out2, unicast: 10.0.2.77, mac: "02:00:00:00:00:77", port: 7000, source: 10.9.9.9}
)");
  const pb::MulticastRouteState state = State("feed");
  EXPECT_EQ(state.path(), pb::MulticastRouteState::PATH_USERSPACE);
  EXPECT_PRED2(Says, state.reason(), "both leave by \"out1\"");
  NowAndAfterRestart([&] {
    const Bytes payload(100, 0x31);
    ASSERT_TRUE(TakenByWorker(ToGroup(payload, {.tos = 3})));
    EXPECT_EQ(Received(1), Copy(kGroupMac, EgressMac(1), "239.1.1.1", 5001, payload, 3));
    EXPECT_EQ(Received(1), (Ethernet{.destination = "01:00:5e:02:02:02", .source = EgressMac(1)} /
                            Ipv4{.source = "10.0.1.1", .destination = "239.2.2.2", .ttl = 9, .tos = 46 << 2 | 3} /
                            Udp{.source_port = 6000, .destination_port = 5002} / Payload(payload))
                               .Build());
    EXPECT_EQ(Received(1), (Ethernet{.destination = "01:00:5e:03:03:03", .source = EgressMac(1)} / Vlan{.id = 42} /
                            Ipv4{.source = "172.16.9.9", .destination = "239.3.3.3", .ttl = 63, .tos = 3} /
                            Udp{.source_port = 4000, .destination_port = 5001} / Payload(payload))
                               .Build());
    EXPECT_EQ(Received(2), (Ethernet{.destination = kReceiverMac, .source = EgressMac(2)} /
                            Ipv4{.source = "10.9.9.9", .destination = "10.0.2.77", .ttl = 63, .tos = 3} /
                            Udp{.source_port = 4000, .destination_port = 7000} / Payload(payload))
                               .Build());
    for (const char* leg : {"a", "b", "c", "d"}) ExpectAccount(Leg("feed", leg));
  });
  EXPECT_GE(Leg("feed", "d").sent_packets(), 2U);
  EXPECT_EQ(Leg("feed", "d").sent_packets(), Leg("feed", "a").sent_packets());
}

// By the kernel's routes and neighbours, as they change.
TEST_F(MulticastWorker, UnicastLegsFindTheirNextHop) {
  lab().Ip("r1", "addr add 10.0.1.77/24 dev d1");
  lab().Ip("gw", "route add 198.51.100.0/24 via 10.0.1.77");
  Apply(R"(
  - name: feed
    input: {interfaces: [in], group: 239.1.1.1}
    legs:
      - {name: near, interface: out1, unicast: 10.0.1.77, port: 6000}
      - {unicast: 198.51.100.9, port: 7000}
)");
  const Bytes payload(100, 0x31);
  const auto state = [this](int leg) { return State("feed").legs(leg); };
  NowAndAfterRestart([&] {
    for (const int leg : {0, 1}) {
      EXPECT_TRUE(WaitFor([&] { return state(leg).trouble().empty(); })) << state(leg).ShortDebugString();
      EXPECT_EQ(state(leg).mac(), lab().Mac("r1", "d1"));
      EXPECT_EQ(state(leg).interface(), "out1");
    }
    ASSERT_TRUE(TakenByWorker(ToGroup(payload)));
    EXPECT_EQ(Received(1), Copy(lab().Mac("r1", "d1"), EgressMac(1), "10.0.1.77", 6000, payload));
    EXPECT_EQ(Received(1), Copy(lab().Mac("r1", "d1"), EgressMac(1), "198.51.100.9", 7000, payload));
  });
  // Another way.
  lab().Ip("r2", "addr add 10.0.2.88/24 dev d2");
  lab().Ip("gw", "route replace 198.51.100.0/24 via 10.0.2.88");
  ASSERT_TRUE(WaitFor([&] { return state(1).mac() == lab().Mac("r2", "d2"); }));
  EXPECT_EQ(state(1).interface(), "out2");
  ASSERT_TRUE(WaitFor([&] {
    client().Send(ToGroup(payload));
    return Received(2) == Copy(lab().Mac("r2", "d2"), EgressMac(2), "198.51.100.9", 7000, payload);
  }));
  // None at all.
  lab().Ip("gw", "route del 198.51.100.0/24");
  ASSERT_TRUE(WaitFor([&] { return !state(1).trouble().empty(); }));
  ASSERT_TRUE(WaitFor([&] {
    client().Send(ToGroup(payload));
    return Leg("feed", "198.51.100.9").dropped_no_neighbour_packets() != 0;
  }));
  for (const char* leg : {"near", "198.51.100.9"}) ExpectAccount(Leg("feed", leg));
  EXPECT_EQ(Leg("feed", "near").offered_packets(), Leg("feed", "near").sent_packets());
}

class LargeMulticast : public MulticastWorker {
 protected:
  void SetMtu(int bytes) {
    for (const char* device : {"g0", "e1", "e2"}) SetMtu("gw", device, bytes);
    SetMtu("client", "c0", bytes);
    SetMtu("r1", "d1", bytes);
    SetMtu("r2", "d2", bytes);
  }
  void SetMtu(const std::string& netns, const std::string& device, int bytes) {
    lab().Ip(netns, absl::StrCat("link set ", device, " mtu ", bytes));
  }
};

// Of several buffers on their way, from about 3,500 bytes on.
TEST_F(LargeMulticast, AllSizes) {
  SetMtu(9000);
  // By the kernel but for what it cannot copy, and by workers.
  Apply(R"(
  - {name: mixed, input: {interfaces: [in], group: 239.1.1.1}, legs: [{interface: out1}, {interface: out2}]}
  - name: worked
    input: {interfaces: [in], group: 239.5.5.5}
    legs: [{interface: out1}, {name: b, interface: out1, group: 239.6.6.6}, {interface: out2}]
)");
  NowAndAfterRestart([&] {
    for (const size_t size : {1, 18, 46, 64, 1400, 1472, 2007, 3500, 8900, 8972}) {
      SCOPED_TRACE(size);
      const Bytes payload(size, static_cast<uint8_t>(size));
      EXPECT_EQ(State("mixed").path(), pb::MulticastRouteState::PATH_KERNEL);
      const auto taken = [&](const std::string& fate) {
        return fate == "forward_multicast" || fate == "forward_multicast_worker";
      };
      ASSERT_TRUE(WaitFor([&] { return taken(Fate(ToGroup(payload))); }));
      for (const int i : {1, 2}) EXPECT_EQ(Received(i), Copy(kGroupMac, EgressMac(i), "239.1.1.1", 5001, payload));
      const Bytes frame = Ethernet{.destination = "01:00:5e:05:05:05"} /
                          Ipv4{.source = "172.16.9.9", .destination = "239.5.5.5"} /
                          Udp{.source_port = 4000, .destination_port = 5001} / Payload(payload);
      ASSERT_TRUE(TakenByWorker(frame));
      EXPECT_EQ(Received(1), Copy("01:00:5e:05:05:05", EgressMac(1), "239.5.5.5", 5001, payload));
      EXPECT_EQ(Received(1), Copy("01:00:5e:06:06:06", EgressMac(1), "239.6.6.6", 5001, payload));
      EXPECT_EQ(Received(2), Copy("01:00:5e:05:05:05", EgressMac(2), "239.5.5.5", 5001, payload));
    }
  });
  for (const char* leg : {"out1", "b", "out2"}) {
    ExpectAccount(Leg("worked", leg));
    EXPECT_EQ(Leg("worked", leg).sent_packets(), Leg("worked", leg).offered_packets());
  }
}

TEST_F(LargeMulticast, WhatIsLargerThanTheMtuIsFragmentedOrCounted) {
  SetMtu("gw", "e1", 1000);
  Apply(R"(
  - name: feed
    input: {interfaces: [in], group: 239.1.1.1}
    legs: [{interface: out1}, {interface: out2}]
)");
  NowAndAfterRestart([&] {
    const Bytes payload(1400, 0x31);
    ASSERT_TRUE(TakenByWorker(ToGroup(payload)));
    const Bytes whole = Copy(kGroupMac, EgressMac(2), "239.1.1.1", 5001, payload);
    EXPECT_EQ(Received(2), whole);
    const Bytes first = Received(1), second = Received(1);
    ASSERT_EQ(first.size(), 14U + 20 + 976);
    ASSERT_EQ(second.size(), 14U + 20 + 1408 - 976);
    EXPECT_EQ(first[20], 0x20) << "more fragments";
    EXPECT_EQ(second[20] << 8 | second[21], 976 / 8);
    EXPECT_TRUE(std::equal(first.begin() + 34, first.end(), whole.begin() + 34));
    EXPECT_TRUE(std::equal(second.begin() + 34, second.end(), whole.begin() + 34 + 976));
    const uint64_t before = Leg("feed", "out1").dropped_too_big_packets();
    ASSERT_TRUE(TakenByWorker(ToGroup(payload, {.dont_fragment = true})));
    EXPECT_EQ(Received(2).size(), whole.size());
    EXPECT_TRUE(WaitFor([&] { return Leg("feed", "out1").dropped_too_big_packets() > before; }));
    ExpectAccount(Leg("feed", "out1"));
    EXPECT_EQ(Leg("feed", "out1").fragments(), Leg("feed", "out1").sent_packets());
  });
}

// The same group on several VLANs: each is its own route's, and stays in its VLAN.
TEST_F(MulticastWorker, VlansStayApart) {
  Apply(R"(
  - {name: untagged, input: {interfaces: [in], group: 239.1.1.1, vlan: 0}, legs: [{interface: out1}]}
  - name: tagged
    input: {interfaces: [in], group: 239.1.1.1, vlan: 42}
    legs: [{interface: out2}, {name: b, interface: out2, group: 239.2.2.2, vlan: 43}]
  - {name: others, input: {interfaces: [in], group: 239.1.1.1}, legs: [{interface: out3}]}
)");
  const auto rest = [](const char* group, uint8_t ttl) {
    return Ipv4{.destination = group, .ttl = ttl} / Udp{} / Payload(100);
  };
  const auto in = [&](uint16_t vlan) -> Bytes {
    if (vlan == 0) return Ethernet{.destination = kGroupMac} / rest("239.1.1.1", 64);
    return Ethernet{.destination = kGroupMac} / Vlan{.id = vlan} / rest("239.1.1.1", 64);
  };
  const auto out = [&](int i) { return Ethernet{.destination = kGroupMac, .source = EgressMac(i)}; };
  NowAndAfterRestart([&] {
    ASSERT_TRUE(TakenByWorker(in(42)));
    EXPECT_EQ(Received(2), (out(2) / Vlan{.id = 42} / rest("239.1.1.1", 63)).Build());
    EXPECT_EQ(Received(2), (Ethernet{.destination = "01:00:5e:02:02:02", .source = EgressMac(2)} / Vlan{.id = 43} /
                            rest("239.2.2.2", 63))
                               .Build());
    ASSERT_EQ(Fate(in(0)), "forward_multicast");
    EXPECT_EQ(Received(1), (out(1) / rest("239.1.1.1", 63)).Build());
    ASSERT_EQ(Fate(in(7)), "forward_multicast");
    EXPECT_EQ(Received(3), (out(3) / Vlan{.id = 7} / rest("239.1.1.1", 63)).Build());
  });
  EXPECT_EQ(Route("untagged").packets(), 2U);
  EXPECT_EQ(Route("others").packets(), 2U);
}

// A device that is down or gone harms its own legs alone, and comes back.
TEST_F(MulticastWorker, OtherLegsDoNotMind) {
  Apply(R"(
  - name: feed
    input: {interfaces: [in], group: 239.1.1.1}
    legs: [{interface: out1}, {name: b, interface: out1, group: 239.2.2.2}, {interface: out2, source: egress}]
)");
  const Bytes payload(100, 0x31);
  ASSERT_TRUE(TakenByWorker(ToGroup(payload)));
  const auto others_serve = [&] {
    while (Received(1) != Copy(kGroupMac, EgressMac(1), "239.1.1.1", 5001, payload))
      client().Send(ToGroup(payload));
    return Received(1) == Copy("01:00:5e:02:02:02", EgressMac(1), "239.2.2.2", 5001, payload);
  };
  EXPECT_TRUE(others_serve());
  lab().Ip("gw", "addr flush dev e2");
  ASSERT_TRUE(WaitFor([&] {
    client().Send(ToGroup(payload));
    return Leg("feed", "out2").dropped_no_source_packets() != 0;
  }));
  EXPECT_PRED2(Says, State("feed").legs(2).trouble(), "no address to send from");
  EXPECT_TRUE(others_serve());
  lab().Ip("gw", "link del e2");
  ASSERT_TRUE(WaitFor([&] {
    client().Send(ToGroup(payload));
    return Leg("feed", "out2").dropped_no_device_packets() > 2;
  }));
  EXPECT_TRUE(others_serve());
  MakeReceiver(2);
  OpenReceiver(2);
  EXPECT_TRUE(WaitFor([&] {
    client().Send(ToGroup(payload));
    return !Received(2).empty();
  })) << "it does not come back";
  for (const char* leg : {"out1", "b", "out2"}) ExpectAccount(Leg("feed", leg));
  EXPECT_EQ(Leg("feed", "b").sent_packets(), Leg("feed", "b").offered_packets());
}

}  // namespace
}  // namespace headgate::testing
