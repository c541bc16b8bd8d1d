// SPDX-License-Identifier: Apache-2.0
//
// A host behind a TUN or TAP device that a steer target delivers to: client c0 -- g0 gw, whose rule steers all
// that comes in; the device is moved to a namespace whose stack answers.
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>

#include <memory>

#include "tests/e2e/tap_host.h"
#include "tests/harness/agent.h"
#include "tests/harness/lab.h"
#include "tests/harness/workers.h"

namespace headgate::testing {
namespace {

constexpr char kTap[] = "{name: tap, handler: {tap: {device: hgtap0, interface: in}}, fallback: drop}";
constexpr char kTun[] = "{name: tap, handler: {tap: {device: hgtap0, kind: tun}}, fallback: drop}";

class TapTest : public ::testing::Test {
 protected:
  void SetUp() override {
    HG_REQUIRE_LAB();
    lab_ = std::make_unique<Lab>("tap", std::vector<std::string>{"client", "gw", "host"});
    lab().Link("client", "c0", "gw", "g0", 9000);
    lab().Ip("client", "addr add 192.0.2.1/24 dev c0");
    // A TUN's host answers no ARP.
    lab().Ip("client", "neigh add 192.0.2.7 lladdr 02:00:00:00:00:07 dev c0");
    // No router solicitations and the like.
    for (const char* ns : {"gw", "host"}) lab().In(ns, "sysctl -qw net.ipv6.conf.default.disable_ipv6=1");
    agent_ = std::make_unique<Agent>(
        lab(), "gw",
        AgentOptions{.arguments = {"--max-rules", "1024", "--max-prefixes", "65536", "--max-sources", "1024"}});
  }
  void TearDown() override {
    if (agent_ && agent_->pid() > 0) {
      EXPECT_EQ(agent_->Stop(), 0);
    }
  }

  void Apply(const std::string& targets) {
    api().ApplyYaml(
        absl::StrCat("interfaces: [{name: in, device: g0}]\n"
                     "rules: [{name: all, priority: 10, match: {interface: in}, action: {steer: {target: tap}}}]\n"
                     "steer_targets: [",
                     targets, "]\n"));
  }
  bool IsUp(const std::string& ns, const std::string& device = "hgtap0") {
    return absl::StrContains(lab().Ip(ns, "-br link show up"), device);
  }
  std::string IndexAtHost() { return lab().Ip("host", "-o link show hgtap0").substr(0, 8); }
  // Once the agent has made it.
  void MoveToHost(bool tun = false, int mtu = 1500) {
    ASSERT_TRUE(WaitFor([&] { return IsUp("gw"); }));
    lab().Ip("gw", "link set hgtap0 netns hgt-tap-host");
    if (!tun) lab().Ip("host", "link set hgtap0 address 02:00:00:00:00:07");
    lab().Ip("host", "addr add 192.0.2.7/24 dev hgtap0");
    lab().Ip("host", absl::StrCat("link set hgtap0 mtu ", mtu, " up"));
    std::string reason;
    ASSERT_TRUE(WaitFor([&] { return (reason = Send()) == "forward_steer"; })) << reason;
  }
  // What becomes of a datagram to nobody.
  std::string Send() {
    const std::map<std::string, uint64_t> before = api().Reasons("in");
    SendDatagram(Hosts());
    std::string reason;
    WaitFor(
        [&] {
          for (const auto& [name, packets] : api().Reasons("in")) {
            const auto found = before.find(name);
            if (packets > (found == before.end() ? 0 : found->second)) reason = name;
          }
          return !reason.empty();
        },
        std::chrono::seconds(1));
    return reason;
  }
  Conversation Hosts() { return {lab().Name("client"), lab().Name("host"), "192.0.2.7"}; }

  uint64_t DroppedByHandlers() {
    uint64_t dropped = 0;
    const pb::StatsResponse stats = api().Stats();
    for (const pb::WorkerStats& worker : stats.workers()) dropped += worker.dropped_handler_packets();
    return dropped;
  }
  bool AccountIsEven() {
    const uint64_t steered = api().Reasons("in")["forward_steer"];
    const Work work = SumWorkers(api().Stats());
    return work.received == work.settled() && work.arrived() == steered && work.received != 0;
  }
  Lab& lab() { return *lab_; }
  Agent& agent() { return *agent_; }
  Client& api() { return agent_->client(); }

