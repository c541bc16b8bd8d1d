// SPDX-License-Identifier: Apache-2.0
//
// Each field of a match alone, by frames it must hit and by frames that nearly do.
#include <gtest/gtest.h>
#include <netinet/in.h>

#include "tests/bpf/gateway.h"

namespace headgate::testing {
namespace {

class MatchTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (WhyNoBpf().empty()) gateway_ = std::make_unique<Gateway>("match");
  }
  static void TearDownTestSuite() { gateway_.reset(); }
  void SetUp() override { HG_REQUIRE_BPF(); }

  struct Frame {
    const char* name;
    Bytes frame;
  };
  // One rule with this match drops, everything else passes.
  void Expect(const std::string& match, const std::vector<Frame>& hits, const std::vector<Frame>& misses) {
    SCOPED_TRACE(match);
    gateway_->Configure(sets_ + "rules: [{name: r, priority: 1, match: " + match + ", action: {drop: {}}}]\n");
    for (const Frame& hit : hits) {
      SCOPED_TRACE(hit.name);
      const Outcome outcome = gateway_->Run(hit.frame);
      EXPECT_EQ(outcome.reason, "drop_rule");
      EXPECT_EQ(outcome.rule, "r");
    }
    for (const Frame& miss : misses) {
      SCOPED_TRACE(miss.name);
      const Outcome outcome = gateway_->Run(miss.frame);
      EXPECT_EQ(outcome.reason, "pass_default");
      EXPECT_EQ(outcome.rule, "");
    }
  }

  std::string sets_;
  static std::unique_ptr<Gateway> gateway_;
};
std::unique_ptr<Gateway> MatchTest::gateway_;

const Ethernet kEth;
const Bytes kUdp4 = kEth / Ipv4{} / Udp{};
const Bytes kUdp6 = kEth / Ipv6{} / Udp{};
const Bytes kOther = Ethernet{.type = 0x88b5} / Payload(46);

Bytes From(const std::string& source) {
  if (source.find(':') == std::string::npos) return kEth / Ipv4{.source = source} / Udp{};
  return kEth / Ipv6{.source = source} / Udp{};
}
Bytes To(const std::string& destination) {
  if (destination.find(':') == std::string::npos) return kEth / Ipv4{.destination = destination} / Udp{};
  return kEth / Ipv6{.destination = destination} / Udp{};
}
Bytes TcpPorts(int source, int destination) {
  return kEth / Ipv4{} /
         Tcp{.source_port = static_cast<uint16_t>(source), .destination_port = static_cast<uint16_t>(destination)};
}
Bytes TcpFlags(int flags) { return kEth / Ipv4{} / Tcp{.flags = static_cast<uint8_t>(flags)}; }
// A later fragment, of whose payload the first bytes would be UDP ports 53 and 53.
Bytes Later4() {
  return kEth / Ipv4{.fragment_offset = 10, .protocol = IPPROTO_UDP} / Payload(Bytes{0, 53, 0, 53, 0, 8, 0, 0});
}
Bytes Later6(int protocol = IPPROTO_UDP) {
  return kEth / Ipv6{} / Ipv6Fragment{.offset = 10, .next_header = static_cast<uint8_t>(protocol)} /
         Payload(Bytes{0, 53, 0, 53, 0, 8, 0, 0});
}

TEST_F(MatchTest, Nothing) {
  Expect("{}",
         {{"IPv4", kUdp4}, {"IPv6", kUdp6}, {"other", kOther}, {"tagged", kEth / Vlan{.id = 7} / Ipv4{} / Udp{}}},
         {});
}

TEST_F(MatchTest, Interface) {
  Expect("{interface: in}", {{"IPv4", kUdp4}, {"other", kOther}}, {});
  Expect("{interface: out}", {}, {{"IPv4", kUdp4}, {"other", kOther}});
}

