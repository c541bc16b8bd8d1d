// SPDX-License-Identifier: Apache-2.0
//
// What each action but route and steer does to a packet: verdict, reason, the frame that leaves, and the counters.
#include <bpf/bpf.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include "tests/bpf/lab_gateway.h"

namespace headgate::testing {
namespace {

class ActionTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (WhyNoLab().empty()) lab_ = std::make_unique<LabGateway>("action");
  }
  static void TearDownTestSuite() { lab_.reset(); }
  void SetUp() override { HG_REQUIRE_LAB(); }
  Gateway& gateway() { return lab_->gateway; }

  // One rule does this to every packet.
  void Use(const std::string& action, const std::string& objects = "") {
    gateway().Configure(objects + "rules: [{name: r, priority: 1, action: " + action + "}]\n");
  }
  struct Case {
    const char* name;
    Bytes frame;
    const char* reason;
    Bytes output = {};  // nothing: the frame does not leave, or it passes as it came
  };
  void Expect(const std::vector<Case>& cases) {
    for (const Case& c : cases) {
      SCOPED_TRACE(c.name);
      const Outcome outcome = gateway().Run(c.frame);
      EXPECT_EQ(outcome.reason, c.reason);
      EXPECT_EQ(outcome.rule, "r");
      if (c.output.empty()) continue;
      EXPECT_EQ(outcome.output, c.output);
      ExpectChecksums(outcome.output);
    }
  }

  static std::unique_ptr<LabGateway> lab_;
};
std::unique_ptr<LabGateway> ActionTest::lab_;

const std::string kA = "02:00:00:00:00:0a", kB = "02:00:00:00:00:0b";
const Ethernet kEth = {.destination = kB, .source = kA};
const Ethernet kBack = {.destination = kA, .source = kB};
const Ipv4 kIp4 = {.source = "192.0.2.10", .destination = "198.51.100.11"};
const Ipv4 kIp4Back = {.source = "198.51.100.11", .destination = "192.0.2.10"};
const Ipv6 kIp6 = {.source = "2001:db8:a::1:2", .destination = "2001:db8:b::3:4"};
const Ipv6 kIp6Back = {.source = "2001:db8:b::3:4", .destination = "2001:db8:a::1:2"};
const Udp kUdp = {.source_port = 1000, .destination_port = 2000};
const Udp kUdpBack = {.source_port = 2000, .destination_port = 1000};
const Tcp kTcp = {.source_port = 1000, .destination_port = 2000};
const Tcp kTcpBack = {.source_port = 2000, .destination_port = 1000};

template <typename T>
T With(T layer, auto T::*field, auto value) {
  layer.*field = value;
  return layer;
}

TEST_F(ActionTest, PassAndDrop) {
  const Bytes frame = kEth / kIp4 / kUdp;
  Use("{pass: {}}");
  Expect({{"IPv4", frame, "pass_rule"}, {"other", Ethernet{.type = 0x88b5} / Payload(46), "pass_rule"}});
  Use("{drop: {}}");
  Expect({{"IPv4", frame, "drop_rule"}, {"other", Ethernet{.type = 0x88b5} / Payload(46), "drop_rule"}});
}

TEST_F(ActionTest, TxSwapsEthernet) {
  Use("{tx: {swap: ethernet}}");
  const Payload data(33);
  Expect({
      {"IPv4", kEth / kIp4 / kUdp / data, "forward_tx", kBack / kIp4 / kUdp / data},
      {"IPv6", kEth / kIp6 / kTcp, "forward_tx", kBack / kIp6 / kTcp},
      {"tagged", kEth / Vlan{.id = 7} / kIp4 / kUdp, "forward_tx", kBack / Vlan{.id = 7} / kIp4 / kUdp},
      {"ARP to an address", kEth / Arp{}, "forward_tx", kBack / Arp{}},
  });
}

