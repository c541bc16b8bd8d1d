// SPDX-License-Identifier: Apache-2.0
//
// A multicast sender, a gateway, and receivers behind devices of their own.
#pragma once

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/mount.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "tests/harness/agent.h"
#include "tests/harness/packet.h"
#include "tests/harness/wire.h"

namespace headgate::testing {

// client c0 -- g0 gw e1 -- d1 r1, gw e2 -- d2 r2 ... Interfaces "in" (g0) and "out1" (e1), "out2" ...
class MulticastTest : public ::testing::Test {
 protected:
  // `ipv6`: egress devices have it, and what their stack says of itself reaches receivers, too.
  explicit MulticastTest(std::string name, int receivers = 3, bool ipv6 = false)
      : name_(std::move(name)), count_(receivers), ipv6_(ipv6) {}

  void SetUp() override {
    HG_REQUIRE_LAB();
    std::vector<std::string> namespaces = {"client", "gw"};
    for (int i = 1; i <= count_; ++i) namespaces.push_back(absl::StrCat("r", i));
    lab_ = std::make_unique<Lab>(name_, namespaces);
    lab_->Link("client", "c0", "gw", "g0");
    interfaces_ = "interfaces: [{name: in, device: g0}";
    for (int i = 1; i <= count_; ++i) {
      MakeReceiver(i);
      absl::StrAppend(&interfaces_, ", {name: out", i, ", device: e", i, "}");
    }
    interfaces_ += "]\n";
    agent_ = std::make_unique<Agent>(
        *lab_, "gw",
        AgentOptions{.arguments = {"--max-rules", "1024", "--max-prefixes", "1024", "--max-sources", "64"}});
    client_ = std::make_unique<Wire>(lab_->Name("client"), "c0");
    for (int i = 1; i <= count_; ++i) OpenReceiver(i);
  }
  void TearDown() override {
    if (agent_) {
      EXPECT_EQ(agent_->Stop(), 0);
    }
    agent_.reset();
    client_.reset();
    receivers_.clear();
    lab_.reset();
  }

  // Device e`i` of 10.0.`i`.1, and 2001:db8:`i`::1, with a receiver behind it.
  void MakeReceiver(int i) {
    lab_->Link("gw", absl::StrCat("e", i), absl::StrCat("r", i), absl::StrCat("d", i));
    AddAddress(i, absl::StrCat("10.0.", i, ".1/24"));
    if (!ipv6_) return;
    lab_->In("gw", absl::StrCat("sysctl -qw net.ipv6.conf.e", i, ".disable_ipv6=0"));
    lab_->Ip("gw", absl::StrCat("addr add 2001:db8:", i, "::1/64 dev e", i, " nodad"));
  }
  void AddAddress(int i, const std::string& address) {
    lab_->Ip("gw", absl::StrCat("addr add ", address, " dev e", i));
  }
  void OpenReceiver(int i) {
    receivers_.resize(static_cast<size_t>(count_) + 1);
    receivers_[static_cast<size_t>(i)] =
        std::make_unique<Wire>(lab_->Name(absl::StrCat("r", i)), absl::StrCat("d", i));
  }
  // Of these routes, in YAML.
  void Apply(const std::string& routes) { api().ApplyYaml(interfaces_ + "multicast_routes:\n" + routes); }

  std::string EgressMac(int i) { return lab_->Mac("gw", absl::StrCat("e", i)); }
  // Of either IP version, tagged or not.
  static bool IsUdp(const Bytes& frame) {
    if (frame.size() < 42) return false;
    const size_t type = frame[12] == 0x81 && frame[13] == 0 ? 16 : 12;
    const int ethertype = frame[type] << 8 | frame[type + 1];
    return (ethertype == 0x0800 && frame[type + 11] == IPPROTO_UDP) ||
           (ethertype == 0x86dd && frame[type + 8] == IPPROTO_UDP);
  }
  // The next UDP frame at a receiver; empty when none comes.
  Bytes Received(int i) { return receivers_[static_cast<size_t>(i)]->Receive(IsUdp).value_or(Bytes{}); }
  pb::MulticastRouteState State(const std::string& route) {
    return api().GetObject(pb::KIND_MULTICAST_ROUTE, route).multicast_route_state();
  }
  pb::MulticastLegStats Leg(const std::string& route, const std::string& leg) {
    const pb::MulticastRouteStats stats = Route(route);
    for (const pb::MulticastLegStats& one : stats.legs()) {
      if (one.name() == leg) return one;
    }
    throw std::runtime_error("no leg " + leg);
  }
  pb::MulticastRouteStats Route(const std::string& name) {
    const pb::StatsResponse stats = api().Stats();
    for (const pb::MulticastRouteStats& route : stats.multicast_routes()) {
      if (route.name() == name) return route;
    }
    throw std::runtime_error("no route " + name);
  }
  static bool Says(const std::string& text, const std::string& part) { return absl::StrContains(text, part); }
  // Each copy is in one of the leg's counters.
  static void ExpectAccount(const pb::MulticastLegStats& leg) {
    EXPECT_EQ(leg.offered_packets(), leg.sent_packets() + leg.dropped_ttl_packets() +
                                         leg.dropped_limited_packets() + leg.dropped_no_source_packets() +
                                         leg.dropped_malformed_packets() + leg.dropped_no_device_packets() +
                                         leg.dropped_no_neighbour_packets() + leg.dropped_too_big_packets() +
                                         leg.dropped_tx_full_packets() + leg.dropped_no_listener_packets())
        << leg.ShortDebugString();
  }
  // What became of a frame that arrives, by the gateway's counters.
  std::string Fate(const Bytes& frame) {
    const auto before = api().Reasons("in");
    client_->Send(frame);
    std::string fate;
    WaitFor([&] {
      for (const auto& [reason, packets] : api().Reasons("in")) {
        const auto found = before.find(reason);
        // Not the chatter of the sender's own stack.
        if (reason != "pass_essential" && packets != (found == before.end() ? 0 : found->second)) fate = reason;
      }
      return !fate.empty();
    });
    return fate;
  }
  // Once now, and once with the agent started again.
  void NowAndAfterRestart(const std::function<void()>& check) {
    check();
    if (HasFatalFailure()) return;
    agent_->Restart();
    check();
  }

  Lab& lab() { return *lab_; }
  Agent& agent() { return *agent_; }
  Client& api() { return agent_->client(); }
  Wire& client() { return *client_; }

  const std::string name_;
  const int count_;
  const bool ipv6_;
  std::string interfaces_;
  std::unique_ptr<Lab> lab_;
  std::unique_ptr<Agent> agent_;
  std::unique_ptr<Wire> client_;
  std::vector<std::unique_ptr<Wire>> receivers_;  // from 1
};

}  // namespace headgate::testing