TEST_F(MatchTest, Vlan) {
  const auto tagged = [](int id, int priority = 0) -> Bytes {
    return kEth / Vlan{.id = static_cast<uint16_t>(id), .priority = static_cast<uint8_t>(priority)} / Ipv4{} /
           Udp{};
  };
  const auto twice = [](int outer, int inner) -> Bytes {
    return kEth / Vlan{.id = static_cast<uint16_t>(outer), .tpid = 0x88a8} /
           Vlan{.id = static_cast<uint16_t>(inner)} / Ipv4{} / Udp{};
  };
  Expect("{vlan: 100}", {{"id", tagged(100)}, {"with priority", tagged(100, 7)}, {"outer of two", twice(100, 5)}},
         {{"below", tagged(99)},
          {"above", tagged(101)},
          {"a byte off", tagged(356)},
          {"untagged", kUdp4},
          {"inner of two", twice(5, 100)}});
  Expect("{vlan: 0}", {{"untagged", kUdp4}, {"priority tag", tagged(0, 3)}},
         {{"1", tagged(1)}, {"4094", tagged(4094)}});
  Expect("{vlan: 4094}", {{"id", tagged(4094)}}, {{"4095", tagged(4095)}, {"4093", tagged(4093)}});
  Expect("{inner_vlan: 200}", {{"id", twice(1, 200)}},
         {{"outer", twice(200, 1)}, {"one tag", tagged(200)}, {"untagged", kUdp4}, {"201", twice(1, 201)}});
  Expect("{inner_vlan: 0}", {{"untagged", kUdp4}, {"one tag", tagged(200)}, {"inner priority tag", twice(7, 0)}},
         {{"two tags", twice(7, 1)}});
  Expect("{vlan: 5, inner_vlan: 6}", {{"both", twice(5, 6)}},
         {{"outer alone", twice(5, 7)}, {"inner alone", twice(7, 6)}, {"swapped", twice(6, 5)}});
}

TEST_F(MatchTest, Ipv4Prefixes) {
  Expect("{source: 192.0.2.1}", {{"address", From("192.0.2.1")}},
         {{"above", From("192.0.2.2")},
          {"below", From("192.0.2.0")},
          {"first bit", From("64.0.2.1")},
          {"as destination", kEth / Ipv4{.source = "192.0.2.9", .destination = "192.0.2.1"} / Udp{}},
          {"IPv6", kUdp6}});
  Expect("{source: 10.16.0.0/12}", {{"first", From("10.16.0.0")}, {"last", From("10.31.255.255")}},
         {{"before", From("10.15.255.255")}, {"after", From("10.32.0.0")}});
  Expect("{source: 0.0.0.0/0}", {{"any", kUdp4}, {"zero", From("0.0.0.0")}}, {{"IPv6", kUdp6}, {"other", kOther}});
  Expect("{source: 128.0.0.0/1}", {{"first", From("128.0.0.0")}, {"last", From("223.255.255.255")}},
         {{"before", From("127.255.255.255")}});
  Expect("{destination: 203.0.113.0/25}", {{"first", To("203.0.113.0")}, {"last", To("203.0.113.127")}},
         {{"after", To("203.0.113.128")}, {"before", To("203.0.112.255")}, {"as source", From("203.0.113.1")}});
  Expect("{destination: 255.255.255.255}", {{"broadcast", To("255.255.255.255")}},
         {{"nearly", To("255.255.255.254")}});
  Expect("{source: 10.0.0.0/8, destination: 10.0.0.0/8}",
         {{"both", kEth / Ipv4{.source = "10.1.1.1", .destination = "10.255.0.0"} / Udp{}}},
         {{"source alone", From("10.1.1.1")}, {"destination alone", To("10.1.1.1")}});
}

TEST_F(MatchTest, Ipv6Prefixes) {
  Expect("{source: '2001:db8::1'}", {{"address", From("2001:db8::1")}},
         {{"last bit", From("2001:db8::")},
          {"word 1", From("2001:db8:0:1::1")},
          {"word 2", From("2001:db8::1:0:0:1")},
          {"first bit", From("a001:db8::1")},
          {"IPv4", kUdp4}});
  // In each word of the address, with the bit before and after its end.
  Expect("{source: '2001:d80::/28'}", {{"last", From("2001:d8f:ffff::")}},
         {{"after", From("2001:d90::")}, {"before", From("2001:d7f:ffff::")}});
  Expect("{source: '2001:db8:8000::/33'}", {{"first", From("2001:db8:8000::")}},
         {{"before", From("2001:db8:7fff:ffff::1")}});
  Expect("{source: '2001:db8::/64'}", {{"last", From("2001:db8::ffff:ffff:ffff:ffff")}},
         {{"after", From("2001:db8:0:1::")}});
  Expect("{destination: '2001:db8::8000:0:0/81'}", {{"first", To("2001:db8::8000:0:0")}},
         {{"before", To("2001:db8::7fff:0:0")}});
  Expect("{destination: '2001:db8::/127'}", {{"first", To("2001:db8::")}, {"last", To("2001:db8::1")}},
         {{"after", To("2001:db8::2")}});
  Expect("{destination: '::/0'}", {{"any", kUdp6}, {"unspecified", To("::")}},
         {{"IPv4", kUdp4}, {"other", kOther}});
  // Behind the same first words, IPv4 and IPv6 are told apart.
  Expect("{source: '2001:db8::/32'}", {{"IPv6", From("2001:db8::")}},
         {{"IPv4 with these bits", From("32.1.13.184")}});
  Expect("{source: 32.1.13.184}", {{"IPv4", From("32.1.13.184")}}, {{"IPv6 with these bits", From("2001:db8::")}});
}

