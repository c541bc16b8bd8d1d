// SPDX-License-Identifier: Apache-2.0
//
// A gateway with ports that the kernel may copy multicast to, and what tests of either IP version call the groups
// and senders they use.
#pragma once

#include <absl/strings/str_replace.h>
#include <bpf/bpf.h>
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "tests/bpf/lab_gateway.h"

namespace headgate::testing {

// Groups $G and $G2 are within $WIDE, $G3 is not; senders: $HOST is within $SMALL, that
// within $LARGE, that within $NET, and that within $SITE.
struct IpNames {
  const char* name;
  bool ipv6;
  std::vector<std::pair<std::string, std::string>> names;

  friend void PrintTo(const IpNames& ip, std::ostream* out) { *out << ip.name; }
  std::string Expand(const std::string& text) const { return absl::StrReplaceAll(text, names); }
  Packet Ip(const std::string& source, const std::string& destination) const {
    if (ipv6) return Packet(Ipv6{.source = Expand(source), .destination = Expand(destination)});
    return Packet(Ipv4{.source = Expand(source), .destination = Expand(destination)});
  }
  // What follows is of a datagram that was cut in two, and of UDP.
  Packet Fragment(const std::string& source, const std::string& destination, uint16_t offset) const {
    if (ipv6) {
      return Ip(source, destination) / Ipv6Fragment{.offset = offset, .more = true, .next_header = 17};
    }
    return Packet(Ipv4{.source = Expand(source),
                       .destination = Expand(destination),
                       .more_fragments = true,
                       .fragment_offset = offset,
                       .protocol = 17});
  }
};

inline const IpNames kIpNames[] = {
    {"Ipv4",
     false,
     {{"$WIDE", "239.1.0.0/16"},
      {"$G2", "239.1.2.2"},
      {"$G3", "239.3.3.3"},
      {"$G", "239.1.1.1"},
      {"$SITE", "10.1.0.0/16"},
      {"$NET", "10.1.2.0/24"},
      {"$HOST", "10.1.2.3"},
      {"$IN_NET", "10.1.2.4"},
      {"$IN_SITE", "10.1.3.3"},
      {"$SMALL", "10.1.2.0/29"},
      {"$LARGE", "10.1.2.0/28"},
      {"$FAR", "192.0.2.9"}}},
    {"Ipv6",
     true,
     {{"$WIDE", "\"ff3e:1::/32\""},
      {"$G2", "ff3e:1::2:2"},
      {"$G3", "ff3e:3::3"},
      {"$G", "ff3e:1::1:1"},
      {"$SITE", "\"2001:db8:1::/48\""},
      {"$NET", "\"2001:db8:1:2::/64\""},
      {"$HOST", "2001:db8:1:2::3"},
      {"$IN_NET", "2001:db8:1:2::4"},
      {"$IN_SITE", "2001:db8:1:3::3"},
      {"$SMALL", "\"2001:db8:1:2::/125\""},
      {"$LARGE", "\"2001:db8:1:2::/124\""},
      {"$FAR", "2001:db8:9::9"}}},
};

// Packets come in by "in"; "out" and "gone" are where legs go, all native, of 1500 bytes.
class MulticastProgramTest : public ::testing::TestWithParam<IpNames> {
 protected:
  static void SetUpTestSuite() {
    if (WhyNoLab().empty()) lab_ = std::make_unique<LabGateway>("mcastprog");
  }
  static void TearDownTestSuite() { lab_.reset(); }
  void SetUp() override {
    HG_REQUIRE_LAB();
    Native("in", "in0", LabGateway::kIn);
    Native("out", "out0", LabGateway::kOut);
    Native("gone", "side0", LabGateway::kSide);
    SetIngress({});
  }
  void TearDown() override {
    if (!lab_) return;
    gateway().Configure("");
    SetIngress({});
  }

  Gateway& gateway() { return lab_->gateway; }
  Program& program() { return gateway().program(); }
  const IpNames& ip() const { return GetParam(); }

  struct Port {
    uint32_t mtu = 1500;
    bool native = true;
    bool exists = true;
  };
  // To be called before routes are in force: their sets of devices are made of what ports are then.
  void Native(const std::string& interface, const char* device, const char* mac) {
    SetPort(interface, device, mac, {});
  }
  void SetPort(const std::string& interface, const char* device, const char* mac, const Port& port) {
    gateway().Bind(interface, LabGateway::Index(device), mac);
    const uint32_t id = gateway().Port(interface);
    hg_port entry{};
    const Fd ports = program().OpenMap("hg_ports");
    ASSERT_EQ(bpf_map_lookup_elem(ports.get(), &id, &entry), 0);
    entry.mtu = port.mtu;
    entry.flags = port.native ? HG_PORT_NATIVE : 0;
    if (!port.exists) entry.ifindex = 0;
    ASSERT_EQ(bpf_map_update_elem(ports.get(), &id, &entry, BPF_ANY), 0);
  }
  void SetIngress(Program::Ingress ingress) {
    ingress.ifindex = LabGateway::Index("in0");
    program().SetIngress(ingress);
  }

  // Of these routes, and what else is to be there. Nothing of before stays, devices of fanouts neither.
  void Use(const std::string& routes, const std::string& rest = "") {
    gateway().Configure("");
    gateway().Configure(ip().Expand(rest + "multicast_routes:\n" + routes));
  }

  struct Case {
    const char* name;
    Bytes frame;
    const char* reason;
    const char* route = "";
    const char* rule = "";
  };
  // Twice: what was remembered of a flow decides as what was looked for.
  void Expect(const std::vector<Case>& cases) {
    for (const Case& one : cases) {
      for (const char* round : {"new", "known"}) {
        SCOPED_TRACE(std::string(one.name) + ", " + round);
        const Outcome outcome = gateway().Run(one.frame);
        EXPECT_EQ(outcome.reason, one.reason);
        EXPECT_EQ(outcome.route, one.route);
        EXPECT_EQ(outcome.rule, one.rule);
        EXPECT_EQ(outcome.output, one.frame) << "changed before it is copied";
      }
    }
  }
  // Cases of packets that the routes of these names take; "": pass by default.
  struct Choice {
    const char* name;
    Bytes frame;
    const char* route;
  };
  void ExpectRoutes(const std::vector<Choice>& choices) {
    for (const auto& [name, frame, route] : choices) {
      Expect({{name, frame, *route != 0 ? "forward_multicast" : "pass_default", route}});
    }
  }

  Packet Datagram(const std::string& source, const std::string& group, uint16_t port = 5001,
                  size_t size = 40) const {
    return kEth / ip().Ip(source, group) / Udp{.source_port = 4000, .destination_port = port} / Payload(size);
  }
  // A port is not in it, though its first bytes look like one.
  Packet LaterFragment(const std::string& source, const std::string& group) const {
    return kEth / ip().Fragment(source, group, 8) / Udp{.source_port = 4000, .destination_port = 5001} /
           Payload(40);
  }
  Packet FirstFragment(const std::string& source, const std::string& group, uint16_t port) const {
    return kEth / ip().Fragment(source, group, 0) /
           Udp{.source_port = 4000, .destination_port = port, .length = 1000, .checksum = 0x1234} / Payload(40);
  }

  inline static const Ethernet kEth = {.destination = "01:00:5e:01:01:01", .source = "02:00:00:00:00:0a"};
  static std::unique_ptr<LabGateway> lab_;
};
inline std::unique_ptr<LabGateway> MulticastProgramTest::lab_;

inline std::string NameOf(const ::testing::TestParamInfo<IpNames>& info) { return info.param.name; }

}  // namespace headgate::testing
