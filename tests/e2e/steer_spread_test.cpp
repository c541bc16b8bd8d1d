// SPDX-License-Identifier: Apache-2.0
//
// Packets of one receive queue spread over workers, by what the target says, and every packet in the account.
#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <algorithm>

#include "tests/harness/live_gateway.h"
#include "tests/harness/traffic.h"
#include "tests/harness/workers.h"

namespace headgate::testing {
namespace {

constexpr uint64_t kPackets = 200'000;

class SpreadTest : public LiveGatewayTest {
 protected:
  SpreadTest() : LiveGatewayTest("spread") {}

  void Configure(const std::string& target) {
    api().PatchYaml(
        "upsert:\n  steer_targets: [{name: app, fallback: drop, " + target +
        "}]\n  rules:\n"
        "    - {name: flood, priority: 101, match: {protocol: udp}, action: {steer: {target: app}}}\n");
  }
  void Steer(const std::string& target) {
    Configure(target);
    ASSERT_TRUE(WaitFor([&] { return FateOfPort(9) == "forward_steer"; }));
  }
  // Those that are no more have no frames.
  int WorkersThatAreThere() {
    const pb::StatsResponse stats = api().Stats();
    return static_cast<int>(std::count_if(stats.workers().begin(), stats.workers().end(),
                                          [](const pb::WorkerStats& worker) { return worker.frames() != 0; }));
  }
  // What each worker's handlers dealt with, of traffic of that many flows; the account is checked.
  std::vector<uint64_t> Shares(uint32_t flows) {
    const pb::StatsResponse before = api().Stats();
    const auto sender = OpenSender(lab(), FlowFrames(flows));
    sender->Start();
    EXPECT_TRUE(WaitFor([&] { return sender->sent() >= kPackets; }));
    Ok(sender->Stop());
    pb::StatsResponse after;
    const auto settled = [&] {
      after = api().Stats();
      return Arrived(after) - Arrived(before) == sender->sent() && Settled(after);
    };
    EXPECT_TRUE(WaitFor(settled)) << Arrived(after) - Arrived(before) << " of " << sender->sent() << "\n"
                                  << after.DebugString();
    std::vector<uint64_t> shares;
    for (int i = 0; i < after.workers_size(); ++i) {
      const uint64_t had = i < before.workers_size() ? before.workers(i).processed_packets() : 0;
      shares.push_back(after.workers(i).processed_packets() - had);
    }
    return shares;
  }
  // By workers, or dropped in the kernel for their ring was full.
  static uint64_t Arrived(const pb::StatsResponse& stats) { return SumWorkers(stats).arrived(); }
  static bool Settled(const pb::StatsResponse& stats) {
    const Work work = SumWorkers(stats);
    return work.received == work.settled();
  }
};

// The devices of the lab have one queue each: one worker reads it.
TEST_F(SpreadTest, FewQueuesAreSpreadInSoftware) {
  Steer("handler: {count: {}}, workers: {count: 2}");
  NowAndAfterRestart([&] {
    ASSERT_TRUE(WaitFor([&] { return FateOfPort(9) == "forward_steer"; }));
    const std::vector<uint64_t> shares = Shares(256);
    ASSERT_EQ(shares.size(), 2u);
    EXPECT_GT(shares[0], 0u);
    EXPECT_GT(shares[1], 0u);
    EXPECT_TRUE(api().Warns("interface in are spread over workers in software: it has 1 queue for 2"));
  });
}

TEST_F(SpreadTest, ByQueueTheOthersGetNothing) {
  Steer("handler: {count: {}}, workers: {count: 2}, spread: queue");
  std::vector<uint64_t> shares = Shares(256);
  std::sort(shares.begin(), shares.end());
  EXPECT_EQ(shares[0], 0u);
  EXPECT_GT(shares[1], 0u);
}

TEST_F(SpreadTest, OneFlowAndOneSourceStayTogether) {
  for (const char* spread : {"flow", "flow_symmetric", "source"}) {
    SCOPED_TRACE(spread);
    Steer(absl::StrCat("handler: {count: {}}, workers: {count: 3}, spread: ", spread));
    // 256 flows of one source.
    std::vector<uint64_t> shares = Shares(absl::string_view(spread) == "source" ? 256 : 1);
    EXPECT_EQ(std::count_if(shares.begin(), shares.end(), [](uint64_t share) { return share != 0; }), 1);
  }
}

TEST_F(SpreadTest, RoundRobinSplitsOneFlow) {
  Steer("handler: {count: {}}, workers: {count: 2}, spread: round_robin");
  const std::vector<uint64_t> shares = Shares(1);
  ASSERT_EQ(shares.size(), 2u);
  for (const uint64_t share : shares) EXPECT_GT(share, 0u);
}

// Replies leave by the worker that has the socket.
TEST_F(SpreadTest, EchoAnswersThroughTheOtherWorker) {
  Steer("handler: {echo: {}}, workers: {count: 2}, spread: flow");
  NowAndAfterRestart([&] {
    ASSERT_TRUE(WaitFor([&] { return FateOfPort(9) == "forward_steer"; }));
    for (uint16_t source = 4000; source < 4020; ++source) {
      SCOPED_TRACE(source);
      const uint16_t port = source;
      client().Send(Ethernet{} / Ipv4{.source = "192.0.2.1", .destination = "198.51.100.7"} /
                    Udp{.source_port = port, .destination_port = 9000} / Payload(Bytes(100, 0x33)));
      const Bytes expected = Ethernet{.destination = "02:00:00:00:00:02", .source = "02:00:00:00:00:01"} /
                             Ipv4{.source = "198.51.100.7", .destination = "192.0.2.1"} /
                             Udp{.source_port = 9000, .destination_port = port} / Payload(Bytes(100, 0x33));
      EXPECT_TRUE(client().Receive([&](const Bytes& frame) { return frame == expected; }).has_value());
    }
    const pb::StatsResponse stats = api().Stats();
    ASSERT_EQ(stats.workers_size(), 2);
    for (const pb::WorkerStats& worker : stats.workers()) EXPECT_GT(worker.processed_packets(), 0u);
  });
}

// Whether the worker that receives a flow deals with it or lends it, its packets stay in order.
TEST_F(SpreadTest, AFlowIsNotReordered) {
  Steer("handler: {echo: {}}, workers: {count: 2}, spread: flow");
  const pb::StatsResponse before = api().Stats();
  for (uint16_t flow = 0; flow < 8; ++flow) {
    SCOPED_TRACE(flow);
    bench::SendOptions options{.device = "c0", .netns = lab().Name("client"), .frame = FlowFrames(1)};
    options.frame.source_port = static_cast<uint16_t>(options.frame.source_port + flow);
    options.packets_per_second = 100'000;
    options.count = 10'000;
    const auto receiver = OpenReceiver(lab(), "client", "c0");
    Ok(Value(bench::Sender::Open(options))->Run());
    Ok(receiver->AwaitIdle(std::chrono::milliseconds(50), std::chrono::seconds(10)));
    const bench::ReceiveReport report = Value(receiver->Read());
    EXPECT_GT(report.packets, 0u);
    EXPECT_EQ(report.Reordered(), 0u);
  }
  // Both ways were taken.
  const pb::StatsResponse after = api().Stats();
  ASSERT_EQ(after.workers_size(), 2);
  for (int i = 0; i < 2; ++i) {
    EXPECT_GT(after.workers(i).processed_packets(), before.workers(i).processed_packets());
  }
}

// While workers come and go nothing is lost but what the kernel counts.
TEST_F(SpreadTest, WorkersComeAndGo) {
  Steer("handler: {count: {}}, workers: {count: 1}, spread: flow");
  // Every packet that came in: the sender's, and those that ask for their fate.
  const auto steered = [this] {
    return api().Interface("in").received_packets() - api().Reasons("in")["drop_steer_fallback"];
  };
  const uint64_t arrived = Arrived(api().Stats()), before = steered();
  const auto sender = OpenSender(lab(), FlowFrames(256));
  sender->Start();
  for (const int workers : {3, 1, 2, 4, 1}) {
    Configure(absl::StrCat("handler: {count: {}}, workers: {count: ", workers, "}, spread: flow"));
    EXPECT_TRUE(WaitFor([&] { return WorkersThatAreThere() == workers; }));
    const uint64_t so_far = Arrived(api().Stats());
    EXPECT_TRUE(WaitFor([&] { return Arrived(api().Stats()) > so_far + 10'000; }));
  }
  Ok(sender->Stop());
  pb::StatsResponse stats;
  EXPECT_TRUE(WaitFor([&] {
    stats = api().Stats();
    return Settled(stats) && Arrived(stats) - arrived == steered() - before;
  })) << Arrived(stats) - arrived
      << " of " << steered() - before << "\n"
      << stats.DebugString();
}

}  // namespace
}  // namespace headgate::testing