TEST_F(MatchTest, PrefixSets) {
  sets_ =
      "prefix_sets: [{name: s, prefixes: [10.0.0.0/8, 192.0.2.7, 192.0.2.0/28, '2001:db8:1::/48']}, {name: none, "
      "prefixes: []}]\n";
  Expect("{source_set: s}",
         {{"prefix", From("10.255.255.255")},
          {"address in a prefix", From("192.0.2.7")},
          {"prefix", From("192.0.2.15")},
          {"IPv6", From("2001:db8:1::1")}},
         {{"after", From("11.0.0.0")},
          {"after the small one", From("192.0.2.16")},
          {"IPv6 after", From("2001:db8:2::")},
          {"as destination", kEth / Ipv4{.source = "1.1.1.1", .destination = "10.0.0.1"} / Udp{}},
          {"other", kOther}});
  Expect("{destination_set: s}", {{"prefix", To("10.0.0.0")}, {"IPv6", To("2001:db8:1::")}},
         {{"as source", kEth / Ipv4{.source = "10.0.0.0", .destination = "1.1.1.1"} / Udp{}}, {"other", kOther}});
  Expect("{source_set: s, destination_set: s}",
         {{"both", kEth / Ipv4{.source = "10.0.0.1", .destination = "10.0.0.1"} / Udp{}}},
         {{"source", kEth / Ipv4{.source = "10.0.0.1", .destination = "1.1.1.1"} / Udp{}},
          {"destination", kEth / Ipv4{.source = "1.1.1.1", .destination = "10.0.0.1"} / Udp{}}});
  Expect("{source_set: none}", {},
         {{"IPv4", kUdp4}, {"zero", From("0.0.0.0")}, {"IPv6", kUdp6}, {"IPv6 zero", From("::")}});
}

TEST_F(MatchTest, Protocol) {
  Expect("{protocol: udp}",
         {{"IPv4", kUdp4},
          {"IPv6", kUdp6},
          {"behind extensions", kEth / Ipv6{} / Ipv6Extension{} / Udp{}},
          {"later fragment", Later4()},
          {"IPv6 later fragment", Later6()}},
         {{"TCP", TcpPorts(1, 2)},
          {"UDP-Lite", kEth / Ipv4{} / Protocol{.number = IPPROTO_UDPLITE}},
          {"other", kOther}});
  Expect("{protocol: '0'}", {{"IPv4", kEth / Ipv4{.protocol = 0} / Payload(8)}},
         {{"ARP", kEth / Arp{}},
          {"other", kOther},
          {"hop-by-hop is no protocol", kEth / Ipv6{} / Ipv6Extension{} / Udp{}}});
  Expect("{protocol: '255'}", {{"IPv4", kEth / Ipv4{.protocol = 255}}},
         {{"254", kEth / Ipv4{.protocol = 254}}, {"127", kEth / Ipv4{.protocol = 127}}});
  Expect("{protocol: ah}", {{"IPv4", kEth / Ipv4{} / Protocol{.number = IPPROTO_AH, .bytes = Bytes(12)}}},
         {{"UDP", kUdp4}});
  Expect("{protocol: esp}", {{"IPv6", kEth / Ipv6{} / Protocol{.number = IPPROTO_ESP}}}, {{"UDP", kUdp6}});
}