TEST_F(ActionTest, TxSwapsAddresses) {
  for (const char* action : {"{tx: {}}", "{tx: {swap: ip}}"}) {
    SCOPED_TRACE(action);
    Use(action);
    const auto tags = Vlan{.id = 7, .tpid = 0x88a8};
    Expect({
        {"UDP", kEth / kIp4 / kUdp, "forward_tx", kBack / kIp4Back / kUdp},
        {"TCP behind options", kEth / With(kIp4, &Ipv4::options, Bytes(8, 1)) / kTcp, "forward_tx",
         kBack / With(kIp4Back, &Ipv4::options, Bytes(8, 1)) / kTcp},
        {"two tags", kEth / tags / Vlan{} / kIp4 / kUdp, "forward_tx", kBack / tags / Vlan{} / kIp4Back / kUdp},
        {"later fragment", kEth / With(kIp4, &Ipv4::fragment_offset, uint16_t{9}) / kUdp, "forward_tx",
         kBack / With(kIp4Back, &Ipv4::fragment_offset, uint16_t{9}) / kUdp},
        {"IPv6 UDP", kEth / kIp6 / kUdp, "forward_tx", kBack / kIp6Back / kUdp},
        {"IPv6 tagged", kEth / Vlan{} / kIp6 / kTcp, "forward_tx", kBack / Vlan{} / kIp6Back / kTcp},
        {"ICMPv6", kEth / kIp6 / Icmpv6{}, "forward_tx", kBack / kIp6Back / Icmpv6{}},
        {"not IP", With(kEth, &Ethernet::type, uint16_t{0x88b5}) / Payload(46), "forward_tx",
         With(kBack, &Ethernet::type, uint16_t{0x88b5}) / Payload(46)},
        {"TTL is left alone", kEth / With(kIp4, &Ipv4::ttl, uint8_t{1}) / kUdp, "forward_tx",
         kBack / With(kIp4Back, &Ipv4::ttl, uint8_t{1}) / kUdp},
    });
  }
}

TEST_F(ActionTest, TxSwapsPorts) {
  Use("{tx: {swap: ports}}");
  const auto udp_lite = [](Bytes ports) { return Protocol{.number = IPPROTO_UDPLITE, .bytes = std::move(ports)}; };
  const auto fragment = [](const Ipv4& ip, bool more, uint16_t offset) {
    return With(With(ip, &Ipv4::more_fragments, more), &Ipv4::fragment_offset, offset);
  };
  const Protocol sctp{.number = IPPROTO_SCTP, .bytes = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}};
  Expect({
      {"UDP", kEth / kIp4 / kUdp / Payload(9), "forward_tx", kBack / kIp4Back / kUdpBack / Payload(9)},
      {"TCP", kEth / kIp4 / kTcp, "forward_tx", kBack / kIp4Back / kTcpBack},
      {"TCP behind options", kEth / With(kIp4, &Ipv4::options, Bytes(40, 1)) / kTcp, "forward_tx",
       kBack / With(kIp4Back, &Ipv4::options, Bytes(40, 1)) / kTcpBack},
      {"UDP-Lite", kEth / kIp4 / udp_lite({1, 2, 3, 4, 0, 0, 0, 0}), "forward_tx",
       kBack / kIp4Back / udp_lite({3, 4, 1, 2, 0, 0, 0, 0})},
      {"SCTP, whose CRC covers the ports' places", kEth / kIp4 / sctp, "forward_tx", kBack / kIp4Back / sctp},
      {"IPv6 UDP", kEth / kIp6 / kUdp, "forward_tx", kBack / kIp6Back / kUdpBack},
      {"IPv6 behind an extension header",
       kEth / kIp6 / Ipv6Extension{.type = 60, .extra_units = 200} / Udp{.checksum = 7}, "forward_tx",
       kBack / kIp6Back / Ipv6Extension{.type = 60, .extra_units = 200} /
           Udp{.source_port = 53, .destination_port = 12345, .checksum = 7}},
      {"two tags", kEth / Vlan{} / Vlan{} / kIp6 / kTcp, "forward_tx",
       kBack / Vlan{} / Vlan{} / kIp6Back / kTcpBack},
      {"first fragment", kEth / fragment(kIp4, true, 0) / kUdp, "forward_tx",
       kBack / fragment(kIp4Back, true, 0) / kUdpBack},
      {"later fragment has none", kEth / fragment(kIp4, false, 9) / kUdp, "forward_tx",
       kBack / fragment(kIp4Back, false, 9) / kUdp},
      {"ICMP has none", kEth / kIp4 / Icmp{}, "forward_tx", kBack / kIp4Back / Icmp{}},
      {"ESP has none", kEth / kIp4 / Protocol{.number = IPPROTO_ESP, .bytes = {1, 2, 3, 4}}, "forward_tx",
       kBack / kIp4Back / Protocol{.number = IPPROTO_ESP, .bytes = {1, 2, 3, 4}}},
  });
}

