// SPDX-License-Identifier: Apache-2.0
//
// The route action on the kernel's own tables: a namespace with routes of each kind and permanent neighbours.
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <set>

#include "tests/bpf/lab_gateway.h"

namespace headgate::testing {
namespace {

const std::string kHost = "02:00:00:00:00:0a";     // who sends
const std::string kRouter = "02:00:00:00:00:77";   // next hop behind out0
const std::string kRouter2 = "02:00:00:00:00:78";  // another, by policy
const Ethernet kEth = {.destination = LabGateway::kIn, .source = kHost};
const Ethernet kOut = {.destination = kRouter, .source = LabGateway::kOut};
const Ethernet kOut2 = {.destination = kRouter2, .source = LabGateway::kOut};

class RouteTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (!WhyNoLab().empty()) return;
    lab_ = std::make_unique<LabGateway>("route");
    for (const char* family : {"4", "6"}) Forwarding(family, true);
    AddIpv4Routes();
    AddIpv6Routes();
    lab_->gateway.Configure("rules: [{name: r, priority: 1, action: {route: {}}}]\n");
  }
  static void TearDownTestSuite() { lab_.reset(); }
  void SetUp() override { HG_REQUIRE_LAB(); }

  static void Forwarding(const std::string& family, bool on) {
    for (const char* device : {"all", "in0"}) {
      lab_->lab.In("gw", "sysctl -qw net.ipv" + family + ".conf." + device + ".forwarding=" + (on ? "1" : "0"));
    }
  }
  static void Ip(std::initializer_list<const char*> commands) {
    for (const char* command : commands) lab_->lab.Ip("gw", command);
  }
  static void Neighbour(const std::string& address, const std::string& mac, const std::string& device) {
    lab_->lab.Ip("gw", "neigh replace " + address + " lladdr " + mac + " dev " + device + " nud permanent");
  }
  static void AddIpv4Routes() {
    Ip({"addr add 10.0.1.1/24 dev in0", "addr add 10.0.2.1/24 dev out0", "addr add 10.0.3.1/24 dev side0",
        "route add 198.51.100.0/24 via 10.0.2.2", "route add 198.51.101.0/24 via 10.0.2.2 mtu lock 1000",
        "route add 198.51.102.0/24 via 10.0.2.9", "route add 198.51.103.0/24 via 10.0.3.2",
        "route add blackhole 203.0.113.0/26", "route add prohibit 203.0.113.64/26",
        "route add unreachable 203.0.113.128/26", "route add throw 203.0.113.192/26",
        "route add 198.51.100.128/25 via 10.0.2.3 table 100", "rule add ipproto udp dport 5000 table 100",
        "route add 198.51.100.64/26 via 10.0.2.3 tos 0x10"});
    Neighbour("10.0.2.2", kRouter, "out0");
    Neighbour("10.0.2.3", kRouter2, "out0");
    Neighbour("10.0.3.2", kRouter, "side0");
  }
  static void AddIpv6Routes() {
    Ip({"-6 addr add 2001:db8:1::1/64 dev in0 nodad", "-6 addr add 2001:db8:2::1/64 dev out0 nodad",
        "-6 addr add 2001:db8:3::1/64 dev side0 nodad", "-6 route add 2001:db8:100::/48 via 2001:db8:2::2",
        "-6 route add 2001:db8:101::/48 via 2001:db8:2::2 mtu lock 1280",
        "-6 route add 2001:db8:102::/48 via 2001:db8:2::9", "-6 route add 2001:db8:103::/48 via 2001:db8:3::2",
        "-6 route add blackhole 2001:db8:200::/48", "-6 route add prohibit 2001:db8:201::/48",
        "-6 route add unreachable 2001:db8:202::/48"});
    Neighbour("2001:db8:2::2", kRouter, "out0");
    Neighbour("2001:db8:3::2", kRouter, "side0");
  }

  struct Case {
    const char* name;
    Bytes frame;
    const char* reason;
    Bytes output = {};
  };
  void Expect(const std::vector<Case>& cases) {
    for (const Case& c : cases) {
      SCOPED_TRACE(c.name);
      // Passing unchanged is part of every reason to pass, and checked by Run.
      const Outcome outcome = lab_->gateway.Run(c.frame);
      EXPECT_EQ(outcome.reason, c.reason);
      if (c.output.empty()) continue;
      EXPECT_EQ(outcome.output, c.output);
      ExpectChecksums(outcome.output);
    }
  }

  static std::unique_ptr<LabGateway> lab_;
};
std::unique_ptr<LabGateway> RouteTest::lab_;

