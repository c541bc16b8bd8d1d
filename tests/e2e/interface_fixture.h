// SPDX-License-Identifier: Apache-2.0
//
// A gateway of three interfaces, of which one is what things happen to while the others forward.
#pragma once

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>
#include <net/if.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/harness/traffic.h"
#include "tests/harness/wire.h"

namespace headgate::testing {

using State = pb::ObjectStatus;

// client c0 -- g0 gw g1 -- s1 server: interfaces "in" and "out".
//                    g2 -- s2 server: interface "third", which is the one that things happen to.
class InterfaceFixture : public ::testing::Test {
 protected:
  // `name`: of the lab.
  explicit InterfaceFixture(std::string name) : name_(std::move(name)) {}
  void SetUp() override {
    HG_REQUIRE_LAB();
    lab_ = std::make_unique<Lab>(name_, std::vector<std::string>{"client", "gw", "server", "away"});
    lab_->Link("client", "c0", "gw", "g0");
    lab_->Link("gw", "g1", "server", "s1");
    agent_ = std::make_unique<Agent>(*lab_, "gw");
    client_ = std::make_unique<Wire>(lab_->Name("client"), "c0");
    server_ = std::make_unique<Wire>(lab_->Name("server"), "s1");
  }

  // UDP port 7000 goes to "third", the rest of what comes in to "out"; what comes in by "third" is dropped.
  static std::string Document(const std::string& device = "g2", const std::string& mode = "auto") {
    return absl::StrCat(R"(
interfaces: [{name: in, device: g0}, {name: out, device: g1}, {name: third, device: )",
                        device, ", mode: ", mode, R"(}]
next_hops: [{name: hop, interface: third, mac: "02:00:00:00:0c:01"}]
rules:
  - {name: from-third, priority: 30, match: {interface: third, protocol: udp}, action: {drop: {}}}
  - {name: to-third, priority: 20, match: {protocol: udp, destination_ports: [7000]}, action: {redirect: {interface: third}}}
  - {name: to-hop, priority: 15, match: {protocol: udp, destination_ports: [7001]}, action: {next_hop: {name: hop}}}
  - {name: wire, priority: 10, match: {interface: in}, action: {redirect: {interface: out}}}
)");
  }

  void LinkThird() { lab_->Link("gw", "g2", "server", "s2"); }
  // The same with properties of our end, and a peer that sends from so many queues.
  void LinkThirdWith(const std::string& ours, int peer_queues) {
    lab_->Ip("gw", absl::StrCat("link add g2 ", ours, " type veth peer name s2 netns ", lab_->Name("server"),
                                " numtxqueues ", peer_queues));
    if (peer_queues > 1) lab_->In("server", absl::StrCat("ethtool -L s2 tx ", peer_queues));
    const std::pair<const char*, const char*> ends[] = {{"gw", "g2"}, {"server", "s2"}};
    for (const auto& [ns, device] : ends) {
      lab_->In(ns, absl::StrCat("sysctl -qw net.ipv6.conf.", device, ".disable_ipv6=1"));
      lab_->Ip(ns, absl::StrCat("link set ", device, " up"));
    }
    for (const auto& [ns, device] : ends) {
      lab_->In(ns, absl::StrCat("ethtool -K ", device, " gro on tx off tso off gso off"));
    }
  }
  pb::Object Third() { return api().GetObject(pb::KIND_INTERFACE, "third"); }
  Client& api() { return agent_->client(); }

  // Until the third interface has that status (and, where asked for, is attached to that ifindex).
  void Await(State::State state, std::optional<uint32_t> ifindex = std::nullopt) {
    pb::Object third;
    EXPECT_TRUE(WaitFor([&] {
      third = Third();
      return third.status().state() == state && (!ifindex || third.interface_state().ifindex() == *ifindex);
    })) << third.ShortDebugString();
  }
  uint32_t Ifindex(const std::string& device, const std::string& ns = "gw") const {
    const InNetns inside(lab_->Name(ns));
    return if_nametoindex(device.c_str());
  }
  bool HasProgram(const std::string& ns, const std::string& device) {
    return absl::StrContains(lab_->Ip(ns, "link show " + device), "xdp");
  }

  static Bytes Frame(uint16_t port) {
    return Ethernet{} / Ipv4{} / Udp{.destination_port = port} /
           Payload(Bytes(40, static_cast<uint8_t>(++marks_)));
  }
  // The frame comes out of the wire. (Others may, too.)
  static bool Passes(Wire& from, Wire& to, const Bytes& frame) {
    from.Send(frame);
    return to.Receive(CarriesPayload(Bytes(frame.end() - 40, frame.end()))).has_value();
  }
  void ExpectRestWorks() { EXPECT_TRUE(Passes(*client_, *server_, Frame(53))); }
  void ExpectThirdWorks() {
    Wire third(lab_->Name("server"), "s2");
    EXPECT_TRUE(Passes(*client_, third, Frame(7000)));
    const uint64_t before = api().Rule("from-third").packets();
    third.Send(Frame(1));
    EXPECT_TRUE(WaitFor([&] { return api().Rule("from-third").packets() == before + 1; }));
    ExpectRestWorks();
  }
  // What is meant for a device that does not exist is dropped and counted as such.
  void ExpectThirdCountsDrops() {
    const uint64_t before = api().Reasons("in")["drop_no_device"];
    client_->Send(Frame(7000));
    client_->Send(Frame(7001));
    EXPECT_TRUE(WaitFor([&] { return api().Reasons("in")["drop_no_device"] == before + 2; }));
    ExpectRestWorks();
  }
  void NowAndAfterRestart(const std::function<void()>& check) {
    check();
    agent_->Restart();
    SCOPED_TRACE("after the restart");
    check();
  }
  static bool Is(const pb::Event& event, pb::EventType type) {
    return event.type() == type && event.name() == "third";
  }
  // An event of that status, and one that the device changed.
  static void ExpectEvents(Client::Watcher& watcher, State::State state, const std::string& message) {
    bool status = false, change = false;
    watcher.Next([&](const pb::Event& event) {
      status = status || (Is(event, pb::EVENT_TYPE_OBJECT_STATUS) && event.status().state() == state);
      change =
          change || (Is(event, pb::EVENT_TYPE_INTERFACE_CHANGE) && absl::StrContains(event.message(), message));
      return status && change;
    });
    EXPECT_TRUE(status) << State::State_Name(state);
    EXPECT_TRUE(change) << message;
  }

  const std::string name_;
  std::unique_ptr<Lab> lab_;
  std::unique_ptr<Agent> agent_;
  std::unique_ptr<Wire> client_, server_;
  static inline int marks_ = 0;
};

}  // namespace headgate::testing