TEST_F(ActionTest, TxRefusesGroups) {
  Use("{tx: {}}");
  Expect({
      {"Ethernet multicast", Ethernet{.destination = "01:00:5e:00:00:01"} / kIp4 / kUdp, "drop_tx_group"},
      {"Ethernet broadcast", Ethernet{.destination = "ff:ff:ff:ff:ff:ff"} / Arp{}, "drop_tx_group"},
      {"IPv4 multicast", kEth / Ipv4{.destination = "224.0.0.1"} / kUdp, "drop_tx_group"},
      {"IPv4 broadcast", kEth / Ipv4{.destination = "255.255.255.255"} / kUdp, "drop_tx_group"},
      {"IPv6 multicast", kEth / Ipv6{.destination = "ff02::1"} / kUdp, "drop_tx_group"},
  });
}

TEST_F(ActionTest, Redirect) {
  const Bytes frame = kEth / Vlan{} / kIp4 / kUdp;
  Use("{redirect: {interface: out}}");
  Expect({{"as received", frame, "forward_redirect", frame},
          {"ARP too", kEth / Arp{}, "forward_redirect", kEth / Arp{}}});
  Use("{redirect: {interface: out, destination_mac: '02:00:00:00:00:77'}}");
  Expect({{"destination", frame, "forward_redirect",
           Ethernet{.destination = "02:00:00:00:00:77", .source = kA} / Vlan{} / kIp4 / kUdp}});
  Use("{redirect: {interface: out, source_mac: '02:00:00:00:00:78'}}");
  Expect({{"source", frame, "forward_redirect",
           Ethernet{.destination = kB, .source = "02:00:00:00:00:78"} / Vlan{} / kIp4 / kUdp}});
  Use("{redirect: {interface: in, source_mac: '02:00:00:00:00:78', destination_mac: '01:00:5e:01:02:03'}}");
  Expect({{"both, a group, and back out where it came in", frame, "forward_redirect",
           Ethernet{.destination = "01:00:5e:01:02:03", .source = "02:00:00:00:00:78"} / Vlan{} / kIp4 / kUdp}});
  Use("{redirect: {interface: gone}}");
  Expect({{"no device", frame, "drop_no_device"}});
}

std::string Hop(const std::string& rest) {
  return "next_hops: [{name: h, interface: out, mac: '02:00:00:00:00:77'" + rest + "}]\n";
}
const Ethernet kToHop = {.destination = "02:00:00:00:00:77", .source = LabGateway::kOut};

TEST_F(ActionTest, NextHopAddresses) {
  Use("{next_hop: {name: h}}", Hop(""));
  Expect({
      {"the device's own source", kEth / kIp4 / kUdp, "forward_next_hop", kToHop / kIp4 / kUdp},
      {"IPv6", kEth / kIp6 / kTcp, "forward_next_hop", kToHop / kIp6 / kTcp},
      {"TTL 0, which nobody asked to look at", kEth / With(kIp4, &Ipv4::ttl, uint8_t{0}) / kUdp,
       "forward_next_hop", kToHop / With(kIp4, &Ipv4::ttl, uint8_t{0}) / kUdp},
  });
  Use("{next_hop: {name: h}}", Hop(", source_mac: '02:00:00:00:00:78'"));
  Expect({{"a source given", kEth / kIp4 / kUdp, "forward_next_hop",
           Ethernet{.destination = "02:00:00:00:00:77", .source = "02:00:00:00:00:78"} / kIp4 / kUdp}});
  Use("{next_hop: {name: h}}", "next_hops: [{name: h, interface: gone, mac: '02:00:00:00:00:77'}]\n");
  Expect({{"no device", kEth / kIp4 / kUdp, "drop_no_device"}});
}

