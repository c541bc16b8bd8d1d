// SPDX-License-Identifier: Apache-2.0
//
// Rules that route by the kernel's tables, on the wire: what the program forwards itself, and what it leaves to
// the kernel, with the kernel's answers.
#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include "agent/base/address.h"
#include "tests/harness/traffic.h"
#include "tests/harness/wire.h"

namespace headgate::testing {
namespace {

constexpr uint64_t kFrames = 200003;

// client c0 .2 -- .1 g0 gw g1 .1 -- .2 s1 one     192.0.2.0/24 and 198.51.100.0/24, 2001:db8:1::/64 and :2::/64
//                       gw g2 .1 -- .2 s2 two     203.0.113.0/24; g2 is no interface of the configuration
class RoutingTest : public ::testing::Test {
 protected:
  void SetUp() override {
    HG_REQUIRE_LAB();
    lab_ = std::make_unique<Lab>("routing", std::vector<std::string>{"client", "gw", "one", "two"});
    lab_->Link("client", "c0", "gw", "g0");
    lab_->Link("gw", "g1", "one", "s1");
    lab_->Link("gw", "g2", "two", "s2");
    AddAddresses("client", "c0", "192.0.2.2/24", "2001:db8:1::2/64");
    AddAddresses("gw", "g0", "192.0.2.1/24", "2001:db8:1::1/64");
    AddAddresses("gw", "g1", "198.51.100.1/24", "2001:db8:2::1/64");
    AddAddresses("one", "s1", "198.51.100.2/24", "2001:db8:2::2/64");
    AddAddresses("gw", "g2", "203.0.113.1/24", "2001:db8:3::1/64");
    AddAddresses("two", "s2", "203.0.113.2/24", "2001:db8:3::2/64");
    lab_->In("gw", "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    agent_ = std::make_unique<Agent>(*lab_, "gw");
    api().ApplyYaml(R"(
interfaces: [{name: in, device: g0}, {name: out, device: g1}]
rules: [{name: routed, priority: 10, match: {interface: in, protocol: udp}, action: {route: {}}}]
)");
    client_ = std::make_unique<Wire>(lab_->Name("client"), "c0");
    one_ = std::make_unique<Wire>(lab_->Name("one"), "s1");
  }

  void AddAddresses(const std::string& ns, const std::string& device, const std::string& ipv4,
                    const std::string& ipv6) {
    lab_->In(ns, absl::StrCat("sysctl -qw net.ipv6.conf.", device, ".disable_ipv6=0 net.ipv6.conf.", device,
                              ".accept_dad=0"));
    lab_->Ip(ns, absl::StrCat("address add ", ipv4, " dev ", device));
    lab_->Ip(ns, absl::StrCat("address add ", ipv6, " dev ", device, " nodad"));
  }
  Client& api() { return agent_->client(); }
  void NowAndAfterRestart(const std::function<void()>& check) {
    check();
    agent_->Restart();
    SCOPED_TRACE("after the restart");
    check();
  }
  void ResolveNeighbours() {
    lab_->Ip("gw",
             absl::StrCat("neigh replace 198.51.100.2 dev g1 nud permanent lladdr ", lab_->Mac("one", "s1")));
    lab_->Ip("gw",
             absl::StrCat("neigh replace 2001:db8:2::2 dev g1 nud permanent lladdr ", lab_->Mac("one", "s1")));
    lab_->Ip("gw", absl::StrCat("neigh replace 203.0.113.2 dev g2 nud permanent lladdr ", lab_->Mac("two", "s2")));
  }

  // Frames to the gateway, and as it sends them on.
  Ethernet In() { return {.destination = lab_->Mac("gw", "g0"), .source = lab_->Mac("client", "c0")}; }
  Ethernet Out() { return {.destination = lab_->Mac("one", "s1"), .source = lab_->Mac("gw", "g1")}; }
  static Ipv4 V4(uint8_t ttl = 64, const std::string& destination = "198.51.100.2") {
    return {.source = "192.0.2.2", .destination = destination, .ttl = ttl};
  }
  static Ipv6 V6(uint8_t hop_limit = 64, const std::string& destination = "2001:db8:2::2") {
    return {.source = "2001:db8:1::2", .destination = destination, .hop_limit = hop_limit};
  }
  static Payload NextMark() { return Payload(Bytes(40, ++mark_)); }

  uint64_t Reason(const std::string& reason) { return api().Reasons("in")[reason]; }
  // What happens in `act` is counted once under this reason, and the rule counts it.
  void ExpectReason(const std::string& reason, const std::function<void()>& act) {
    SCOPED_TRACE(reason);
    const uint64_t before = Reason(reason), rule_before = api().Rule("routed").packets();
    act();
    EXPECT_TRUE(WaitFor([&] { return Reason(reason) != before; }));
    EXPECT_EQ(Reason(reason), before + 1);
    EXPECT_EQ(api().Rule("routed").packets(), rule_before + 1);
  }
  // The client gets an ICMP (ICMPv6) message of this type and code.
  void ExpectAnswer(uint8_t type, uint8_t code) {
    EXPECT_TRUE(client_->Receive([&](const Bytes& frame) {
      return IsIp(frame, IPPROTO_ICMP) && frame.size() > 35 && frame[34] == type && frame[35] == code;
    })) << "no ICMP type "
        << int{type};
  }
  void ExpectAnswer6(uint8_t type, uint8_t code) {
    EXPECT_TRUE(client_->Receive([&](const Bytes& frame) {
      return frame.size() > 55 && frame[12] == 0x86 && frame[13] == 0xdd && frame[20] == IPPROTO_ICMPV6 &&
             frame[54] == type && frame[55] == code;
    })) << "no ICMPv6 type "
        << int{type};
  }

  std::unique_ptr<Lab> lab_;
  std::unique_ptr<Agent> agent_;
  std::unique_ptr<Wire> client_, one_;
  static uint8_t mark_;
};
uint8_t RoutingTest::mark_ = 0;

TEST_F(RoutingTest, ForwardsByTheKernelsRoutesAndNeighbours) {
  ResolveNeighbours();
  NowAndAfterRestart([&] {
    ExpectReason("forward_route", [&] {
      const Payload mark = NextMark();
      client_->Send(In() / V4(64) / Udp{} / mark);
      EXPECT_EQ(one_->Receive(CarriesPayload(mark.bytes)), Bytes(Out() / V4(63) / Udp{} / mark));
    });
    ExpectReason("forward_route", [&] {
      const Payload mark = NextMark();
      client_->Send(In() / V6(64) / Udp{} / mark);
      EXPECT_EQ(one_->Receive(CarriesPayload(mark.bytes)), Bytes(Out() / V6(63) / Udp{} / mark));
    });
    ExpectReason("forward_route", [&] {  // the last hop that it may take
      const Payload mark = NextMark();
      client_->Send(In() / V4(2) / Udp{} / mark);
      EXPECT_EQ(one_->Receive(CarriesPayload(mark.bytes)), Bytes(Out() / V4(1) / Udp{} / mark));
    });
  });
}

TEST_F(RoutingTest, EveryFrameAtFullRate) {
  ResolveNeighbours();
  const Tally tally(*lab_, "one", "s1");
  bench::FrameSpec frame = FlowFrames(100);
  frame.destination_mac = Value(ParseMac(lab_->Mac("gw", "g0")));
  frame.destination = Value(ParseAddress("198.51.100.2"));
  const MacAddress destination = Value(ParseMac(lab_->Mac("one", "s1"))),
                   source = Value(ParseMac(lab_->Mac("gw", "g1")));
  uint64_t sent = 0;
  NowAndAfterRestart([&] {
    const auto sender = Value(bench::Sender::Open({.device = "c0",
                                                   .netns = lab_->Name("client"),
                                                   .frame = frame,
                                                   .count = kFrames,
                                                   .scheduling = {.cpu = 0}}));
    Ok(sender->Run());
    sent += kFrames;
    Account account;
    const auto arrived = [&] {
      uint64_t frames = 0;
      tally.ForEach([&](const hgt_mark& mark, uint64_t count) {
        // The kernel's own, of neighbours and the like, have other sources.
        if (mark.source >> 8 != 0xc00002 || mark.source_port == 0) return;
        EXPECT_EQ(std::to_array(mark.destination_mac), destination);
        EXPECT_EQ(std::to_array(mark.source_mac), source);
        EXPECT_EQ(mark.ttl, 63);
        frames += count;
      });
      return frames;
    };
    EXPECT_TRUE(WaitFor([&] {
      account = ReadAccount(api(), {"in"}, {"out"});
      return arrived() + account.lost_at_egress() >= sent;
    }));
    SCOPED_TRACE(::testing::PrintToString(account));
    EXPECT_EQ(account.reasons["forward_route"], sent);
    EXPECT_EQ(account.transmitted, sent);
    EXPECT_EQ(arrived(), sent);
    EXPECT_EQ(api().Rule("routed").packets(), sent);
  });
}

TEST_F(RoutingTest, MissingNeighboursAreResolvedByTheKernel) {
  NowAndAfterRestart([&] {
    lab_->Ip("gw", "neigh flush dev g1");
    for (const bool is_ipv6 : {false, true}) {
      SCOPED_TRACE(is_ipv6);
      const auto frame = [&](const Payload& mark) {
        return is_ipv6 ? Bytes(In() / V6() / Udp{} / mark) : Bytes(In() / V4() / Udp{} / mark);
      };
      const Payload first = NextMark(), second = NextMark();
      ExpectReason("pass_route_neighbour", [&] {
        client_->Send(frame(first));
        EXPECT_TRUE(one_->Receive(CarriesPayload(first.bytes)).has_value()) << "the kernel forwards it";
      });
      ExpectReason("forward_route", [&] {
        client_->Send(frame(second));
        EXPECT_TRUE(one_->Receive(CarriesPayload(second.bytes)).has_value());
      });
    }
  });
}

TEST_F(RoutingTest, ExpiredPacketsAreAnsweredByTheKernel) {
  ResolveNeighbours();
  NowAndAfterRestart([&] {
    ExpectReason("pass_route_ttl", [&] {
      client_->Send(In() / V4(1) / Udp{} / NextMark());
      ExpectAnswer(11, 0);
    });
    ExpectReason("pass_route_ttl", [&] {
      client_->Send(In() / V6(1) / Udp{} / NextMark());
      ExpectAnswer6(3, 0);
    });
  });
}

TEST_F(RoutingTest, PacketsTooBigAreAnsweredOrFragmentedByTheKernel) {
  ResolveNeighbours();
  lab_->Ip("gw", "link set g1 mtu 1300");
  NowAndAfterRestart([&] {
    ASSERT_TRUE(
        WaitFor([&] { return api().GetObject(pb::KIND_INTERFACE, "out").interface_state().mtu() == 1300; }));
    Ipv4 whole = V4();
    whole.dont_fragment = true;
    ExpectReason("pass_route_mtu", [&] {
      client_->Send(In() / whole / Udp{} / Payload(1400));
      ExpectAnswer(3, 4);
    });
    ExpectReason("pass_route_mtu", [&] {
      client_->Send(In() / V6() / Udp{} / Payload(1400));
      ExpectAnswer6(2, 0);
    });
    ExpectReason("pass_route_mtu", [&] {
      client_->Send(In() / V4() / Udp{} / Payload(1400));
      const auto fragment = [](const Bytes& frame) { return IsIp(frame, IPPROTO_UDP); };
      EXPECT_EQ(one_->ReceiveCount(fragment, 2), 2u);
    });
    ExpectReason("forward_route", [&] {
      client_->Send(In() / whole / Udp{} / Payload(1300 - 28));
      EXPECT_TRUE(one_->Receive([](const Bytes& frame) { return IsIp(frame, IPPROTO_UDP); }).has_value());
    });
  });
}

TEST_F(RoutingTest, TheRestIsLeftToTheKernel) {
  ResolveNeighbours();
  lab_->Ip("gw", "route add unreachable 198.18.1.0/24");
  lab_->Ip("gw", "route add blackhole 198.18.2.0/24");
  Wire stack(lab_->Name("gw"), "g0"), two(lab_->Name("two"), "s2");
  NowAndAfterRestart([&] {
    ExpectReason("pass_route_local", [&] {
      const Payload mark = NextMark();
      client_->Send(In() / V4(64, "192.0.2.1") / Udp{.destination_port = 9} / mark);
      ExpectAnswer(3, 3);  // no such port
    });
    ExpectReason("pass_route_unreachable", [&] {
      client_->Send(In() / V4(64, "198.18.1.1") / Udp{} / NextMark());
      ExpectAnswer(3, 1);
    });
    ExpectReason("drop_no_route", [&] { client_->Send(In() / V4(64, "198.18.2.1") / Udp{} / NextMark()); });
    ExpectReason("pass_route_kernel", [&] {  // by a device that is not an interface
      const Payload mark = NextMark();
      client_->Send(In() / V4(64, "203.0.113.2") / Udp{} / mark);
      EXPECT_TRUE(two.Receive(CarriesPayload(mark.bytes)).has_value());
    });
    ExpectReason("pass_route_kernel", [&] {
      const Payload mark = NextMark();
      client_->Send(In() / Vlan{.id = 5} / V4() / Udp{} / mark);
      EXPECT_TRUE(stack.Receive(CarriesPayload(mark.bytes)).has_value());
    });
    lab_->In("gw", "sysctl -qw net.ipv4.conf.g0.forwarding=0");
    ExpectReason("pass_route_disabled", [&] { client_->Send(In() / V4() / Udp{} / NextMark()); });
    lab_->In("gw", "sysctl -qw net.ipv4.conf.g0.forwarding=1");
  });
}

}  // namespace
}  // namespace headgate::testing
