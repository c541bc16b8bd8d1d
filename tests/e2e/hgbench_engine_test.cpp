// SPDX-License-Identifier: Apache-2.0
//
// What hgbench sends by either engine: captured frames, byte by byte and at their times, and by AF_XDP frames of
// its own, all accounted for.
#include <gtest/gtest.h>

#include "bench/receiver.h"
#include "bench/sender.h"
#include "tests/e2e/hgbench_lab.h"
#include "tests/e2e/hgbench_tap.h"
#include "tests/harness/program.h"

namespace headgate::bench {
namespace {

constexpr std::chrono::milliseconds kTimeout(20000);
constexpr uint64_t kMillisecond = 1'000'000;

class HgbenchEngineTest : public ::testing::TestWithParam<EngineKind> {
 protected:
  void SetUp() override {
    HG_REQUIRE_BPF();
    lab_ = MakeHgbenchLab();
  }

  static SendOptions ToSink(uint64_t count) {
    SendOptions options{.device = "hgbt-out", .netns = "hgbt-gw", .count = count};
    options.engine = GetParam();
    return options;
  }
  static FrameSpec Spec() {
    return {.destination_mac = {2, 0, 0, 0, 0, 1},
            .source_mac = {2, 0, 0, 0, 0, 2},
            .source = *ParseAddress("192.0.2.1"),
            .destination = *ParseAddress("198.51.100.1"),
            .flows = 1000};
  }
  // Of the local experimental EtherType, which nobody else sends; each byte tells frames apart.
  static CapturedFrame Captured(uint64_t time, size_t size, uint8_t fill) {
    CapturedFrame frame{.time = time, .bytes = std::vector<uint8_t>(size, fill)};
    const uint8_t header[] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5};
    std::copy(std::begin(header), std::end(header), frame.bytes.begin());
    return frame;
  }
  static std::unique_ptr<Receiver> OpenReceiver(bool pass) {
    return Value(Receiver::Open({.device = "hgbt-sink", .netns = "hgbt-sink", .pass = pass}));
  }

  std::unique_ptr<Lab> lab_;
};

TEST_P(HgbenchEngineTest, CapturedFramesArriveAsTheyWere) {
  constexpr uint64_t kPasses = 40;
  Tap tap("hgbt-sink", "hgbt-sink");
  const auto receiver = OpenReceiver(/*pass=*/true);
  SendOptions options = ToSink(0);
  for (const size_t size : {60, 1514, 14, 61, 1000, 1514, 333}) {
    options.captured.push_back(Captured(0, size, static_cast<uint8_t>(options.captured.size() + 1)));
  }
  options.count = kPasses * options.captured.size();
  const auto sender = Value(Sender::Open(options));
  const absl::Status status = sender->Run();
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(sender->sent(), options.count);
  for (uint64_t i = 0; i < options.count; ++i) {
    ASSERT_EQ(tap.Receive(), options.captured[i % options.captured.size()].bytes) << i;
  }
}

TEST_P(HgbenchEngineTest, CapturedFramesKeepTheirTimes) {
  const auto receiver = OpenReceiver(/*pass=*/false);
  SendOptions options = ToSink(6);
  options.captured = {Captured(0, 60, 1), Captured(100 * kMillisecond, 60, 2),
                      Captured(600 * kMillisecond, 60, 3)};
  options.speed = 3;
  const auto sender = Value(Sender::Open(options));
  const absl::Status status = sender->Run();
  ASSERT_TRUE(status.ok()) << status;
  const SendReport report = sender->Report();
  EXPECT_EQ(report.sent, 6u);
  // Twice 200 ms, and half of that between.
  EXPECT_GE(report.seconds, 0.5);
  ASSERT_TRUE(receiver->AwaitFrames(6, kTimeout).ok());
  EXPECT_EQ(Value(receiver->Read()).foreign_packets, 6u);
}

TEST_P(HgbenchEngineTest, ReceivesExactlyWhatWasSent) {
  constexpr uint64_t kCount = 50001;
  const auto receiver = OpenReceiver(/*pass=*/false);
  SendOptions options = ToSink(kCount);
  options.frame = Spec();
  options.frame.size = 1514;
  options.frame.sizes = {100, 1514, 61};
  options.packets_per_second = 50000;
  const auto sender = Value(Sender::Open(options));
  const absl::Status status = sender->Run();
  ASSERT_TRUE(status.ok()) << status;
  const SendReport sent = sender->Report();
  EXPECT_EQ(sent.sent, kCount);
  EXPECT_EQ(sent.engine, GetParam());
  // A veth has no zero copy.
  EXPECT_EQ(sent.zero_copy, GetParam() == EngineKind::kXdp ? std::optional<bool>(false) : std::nullopt);
  ASSERT_TRUE(receiver->AwaitFrames(kCount, kTimeout).ok());
  const ReceiveReport report = Value(receiver->Read());
  EXPECT_EQ(report.packets, kCount);
  EXPECT_EQ(report.bytes, kCount / 3 * (100 + 1514 + 61));
  EXPECT_EQ(report.foreign_packets, 0u);
  EXPECT_EQ(report.Duplicates(), 0u);
  EXPECT_EQ(report.clockless, 0u);
  // By AF_XDP, what was refused leaves gaps.
  EXPECT_EQ(report.Lost(), GetParam() == EngineKind::kXdp ? sent.refused : 0u);
}

// A ring that is full most of the time.
TEST_P(HgbenchEngineTest, AccountIsExactWhenTheDeviceRefusesFrames) {
  constexpr uint64_t kCount = 100000;
  const auto receiver = OpenReceiver(/*pass=*/false);
  Impairment gateway;
  ASSERT_TRUE(gateway.Attach(gateway.slow()).ok());
  ASSERT_TRUE(RunNapiInThreads("hgbt-gw", "hgbt-in", {}).ok());
  SendOptions options = ToSink(kCount);
  options.device = options.netns = "hgbt-gen";
  options.frame = Spec();
  const auto sender = Value(Sender::Open(options));
  const absl::Status status = sender->Run();
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_GT(sender->refused(), 0u) << "nothing was refused: the test tests nothing";
  EXPECT_EQ(sender->sent(), kCount);
  ASSERT_TRUE(receiver->AwaitFrames(kCount, kTimeout).ok());
  ASSERT_TRUE(receiver->AwaitIdle(std::chrono::milliseconds(100), kTimeout).ok());
  EXPECT_EQ(Value(receiver->Read()).Unique(), kCount);
}

INSTANTIATE_TEST_SUITE_P(Engines, HgbenchEngineTest, ::testing::Values(EngineKind::kProg, EngineKind::kXdp),
                         [](const auto& kind) { return kind.param == EngineKind::kProg ? "Prog" : "Xdp"; });

TEST(HgbenchXdpTest, SaysWhichQueueIsNotThere) {
  HG_REQUIRE_BPF();
  const auto lab = MakeHgbenchLab();
  SendOptions options{.device = "hgbt-out", .netns = "hgbt-gw"};
  options.captured = {{.time = 0, .bytes = std::vector<uint8_t>(60)}};
  options.engine = EngineKind::kXdp;
  options.queue = 99;
  const auto sender = Sender::Open(options);
  ASSERT_FALSE(sender.ok());
  EXPECT_NE(sender.status().message().find("queue 99 of hgbt-out"), std::string::npos) << sender.status();
}

}  // namespace
}  // namespace headgate::bench
