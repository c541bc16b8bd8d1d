// SPDX-License-Identifier: Apache-2.0
//
// Multicast routes on the kernel's path, packet by packet: what leaves by each leg, byte for byte, what does not,
// and that the counters say so.
#include <algorithm>

#include "tests/e2e/multicast_fixture.h"

namespace headgate::testing {
namespace {

constexpr char kGroupMac[] = "01:00:5e:01:01:01";   // of 239.1.1.1
constexpr char kGroupMac2[] = "01:00:5e:02:02:02";  // of 239.2.2.2

class Multicast : public MulticastTest {
 protected:
  Multicast() : MulticastTest("mcast", 3, true) {}

  static Packet ToGroup(uint16_t port = 5001, const std::string& source = "172.16.9.9") {
    return Ethernet{.destination = kGroupMac} / Ipv4{.source = source, .destination = "239.1.1.1"} /
           Udp{.source_port = 4000, .destination_port = port} / Payload(100);
  }
};

// The source has no route back: nothing here asks for one.
TEST_F(Multicast, EachLegWritesItsCopy) {
  Apply(R"(
  - name: feed
    input: {interfaces: [in], sources: {include: [172.16.9.9]}, group: 239.1.1.1, port: 5001}
    legs:
      - {interface: out1}
      - {interface: out2, group: 239.2.2.2, port: 5002, source: egress, source_port: 6000, ttl: {set: 16}, dscp: 46}
      - {name: third, interface: out3, source: 10.9.9.9, vlan: 42}
)");
  uint64_t sent = 0;
  NowAndAfterRestart([&] {
    const Bytes payload(100, static_cast<uint8_t>(0x30 + sent));
    const Bytes frame = Ethernet{.destination = kGroupMac} /
                        Ipv4{.source = "172.16.9.9", .destination = "239.1.1.1", .tos = 3} /
                        Udp{.source_port = 4000, .destination_port = 5001} / Payload(payload);
    ASSERT_EQ(Fate(frame), "forward_multicast");
    ++sent;
    EXPECT_EQ(Received(1), (Ethernet{.destination = kGroupMac, .source = EgressMac(1)} /
                            Ipv4{.source = "172.16.9.9", .destination = "239.1.1.1", .ttl = 63, .tos = 3} /
                            Udp{.source_port = 4000, .destination_port = 5001} / Payload(payload))
                               .Build());
    EXPECT_EQ(Received(2), (Ethernet{.destination = kGroupMac2, .source = EgressMac(2)} /
                            Ipv4{.source = "10.0.2.1", .destination = "239.2.2.2", .ttl = 16, .tos = 46 << 2 | 3} /
                            Udp{.source_port = 6000, .destination_port = 5002} / Payload(payload))
                               .Build());
    EXPECT_EQ(Received(3), (Ethernet{.destination = kGroupMac, .source = EgressMac(3)} / Vlan{.id = 42} /
                            Ipv4{.source = "10.9.9.9", .destination = "239.1.1.1", .ttl = 63, .tos = 3} /
                            Udp{.source_port = 4000, .destination_port = 5001} / Payload(payload))
                               .Build());
    EXPECT_EQ(Route("feed").packets(), sent);
    EXPECT_EQ(Route("feed").bytes(), sent * frame.size());
    for (const char* leg : {"out1", "out2", "third"}) {
      EXPECT_EQ(Leg("feed", leg).sent_packets(), sent) << leg;
      EXPECT_EQ(Leg("feed", leg).offered_packets(), sent) << leg;
    }
    EXPECT_EQ(Leg("feed", "third").sent_bytes(), sent * (frame.size() + 4));
  });
}

TEST_F(Multicast, Ipv6) {
  Apply(R"(
  - name: feed
    input: {interfaces: [in], sources: {include: ["2001:db8:9::/48"]}, group: "ff3e::1234"}
    legs:
      - {interface: out1, source: egress, group: "ff3e::8000:1", port: 7000, dscp: 10}
      - {interface: out2}
)");
  NowAndAfterRestart([&] {
    const Packet sent = Ethernet{.destination = "33:33:00:00:12:34"} /
                        Ipv6{.source = "2001:db8:9::9", .destination = "ff3e::1234", .traffic_class = 1} /
                        Udp{.source_port = 4000, .destination_port = 5001} / Payload(33);
    ASSERT_EQ(Fate(sent), "forward_multicast");
    EXPECT_EQ(
        Received(1),
        (Ethernet{.destination = "33:33:80:00:00:01", .source = EgressMac(1)} /
         Ipv6{.source = "2001:db8:1::1", .destination = "ff3e::8000:1", .hop_limit = 63, .traffic_class = 41} /
         Udp{.source_port = 4000, .destination_port = 7000} / Payload(33))
            .Build());
    EXPECT_EQ(Received(2),
              (Ethernet{.destination = "33:33:00:00:12:34", .source = EgressMac(2)} /
               Ipv6{.source = "2001:db8:9::9", .destination = "ff3e::1234", .hop_limit = 63, .traffic_class = 1} /
               Udp{.source_port = 4000, .destination_port = 5001} / Payload(33))
                  .Build());
  });
}

// The longest match of group, source and port has the packet; what is nobody's passes.
TEST_F(Multicast, RoutesAreChosenByGroupSourceAndPort) {
  Apply(R"(
  - {name: all, input: {interfaces: [in], group: 239.1.0.0/16}, legs: [{interface: out1}]}
  - name: group
    input: {interfaces: [in], group: 239.1.1.1, sources: {exclude: [172.16.0.0/16]}}
    legs: [{interface: out2}]
  - name: source
    input: {interfaces: [in], group: 239.1.1.1, sources: {include: [172.16.9.0/24]}}
    legs: [{interface: out3}]
  - name: port
    input: {interfaces: [in], group: 239.1.1.1, sources: {include: [172.16.9.0/24]}, port: 5001}
    legs: [{interface: out1}]
  - {name: esp, input: {interfaces: [in], group: 239.1.1.1, protocol: esp}, legs: [{interface: out1}]}
)");
  const auto taken_by = [this](const Bytes& frame) {
    std::map<std::string, uint64_t> before;
    const pb::StatsResponse earlier = api().Stats();
    for (const auto& route : earlier.multicast_routes()) before[route.name()] = route.packets();
    const std::string fate = Fate(frame);
    const pb::StatsResponse later = api().Stats();
    for (const auto& route : later.multicast_routes()) {
      if (route.packets() != before[route.name()]) return route.name();
    }
    return fate;
  };
  NowAndAfterRestart([&] {
    EXPECT_EQ(taken_by(ToGroup(5001)), "port");
    EXPECT_EQ(taken_by(ToGroup(5002)), "source");
    EXPECT_EQ(taken_by(ToGroup(5002, "192.0.2.1")), "group");
    // Left out by the route of the longest match, and by all less specific ones.
    EXPECT_EQ(taken_by(ToGroup(5002, "172.16.8.1")), "pass_default");
    EXPECT_EQ(
        taken_by(Ethernet{.destination = kGroupMac2} / Ipv4{.destination = "239.1.2.2"} / Udp{} / Payload(60)),
        "all");
    EXPECT_EQ(
        taken_by(Ethernet{.destination = kGroupMac2} / Ipv4{.destination = "239.2.2.2"} / Udp{} / Payload(60)),
        "pass_default");
    EXPECT_EQ(taken_by(Ethernet{.destination = kGroupMac} / Ipv4{.destination = "239.1.1.1"} /
                       Protocol{.number = 50} / Payload(60)),
              "esp");
    // A fragment after the first has no port.
    EXPECT_EQ(
        taken_by(Ethernet{.destination = kGroupMac} /
                 Ipv4{.source = "172.16.9.9", .destination = "239.1.1.1", .fragment_offset = 64, .protocol = 17} /
                 Payload(60)),
        "source");
  });
}

TEST_F(Multicast, RulesComeFirst) {
  api().ApplyYaml(interfaces_ + R"(
default_action: drop
rules:
  - {name: no, priority: 2, match: {source: 192.0.2.66/32}, action: {drop: {}}}
  - {name: away, priority: 1, match: {source: 192.0.2.67/32}, action: {redirect: {interface: out3}}}
multicast_routes:
  - {name: feed, input: {interfaces: [in], group: 239.1.1.1}, legs: [{interface: out1}]}
)");
  NowAndAfterRestart([&] {
    EXPECT_EQ(Fate(ToGroup(5001, "192.0.2.66")), "drop_rule");
    EXPECT_EQ(Fate(ToGroup(5001, "192.0.2.67")), "forward_redirect");
    // Whatever the default is.
    EXPECT_EQ(Fate(ToGroup(5001, "192.0.2.68")), "forward_multicast");
    EXPECT_EQ(Fate(Ethernet{} / Ipv4{} / Udp{} / Payload(60)), "drop_default");
    // A report of membership is for who asks for it.
    EXPECT_EQ(Route("feed").packets(), Leg("feed", "out1").sent_packets());
  });
}

// What was wrong stays wrong by as much, and no checksum stays none.
TEST_F(Multicast, ChecksumsAreKeptByWhatChanges) {
  Apply(R"(
  - name: feed
    input: {interfaces: [in], group: 239.1.1.1}
    legs: [{interface: out1, group: 239.2.2.2, port: 5002, source: egress, source_port: 6000}]
)");
  const auto checksum_after = [this](const Bytes& frame) {
    client().Send(frame);
    const Bytes got = Received(1);
    if (got.size() < 42) return -1;
    return got[40] << 8 | got[41];
  };
  const Bytes good = Ethernet{.destination = kGroupMac} / Ipv4{.destination = "239.1.1.1"} /
                     Udp{.source_port = 4000, .destination_port = 5001} / Payload(100);
  const auto frame = [&good](int checksum) {
    Bytes bytes = good;
    bytes[40] = static_cast<uint8_t>(checksum >> 8);
    bytes[41] = static_cast<uint8_t>(checksum);
    return bytes;
  };
  const int sent = good[40] << 8 | good[41], kept = checksum_after(good);
  EXPECT_EQ(checksum_after(frame(0)), 0);
  // All that can be wrong by: the sum of wrong and right is off by the same, in ones' complement.
  for (const int off : {1, 0x1234, 0x7fff, 0xfffe}) {
    const auto add = [](int a, int b) { return (a + b) % 0xffff; };
    const int wrong = checksum_after(frame(add(sent, off) == 0 ? 0xffff : add(sent, off)));
    EXPECT_EQ(wrong % 0xffff, add(kept, off)) << off;
    EXPECT_NE(wrong, kept) << off;
  }
  const Bytes wanted = Ethernet{.destination = kGroupMac2, .source = EgressMac(1)} /
                       Ipv4{.source = "10.0.1.1", .destination = "239.2.2.2", .ttl = 63} /
                       Udp{.source_port = 6000, .destination_port = 5002} / Payload(100);
  EXPECT_EQ(kept, wanted[40] << 8 | wanted[41]);
}

TEST_F(Multicast, CopiesThatAreNotSentAreCounted) {
  Apply(R"(
  - name: feed
    input: {interfaces: [in], group: 239.1.1.1}
    legs:
      - {interface: out1, ttl: {threshold: 10}}
      - {interface: out2, source: egress}
      - {interface: out3, rate_limit: {packets_per_second: 1, burst: 2}}
)");
  const auto with_ttl = [](uint8_t ttl) {
    return Ethernet{.destination = kGroupMac} / Ipv4{.destination = "239.1.1.1", .ttl = ttl} / Udp{} / Payload(60);
  };
  lab().Ip("gw", "addr flush dev e2");
  ASSERT_TRUE(WaitFor([&] {
    client().Send(with_ttl(64));
    return Leg("feed", "out2").dropped_no_source_packets() != 0;
  }));
  const uint64_t ttl = Leg("feed", "out1").dropped_ttl_packets();
  client().Send(with_ttl(11));
  client().Send(with_ttl(10));
  client().Send(with_ttl(1));
  EXPECT_TRUE(WaitFor([&] { return Leg("feed", "out1").dropped_ttl_packets() == ttl + 2; }));
  EXPECT_GT(Leg("feed", "out3").dropped_limited_packets(), 0U);
  EXPECT_GE(Leg("feed", "out3").sent_packets(), 2U);

  // Each once: what a leg drops is none of its device's.
  for (const char* name : {"out1", "out2", "out3"}) {
    EXPECT_EQ(api().Interface(name).transmit_dropped_packets(), 0U) << name;
    EXPECT_TRUE(WaitFor([&] {
      return api().Interface(name).transmitted_packets() == Leg("feed", name).sent_packets();
    })) << name;
  }

  // An address that comes back, another one, heals it.
  AddAddress(2, "10.77.0.1/24");
  const Bytes address = {10, 77, 0, 1};
  EXPECT_TRUE(WaitFor([&] {
    client().Send(with_ttl(64));
    const Bytes copy = Received(2);
    return copy.size() > 30 && std::equal(address.begin(), address.end(), copy.begin() + 26);
  }));

  // A device that is down or gone takes none, and the others do not mind.
  for (const char* harm : {"link set e2 down", "link del e2"}) {
    lab().Ip("gw", harm);
    const uint64_t lost = Leg("feed", "out2").dropped_no_device_packets();
    ASSERT_TRUE(WaitFor([&] {
      client().Send(with_ttl(64));
      return Leg("feed", "out2").dropped_no_device_packets() > lost + 2;
    })) << harm;
  }
  MakeReceiver(2);
  ASSERT_TRUE(WaitFor([&] {
    const uint64_t before = Leg("feed", "out2").sent_packets();
    client().Send(with_ttl(64));
    return WaitFor([&] { return Leg("feed", "out2").sent_packets() > before; }, std::chrono::milliseconds(50));
  })) << "it does not come back";
  for (const char* name : {"out1", "out2", "out3"}) {
    const pb::MulticastLegStats leg = Leg("feed", name);
    EXPECT_EQ(leg.offered_packets(), Route("feed").packets()) << name;
    EXPECT_EQ(leg.offered_packets(), leg.sent_packets() + leg.dropped_ttl_packets() +
                                         leg.dropped_limited_packets() + leg.dropped_no_source_packets() +
                                         leg.dropped_malformed_packets() + leg.dropped_no_device_packets())
        << name;
  }
}

// Packets that the kernel cannot copy are workers'.
TEST_F(Multicast, WhatTheKernelCannotCopyWorkersDo) {
  Apply(
      "  - {name: feed, input: {interfaces: [in], group: 239.1.1.1}, legs: [{interface: out1}, {interface: "
      "out2}]}\n");
  const auto of_size = [](size_t size) {
    return Ethernet{.destination = kGroupMac} / Ipv4{.destination = "239.1.1.1"} / Udp{} / Payload(size);
  };
  lab().Ip("gw", "link set e2 mtu 1000");
  ASSERT_TRUE(WaitFor([&] { return Fate(of_size(973)) == "forward_multicast_worker"; }));
  NowAndAfterRestart([&] {
    EXPECT_EQ(Fate(of_size(972)), "forward_multicast");
    EXPECT_TRUE(WaitFor([&] { return Fate(of_size(973)) == "forward_multicast_worker"; }));
    EXPECT_EQ(State("feed").path(), pb::MulticastRouteState::PATH_KERNEL);
    EXPECT_PRED2(Says, State("feed").reason(), "packets above 1000 bytes");
  });
  api().PatchYaml("upsert: {interfaces: [{name: out1, device: e1, mode: generic}]}");
  EXPECT_TRUE(WaitFor([&] { return Fate(of_size(100)) == "forward_multicast_worker"; }));
  EXPECT_EQ(State("feed").path(), pb::MulticastRouteState::PATH_USERSPACE);
  EXPECT_PRED2(Says, State("feed").reason(), "\"out1\" runs in generic mode");
  api().PatchYaml(
      "upsert: {interfaces: [{name: out1, device: e1, mode: native}, {name: in, device: g0, mode: generic}]}");
  EXPECT_TRUE(WaitFor([&] { return Fate(of_size(100)) == "forward_multicast_worker"; }));
  EXPECT_PRED2(Says, State("feed").reason(), "\"in\" runs in generic mode");
  api().PatchYaml("upsert: {interfaces: [{name: in, device: g0, mode: native}]}");
  EXPECT_TRUE(WaitFor([&] { return Fate(of_size(100)) == "forward_multicast"; }));
}

// What we sent ourselves, come back by a bridge or a switch.
TEST_F(Multicast, OurOwnPacketsAreNotSentAgain) {
  Apply("  - {name: feed, input: {interfaces: [in], group: 239.1.1.1}, legs: [{interface: out1}]}\n");
  const Bytes own = Ethernet{.destination = kGroupMac, .source = lab().Mac("gw", "g0")} /
                    Ipv4{.destination = "239.1.1.1"} / Udp{} / Payload(60);
  NowAndAfterRestart([&] { EXPECT_EQ(Fate(own), "drop_multicast_loop"); });
  EXPECT_EQ(Leg("feed", "out1").offered_packets(), 0U);
}

// Legs and routes come and go, and what stays keeps its counters.
TEST_F(Multicast, LegsComeAndGo) {
  const std::string feed = "  - name: feed\n    input: {interfaces: [in], group: 239.1.1.1}\n    legs: ";
  Apply(feed + "[{interface: out1}]\n");
  ASSERT_EQ(Fate(ToGroup()), "forward_multicast");
  Apply(feed + "[{interface: out1}, {interface: out2}]\n");
  ASSERT_EQ(Fate(ToGroup()), "forward_multicast");
  EXPECT_EQ(Leg("feed", "out1").sent_packets(), 2U);
  EXPECT_EQ(Leg("feed", "out2").sent_packets(), 1U);
  Apply(feed + "[{interface: out2}]\n");
  agent().Restart();
  ASSERT_EQ(Fate(ToGroup()), "forward_multicast");
  EXPECT_EQ(Leg("feed", "out2").sent_packets(), 2U);
  EXPECT_EQ(Route("feed").packets(), 3U);
  // A leg that comes again begins anew.
  Apply(feed + "[{interface: out1}, {interface: out2}]\n");
  EXPECT_EQ(Leg("feed", "out1").offered_packets(), 0U);
  api().PatchYaml("delete_multicast_routes: [feed]");
  EXPECT_EQ(Fate(ToGroup()), "pass_default");
}

// The route's ports are traced without a trace of it.
TEST_F(Multicast, IsTraced) {
  Apply("  - {name: feed, input: {interfaces: [in], group: 239.1.1.1}, legs: [{interface: out1}]}\n");
  const pb::TraceResponse trace = api().Trace("udp 192.0.2.1:4000 > 239.1.1.1:5001 in in");
  EXPECT_EQ(trace.multicast_route(), "feed");
  EXPECT_EQ(trace.reason(), "forward_multicast");
  EXPECT_EQ(trace.verdict(), "redirect");
  EXPECT_EQ(trace.stages(trace.stages_size() - 1), "multicast");
  EXPECT_EQ(Route("feed").packets(), 0U);
  EXPECT_EQ(Leg("feed", "out1").offered_packets(), 0U);
}

}  // namespace
}  // namespace headgate::testing
