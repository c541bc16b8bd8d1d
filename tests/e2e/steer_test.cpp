// SPDX-License-Identifier: Apache-2.0
//
// Steering to AF_XDP workers: what a rule steers is answered or counted by a handler in the agent, what no worker
// takes has the fallback's fate, and every packet is in one of the two.
#include <gtest/gtest.h>
#include <netinet/in.h>

#include "tests/harness/live_gateway.h"

namespace headgate::testing {
namespace {

class SteerTest : public LiveGatewayTest {
 protected:
  SteerTest() : LiveGatewayTest("steer") {}

  void Steer(const std::string& target) {
    api().PatchYaml("upsert:\n  steer_targets: [" + target +
                    "]\n  rules: [{name: app, priority: 100, match: {protocol: udp, destination_ports: ['9000']}, "
                    "action: {steer: {target: app}}}]\n");
  }
  static Bytes Request(const Bytes& payload) {
    return Ethernet{} / Ipv4{.source = "192.0.2.1", .destination = "198.51.100.7"} /
           Udp{.source_port = 4000, .destination_port = 9000} / Payload(payload);
  }
  uint64_t Reason(const std::string& reason) { return api().Reasons("in")[reason]; }
};

TEST_F(SteerTest, EchoAnswersDatagrams) {
  Steer("{name: app, handler: {echo: {}}, fallback: drop}");
  NowAndAfterRestart([&] {
    // Until the socket is open, the fallback takes packets.
    const Bytes payload(100, 0x33);
    ASSERT_TRUE(WaitFor([&] { return Fate(Request(payload)) == "forward_steer"; }, std::chrono::seconds(2))) << Fate(Request(payload));
    
    const auto answer = client().Receive([](const Bytes& frame) { return IsIp(frame, IPPROTO_UDP); });
    ASSERT_TRUE(answer.has_value());
    const Bytes expected = Ethernet{.destination = "02:00:00:00:00:02", .source = "02:00:00:00:00:01"} /
                           Ipv4{.source = "198.51.100.7", .destination = "192.0.2.1"} /
                           Udp{.source_port = 9000, .destination_port = 4000} / Payload(payload);
    EXPECT_EQ(*answer, expected);
  });
}

}  // namespace
}  // namespace headgate::testing
