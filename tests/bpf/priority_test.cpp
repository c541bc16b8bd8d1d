// SPDX-License-Identifier: Apache-2.0
//
// Which of several rules that match decides: the one of highest priority, and the management allow-list before
// all.
#include <gtest/gtest.h>
#include <netinet/in.h>

#include "tests/bpf/gateway.h"

namespace headgate::testing {
namespace {

class PriorityTest : public ::testing::Test {
 protected:
  void SetUp() override {
    HG_REQUIRE_BPF();
    gateway_ = std::make_unique<Gateway>("priority");
  }
  std::unique_ptr<Gateway> gateway_;
};

struct Frame {
  const char* name;
  Bytes frame;
};

const Ethernet kEth;
const Bytes kOther = Ethernet{.type = 0x88b5} / Payload(46);

Bytes From(const std::string& source) {
  if (source.find(':') == std::string::npos) return kEth / Ipv4{.source = source} / Udp{};
  return kEth / Ipv6{.source = source} / Udp{};
}
Bytes TcpTo(int port) { return kEth / Ipv4{} / Tcp{.destination_port = static_cast<uint16_t>(port)}; }

TEST_F(PriorityTest, HighestPriorityWins) {
  // Named so that no order but that of priorities gives the answers.
  gateway_->Configure(R"(
rules:
  - {name: c, priority: 5, match: {source: 10.0.0.0/8}, action: {drop: {}}}
  - {name: a, priority: 2147483647, match: {source: 10.1.2.3, destination_ports: ["53"]}, action: {drop: {}}}
  - {name: d, priority: 1, action: {drop: {}}}
  - {name: b, priority: 70, match: {source: 10.1.0.0/16}, action: {drop: {}}}
  - {name: broad, priority: 60, match: {source: 10.1.2.0/24}, action: {drop: {}}}
)");
  const std::pair<const char*, const char*> cases[] = {
      {"10.1.2.3", "a"}, {"10.1.2.4", "b"}, {"10.1.0.0", "b"}, {"10.2.0.0", "c"}, {"11.0.0.0", "d"}};
  for (const auto& [source, rule] : cases) EXPECT_EQ(gateway_->Run(From(source)).rule, rule) << source;
  EXPECT_EQ(gateway_->Run(kOther).rule, "d");
  // The same rules in the other order of priorities.
  gateway_->Configure(R"(
rules:
  - {name: c, priority: 5, match: {source: 10.0.0.0/8}, action: {drop: {}}}
  - {name: a, priority: 1, match: {source: 10.1.2.3, destination_ports: ["53"]}, action: {drop: {}}}
  - {name: b, priority: 3, match: {source: 10.1.0.0/16}, action: {drop: {}}}
)");
  for (const char* source : {"10.1.2.3", "10.1.2.4", "10.2.0.0"})
    EXPECT_EQ(gateway_->Run(From(source)).rule, "c") << source;
}

TEST_F(PriorityTest, ManagementWinsOverEveryRule) {
  gateway_->Configure(R"(
management:
  allow:
    - {source: 198.51.100.0/24}
    - {source: '2001:db8:f::/48', protocol: icmpv6}
    - {protocol: udp, destination_ports: ["161-162", "514"]}
    - {interface: out}
rules:
  - {name: top, priority: 2147483647, action: {drop: {}}}
)");
  const auto udp = [](int port) -> Bytes {
    return kEth / Ipv4{} / Udp{.destination_port = static_cast<uint16_t>(port)};
  };
  const Frame allowed[] = {{"source", From("198.51.100.77")},
                           {"IPv6 source", kEth / Ipv6{.source = "2001:db8:f::1"} / Icmpv6{}},
                           {"161", udp(161)},
                           {"162", udp(162)},
                           {"514", udp(514)}};
  const Frame refused[] = {{"other source", From("198.51.101.77")},
                           {"its other protocol", From("2001:db8:f::1")},
                           {"160", udp(160)},
                           {"163", udp(163)},
                           {"TCP", TcpTo(161)}};
  for (const Frame& frame : allowed) {
    const Outcome outcome = gateway_->Run(frame.frame);
    EXPECT_EQ(outcome.reason, "pass_management") << frame.name;
    EXPECT_EQ(outcome.rule, "") << frame.name;
  }
  for (const Frame& frame : refused) EXPECT_EQ(gateway_->Run(frame.frame).reason, "drop_rule") << frame.name;
}

}  // namespace
}  // namespace headgate::testing