struct Header4 {
  std::string to = "198.51.100.1";
  int ttl = 64;
  int tos = 0;
  Bytes options = {};
};
Bytes V4(const Ethernet& eth, const Header4& header, const Packet& l4) {
  const Ipv4 ip{.source = "192.0.2.9",
                .destination = header.to,
                .ttl = static_cast<uint8_t>(header.ttl),
                .tos = static_cast<uint8_t>(header.tos),
                .options = header.options};
  return eth / ip / l4;
}
Bytes V6(const Ethernet& eth, const std::string& to, int hops, const Packet& l4) {
  return eth / Ipv6{.source = "2001:db8:9::9", .destination = to, .hop_limit = static_cast<uint8_t>(hops)} / l4;
}
Packet UdpTo(int port, size_t payload = 0) {
  return Udp{.destination_port = static_cast<uint16_t>(port)} / Payload(payload);
}

TEST_F(RouteTest, Ipv4Forwards) {
  const Bytes options(40, 1);
  Expect({
      {"UDP", V4(kEth, {}, UdpTo(53)), "forward_route", V4(kOut, {.ttl = 63}, UdpTo(53))},
      {"options, for the kernel to act on", V4(kEth, {.options = options}, Packet(Tcp{})), "pass_route_kernel"},
      {"TTL 255", V4(kEth, {.ttl = 255}, UdpTo(53)), "forward_route", V4(kOut, {.ttl = 254}, UdpTo(53))},
      {"TTL 2", V4(kEth, {.ttl = 2}, UdpTo(53)), "forward_route", V4(kOut, {.ttl = 1}, UdpTo(53))},
      {"on link", V4(kEth, {.to = "10.0.2.3"}, UdpTo(53)), "forward_route",
       V4(kOut2, {.to = "10.0.2.3", .ttl = 63}, UdpTo(53))},
      {"up to the device's MTU", V4(kEth, {}, UdpTo(53, 1472)), "forward_route",
       V4(kOut, {.ttl = 63}, UdpTo(53, 1472))},
      {"up to the route's MTU", V4(kEth, {.to = "198.51.101.1"}, UdpTo(53, 972)), "forward_route",
       V4(kOut, {.to = "198.51.101.1", .ttl = 63}, UdpTo(53, 972))},
      {"later fragment",
       kEth / Ipv4{.source = "192.0.2.9", .destination = "198.51.100.1", .fragment_offset = 5} / Udp{},
       "forward_route",
       kOut / Ipv4{.source = "192.0.2.9", .destination = "198.51.100.1", .ttl = 63, .fragment_offset = 5} / Udp{}},
      {"by port, another table", V4(kEth, {.to = "198.51.100.129"}, UdpTo(5000)), "forward_route",
       V4(kOut2, {.to = "198.51.100.129", .ttl = 63}, UdpTo(5000))},
      {"by port, not this one", V4(kEth, {.to = "198.51.100.129"}, UdpTo(5001)), "forward_route",
       V4(kOut, {.to = "198.51.100.129", .ttl = 63}, UdpTo(5001))},
      {"by TOS", V4(kEth, {.to = "198.51.100.65", .tos = 0x10}, UdpTo(53)), "forward_route",
       V4(kOut2, {.to = "198.51.100.65", .ttl = 63, .tos = 0x10}, UdpTo(53))},
      {"padding stays",
       [] {
         Bytes frame = V4(kEth, {}, UdpTo(53));
         frame.resize(60);
         return frame;
       }(),
       "forward_route",
       [] {
         Bytes frame = V4(kOut, {.ttl = 63}, UdpTo(53));
         frame.resize(60);
         return frame;
       }()},
  });
}