TEST_F(MatchTest, Ports) {
  Expect("{source_ports: ['1024']}", {{"TCP", TcpPorts(1024, 1)}},
         {{"below", TcpPorts(1023, 1024)},
          {"above", TcpPorts(1025, 1024)},
          {"a byte off", TcpPorts(1024 ^ 0x100, 1)}});
  Expect("{destination_ports: ['53']}",
         {{"UDP", kUdp4},
          {"TCP", TcpPorts(1, 53)},
          {"IPv6", kUdp6},
          {"SCTP", kEth / Ipv4{} / Protocol{.number = IPPROTO_SCTP, .bytes = {0, 1, 0, 53}}},
          {"DCCP", kEth / Ipv4{} / Protocol{.number = IPPROTO_DCCP, .bytes = {0, 1, 0, 53}}},
          {"UDP-Lite", kEth / Ipv6{} / Protocol{.number = IPPROTO_UDPLITE, .bytes = {0, 1, 0, 53}}},
          {"first fragment", kEth / Ipv4{.more_fragments = true} / Udp{}}},
         {{"source", TcpPorts(53, 1)},
          {"later fragment", Later4()},
          {"IPv6 later fragment", Later6()},
          {"ICMP type 0, code 53", kEth / Ipv4{} / Icmp{.type = 0, .code = 53}},
          {"GRE with these bytes", kEth / Ipv4{} / Protocol{.number = IPPROTO_GRE, .bytes = {0, 1, 0, 53}}}});
  Expect("{destination_ports: ['0']}", {{"0", TcpPorts(1, 0)}},
         {{"1", TcpPorts(1, 1)},
          {"no ports", kOther},
          {"ICMP", kEth / Ipv4{} / Icmp{.type = 0}},
          {"later", Later4()}});
  Expect("{destination_ports: ['0-65535']}", {{"0", TcpPorts(1, 0)}, {"65535", TcpPorts(0, 65535)}},
         {{"no ports", kOther}, {"ICMP", kEth / Ipv4{} / Icmp{}}});
  Expect("{destination_ports: ['1000-1999']}",
         {{"first", TcpPorts(0, 1000)}, {"last", TcpPorts(0, 1999)}, {"within", TcpPorts(0, 1024)}},
         {{"before", TcpPorts(0, 999)}, {"after", TcpPorts(0, 2000)}});
  Expect(
      "{destination_ports: ['22', '80-90', '65535']}",
      {{"22", TcpPorts(0, 22)}, {"80", TcpPorts(0, 80)}, {"90", TcpPorts(0, 90)}, {"65535", TcpPorts(0, 65535)}},
      {{"21", TcpPorts(0, 21)},
       {"23", TcpPorts(0, 23)},
       {"79", TcpPorts(0, 79)},
       {"91", TcpPorts(0, 91)},
       {"65534", TcpPorts(0, 65534)}});
  Expect("{source_ports: ['10', '20'], destination_ports: ['30', '40-49']}",
         {{"10 to 30", TcpPorts(10, 30)},
          {"10 to 49", TcpPorts(10, 49)},
          {"20 to 30", TcpPorts(20, 30)},
          {"20 to 40", TcpPorts(20, 40)}},
         {{"source alone", TcpPorts(10, 50)},
          {"destination alone", TcpPorts(15, 30)},
          {"swapped", TcpPorts(30, 10)}});
  Expect("{protocol: tcp, destination_ports: ['53']}", {{"TCP", TcpPorts(1, 53)}},
         {{"UDP", kUdp4}, {"other port", TcpPorts(1, 54)}});
}

TEST_F(MatchTest, TcpFlags) {
  enum { kFin = 1, kSyn = 2, kRst = 4, kPsh = 8, kAck = 16, kUrg = 32, kEce = 64, kCwr = 128 };
  Expect("{protocol: tcp, tcp_flags: 'syn,!ack'}",
         {{"SYN", TcpFlags(kSyn)},
          {"SYN with ECN", TcpFlags(kSyn | kEce | kCwr)},
          {"all but ACK", TcpFlags(0xff & ~kAck)}},
         {{"SYN ACK", TcpFlags(kSyn | kAck)}, {"ACK", TcpFlags(kAck)}, {"none", TcpFlags(0)}, {"UDP", kUdp4}});
  Expect("{protocol: tcp, tcp_flags: '!syn'}", {{"none", TcpFlags(0)}, {"ACK", TcpFlags(kAck)}},
         {{"SYN", TcpFlags(kSyn)},
          {"UDP, which has no flags to be clear", kUdp4},
          {"later fragment, neither", kEth / Ipv4{.fragment_offset = 10, .protocol = IPPROTO_TCP} / Payload(20)}});
  Expect("{protocol: tcp, tcp_flags: 'fin,syn,rst,psh,ack,urg,ece,cwr'}", {{"all", TcpFlags(0xff)}},
         {{"all but FIN", TcpFlags(0xfe)}, {"all but CWR", TcpFlags(0x7f)}});
  Expect("{protocol: tcp, tcp_flags: '!fin,!syn,!rst,!psh,!ack,!urg,!ece,!cwr'}", {{"none", TcpFlags(0)}},
         {{"FIN", TcpFlags(kFin)}, {"CWR", TcpFlags(kCwr)}, {"URG", TcpFlags(kUrg)}, {"PSH", TcpFlags(kPsh)}});
  Expect("{protocol: tcp, tcp_flags: rst}",
         {{"RST", TcpFlags(kRst)}, {"first fragment", kEth / Ipv4{.more_fragments = true} / Tcp{.flags = kRst}}},
         {{"SYN", TcpFlags(kSyn)}});
}