TEST_F(ActionTest, NextHopDecrementsTtl) {
  Use("{next_hop: {name: h}}", Hop(", decrement_ttl: true"));
  const auto v4 = [](const Ethernet& eth, int ttl) -> Bytes {
    return eth / With(kIp4, &Ipv4::ttl, static_cast<uint8_t>(ttl)) / kUdp;
  };
  const auto v6 = [](const Ethernet& eth, int hops) -> Bytes {
    return eth / Vlan{} / With(kIp6, &Ipv6::hop_limit, static_cast<uint8_t>(hops)) / kUdp;
  };
  Expect({
      {"IPv4", v4(kEth, 64), "forward_next_hop", v4(kToHop, 63)},
      {"IPv4, last hop", v4(kEth, 2), "forward_next_hop", v4(kToHop, 1)},
      {"IPv4 expires", v4(kEth, 1), "drop_ttl"},
      {"IPv4, 0", v4(kEth, 0), "drop_ttl"},
      {"IPv6 tagged", v6(kEth, 255), "forward_next_hop", v6(kToHop, 254)},
      {"IPv6, last hop", v6(kEth, 2), "forward_next_hop", v6(kToHop, 1)},
      {"IPv6 expires", v6(kEth, 1), "drop_ttl"},
      {"not IP", kEth / Arp{}, "forward_next_hop", kToHop / Arp{}},
  });
}

TEST_F(ActionTest, NextHopVlans) {
  const Vlan outer{.id = 100, .priority = 5, .tpid = 0x88a8}, inner{.id = 200, .priority = 3};
  Use("{next_hop: {name: h}}", Hop(""));
  Expect({{"keep one", kEth / inner / kIp4 / kUdp, "forward_next_hop", kToHop / inner / kIp4 / kUdp},
          {"keep two", kEth / outer / inner / kIp4 / kUdp, "forward_next_hop",
           kToHop / outer / inner / kIp4 / kUdp}});
  Use("{next_hop: {name: h}}", Hop(", vlan: 0, decrement_ttl: true"));
  const auto aged = With(kIp4, &Ipv4::ttl, uint8_t{63});
  Expect({{"strip none", kEth / kIp4 / kUdp, "forward_next_hop", kToHop / aged / kUdp},
          {"strip one", kEth / inner / kIp4 / kUdp, "forward_next_hop", kToHop / aged / kUdp},
          {"strip the outer of two", kEth / outer / inner / kIp4 / kUdp, "forward_next_hop",
           kToHop / inner / aged / kUdp}});
  Use("{next_hop: {name: h}}", Hop(", vlan: 4094, decrement_ttl: true"));
  Expect({{"push", kEth / kIp4 / kUdp, "forward_next_hop", kToHop / Vlan{.id = 4094} / aged / kUdp},
          {"push before IPv6", kEth / kIp6 / kUdp, "forward_next_hop",
           kToHop / Vlan{.id = 4094} / With(kIp6, &Ipv6::hop_limit, uint8_t{63}) / kUdp},
          {"push on the smallest frame", Ethernet{.type = 0x88b5} / Payload(0), "forward_next_hop",
           kToHop / Vlan{.id = 4094, .type = 0x88b5}},
          {"set, priority stays", kEth / inner / kIp4 / kUdp, "forward_next_hop",
           kToHop / Vlan{.id = 4094, .priority = 3} / aged / kUdp},
          {"set of a priority tag", kEth / Vlan{.id = 0, .priority = 7} / kIp4 / kUdp, "forward_next_hop",
           kToHop / Vlan{.id = 4094, .priority = 7} / aged / kUdp},
          {"set the outer, its type stays", kEth / outer / inner / kIp4 / kUdp, "forward_next_hop",
           kToHop / Vlan{.id = 4094, .priority = 5, .tpid = 0x88a8} / inner / aged / kUdp}});
}