TEST_F(RouteTest, Ipv4LeavesToTheKernel) {
  const auto to = [](const char* address) { return V4(kEth, {.to = address}, UdpTo(53)); };
  const auto from = [](const char* address) -> Bytes {
    return kEth / Ipv4{.source = address, .destination = "198.51.100.1"} / Udp{};
  };
  Expect({
      {"TTL 1", V4(kEth, {.ttl = 1}, UdpTo(53)), "pass_route_ttl"},
      {"TTL 0", V4(kEth, {.ttl = 0}, UdpTo(53)), "pass_route_ttl"},
      {"above the device's MTU", V4(kEth, {}, UdpTo(53, 1473)), "pass_route_mtu"},
      {"above the route's MTU", V4(kEth, {.to = "198.51.101.1"}, UdpTo(53, 973)), "pass_route_mtu"},
      {"neighbour unknown", to("198.51.102.1"), "pass_route_neighbour"},
      {"neighbour unknown, on link", to("10.0.2.200"), "pass_route_neighbour"},
      {"by a device that is no interface", to("198.51.103.1"), "pass_route_kernel"},
      {"its own address", to("10.0.1.1"), "pass_route_local"},
      {"its address on another device", to("10.0.2.1"), "pass_route_local"},
      {"subnet broadcast", to("10.0.2.255"), "pass_route_local"},
      {"no route", to("8.8.8.8"), "pass_route_local"},
      {"throw route, then none", to("203.0.113.193"), "pass_route_local"},
      {"blackhole", to("203.0.113.1"), "drop_no_route"},
      {"prohibit", to("203.0.113.65"), "pass_route_unreachable"},
      {"unreachable", to("203.0.113.129"), "pass_route_unreachable"},
      {"multicast", V4({.destination = "01:00:5e:00:00:01"}, {.to = "224.0.0.1"}, UdpTo(53)), "pass_route_kernel"},
      {"broadcast", to("255.255.255.255"), "pass_route_kernel"},
      {"unicast in a multicast frame", V4({.destination = "01:00:5e:00:00:01"}, {}, UdpTo(53)),
       "pass_route_kernel"},
      {"to this network", to("0.0.0.9"), "pass_route_kernel"},
      {"to loopback", to("127.0.0.1"), "pass_route_kernel"},
      {"from nobody", from("0.0.0.0"), "pass_route_kernel"},
      {"from loopback", from("127.255.255.255"), "pass_route_kernel"},
      {"from next to this network", from("1.0.0.0"), "forward_route"},
      {"from next to loopback", from("128.0.0.0"), "forward_route"},
      {"tagged", kEth / Vlan{.id = 5} / Ipv4{.destination = "198.51.100.1"} / Udp{}, "pass_route_kernel"},
      {"to another host", V4({.destination = kRouter, .source = kHost}, {}, UdpTo(53)), "pass_route_otherhost"},
      {"to another of its interfaces", V4({.destination = LabGateway::kOut, .source = kHost}, {}, UdpTo(53)),
       "pass_route_otherhost"},
      {"to a MAC address one bit off", V4({.destination = "02:00:00:00:0a:00", .source = kHost}, {}, UdpTo(53)),
       "pass_route_otherhost"},
      {"to a MAC address that begins otherwise",
       V4({.destination = "06:00:00:00:0a:01", .source = kHost}, {}, UdpTo(53)), "pass_route_otherhost"},
      {"ARP", kEth / Arp{}, "pass_route_kernel"},
      {"not IP", Ethernet{.type = 0x88b5} / Payload(46), "pass_route_kernel"},
  });
}

TEST_F(RouteTest, Ipv6) {
  const auto to = [](const char* address) { return V6(kEth, address, 64, UdpTo(53)); };
  const char* const far = "2001:db8:100::1";
  const auto from = [&](const char* address) -> Bytes {
    return kEth / Ipv6{.source = address, .destination = far} / Udp{};
  };
  Expect({
      {"UDP", to(far), "forward_route", V6(kOut, far, 63, UdpTo(53))},
      {"hop limit 255", V6(kEth, far, 255, Packet(Tcp{})), "forward_route", V6(kOut, far, 254, Packet(Tcp{}))},
      {"hop limit 2", V6(kEth, far, 2, UdpTo(53)), "forward_route", V6(kOut, far, 1, UdpTo(53))},
      {"behind an extension header",
       kEth / Ipv6{.destination = far} / Ipv6Extension{.type = 60} / Udp{.checksum = 1}, "forward_route",
       kOut / Ipv6{.destination = far, .hop_limit = 63} / Ipv6Extension{.type = 60} / Udp{.checksum = 1}},
      {"up to the device's MTU", V6(kEth, far, 64, UdpTo(53, 1452)), "forward_route",
       V6(kOut, far, 63, UdpTo(53, 1452))},
      {"up to the route's MTU", V6(kEth, "2001:db8:101::1", 64, UdpTo(53, 1232)), "forward_route",
       V6(kOut, "2001:db8:101::1", 63, UdpTo(53, 1232))},
      {"hop limit 1", V6(kEth, far, 1, UdpTo(53)), "pass_route_ttl"},
      {"hop limit 0", V6(kEth, far, 0, UdpTo(53)), "pass_route_ttl"},
      {"above the device's MTU", V6(kEth, far, 64, UdpTo(53, 1453)), "pass_route_mtu"},
      {"above the route's MTU", V6(kEth, "2001:db8:101::1", 64, UdpTo(53, 1233)), "pass_route_mtu"},
      {"neighbour unknown", to("2001:db8:102::1"), "pass_route_neighbour"},
      {"by a device that is no interface", to("2001:db8:103::1"), "pass_route_kernel"},
      {"its own address", to("2001:db8:1::1"), "pass_route_local"},
      {"no route", to("2001:db8:ffff::1"), "pass_route_local"},
      {"blackhole", to("2001:db8:200::1"), "drop_no_route"},
      {"prohibit", to("2001:db8:201::1"), "pass_route_unreachable"},
      {"unreachable", to("2001:db8:202::1"), "pass_route_unreachable"},
      {"multicast", to("ff02::1"), "pass_route_kernel"},
      {"to a link-local address", to("fe80::1"), "pass_route_kernel"},
      {"from a link-local address", from("fe80::9"), "pass_route_kernel"},
      {"from the last of them", from("febf:ffff::"), "pass_route_kernel"},
      {"from what was site-local", from("fec0::9"), "forward_route"},
      {"from nobody", from("::"), "pass_route_kernel"},
      {"from loopback", from("::1"), "pass_route_kernel"},
      {"to loopback", to("::1"), "pass_route_kernel"},
      {"from next to loopback", from("::2"), "forward_route"},
      {"tagged", kEth / Vlan{} / Ipv6{.destination = far} / Udp{}, "pass_route_kernel"},
      {"to another host", V6({.destination = kRouter, .source = kHost}, far, 64, UdpTo(53)),
       "pass_route_otherhost"},
  });
}

