// SPDX-License-Identifier: Apache-2.0
//
// The shortest way through everything: a rule over gRPC decides the fate of a real packet.
#include <gtest/gtest.h>
#include <netinet/in.h>

#include "tests/harness/agent.h"
#include "tests/harness/wire.h"

namespace headgate::testing {
namespace {

// client -- gw -- server, with the gateway's two devices as interfaces "in" and "out".
class BasicTest : public ::testing::Test {
 protected:
  static Bytes Frame(uint16_t port, const Bytes& payload) {
    return Ethernet{} / Ipv4{} / Udp{.destination_port = port} / Payload(payload);
  }
};

TEST_F(BasicTest, RulesOverGrpcDecideTheFateOfPackets) {
  HG_REQUIRE_LAB();
  Lab lab("basic", {"client", "gw", "server"});
  lab.Link("client", "c0", "gw", "g0");
  lab.Link("gw", "g1", "server", "s0");
  Agent agent(lab, "gw");
  agent.client().ApplyYaml(R"(
interfaces: [{name: in, device: g0}, {name: out, device: g1}]
rules:
  - {name: drop-9, priority: 20, match: {protocol: udp, destination_ports: [9]}, action: {drop: {}}}
  - {name: wire, priority: 10, match: {interface: in}, action: {redirect: {interface: out, destination_mac: "02:00:00:00:0b:01"}}}
)");
  Wire client(lab.Name("client"), "c0"), server(lab.Name("server"), "s0");
  const auto check = [&](uint64_t sent_before) {
    const Bytes wanted(40, 0x11), unwanted(40, 0x22);
    client.Send(Frame(9, unwanted));
    client.Send(Frame(53, wanted));
    const auto arrived = server.Receive([](const Bytes& frame) { return IsIp(frame, IPPROTO_UDP); });
    ASSERT_TRUE(arrived.has_value());
    EXPECT_TRUE(CarriesPayload(wanted)(*arrived));
    EXPECT_EQ(Bytes(arrived->begin(), arrived->begin() + 6), (Bytes{0x02, 0, 0, 0, 0x0b, 0x01}));
    EXPECT_EQ(agent.client().Rule("drop-9").packets(), sent_before + 1);
    EXPECT_EQ(agent.client().Reasons("in")["drop_rule"], sent_before + 1);
    EXPECT_GE(agent.client().Reasons("in")["forward_redirect"], sent_before + 1);
    EXPECT_GE(agent.client().Interface("out").transmitted_packets(), sent_before + 1);
  };
  check(0);
  agent.Restart();
  check(1);
}

}  // namespace
}  // namespace headgate::testing