TEST_F(ActionTest, NoHeadroomForATag) {
  Use("{next_hop: {name: h}}", Hop(", vlan: 5"));
  Program& program = gateway().program();
  const Bytes frame = kEth / kIp4 / kUdp;
  // The kernel keeps 40 bytes of the 256 for itself and lets metadata have the rest, down to 4 bytes here.
  for (const uint32_t metadata : {216U, 212U}) {
    program.SetIngress({.ifindex = LabGateway::Index("in0"), .metadata = metadata});
    try {
      program.Verdict(frame);
    } catch (const std::runtime_error&) {
      program.SetIngress({.ifindex = LabGateway::Index("in0")});
      GTEST_SKIP() << "this kernel takes no " << metadata << " bytes of metadata";
    }
    EXPECT_EQ(program.Run(frame, gateway().Port("in")).reason,
              metadata == 216 ? "drop_no_headroom" : "forward_next_hop");
  }
  program.SetIngress({.ifindex = LabGateway::Index("in0")});
}

TEST_F(ActionTest, NamedCounters) {
  gateway().Configure(R"(
next_hops: [{name: gone, interface: gone, mac: "02:00:00:00:00:77"}]
rules:
  - {name: a, priority: 4, match: {vlan: 1}, action: {drop: {}, count: {counter: x}}}
  - {name: b, priority: 3, match: {vlan: 2}, action: {tx: {}, count: {counter: x}}}
  - {name: c, priority: 2, match: {vlan: 3}, action: {next_hop: {name: gone}, count: {counter: y}}}
  - {name: d, priority: 1, match: {vlan: 4}, action: {pass: {}}}
)");
  const auto frame = [](int vlan, size_t payload = 0) -> Bytes {
    return kEth / Vlan{.id = static_cast<uint16_t>(vlan)} / kIp4 / kUdp / Payload(payload);
  };
  using Counters = std::map<std::string, uint64_t>;
  EXPECT_EQ(gateway().Run(frame(1)).counters, (Counters{{"x", 1}}));
  EXPECT_EQ(gateway().Run(frame(2, 100)).counters, (Counters{{"x", 1}}));
  EXPECT_EQ(gateway().Run(frame(3)).counters, (Counters{{"y", 1}}));
  EXPECT_EQ(gateway().Run(frame(4)).counters, Counters{});
  EXPECT_EQ(gateway().Run(frame(5)).counters, Counters{});
  EXPECT_EQ(gateway().NamedCount("x"), (Count{2, frame(1).size() + frame(2, 100).size()}));
  EXPECT_EQ(gateway().RuleCount("b").bytes, frame(2, 100).size());
  // What a counter and a rule counted stays when a rule changes, and when another joins.
  gateway().Configure(R"(
rules:
  - {name: a, priority: 9, match: {vlan: 1}, action: {pass: {}, count: {counter: x}}}
  - {name: e, priority: 1, match: {vlan: 6}, action: {drop: {}, count: {counter: x}}}
)");
  EXPECT_EQ(gateway().Run(frame(6)).counters, (Counters{{"x", 1}}));
  EXPECT_EQ(gateway().NamedCount("x").packets, 3U);
  EXPECT_EQ(gateway().RuleCount("a").packets, 1U);
}