 private:
  std::unique_ptr<Lab> lab_;
  std::unique_ptr<Agent> agent_;
};

TEST_F(TapTest, AHostBehindATapAnswers) {
  Apply(kTap);
  ASSERT_NO_FATAL_FAILURE(MoveToHost());
  // The host is to be asked for its address, and asks for ours: broadcasts there, and answers back.
  lab().Ip("client", "neigh del 192.0.2.7 dev c0");
  EXPECT_TRUE(Ping(Hosts()));
  EXPECT_TRUE(UdpEcho(Hosts(), 1000));
  EXPECT_TRUE(TcpEcho(Hosts(), 4 << 20));
  EXPECT_TRUE(WaitFor([&] { return AccountIsEven(); }));
}

TEST_F(TapTest, AHostBehindATunAnswers) {
  Apply(kTun);
  ASSERT_NO_FATAL_FAILURE(MoveToHost(/*tun=*/true));
  EXPECT_TRUE(Ping(Hosts()));
  EXPECT_TRUE(UdpEcho(Hosts(), 1000));
  EXPECT_TRUE(TcpEcho(Hosts(), 4 << 20));
  EXPECT_TRUE(WaitFor([&] { return AccountIsEven(); }));
}

TEST_F(TapTest, FramesOf9000BytesGoThereAndBack) {
  constexpr size_t kLargest = 9000 - 28;
  for (const bool tun : {false, true}) {
    SCOPED_TRACE(tun ? "tun" : "tap");
    Apply(tun ? kTun : kTap);
    // Made anew in the gateway where it was another kind before.
    ASSERT_NO_FATAL_FAILURE(MoveToHost(tun, 9000));
    for (int i = 0; i < 50; ++i) EXPECT_TRUE(UdpEcho(Hosts(), kLargest, /*whole=*/true));
    EXPECT_TRUE(TcpEcho(Hosts(), 4 << 20));
    // The device's MTU bounds only what its software sends: answers come in fragments.
    lab().Ip("host", "link set hgtap0 mtu 1500");
    EXPECT_TRUE(UdpEcho(Hosts(), kLargest));
    EXPECT_TRUE(WaitFor([&] { return AccountIsEven(); }));
  }
}

TEST_F(TapTest, TheFallbackTakesOverWhileTheAgentIsAway) {
  Apply(kTap);
  ASSERT_NO_FATAL_FAILURE(MoveToHost());
  EXPECT_TRUE(UdpEcho(Hosts(), 100));
  const uint64_t before = api().Reasons("in")["drop_steer_fallback"];
  agent().Kill();
  for (int i = 0; i < 10; ++i) SendDatagram(Hosts());
  agent().Start();
  EXPECT_GE(api().Reasons("in")["drop_steer_fallback"], before + 10);
  ASSERT_NO_FATAL_FAILURE(MoveToHost());
  EXPECT_TRUE(TcpEcho(Hosts(), 1 << 20));
}

TEST_F(TapTest, ADeviceThatIsDeletedComesBack) {
  for (const char* kind : {kTap, kTun}) {
    Apply(kind);
    ASSERT_NO_FATAL_FAILURE(MoveToHost(kind == kTun));
    lab().Ip("host", "link del hgtap0");
    ASSERT_NO_FATAL_FAILURE(MoveToHost(kind == kTun));
    EXPECT_TRUE(UdpEcho(Hosts(), 100));
    EXPECT_TRUE(WaitFor([&] { return AccountIsEven(); }));
  }
}

TEST_F(TapTest, ADeviceThatIsDownDrops) {
  Apply(kTap);
  ASSERT_NO_FATAL_FAILURE(MoveToHost());
  lab().Ip("host", "link set hgtap0 down");
  const uint64_t before = DroppedByHandlers();
  EXPECT_EQ(Send(), "forward_steer");
  EXPECT_TRUE(WaitFor([&] { return DroppedByHandlers() > before; }));
  lab().Ip("host", "link set hgtap0 up");
  EXPECT_TRUE(UdpEcho(Hosts(), 100));
  EXPECT_TRUE(WaitFor([&] { return AccountIsEven(); }));
}

TEST_F(TapTest, WithoutDeviceTheFallbackTakesOverAndStatusTells) {
  lab().Ip("gw", "tuntap add dev hgtap0 mode tun");
  Apply(kTap);
  EXPECT_TRUE(WaitFor([&] { return api().Warns("hgtap0 exists and is no TAP device"); }));
  EXPECT_EQ(Send(), "drop_steer_fallback");
  lab().Ip("gw", "link del hgtap0");
  ASSERT_NO_FATAL_FAILURE(MoveToHost());
  EXPECT_FALSE(api().Warns("hgtap0"));
  EXPECT_TRUE(UdpEcho(Hosts(), 100));
}

TEST_F(TapTest, DevicesThatWereThereStay) {
  lab().Ip("gw", "tuntap add dev hgtap0 mode tap multi_queue");
  lab().Ip("gw", "tuntap add dev hgtap1 mode tun");
  Apply(absl::StrCat(kTap, ", {name: one, handler: {tap: {device: hgtap1, kind: tun}}}, ",
                     "{name: two, handler: {tap: {device: hgtap2}}}"));
  for (const char* device : {"hgtap0", "hgtap1", "hgtap2"}) {
    EXPECT_TRUE(WaitFor([&] { return IsUp("gw", device); })) << device;
  }
  ASSERT_NO_FATAL_FAILURE(MoveToHost());
  EXPECT_TRUE(TcpEcho(Hosts(), 1 << 20));
  Apply("{name: tap, fallback: drop}");
  EXPECT_TRUE(WaitFor([&] { return !IsUp("gw", "hgtap2"); }));
  EXPECT_TRUE(IsUp("gw", "hgtap1"));
  EXPECT_TRUE(IsUp("host"));
}

// It would lose its addresses, and its software's connections.
TEST_F(TapTest, ADeviceStaysWhenItsWorkerChanges) {
  Apply(kTap);
  ASSERT_NO_FATAL_FAILURE(MoveToHost());
  const std::string index = IndexAtHost();
  for (const int workers : {3, 2, 1, 5, 1}) {
    Apply(absl::StrCat(kTap, ", {name: other, handler: {count: {}}, workers: {count: ", workers, "}}"));
    EXPECT_TRUE(WaitFor([&] {
      int alive = 0;
      const pb::StatsResponse stats = api().Stats();
      for (const pb::WorkerStats& worker : stats.workers()) alive += worker.frames() != 0 ? 1 : 0;
      return alive == workers;
    }));
    ASSERT_TRUE(WaitFor([&] { return Send() == "forward_steer"; }));
    EXPECT_EQ(IndexAtHost(), index);
    EXPECT_TRUE(TcpEcho(Hosts(), 1 << 20));
  }
  EXPECT_TRUE(WaitFor([&] { return AccountIsEven(); }));
}

}  // namespace
}  // namespace headgate::testing
