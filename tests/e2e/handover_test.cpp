// SPDX-License-Identifier: Apache-2.0
//
// A device goes from one interface of the configuration to another, and an attachment from one mode to another,
// while it forwards: nothing is without the program meanwhile.
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <net/if.h>

#include "tests/harness/traffic.h"
#include "tests/harness/wire.h"

namespace headgate::testing {
namespace {

using State = pb::ObjectStatus;

// client c0 -- g0 gw g1 -- s1 server, and g2 of gw with a peer of its own. Rules that name no ingress interface
// send all on to "out", which is g1.
class HandoverTest : public ::testing::Test {
 protected:
  void SetUp() override {
    HG_REQUIRE_LAB();
    lab_ = std::make_unique<Lab>("handover", std::vector<std::string>{"client", "gw", "server"});
    lab_->Link("client", "c0", "gw", "g0");
    lab_->Link("gw", "g1", "server", "s1");
    lab_->Link("gw", "g2", "server", "s2");
    agent_ = std::make_unique<Agent>(*lab_, "gw");
  }
  Client& api() { return agent_->client(); }

  // Interfaces besides "out": "name: x, device: y".
  void Put(std::initializer_list<std::string> interfaces) {
    std::string document = "interfaces: [{name: out, device: g1}";
    for (const std::string& interface : interfaces) absl::StrAppend(&document, ", {", interface, "}");
    absl::StrAppend(&document, "]\nrules: [{name: wire, priority: 10, match: {protocol: udp}, ",
                    "action: {redirect: {interface: out}}}]\n");
    api().ApplyYaml(document);
  }
  void Await(const std::string& name, const std::string& device) {
    pb::Object object;
    EXPECT_TRUE(WaitFor([&] {
      object = api().GetObject(pb::KIND_INTERFACE, name);
      return object.status().state() == State::STATE_APPLIED &&
             object.interface_state().ifindex() == Ifindex(device);
    })) << object.ShortDebugString();
  }
  uint32_t Ifindex(const std::string& device) const {
    const InNetns inside(lab_->Name("gw"));
    return if_nametoindex(device.c_str());
  }
  // Frames from client to server as fast as they go, while that is done: each of them arrives.
  void WhileForwarding(const std::function<void()>& action) {
    const auto receiver = OpenReceiver(*lab_, "server", "s1");
    const auto sender = OpenSender(*lab_, FlowFrames(100));
    const uint64_t before = api().Rule("wire").packets();
    sender->Start();
    action();
    Ok(sender->Stop());
    Ok(receiver->AwaitFrames(sender->sent(), std::chrono::seconds(20)));
    const bench::ReceiveReport report = Value(receiver->Read());
    EXPECT_EQ(report.packets, sender->sent());
    EXPECT_EQ(report.Lost() + report.Duplicates(), 0u);
    EXPECT_EQ(api().Rule("wire").packets() - before, sender->sent());
  }

  std::unique_ptr<Lab> lab_;
  std::unique_ptr<Agent> agent_;
};

TEST_F(HandoverTest, TwoInterfacesExchangeTheirDevices) {
  Put({"name: a, device: g0", "name: b, device: g2"});
  Await("a", "g0");
  WhileForwarding([&] {
    for (int i = 0; i < 10; ++i) {
      const bool exchanged = i % 2 == 0;
      Put({absl::StrCat("name: a, device: ", exchanged ? "g2" : "g0"),
           absl::StrCat("name: b, device: ", exchanged ? "g0" : "g2")});
      Await("a", exchanged ? "g2" : "g0");
      Await("b", exchanged ? "g0" : "g2");
      if (i == 4) agent_->Restart();
    }
  });
  const auto exchanged = api().Reasons("b")["forward_redirect"];
  EXPECT_GT(exchanged, 0U) << "counted where they came in";
  EXPECT_GT(api().Reasons("a")["forward_redirect"], 0U);
}

TEST_F(HandoverTest, AnInterfaceIsNamedAnew) {
  Put({"name: a, device: g0"});
  Await("a", "g0");
  WhileForwarding([&] {
    for (int i = 0; i < 10; ++i) {
      const std::string name = absl::StrCat("name-", i);
      Put({absl::StrCat("name: ", name, ", device: g0")});
      Await(name, "g0");
      if (i == 4) agent_->Restart();
    }
  });
  EXPECT_EQ(api().Status().drift_repaired(), 0U);
}

// Two names of one device: it stays with who has it.
TEST_F(HandoverTest, ADeviceIsOneInterfaces) {
  lab_->Ip("gw", "link property add dev g0 altname uplink0");
  Put({"name: b, device: g0"});
  Await("b", "g0");
  WhileForwarding([&] {
    Put({"name: a, device: uplink0", "name: b, device: g0"});
    pb::Object second;
    EXPECT_TRUE(WaitFor([&] {
      second = api().GetObject(pb::KIND_INTERFACE, "a");
      return second.status().state() == State::STATE_ERROR;
    }));
    EXPECT_TRUE(absl::StrContains(second.status().reason(), "is that of interface b"))
        << second.ShortDebugString();
    Await("b", "g0");
    // Until it gives it away.
    Put({"name: a, device: uplink0"});
    Await("a", "g0");
  });
}

// An interface that could not be attached leaves nothing behind when it is deleted.
TEST_F(HandoverTest, WhatCouldNotBeAttachedLeavesNothing) {
  const Tally foreign(*lab_, "gw", "g2");
  const auto entries = [&] {
    bool any = false;
    for (const char* map : {"hg_ports", "hg_ifindexes"}) {
      const std::string dump =
          Shell(absl::StrCat("bpftool map dump pinned ", agent_->pins(), "/maps/", map, " -j"));
      any = any || absl::StrContains(dump, absl::StrCat("\"ifindex\":", Ifindex("g2"), ","));
    }
    return any;
  };
  for (const bool restarted : {false, true}) {
    Put({"name: a, device: g0", "name: b, device: g2"});
    Await("a", "g0");
    EXPECT_TRUE(
        WaitFor([&] { return api().GetObject(pb::KIND_INTERFACE, "b").status().state() == State::STATE_ERROR; }));
    EXPECT_TRUE(entries());
    if (restarted) agent_->Restart();
    Put({"name: a, device: g0"});
    EXPECT_TRUE(WaitFor([&] { return !entries(); })) << (restarted ? "after a restart" : "");
  }
}

}  // namespace
}  // namespace headgate::testing