// Over all ports and reasons: a packet is not also counted somewhere that nobody looks.
TEST_F(ActionTest, EachPacketIsCountedOnce) {
  const auto total = [&] {
    const auto rows =
        *gateway().program().dataplane().ReadCounters(CounterId::kPorts, 0, HG_PORTS * HG_REASON_SLOTS);
    Count sum;
    for (size_t i = 0; i < rows.size(); i += 2) {
      sum.packets += rows[i];
      sum.bytes += rows[i + 1];
    }
    return sum;
  };
  const std::string objects =
      Hop(", vlan: 5, decrement_ttl: true") + "steer_targets: [{name: t, fallback: drop}]\n";
  const Bytes frames[] = {kEth / kIp4 / kUdp,
                          kEth / kIp6 / kTcp / Payload(2000),
                          kEth / Arp{},
                          kEth / Ipv4{.ihl = 3},
                          kEth / With(kIp4, &Ipv4::ttl, uint8_t{1}) / kUdp,
                          kEth / Vlan{} / Vlan{} / Vlan{} / kIp4};
  for (const char* action :
       {"pass: {}", "drop: {}", "tx: {}", "redirect: {interface: out}", "redirect: {interface: gone}", "route: {}",
        "next_hop: {name: h}", "steer: {target: t}"}) {
    SCOPED_TRACE(action);
    Use(std::string("{") + action + "}", objects);
    Count expected = total();
    for (const Bytes& frame : frames) {
      gateway().Run(frame);
      ++expected.packets;
      expected.bytes += frame.size();
    }
    EXPECT_EQ(total(), expected);
  }
}

// Words that are full are carried over, and nothing is lost or counted twice on the way.
TEST_F(ActionTest, RulesCountBeyondAWord) {
  Use("{drop: {}}");
  Program& program = gateway().program();
  const Bytes frame = kEth / kIp4 / kUdp;
  const hg_rule_count before = gateway().RuleCount("r");
  uint64_t packets = 0;
  for (const int repeat : {1, 1 << 20, 2, (1 << 20) - 3, 1 << 20, 1, (1 << 21) + 5}) {
    (void)program.Verdict(frame, nullptr, repeat);
    packets += static_cast<uint64_t>(repeat);
    const hg_rule_count count = gateway().RuleCount("r");
    EXPECT_EQ(count.packets - before.packets, packets);
    EXPECT_EQ(count.bytes - before.bytes, packets * frame.size());
    EXPECT_EQ(count.limited, before.limited);
  }
}

// Tables that say what no configuration does: each packet is dropped for a reason of its own.
TEST_F(ActionTest, BrokenTables) {
  const Bytes frame = kEth / kIp4 / kUdp;
  Program& program = gateway().program();
  const auto with_zeroed = [&](const char* map, uint32_t entries, size_t size, const char* reason) {
    SCOPED_TRACE(map);
    const Fd table = program.OpenMap(map);
    std::vector<Bytes> saved(entries, Bytes(size));
    for (uint32_t i = 0; i < entries; ++i) {
      ASSERT_EQ(bpf_map_lookup_elem(table.get(), &i, saved[i].data()), 0);
      ASSERT_EQ(bpf_map_update_elem(table.get(), &i, Bytes(size).data(), BPF_ANY), 0);
    }
    EXPECT_EQ(program.Run(frame, gateway().Port("in")).reason, reason);
    for (uint32_t i = 0; i < entries; ++i)
      ASSERT_EQ(bpf_map_update_elem(table.get(), &i, saved[i].data(), BPF_ANY), 0);
  };
  Use("{next_hop: {name: h}}", Hop(""));
  with_zeroed("hg_next_hops", 8, sizeof(hg_next_hop_page), "drop_no_next_hop");
  Expect({{"whole again", frame, "forward_next_hop"}});

  const Fd rules = program.OpenMap("hg_rules");
  for (uint32_t i = 0; i < 4; ++i) {
    hg_rule_page page;
    ASSERT_EQ(bpf_map_lookup_elem(rules.get(), &i, &page), 0);
    for (hg_rule& rule : page.rule) {
      if (rule.prio != 0) rule.action = 0xffffffff;
    }
    ASSERT_EQ(bpf_map_update_elem(rules.get(), &i, &page, BPF_ANY), 0);
  }
  // Of another flow, for which nothing is remembered.
  const Bytes other = kEth / kIp4 / Udp{.source_port = 4711};
  EXPECT_EQ(program.Run(other, gateway().Port("in")).reason, "drop_internal");
  Use("{pass: {}}");
}

}  // namespace
}  // namespace headgate::testing
