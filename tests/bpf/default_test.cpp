// SPDX-License-Identifier: Apache-2.0
//
// What happens to packets that no rule decides: the default action, devices that are no interface, and the
// essential frames (ARP, ND, IGMP, MLD, LLDP) that neither a default nor a rule drops unless it names their
// protocol.
#include <bpf/bpf.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <netinet/in.h>

#include "tests/bpf/gateway.h"

namespace headgate::testing {
namespace {

class Default : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (WhyNoBpf().empty()) gateway_ = std::make_unique<Gateway>("default");
  }
  static void TearDownTestSuite() { gateway_.reset(); }
  void SetUp() override { HG_REQUIRE_BPF(); }

  static std::unique_ptr<Gateway> gateway_;
};
std::unique_ptr<Gateway> Default::gateway_;

const Ethernet kEth;

Bytes Icmp6(int type, int hop_limit, const std::string& source = "fe80::1",
            const std::string& destination = "ff02::1") {
  return kEth / Ipv6{.source = source, .destination = destination, .hop_limit = static_cast<uint8_t>(hop_limit)} /
         Icmpv6{.type = static_cast<uint8_t>(type)} / Payload(20);
}
Bytes Lldp() { return Ethernet{.destination = "01:80:c2:00:00:0e", .type = 0x88cc} / Payload(40); }
Bytes Igmp() {
  // A report, as hosts send it: TTL 1 and a router alert option.
  return kEth / Ipv4{.destination = "224.0.0.22", .ttl = 1, .options = {0x94, 4, 0, 0}} /
         Protocol{.number = IPPROTO_IGMP};
}

struct Frame {
  const char* name;
  Bytes frame;
};

// What a network needs to keep its links, whoever filters.
std::vector<Frame> Essential() {
  std::vector<Frame> frames = {
      {"ARP", kEth / Arp{}},
      {"ARP in a VLAN", kEth / Vlan{.id = 5} / Arp{}},
      {"ARP in two VLANs", kEth / Vlan{.tpid = 0x88a8} / Vlan{} / Arp{}},
      {"LLDP", Lldp()},
      {"IGMP", Igmp()},
      {"router solicitation", Icmp6(133, 255)},
      {"router advertisement", Icmp6(134, 255)},
      {"neighbour solicitation", Icmp6(135, 255)},
      {"neighbour advertisement", Icmp6(136, 255)},
      {"redirect", Icmp6(137, 255)},
      {"neighbour solicitation to an address", Icmp6(135, 255, "2001:db8::1", "2001:db8::2")},
      {"neighbour solicitation in a VLAN", kEth / Vlan{} / Ipv6{.hop_limit = 255} / Icmpv6{.type = 135}},
      {"MLD query", Icmp6(130, 1)},
      {"MLD report", Icmp6(131, 1)},
      {"MLD done", Icmp6(132, 1)},
      {"MLDv2 report, behind the router alert",
       kEth / Ipv6{.source = "fe80::1", .destination = "ff02::16", .hop_limit = 1} /
           Ipv6Extension{.type = IPPROTO_HOPOPTS} / Icmpv6{.type = 143}},
  };
  return frames;
}

// Much like them, but not them.
std::vector<Frame> Ordinary() {
  return {
      {"UDP", kEth / Ipv4{} / Udp{}},
      {"IPv6 UDP", kEth / Ipv6{.hop_limit = 255} / Udp{}},
      {"echo request", Icmp6(128, 255)},
      {"neighbour solicitation from beyond the link", Icmp6(135, 254)},
      {"redirect from beyond the link", Icmp6(137, 64)},
      {"ICMPv6 type before ND", Icmp6(129, 255)},
      {"ICMPv6 type after ND", Icmp6(138, 255)},
      {"ICMPv6 type before MLDv2 report", Icmp6(142, 1)},
      {"ICMPv6 type after MLDv2 report", Icmp6(144, 1)},
      {"ND's number over IPv4",
       kEth / Ipv4{.ttl = 255, .protocol = IPPROTO_ICMPV6} / Payload(Bytes{135, 0, 0, 0, 0, 0, 0, 0})},
      {"MLD's number over IPv4",
       kEth / Ipv4{.ttl = 1, .protocol = IPPROTO_ICMPV6} / Payload(Bytes{130, 0, 0, 0, 0, 0, 0, 0})},
      {"ND's type in ICMP", kEth / Ipv4{.ttl = 255} / Icmp{.type = 135}},
      {"RARP", Ethernet{.type = 0x8035} / Payload(28)},
      {"a later fragment of ICMPv6", kEth / Ipv6{.hop_limit = 255} /
                                         Ipv6Fragment{.offset = 2, .next_header = IPPROTO_ICMPV6} /
                                         Payload(Bytes{135, 0, 0, 0})},
      {"an unknown EtherType", Ethernet{.type = 0x88b5} / Payload(46)},
      {"spanning tree, which is not on the list",
       Ethernet{.destination = "01:80:c2:00:00:00", .type = 38} / Payload(46)},
  };
}

void Expect(Gateway& gateway, const std::vector<Frame>& frames, const std::string& reason,
            const std::string& rule = "") {
  for (const Frame& frame : frames) {
    SCOPED_TRACE(frame.name);
    const Outcome outcome = gateway.Run(frame.frame);
    EXPECT_EQ(outcome.reason, reason);
    EXPECT_EQ(outcome.rule, rule);
  }
}

TEST_F(Default, Pass) {
  for (const char* document : {"", "default_action: pass\n"}) {
    gateway_->Configure(document);
    Expect(*gateway_, Ordinary(), "pass_default");
    Expect(*gateway_, Essential(), "pass_default");
  }
}