TEST_F(MatchTest, Icmp) {
  const auto icmp = [](int type, int code) -> Bytes {
    return kEth / Ipv4{} / testing::Icmp{.type = static_cast<uint8_t>(type), .code = static_cast<uint8_t>(code)};
  };
  const auto icmp6 = [](int type, int code) -> Bytes {
    return kEth / Ipv6{} / Icmpv6{.type = static_cast<uint8_t>(type), .code = static_cast<uint8_t>(code)};
  };
  Expect("{protocol: icmp, icmp_type: 3}", {{"code 0", icmp(3, 0)}, {"code 255", icmp(3, 255)}},
         {{"type 2", icmp(2, 255)},
          {"type 4", icmp(4, 0)},
          {"ICMPv6", icmp6(3, 0)},
          {"UDP to port 768", kEth / Ipv4{} / Udp{.destination_port = 768}}});
  Expect("{protocol: icmp, icmp_type: 3, icmp_code: 4}", {{"both", icmp(3, 4)}},
         {{"code 3", icmp(3, 3)}, {"code 5", icmp(3, 5)}, {"swapped", icmp(4, 3)}});
  Expect("{protocol: icmp, icmp_type: 0}", {{"echo reply", icmp(0, 0)}},
         {{"8", icmp(8, 0)},
          {"later fragment", kEth / Ipv4{.fragment_offset = 4, .protocol = IPPROTO_ICMP} / Payload(8)}});
  Expect("{protocol: icmp, icmp_type: 255, icmp_code: 255}", {{"both", icmp(255, 255)}},
         {{"254", icmp(255, 254)}});
  Expect("{protocol: icmpv6, icmp_type: 128, icmp_code: 0}", {{"echo request", icmp6(128, 0)}},
         {{"reply", icmp6(129, 0)}, {"code 1", icmp6(128, 1)}, {"ICMP", icmp(128, 0)}});
}

TEST_F(MatchTest, Dscp) {
  const auto v4 = [](int tos) -> Bytes { return kEth / Ipv4{.tos = static_cast<uint8_t>(tos)} / Udp{}; };
  const auto v6 = [](int tc) -> Bytes { return kEth / Ipv6{.traffic_class = static_cast<uint8_t>(tc)} / Udp{}; };
  Expect("{dscp: 46}",
         {{"IPv4", v4(46 << 2)},
          {"with ECN", v4(46 << 2 | 3)},
          {"IPv6", v6(46 << 2)},
          {"IPv6 with ECN", v6(46 << 2 | 1)},
          {"fragment", kEth / Ipv4{.tos = 46 << 2, .fragment_offset = 3, .protocol = 17} / Payload(8)}},
         {{"45", v4(45 << 2 | 3)}, {"47", v6(47 << 2)}, {"46 in the low bits", v4(46)}, {"other", kOther}});
  Expect("{dscp: 0}", {{"IPv4", v4(0)}, {"ECN", v6(3)}},
         {{"1", v4(4)}, {"63", v6(252)}, {"ARP, which has none", kEth / Arp{}}});
  Expect("{dscp: 63}", {{"IPv6", v6(255)}}, {{"31", v4(31 << 2)}, {"62", v4(62 << 2)}});
}