// Writes the IPv4 header's checksum and returns it.
uint16_t FillChecksum(Bytes& frame) {
  frame[24] = frame[25] = 0;
  const uint16_t checksum = InternetChecksum(frame.data() + 14, 20);
  frame[24] = static_cast<uint8_t>(checksum >> 8);
  frame[25] = static_cast<uint8_t>(checksum);
  return checksum;
}

// Every value the checksum can have before the TTL falls, so every carry.
TEST_F(RouteTest, Ipv4ChecksumForEveryValue) {
  std::set<uint16_t> met;
  Bytes frame = V4(kEth, {}, UdpTo(53)), expected = V4(kOut, {.ttl = 63}, UdpTo(53)), output;
  for (uint32_t id = 0; id < 1 << 16; ++id) {
    frame[18] = expected[18] = static_cast<uint8_t>(id >> 8);
    frame[19] = expected[19] = static_cast<uint8_t>(id);
    met.insert(FillChecksum(frame));
    FillChecksum(expected);
    lab_->gateway.program().Verdict(frame, &output);
    ASSERT_EQ(output, expected) << "id " << id;
  }
  // All but the second zero, which no sum of bytes that are not all zero has.
  EXPECT_EQ(met.size(), 0xffffU);
}

TEST_F(RouteTest, EveryTtl) {
  for (int ttl = 0; ttl < 256; ++ttl) {
    SCOPED_TRACE(ttl);
    const Outcome v4 = lab_->gateway.Run(V4(kEth, {.ttl = ttl}, UdpTo(53)));
    const Outcome v6 = lab_->gateway.Run(V6(kEth, "2001:db8:100::1", ttl, UdpTo(53)));
    EXPECT_EQ(v4.reason, ttl > 1 ? "forward_route" : "pass_route_ttl");
    EXPECT_EQ(v6.reason, ttl > 1 ? "forward_route" : "pass_route_ttl");
    if (ttl < 2) continue;
    EXPECT_EQ(v4.output, V4(kOut, {.ttl = ttl - 1}, UdpTo(53)));
    EXPECT_EQ(v6.output, V6(kOut, "2001:db8:100::1", ttl - 1, UdpTo(53)));
  }
}

TEST_F(RouteTest, TablesChangeUnderIt) {
  const Bytes frame = V4(kEth, {.to = "10.0.2.50"}, UdpTo(53));
  Expect({{"unresolved", frame, "pass_route_neighbour"}});
  Neighbour("10.0.2.50", kRouter2, "out0");
  Expect({{"resolved", frame, "forward_route", V4(kOut2, {.to = "10.0.2.50", .ttl = 63}, UdpTo(53))}});
  Ip({"route add blackhole 10.0.2.50/32"});
  Expect({{"blackholed", frame, "drop_no_route"}});
  Ip({"route del blackhole 10.0.2.50/32", "neigh del 10.0.2.50 dev out0"});
  Expect({{"unresolved again", frame, "pass_route_neighbour"}});
}

TEST_F(RouteTest, ForwardingDisabled) {
  Forwarding("4", false);
  Forwarding("6", false);
  Expect({{"IPv4", V4(kEth, {}, UdpTo(53)), "pass_route_disabled"},
          {"IPv6", V6(kEth, "2001:db8:100::1", 64, UdpTo(53)), "pass_route_disabled"}});
  Forwarding("4", true);
  Forwarding("6", true);
  Expect({{"IPv4 again", V4(kEth, {}, UdpTo(53)), "forward_route", V4(kOut, {.ttl = 63}, UdpTo(53))},
          {"IPv6 again", V6(kEth, "2001:db8:100::1", 64, UdpTo(53)), "forward_route",
           V6(kOut, "2001:db8:100::1", 63, UdpTo(53))}});
}

}  // namespace
}  // namespace headgate::testing
