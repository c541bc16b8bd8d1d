// SPDX-License-Identifier: Apache-2.0
//
// What legs go by besides the packet: their devices' addresses, MTUs and comings and goings, groups' MAC
// addresses, and rate limits.
#include <algorithm>
#include <functional>

#include "tests/e2e/drift_fixture.h"
#include "tests/e2e/multicast_fixture.h"

namespace headgate::testing {
namespace {

constexpr char kMac[] = "01:00:5e:01:01:01", kMac6[] = "33:33:00:00:12:34";  // of 239.1.1.1 and ff3e::1234

class MulticastDevice : public MulticastTest {
 protected:
  MulticastDevice() : MulticastTest("mcastdevice", 2, true) {}

  static Bytes Frame(size_t payload = 100) {
    return Ethernet{.destination = kMac} / Ipv4{.destination = "239.1.1.1"} / Udp{} / Payload(payload);
  }
  static Bytes Frame6() {
    return Ethernet{.destination = kMac6} / Ipv6{.destination = "ff3e::1234"} / Udp{} / Payload(100);
  }
  static Bytes Between(const Bytes& frame, size_t from, size_t to) {
    if (frame.size() < to) return {};
    return {frame.begin() + static_cast<ptrdiff_t>(from), frame.begin() + static_cast<ptrdiff_t>(to)};
  }
};

TEST_F(MulticastDevice, ALegMayGoBackWhereThePacketCameFrom) {
  Apply(R"(
  - {name: feed, input: {interfaces: [in], group: 239.1.1.1}, legs: [{interface: in, group: 239.2.2.2}, {interface: out1}]}
)");
  NowAndAfterRestart([&] {
    ASSERT_EQ(Fate(Frame()), "forward_multicast");
    EXPECT_EQ(client().Receive(IsUdp).value_or(Bytes{}),
              (Ethernet{.destination = "01:00:5e:02:02:02", .source = lab().Mac("gw", "g0")} /
               Ipv4{.destination = "239.2.2.2", .ttl = 63} / Udp{} / Payload(100))
                  .Build());
    EXPECT_FALSE(Received(1).empty());
  });
}

// The low 23 bits of an IPv4 group, the low 32 of an IPv6 one (RFC 1112, section 6.4; RFC 2464, section 7).
TEST_F(MulticastDevice, MacsOfGroups) {
  Apply(R"(
  - {name: feed, input: {interfaces: [in], group: 239.1.1.1}, legs: [{interface: out1, group: 239.255.254.253}, {interface: out2, group: 232.128.0.1}]}
  - {name: six, input: {interfaces: [in], group: "ff3e::1234"}, legs: [{interface: out1, group: "ff3e::ffee:ddcc"}, {interface: out2, group: "ff3e:0:0:0:1:2:3:4"}]}
)");
  client().Send(Frame());
  EXPECT_EQ(Between(Received(1), 0, 6), (Bytes{0x01, 0x00, 0x5e, 0x7f, 0xfe, 0xfd}));
  EXPECT_EQ(Between(Received(2), 0, 6), (Bytes{0x01, 0x00, 0x5e, 0x00, 0x00, 0x01}));
  client().Send(Frame6());
  EXPECT_EQ(Between(Received(1), 0, 6), (Bytes{0x33, 0x33, 0xff, 0xee, 0xdd, 0xcc}));
  EXPECT_EQ(Between(Received(2), 0, 6), (Bytes{0x33, 0x33, 0x00, 0x03, 0x00, 0x04}));
}

// An address that others can answer rather than one of the link, and nothing rather than none.
TEST_F(MulticastDevice, Ipv6AddressOfTheEgress) {
  Apply(
      "  - {name: six, input: {interfaces: [in], group: \"ff3e::1234\"}, legs: [{interface: out1}, {interface: "
      "out2, "
      "source: egress}]}\n");
  const auto leaves_with = [&](const Bytes& address) {
    return WaitFor([&] {
      client().Send(Frame6());
      const auto copy =
          receivers_[2]->Receive([](const Bytes& frame) { return IsUdp(frame); }, std::chrono::milliseconds(100));
      return copy && Between(*copy, 22, 38) == address;
    });
  };
  EXPECT_TRUE(leaves_with({0x20, 1, 0x0d, 0xb8, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}));
  EXPECT_EQ(Leg("six", "out2").dropped_no_source_packets(), 0U);

  lab().Ip("gw", "-6 addr flush dev e2");
  ASSERT_TRUE(WaitFor([&] {
    client().Send(Frame6());
    return Leg("six", "out2").dropped_no_source_packets() != 0;
  }));
  const pb::MulticastLegStats before = Leg("six", "out2");
  const uint64_t sent = Leg("six", "out1").sent_packets();
  client().Send(Frame6());
  ASSERT_TRUE(WaitFor([&] { return Leg("six", "out1").sent_packets() == sent + 1; }));
  EXPECT_EQ(Leg("six", "out2").dropped_no_source_packets(), before.dropped_no_source_packets() + 1);
  EXPECT_EQ(Leg("six", "out2").sent_packets(), before.sent_packets());

  lab().Ip("gw", "addr add fe80::7/64 dev e2 nodad");
  EXPECT_TRUE(leaves_with({0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7}));
  lab().Ip("gw", "addr add 2001:db8:2::9/64 dev e2 nodad");
  EXPECT_TRUE(leaves_with({0x20, 1, 0x0d, 0xb8, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9}));
}

// Buckets that hold three of these frames, and take longer to fill again than this takes.
TEST_F(MulticastDevice, RateLimits) {
  const Bytes frame = Frame(958);  // 1,000 bytes
  Apply(R"(
  - name: feed
    input: {interfaces: [in], group: 239.1.1.1}
    legs: [{interface: out1, rate_limit: {bits_per_second: 1000, burst: 24000}}, {interface: out2}]
)");
  for (int i = 0; i < 5; ++i) client().Send(frame);
  ASSERT_TRUE(WaitFor([&] { return Leg("feed", "out2").sent_packets() == 5; }));
  ASSERT_TRUE(WaitFor(
      [&] { return Leg("feed", "out1").sent_packets() + Leg("feed", "out1").dropped_limited_packets() == 5; }));
  EXPECT_EQ(Leg("feed", "out1").sent_packets(), 3U);
  EXPECT_EQ(Leg("feed", "out1").dropped_limited_packets(), 2U);
  EXPECT_EQ(receivers_[1]->ReceiveCount(IsUdp, 4, std::chrono::milliseconds(200)), 3U);
}

// Devices that change when an agent has adopted what the one before left.
TEST_F(MulticastDevice, AreFollowedAfterARestart) {
  Apply(
      "  - {name: feed, input: {interfaces: [in], group: 239.1.1.1}, legs: [{interface: out1}, {interface: "
      "out2}]}\n");
  ASSERT_EQ(Fate(Frame()), "forward_multicast");
  agent().Restart();
  lab().Ip("gw", "link del e2");
  MakeReceiver(2);
  OpenReceiver(2);
  EXPECT_TRUE(WaitFor([&] {
    client().Send(Frame());
    return receivers_[2]->Receive(IsUdp, std::chrono::milliseconds(50)).has_value();
  }));
  lab().Ip("gw", "link set e1 mtu 1000");
  EXPECT_TRUE(WaitFor([&] { return Fate(Frame(973)) == "forward_multicast_worker"; }));
  EXPECT_EQ(Fate(Frame(972)), "forward_multicast");
  // The device that bounds it is gone, and so is its bound.
  lab().Ip("gw", "link del e1");
  EXPECT_TRUE(WaitFor([&] { return Fate(Frame(973)) == "forward_multicast"; }));
}

// Routes that an agent finds when it starts, and others than it left.
TEST_F(MulticastDevice, RoutesChangeAfterARestart) {
  const std::string first =
      "  - {name: feed, input: {interfaces: [in], group: 239.1.1.1}, legs: [{interface: out1}, {interface: "
      "out2}]}\n";
  const std::string second =
      "  - {name: more, input: {interfaces: [in], group: 239.1.1.2}, legs: [{interface: out2}]}\n";
  Apply(first + second);
  ASSERT_EQ(Fate(Frame()), "forward_multicast");
  agent().Restart();
  // One set of ports is given up and taken again, by another route; ids come back with nothing of their past.
  Apply(second);
  EXPECT_EQ(Fate(Frame()), "pass_default");
  Apply(
      second +
      "  - {name: again, input: {interfaces: [in], group: 239.1.1.1}, legs: [{interface: out2, group: 239.7.7.7}, "
      "{interface: out1}]}\n");
  EXPECT_EQ(Fate(Frame()), "forward_multicast");
  EXPECT_EQ(Between(Received(2), 30, 34), (Bytes{239, 1, 1, 1}));
  EXPECT_EQ(Between(Received(2), 30, 34), (Bytes{239, 7, 7, 7}));
  EXPECT_EQ(Route("again").packets(), 1U);
  EXPECT_EQ(Leg("again", "out1").sent_packets(), 1U);
  agent().Restart();
  EXPECT_EQ(Fate(Frame()), "forward_multicast");
  EXPECT_EQ(Route("again").packets(), 2U);
}

// What is given up leaves nothing in the tables.
TEST_F(MulticastDevice, ARestartFindsNothingOfRoutesThatAreGone) {
  const std::string stay =
      "  - {name: stay, input: {interfaces: [in], group: 239.1.1.1}, legs: [{interface: out1}, {interface: "
      "out2}]}\n";
  Apply(stay +
        "  - {name: go, input: {interfaces: [in], group: 239.1.1.2}, legs: [{interface: out2, ttl: {set: 9}}]}\n"
        "  - {name: less, input: {interfaces: [in], group: 239.1.1.3}, legs: [{interface: out1}, {interface: "
        "out2}]}\n");
  Apply(stay + "  - {name: less, input: {interfaces: [in], group: 239.1.1.3}, legs: [{interface: out1}]}\n");
  agent().Restart();
  EXPECT_EQ(api().Status().drift_repaired(), 0U);
  EXPECT_EQ(Fate(Frame()), "forward_multicast");
}

// What others wrote while no agent was there, such that it still looks like tables.
TEST_F(MulticastDevice, WhatIsWrongAtTheStartIsRepaired) {
  Apply(
      "  - {name: feed, input: {interfaces: [in], group: 239.1.1.1}, legs: [{interface: out1, port: 7}, "
      "{interface: "
      "out2, ttl: {set: 9}}]}\n");
  ASSERT_EQ(Fate(Frame()), "forward_multicast");
  const Bytes right = Received(1), right2 = Received(2);
  const auto damage = [this]<typename Value>(const char* name, const std::function<void(Value&)>& change) {
    const PinnedMap map(agent(), name);
    const uint32_t key = map.Used().back();
    Bytes bytes = map.Read(key);
    Value value{};
    std::memcpy(&value, bytes.data(), sizeof(value));
    change(value);
    std::memcpy(bytes.data(), &value, sizeof(value));
    map.Write(key, bytes);
  };
  const auto each_leg = [](hg_leg_page& page) {
    for (hg_leg& leg : page.leg) leg.flags = 0;
  };
  const std::pair<const char*, std::function<void()>> damages[] = {
      {"a leg", [&] { damage.operator()<hg_leg_page>("hg_legs", each_leg); }},
      {"a leg of nobody's",
       [&] { damage.operator()<hg_leg_page>("hg_legs", [](auto& page) { page.leg[9].port = 1; }); }},
      {"ports", [&] { damage.operator()<hg_fanout>("hg_fanouts", [](auto& fanout) { fanout.ports[0] = 2; }); }},
      {"a route",
       [&] {
         damage.operator()<hg_mroute_page>("hg_mroutes", [](auto& page) {
           for (hg_mroute& route : page.route)
             std::fill(std::begin(route.leg_of_port), std::end(route.leg_of_port), 0);
         });
       }},
      {"a route of nobody's",
       [&] { damage.operator()<hg_mroute_page>("hg_mroutes", [](auto& page) { page.route[3].ports = 1; }); }},
  };
  for (const auto& [what, scribble] : damages) {
    SCOPED_TRACE(what);
    agent().Kill();
    scribble();
    agent().Start();
    EXPECT_GT(api().Status().drift_repaired(), 0U);
    ASSERT_EQ(Fate(Frame()), "forward_multicast");
    EXPECT_EQ(Received(1), right);
    EXPECT_EQ(Received(2), right2);
  }
}

}  // namespace
}  // namespace headgate::testing