TEST_F(MatchTest, Fragments) {
  const Bytes first4 = kEth / Ipv4{.more_fragments = true} / Udp{};
  const Bytes first6 = kEth / Ipv6{} / Ipv6Fragment{.more = true} / Udp{};
  const Bytes atomic = kEth / Ipv6{} / Ipv6Fragment{} / Udp{};
  const Bytes last4 = Later4(),
              middle4 = kEth / Ipv4{.more_fragments = true, .fragment_offset = 10, .protocol = 17} / Payload(8);
  Expect("{fragment: none}",
         {{"IPv4", kUdp4},
          {"IPv6", kUdp6},
          {"atomic", atomic},
          {"don't fragment", kEth / Ipv4{.dont_fragment = true} / Udp{}}},
         {{"first", first4},
          {"middle", middle4},
          {"last", last4},
          {"IPv6 first", first6},
          {"IPv6 later", Later6()},
          {"other", kOther}});
  Expect("{fragment: first}", {{"first", first4}, {"IPv6 first", first6}},
         {{"whole", kUdp4},
          {"atomic", atomic},
          {"middle", middle4},
          {"last", last4},
          {"IPv6 later", Later6()},
          {"other", kOther}});
  Expect("{fragment: later}",
         {{"middle", middle4}, {"last", last4}, {"IPv6 later", Later6()}, {"of a chain", Later6(60)}},
         {{"whole", kUdp4}, {"first", first4}, {"IPv6 first", first6}, {"atomic", atomic}});
  Expect(
      "{fragment: any}",
      {{"first", first4}, {"middle", middle4}, {"last", last4}, {"IPv6 first", first6}, {"IPv6 later", Later6()}},
      {{"whole", kUdp4}, {"IPv6", kUdp6}, {"atomic", atomic}});
}

TEST_F(MatchTest, PacketLength) {
  // Bytes of payload after 28 (IPv4) or 48 (IPv6) of headers; Ethernet and padding do not count.
  const auto v4 = [](size_t length, size_t padding = 0) -> Bytes {
    Bytes frame = kEth / Ipv4{} / Udp{} / Payload(length - 28);
    frame.resize(frame.size() + padding);
    return frame;
  };
  const auto v6 = [](size_t length) -> Bytes { return kEth / Vlan{} / Ipv6{} / Udp{} / Payload(length - 48); };
  Expect("{packet_length: 64-128}",
         {{"first", v4(64)},
          {"last", v4(128)},
          {"padding", v4(128, 20)},
          {"IPv6", v6(128)},
          {"IPv6", v6(64)},
          {"other", Ethernet{.type = 0x88b5} / Payload(64)}},
         {{"below", v4(63)},
          {"padding does not help", v4(60, 4)},
          {"above", v4(129)},
          {"IPv6 below", v6(63)},
          {"IPv6 above", v6(129)},
          {"other", Ethernet{.type = 0x88b5} / Payload(63)}});
  Expect("{packet_length: '1500'}", {{"exactly", v4(1500)}}, {{"below", v4(1499)}, {"above", v6(1501)}});
  Expect("{packet_length: 3000-65535}", {{"in several buffers", v4(9000)}, {"65,535", v4(65535)}},
         {{"below", v4(2999)}});
}

TEST_F(MatchTest, AllFieldsTogether) {
  const auto frame = [](int vlan, int tos, const char* source, int port, int flags, size_t payload) -> Bytes {
    return kEth / Vlan{.id = static_cast<uint16_t>(vlan)} /
           Ipv4{.source = source, .tos = static_cast<uint8_t>(tos)} /
           Tcp{.destination_port = static_cast<uint16_t>(port), .flags = static_cast<uint8_t>(flags)} /
           Payload(payload);
  };
  Expect(
      "{interface: in, vlan: 5, source: 192.0.2.0/24, protocol: tcp, destination_ports: ['80', '443'], tcp_flags: "
      "'syn,!ack', dscp: 10, fragment: none, packet_length: 40-60}",
      {{"all", frame(5, 40, "192.0.2.9", 443, 2, 0)}},
      {{"VLAN", frame(6, 40, "192.0.2.9", 443, 2, 0)},
       {"DSCP", frame(5, 44, "192.0.2.9", 443, 2, 0)},
       {"source", frame(5, 40, "192.0.3.9", 443, 2, 0)},
       {"port", frame(5, 40, "192.0.2.9", 81, 2, 0)},
       {"flags", frame(5, 40, "192.0.2.9", 443, 18, 0)},
       {"length", frame(5, 40, "192.0.2.9", 443, 2, 21)}});
}

}  // namespace
}  // namespace headgate::testing