TEST_F(Default, Drop) {
  gateway_->Configure("default_action: drop\n");
  Expect(*gateway_, Ordinary(), "drop_default");
  Expect(*gateway_, Essential(), "pass_essential");
}

TEST_F(Default, DropWithRulesThatDoNotMatch) {
  gateway_->Configure(R"(
default_action: drop
rules: [{name: other, priority: 1, match: {vlan: 77}, action: {pass: {}}}]
)");
  Expect(*gateway_, Ordinary(), "drop_default");
  Expect(*gateway_, Essential(), "pass_essential");
}

TEST_F(Default, RuleThatDropsEverythingSparesTheEssential) {
  for (const char* match : {"{}", "{interface: in}", "{fragment: none}"}) {
    SCOPED_TRACE(match);
    gateway_->Configure(std::string("rules: [{name: all, priority: 1, match: ") + match +
                        ", action: {drop: {}}}]\n");
    if (std::string(match) == "{fragment: none}") {
      // Only IP packets can be whole.
      EXPECT_EQ(gateway_->Run(Igmp()).reason, "pass_essential");
      EXPECT_EQ(gateway_->Run(kEth / Arp{}).reason, "pass_default");
      continue;
    }
    Expect(*gateway_, Ordinary(), "drop_rule", "all");
    Expect(*gateway_, Essential(), "pass_essential", "all");
  }
}

TEST_F(Default, RuleThatNamesTheProtocolDropsIt) {
  gateway_->Configure(R"(
default_action: drop
rules:
  - {name: igmp, priority: 2, match: {protocol: igmp}, action: {drop: {}}}
  - {name: nd, priority: 1, match: {protocol: icmpv6, icmp_type: 135}, action: {drop: {}}}
)");
  Expect(*gateway_, {{"IGMP", Igmp()}}, "drop_rule", "igmp");
  Expect(*gateway_, {{"solicitation", Icmp6(135, 255)}}, "drop_rule", "nd");
  Expect(*gateway_, {{"advertisement", Icmp6(136, 255)}, {"MLD", Icmp6(130, 1)}, {"ARP", kEth / Arp{}}},
         "pass_essential");
}

TEST_F(Default, RateLimitSparesTheEssentialToo) {
  gateway_->Configure(R"(
rules: [{name: limit, priority: 1, action: {rate_limit: {bits_per_second: 1000, burst: 1}, pass: {}}}]
)");
  Expect(*gateway_, Ordinary(), "drop_rate_limit", "limit");
  Expect(*gateway_, Essential(), "pass_rule", "limit");
  gateway_->Configure(R"(
rules:
  - name: limit
    priority: 1
    match: {protocol: icmpv6}
    action: {rate_limit: {bits_per_second: 1000, burst: 1}, pass: {}}
)");
  Expect(*gateway_, {{"solicitation", Icmp6(135, 255)}, {"MLD", Icmp6(130, 1)}}, "drop_rate_limit", "limit");
}

TEST_F(Default, RulesMayForwardTheEssential) {
  // A bridge of two ports must carry ARP and ND.
  gateway_->Configure("rules: [{name: all, priority: 1, action: {tx: {swap: ethernet}}}]\n");
  Expect(*gateway_, {{"ARP", kEth / Arp{}}, {"solicitation", Icmp6(135, 255, "2001:db8::1", "2001:db8::2")}},
         "forward_tx", "all");
}

TEST_F(Default, ManagementPassesBeforeAnyDrop) {
  gateway_->Configure(R"(
default_action: drop
management: {allow: [{source: 198.51.100.0/24, protocol: tcp, destination_ports: ["22", "7443"]}]}
rules: [{name: all, priority: 2147483647, action: {drop: {}}}]
)");
  const auto tcp = [](const char* source, int port) -> Bytes {
    return kEth / Ipv4{.source = source} / Tcp{.destination_port = static_cast<uint16_t>(port)};
  };
  Expect(*gateway_, {{"first port", tcp("198.51.100.0", 22)}, {"second port", tcp("198.51.100.255", 7443)}},
         "pass_management");
  Expect(*gateway_, {{"other port", tcp("198.51.100.1", 23)}, {"other source", tcp("198.51.101.0", 22)}},
         "drop_rule", "all");
  Expect(*gateway_, {{"other protocol", kEth / Ipv4{.source = "198.51.100.1"} / Udp{.destination_port = 22}}},
         "drop_rule", "all");
  // What cannot be parsed cannot be recognised either.
  Expect(*gateway_,
         {{"no ports", kEth / Ipv4{.source = "198.51.100.1"} / Tcp{.destination_port = 22, .data_offset = 4}}},
         "tcp_offset");
}

TEST_F(Default, DeviceThatIsNoInterface) {
  gateway_->Configure("default_action: drop\n");
  // Test runs go on coming in by the same device, which belongs to no port now.
  const uint32_t slot = Program::kIngressIfindex;
  const hg_ifindex bound{Program::kIngressIfindex, gateway_->Port("in")}, unbound{};
  const Fd ifindexes = gateway_->program().OpenMap("hg_ifindexes");
  ASSERT_EQ(bpf_map_update_elem(ifindexes.get(), &slot, &unbound, BPF_ANY), 0);
  for (const Frame& frame : {Frame{"UDP", kEth / Ipv4{} / Udp{}}, Frame{"malformed", kEth / Ipv4{.ihl = 1}}}) {
    SCOPED_TRACE(frame.name);
    const RunResult result = gateway_->program().Run(frame.frame, 0);
    EXPECT_EQ(result.reason, "pass_unconfigured");
    EXPECT_EQ(result.verdict, static_cast<uint32_t>(XDP_PASS));
  }
  ASSERT_EQ(bpf_map_update_elem(ifindexes.get(), &slot, &bound, BPF_ANY), 0);
}

}  // namespace
}  // namespace headgate::testing
