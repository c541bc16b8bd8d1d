// SPDX-License-Identifier: Apache-2.0
//
// Workers under more load than they can take, and under load while things are taken from under them: the account
// stays exact, delivery goes on or comes back, and nothing is left behind that keeps a queue from being opened.
#include <gtest/gtest.h>
#include <net/if.h>

#include <algorithm>
#include <chrono>

#include "agent/slowpath/xsk_socket.h"
#include "tests/e2e/steer_fixture.h"

namespace headgate::testing {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

class SteerLoadTest : public SteerFixture {
 protected:
  SteerLoadTest() : SteerFixture("steerload") {}

  void SteerTo(const std::string& handler, int workers = 1) {
    Steer(absl::StrCat("{name: app, handler: {", handler, ": {}}, workers: {count: ", workers,
                       "}, fallback: drop}"));
    ASSERT_TRUE(AwaitFate("forward_steer"));
    AwaitQuiet();
  }
  // What a device's driver dropped of what it was to send.
  uint64_t TransmitDrops(const std::string& ns, const std::string& device) {
    const std::string json = lab().Ip(ns, "-s -j link show dev " + device);
    const size_t at = json.find("\"dropped\":", json.find("\"tx\":"));
    return std::stoull(json.substr(at + 10));
  }
  // A veth pair from the gateway to the server with so many queues.
  void LinkQueues(const std::string& ours, const std::string& theirs, int queues) {
    const std::string numbers = absl::StrCat(" numtxqueues ", queues, " numrxqueues ", queues);
    lab().Ip("gw", absl::StrCat("link add ", ours, numbers, " type veth peer name ", theirs, " netns ",
                                lab().Name("server"), numbers));
    lab().In("server", absl::StrCat("ethtool -L ", theirs, " tx 1"));  // XDP wants no more than we receive by
    const std::pair<std::string, std::string> ends[] = {{"gw", ours}, {"server", theirs}};
    for (const auto& [ns, device] : ends) {
      lab().In(ns, absl::StrCat("sysctl -qw net.ipv6.conf.", device, ".disable_ipv6=1"));
      lab().Ip(ns, absl::StrCat("link set ", device, " up"));
    }
    for (const auto& [ns, device] : ends) {
      lab().In(ns, absl::StrCat("ethtool -K ", device, " gro on tx off tso off gso off"));
    }
  }
  bool ChangeQueues(const std::string& device, int queues) {
    return TryShell(absl::StrCat("nsenter --net=/run/netns/", lab().Name("gw"), " ethtool -L ", device, " rx ",
                                 queues)) == 0;
  }
  // Everything works: both devices are read, and what is sent is exact to the packet.
  void ExpectWorks(const std::string& ns = "client", const std::string& device = "c0",
                   const std::string& interface = "in", int queues = 2) {
    ASSERT_TRUE(WaitFor([&] { return Workers().queues == queues; }));
    AwaitQuiet();
    const Ledger ledger(*this, interface);
    const auto sender = Flood(ns, device);
    EXPECT_TRUE(AwaitReceived(50'000));
    Ok(sender->Stop());
    ledger.ExpectExact(sender->sent());
    EXPECT_EQ(ledger.fallback(), 0U);
  }
};

// One worker on a core that the sender's packets also need: far more comes than is echoed.
TEST_F(SteerLoadTest, DeliveryGoesOnUnderOverload) {
  const auto duration = std::chrono::seconds(IsNightly() ? 30 : 5);
  SteerTo("echo");
  const auto receiver = OpenReceiver(lab(), "client", "c0");
  const uint64_t drops = TransmitDrops("gw", "g0");
  const Ledger ledger(*this);
  const Work before = Workers();
  const auto sender = Flood("client", "c0");
  const auto begin = steady_clock::now();
  uint64_t delivered = 0, least = ~uint64_t{0}, windows = 0;
  for (auto end = begin; end < begin + duration; ++windows) {
    end += milliseconds(500);
    EXPECT_FALSE(WaitFor([&] { return !sender->running(); },
                         std::chrono::duration_cast<milliseconds>(end - steady_clock::now())));
    const uint64_t now = Value(receiver->Frames());
    EXPECT_GT(now, delivered) << "nothing was delivered in window " << windows;
    least = std::min(least, now - delivered);
    delivered = now;
  }
  Ok(sender->Stop());
  ledger.ExpectExact(sender->sent());
  const Work after = Workers();
  // Each answer arrived or is counted by the device that lost it.
  const auto arrived = [&] { return Value(receiver->Frames()) + TransmitDrops("gw", "g0") - drops; };
  EXPECT_TRUE(WaitFor([&] { return arrived() == after.transmitted - before.transmitted; }));
  EXPECT_EQ(arrived(), after.transmitted - before.transmitted);
  const double seconds = std::chrono::duration<double>(duration).count();
  printf("sent %.0f, delivered %.0f a second; the least in half a second: %llu\n",
         static_cast<double>(sender->sent()) / seconds, static_cast<double>(delivered) / seconds,
         static_cast<unsigned long long>(least));
  EXPECT_GT(after.in_kernel + after.dropped, before.in_kernel + before.dropped) << "this was no overload";
}

// Three quarters of the load are of low priority: they are dropped at the driver, the rest is steered whole.
TEST_F(SteerLoadTest, LowPriorityGivesWay) {
  api().PatchYaml(R"(
upsert:
  steer_targets:
    - {name: low, handler: {echo: {}}, fallback: drop, priority: 0}
    - {name: high, handler: {echo: {}}, fallback: drop}
  rules:
    - {name: to-high, priority: 201, match: {source: 192.0.2.4/32}, action: {steer: {target: high}}}
    - {name: to-low, priority: 200, match: {source: 192.0.2.0/24}, action: {steer: {target: low}}}
)");
  ASSERT_TRUE(AwaitFate("forward_steer"));
  NowAndAfterRestart([&] {
    ASSERT_TRUE(AwaitFate("forward_steer"));
    AwaitQuiet();
    const auto count = [this](const std::string& rule) { return api().Rule(rule).packets(); };
    const uint64_t high = count("to-high"), low = count("to-low"), steered = Reason("forward_steer"),
                   shed = Reason("drop_steer_overload");
    const Work before = Workers();
    const auto sender = OpenSender(lab(), FlowFrames(1024));
    sender->Start();
    EXPECT_TRUE(WaitFor([&] { return Reason("drop_steer_overload") - shed > 100'000; })) << "this was no overload";
    Ok(sender->Stop());
    const Work after = AwaitQuiet();
    EXPECT_EQ(count("to-high") - high + count("to-low") - low, sender->sent());
    EXPECT_EQ(Reason("forward_steer") - steered + Reason("drop_steer_overload") - shed, sender->sent());
    EXPECT_EQ(after.arrived() - before.arrived(), Reason("forward_steer") - steered);
    // Nothing but what is low was shed.
    EXPECT_LE(Reason("drop_steer_overload") - shed, count("to-low") - low);
    printf("%llu of %llu of low priority were shed\n",
           static_cast<unsigned long long>(Reason("drop_steer_overload") - shed),
           static_cast<unsigned long long>(count("to-low") - low));
  });
}

// Rings are full when queues change hands: what is in them is dealt with, what the kernel dropped stays counted.
TEST_F(SteerLoadTest, WorkersComeAndGoUnderOverload) {
  SteerTo("echo");
  const Ledger ledger(*this);
  const auto sender = Flood("client", "c0");
  for (const int workers : {3, 1, 2, 3, 1}) {
    Steer(absl::StrCat("{name: app, handler: {echo: {}}, workers: {count: ", workers, "}, fallback: drop}"));
    EXPECT_TRUE(WaitFor([&] { return Workers().alive == workers && Workers().queues == 2; }));
    EXPECT_TRUE(AwaitReceived(20'000));
  }
  Ok(sender->Stop());
  ledger.ExpectExact(sender->sent());
}

// Whoever holds a queue keeps it; when it is free again it is read, though nothing says so.
TEST_F(SteerLoadTest, AQueueThatOthersHoldIsReadWhenItIsFree) {
  const auto pool = Value(FramePool::Create(XskSocket::kFrames));
  std::unique_ptr<XskSocket> other;
  {
    const InNetns inside(lab().Name("gw"));
    other = Value(XskSocket::Open(*pool, if_nametoindex("g0"), 0));
  }
  Steer("{name: app, handler: {echo: {}}, fallback: drop}");
  EXPECT_TRUE(WaitFor([&] { return Workers().queues == 1; }));
  EXPECT_TRUE(AwaitFate("drop_steer_fallback"));
  EXPECT_EQ(Workers().queues, 1);
  other.reset();
  EXPECT_TRUE(WaitFor([&] { return Workers().queues == 2; }));
  EXPECT_TRUE(AwaitFate("forward_steer"));
  ExpectWorks();
}

TEST_F(SteerLoadTest, TheAgentIsKilledAndComesBack) {
  SteerTo("count");
  const Ledger ledger(*this);
  const auto sender = Flood("client", "c0");
  EXPECT_TRUE(AwaitReceived(50'000));
  for (int round = 0; round < 3; ++round) {
    agent().Kill();
    const uint64_t killed = sender->sent();
    EXPECT_TRUE(WaitFor([&] { return sender->sent() > killed + 100'000; }));
    agent().Start();
    // Of what was sent while it was away: its sockets were gone at once.
    EXPECT_GE(ledger.fallback(), 50'000U * static_cast<uint64_t>(round + 1));
    EXPECT_TRUE(WaitFor([&] { return Workers().queues == 2; }));
    EXPECT_TRUE(AwaitReceived(50'000));
  }
  Ok(sender->Stop());
  ledger.ExpectFates(sender->sent());
  AwaitQuiet();
  ExpectWorks();
}

TEST_F(SteerLoadTest, TheLinkGoesDownAndUp) {
  for (const char* handler : {"count", "echo"}) {
    SCOPED_TRACE(handler);
    SteerTo(handler);
    const Ledger ledger(*this);
    const auto sender = Flood("client", "c0");
    EXPECT_TRUE(AwaitReceived(20'000));
    for (const char* ours : {"gw", "gw", "client"}) {
      const std::string device = std::string(ours) == "gw" ? "g0" : "c0";
      lab().Ip(ours, "link set " + device + " down");
      lab().Ip(ours, "link set " + device + " up");
      EXPECT_TRUE(AwaitReceived(20'000)) << device;
    }
    Ok(sender->Stop());
    ledger.ExpectExact();
    ExpectWorks();
  }
}

TEST_F(SteerLoadTest, TheDeviceIsRemovedAndComesBack) {
  SteerTo("echo");
  for (int round = 0; round < 2; ++round) {
    SCOPED_TRACE(round);
    {
      const auto sender = Flood("server", "s0");
      EXPECT_TRUE(AwaitReceived(20'000));
      lab().Ip("gw", "link del g1");
      // Its device is gone; how it says so is its own affair.
      static_cast<void>(sender->Stop());
    }
    ASSERT_TRUE(WaitFor([&] { return Workers().queues == 1; }));
    AwaitQuiet();
    ExpectWorks("client", "c0", "in", 1);
    lab().Link("gw", "g1", "server", "s0");
    ExpectWorks("server", "s0", "out");
    ExpectWorks();
  }
}

// The kernel takes no queue away that a socket is bound to, so that fewer are to be had only while nothing is
// steered.
TEST_F(SteerLoadTest, QueuesComeAndGo) {
  LinkQueues("g2", "s2", 4);
  lab().In("gw", "ethtool -L g2 rx 1");
  api().PatchYaml("upsert:\n  interfaces: [{name: many, device: g2}]\n");
  SteerTo("count", 2);
  EXPECT_TRUE(WaitFor([&] { return Workers().queues == 2 + 1; }));
  const Ledger ledger(*this, "many");
  {
    // Packets come in by the queue of the CPU that they were sent on.
    const auto first = Flood("server", "s2", FlowFrames(100, 1), 0);
    const auto second = Flood("server", "s2", FlowFrames(100, 2), 1);
    int now = 1;
    for (const int queues : {2, 4, 1}) {
      SCOPED_TRACE(queues);
      const bool done = ChangeQueues("g2", queues);
      EXPECT_TRUE(done || queues < now);
      now = done ? queues : now;
      EXPECT_TRUE(WaitFor([&] { return Workers().queues == 2 + now; })) << Workers().queues;
      EXPECT_TRUE(AwaitReceived(20'000));
    }
    Ok(first->Stop());
    Ok(second->Stop());
  }
  ledger.ExpectExact();

  api().PatchYaml("delete_rules: [app, flood]\ndelete_steer_targets: [app]\n");
  EXPECT_TRUE(WaitFor([&] { return ChangeQueues("g2", 3); }));
  SteerTo("count", 2);
  ExpectWorks("server", "s2", "many", 2 + 3);
  lab().Ip("gw", "link del g2");
  EXPECT_TRUE(WaitFor([&] { return Workers().queues == 2; }));
  ExpectWorks();
}

}  // namespace
}  // namespace headgate::testing
