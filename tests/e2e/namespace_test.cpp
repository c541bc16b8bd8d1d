// SPDX-License-Identifier: Apache-2.0
//
// Two gateways on one host, in namespaces built alike: the same ifindexes, the same interfaces, and tracepoints
// that the kernel shows to both. Each counts its own frames alone.
#include <gtest/gtest.h>
#include <netinet/in.h>

#include "tests/harness/agent.h"
#include "tests/harness/wire.h"

namespace headgate::testing {
namespace {

constexpr char kConfig[] = R"(
interfaces: [{name: in, device: in0}, {name: out, device: out0}]
rules:
  - {name: wire, priority: 2, match: {protocol: udp, destination_ports: ["1000"]}, action: {redirect: {interface: out}}}
  - {name: echo, priority: 1, match: {protocol: udp, destination_ports: ["1001"]}, action: {tx: {}}}
)";

struct Gateway {
  explicit Gateway(const std::string& name) : lab(name, {"src", "gw", "dst"}) {
    lab.Link("src", "src0", "gw", "in0");
    lab.Link("gw", "out0", "dst", "dst0");
    agent = std::make_unique<Agent>(lab, "gw");
    agent->client().ApplyYaml(kConfig);
  }
  uint32_t Index(const std::string& interface) {
    return agent->client().GetObject(pb::KIND_INTERFACE, interface).interface_state().ifindex();
  }
  // One frame redirected and one reflected. The second is not waited for: veth wakes the peer of an XDP_TX only
  // where a program is attached there too.
  void Forward() {
    Wire source(lab.Name("src"), "src0"), sink(lab.Name("dst"), "dst0");
    const auto is_udp = [](const Bytes& frame) { return IsIp(frame, IPPROTO_UDP); };
    source.Send(Ethernet{} / Ipv4{} / Udp{.destination_port = 1000} / Payload(40));
    EXPECT_TRUE(sink.Receive(is_udp).has_value());
    source.Send(Ethernet{} / Ipv4{} / Udp{.destination_port = 1001} / Payload(40));
  }
  std::pair<uint64_t, uint64_t> Sent() {
    return {agent->client().Interface("in").transmitted_packets(),
            agent->client().Interface("out").transmitted_packets()};
  }

  Lab lab;
  std::unique_ptr<Agent> agent;
};

TEST(NamespaceTest, FramesOfANamespaceBuiltAlikeAreNotCounted) {
  HG_REQUIRE_LAB();
  Gateway one("twin-a"), other("twin-b");
  ASSERT_EQ(one.Index("in"), other.Index("in"));
  ASSERT_EQ(one.Index("out"), other.Index("out"));
  const auto expect = [&](uint64_t frames, uint64_t others) {
    EXPECT_TRUE(WaitFor([&] { return one.Sent() == std::pair(frames, frames); }));
    EXPECT_EQ(other.Sent(), std::pair(others, others));
  };
  one.Forward();
  expect(1, 0);
  one.agent->Restart();
  other.agent->Restart();
  one.Forward();
  expect(2, 0);
  other.Forward();
  EXPECT_TRUE(WaitFor([&] { return other.Sent() == std::pair<uint64_t, uint64_t>(1, 1); }));
  expect(2, 1);
}

}  // namespace
}  // namespace headgate::testing
