// SPDX-License-Identifier: Apache-2.0
//
// Steering to AF_XDP workers: what a rule steers is answered or counted by a handler in the agent, what no worker
// takes has the fallback's fate, and every packet is in one of the two.
#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <chrono>
#include <csignal>

#include "tests/e2e/steer_fixture.h"

namespace headgate::testing {
namespace {

class SteerTest : public SteerFixture {
 protected:
  SteerTest() : SteerFixture("steer") {}

  // Every packet that was steered since `steered` and `before` is accounted for by workers or the kernel.
  void ExpectAccount(uint64_t steered, const Work& before) {
    EXPECT_TRUE(
        WaitFor([&] { return Workers().arrived() - before.arrived() == Reason("forward_steer") - steered; }));
    const Work work = AwaitQuiet();
    SCOPED_TRACE(absl::StrCat("received ", work.received - before.received, ", dropped in the kernel ",
                              work.in_kernel - before.in_kernel));
    EXPECT_EQ(work.arrived() - before.arrived(), Reason("forward_steer") - steered);
    EXPECT_EQ(work.received, work.settled());
  }
};

TEST_F(SteerTest, EchoAnswersDatagrams) {
  Steer("{name: app, handler: {echo: {}}, fallback: drop}");
  NowAndAfterRestart([&] {
    const Bytes payload(100, 0x33);
    ASSERT_TRUE(WaitFor([&] { return Fate(Request(payload)) == "forward_steer"; }));

    const auto answer = client().Receive([](const Bytes& frame) { return IsIp(frame, IPPROTO_UDP); });
    ASSERT_TRUE(answer.has_value());
    const Bytes expected = Ethernet{.destination = "02:00:00:00:00:02", .source = "02:00:00:00:00:01"} /
                           Ipv4{.source = "198.51.100.7", .destination = "192.0.2.1"} /
                           Udp{.source_port = 9000, .destination_port = 4000} / Payload(payload);
    EXPECT_EQ(*answer, expected);
  });
}

TEST_F(SteerTest, EchoDropsWhatNobodyCouldAnswer) {
  Steer("{name: app, handler: {echo: {}}, fallback: drop}");
  NowAndAfterRestart([&] {
    ASSERT_TRUE(AwaitFate("forward_steer"));
    Bytes wrong = Request(Bytes(64, 0x44));
    wrong.back() ^= 1;
    Bytes group = Request(Bytes(64, 0x44));
    group[0] |= 1;
    for (const Bytes& frame : {wrong, group}) {
      const Work before = Workers();
      EXPECT_EQ(Fate(frame), "forward_steer");
      EXPECT_TRUE(WaitFor([&] { return Workers().dropped == before.dropped + 1; }));
      EXPECT_EQ(Workers().transmitted, before.transmitted);
    }
  });
}

TEST_F(SteerTest, EveryPacketIsAccountedForAtFullRate) {
  Steer("{name: app, handler: {count: {}}, fallback: drop}");
  NowAndAfterRestart([&] {
    ASSERT_TRUE(AwaitFate("forward_steer"));
    const uint64_t received = api().Interface("in").received_packets(), steered = Reason("forward_steer");
    const Work before = Workers();
    const auto sender = OpenSender(lab(), FlowFrames(100));
    sender->Start();
    EXPECT_TRUE(WaitFor([&] { return Workers().received > before.received + 500'000; }));
    Ok(sender->Stop());
    EXPECT_EQ(api().Interface("in").received_packets() - received, sender->sent());
    EXPECT_EQ(Reason("forward_steer") - steered, sender->sent());
    ExpectAccount(steered, before);
    EXPECT_EQ(Workers().dropped, before.dropped);
  });
}

// While the agent is away there is no socket, while it hangs its sockets are not read: both take the fallback.
TEST_F(SteerTest, TheFallbackTakesOver) {
  for (const char* fallback : {"drop", "pass"}) {
    SCOPED_TRACE(fallback);
    Steer(absl::StrCat("{name: app, handler: {echo: {}}, fallback: ", fallback, "}"));
    ASSERT_TRUE(AwaitFate("forward_steer"));
    // Stopped, it cannot be asked: what it counted is read when it goes on.
    const std::string reason = absl::StrCat(fallback, "_steer_fallback");
    const uint64_t before = Reason(reason);
    agent().Signal(SIGSTOP);
    const auto hung = std::chrono::steady_clock::now() + std::chrono::nanoseconds(2 * HG_BEAT_NS);
    uint64_t late = 0;
    while (std::chrono::steady_clock::now() < hung + std::chrono::milliseconds(100)) {
      client().Send(Request(Bytes(100, 0x55)));
      late += std::chrono::steady_clock::now() > hung ? 1 : 0;
    }
    agent().Signal(SIGCONT);
    EXPECT_TRUE(WaitFor([&] { return Reason(reason) - before >= late; })) << late;
    ASSERT_TRUE(AwaitFate("forward_steer"));

    const uint64_t killed = Reason(reason);
    agent().Kill();
    for (int i = 0; i < 100; ++i) client().Send(Request(Bytes(100, 0x55)));
    agent().Start();
    EXPECT_GE(Reason(reason), killed + 100);
    ASSERT_TRUE(AwaitFate("forward_steer"));
  }
}

TEST_F(SteerTest, WorkersComeAndGoUnderTraffic) {
  Steer("{name: app, handler: {count: {}}, fallback: drop}");
  ASSERT_TRUE(AwaitFate("forward_steer"));
  const uint64_t received = api().Interface("in").received_packets(), steered = Reason("forward_steer");
  const uint64_t fallback = Reason("drop_steer_fallback");
  const Work before = Workers();
  const auto sender = OpenSender(lab(), FlowFrames(100));
  sender->Start();
  for (const int workers : {3, 1, 2, 1}) {
    Steer(absl::StrCat("{name: app, handler: {count: {}}, workers: {count: ", workers, "}, fallback: drop}"));
    EXPECT_TRUE(WaitFor([&] { return Workers().alive == workers; }));
    const uint64_t so_far = Workers().received;
    EXPECT_TRUE(WaitFor([&] { return Workers().received > so_far + 10'000; }));
  }
  Ok(sender->Stop());
  EXPECT_EQ(api().Interface("in").received_packets() - received, sender->sent());
  EXPECT_EQ(Reason("forward_steer") - steered + Reason("drop_steer_fallback") - fallback, sender->sent());
  ExpectAccount(steered, before);
}

TEST_F(SteerTest, ADeviceGoesAndComesBack) {
  Steer("{name: app, handler: {echo: {}}, fallback: drop}");
  NowAndAfterRestart([&] {
    ASSERT_TRUE(AwaitFate("forward_steer"));
    // The far end of the other interface, so that the client's stays.
    lab().Ip("gw", "link del g1");
    EXPECT_TRUE(WaitFor([&] { return Workers().queues == 1; }));
    EXPECT_TRUE(AwaitFate("forward_steer"));
    lab().Link("gw", "g1", "server", "s0");
    EXPECT_TRUE(WaitFor([&] { return Workers().queues == 2; }));
    EXPECT_TRUE(AwaitFate("forward_steer"));
    const Work work = Workers();
    // All but what the fill rings of two sockets hold.
    EXPECT_TRUE(WaitFor([&] { return IsQuiet(Workers()); })) << work.free_frames << " of " << work.frames;
  });
}

}  // namespace
}  // namespace headgate::testing
