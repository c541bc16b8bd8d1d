// SPDX-License-Identifier: Apache-2.0
//
// hgbench's sender and receiver over real veth pairs: every frame is accounted for, on paths without fault and on
// one whose faults are known.
#include <bpf/bpf.h>
#include <gtest/gtest.h>
#include <linux/if_link.h>

#include <cstring>
#include <set>
#include <thread>

#include "agent/base/status.h"
#include "bench/bare_redirect.h"
#include "bench/lab.h"
#include "bench/netns.h"
#include "bench/receiver.h"
#include "bench/sender.h"
#include "tests/e2e/hgbench_lab.h"
#include "tests/e2e/hgbench_tap.h"
#include "tests/harness/packet.h"
#include "tests/harness/program.h"

namespace headgate::bench {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::InternetChecksum;

constexpr milliseconds kTimeout(20000);
constexpr uint16_t kStream = 4711;

void Ok(const absl::Status& status) { ASSERT_TRUE(status.ok()) << status; }

// gen -- in|gateway|out -- sink
class HgbenchTest : public ::testing::Test {
 protected:
  void SetUp() override {
    HG_REQUIRE_BPF();
    lab_ = MakeHgbenchLab();
  }

  static FrameSpec Spec(uint32_t size, Transport transport = Transport::kUdp, Family family = Family::kIpv4) {
    const bool is_ipv4 = family == Family::kIpv4;
    return {.destination_mac = {2, 0, 0, 0, 0, 1},
            .source_mac = {2, 0, 0, 0, 0, 2},
            .source = *ParseAddress(is_ipv4 ? "192.0.2.1" : "2001:db8::1"),
            .destination = *ParseAddress(is_ipv4 ? "198.51.100.1" : "2001:db8:1::1"),
            .transport = transport,
            .size = size,
            .flows = 1000,
            .stream = kStream};
  }

  // From the gateway's egress to the sink, and through the whole of it.
  static SendOptions ToSink(const FrameSpec& frame, uint64_t count) {
    return {.device = "hgbt-out", .netns = "hgbt-gw", .frame = frame, .count = count};
  }
  static SendOptions ThroughGateway(const FrameSpec& frame, uint64_t count) {
    return {.device = "hgbt-gen", .netns = "hgbt-gen", .frame = frame, .count = count};
  }
  static std::unique_ptr<Receiver> OpenReceiver(bool pass = false) {
    return Value(Receiver::Open({.device = "hgbt-sink", .netns = "hgbt-sink", .pass = pass}));
  }

  static void ExpectAll(const ReceiveReport& report, uint64_t count, uint32_t size) {
    EXPECT_EQ(report.packets, count);
    EXPECT_EQ(report.bytes, count * size);
    EXPECT_EQ(report.foreign_packets, 0u);
    EXPECT_EQ(report.clockless, 0u);
    EXPECT_EQ(report.latency.Count(), count);
    ASSERT_EQ(report.streams.size(), 1u);
    const StreamReport& stream = report.streams[0];
    EXPECT_EQ(stream.id, kStream);
    EXPECT_EQ(stream.next, count);
    EXPECT_EQ(stream.lost, 0u);
    EXPECT_EQ(stream.duplicates, 0u);
    EXPECT_EQ(stream.reordered, 0u);
    EXPECT_EQ(stream.beyond_window, 0u);
  }

  std::unique_ptr<Lab> lab_;
};

TEST_F(HgbenchTest, ReceivesExactlyWhatWasSent) {
  struct Case {
    uint32_t size;
    Transport transport;
    Family family;
  };
  for (const Case& c : {Case{60, Transport::kUdp, Family::kIpv4}, Case{64, Transport::kUdp, Family::kIpv4},
                        Case{1400, Transport::kUdp, Family::kIpv4}, Case{72, Transport::kTcp, Family::kIpv4},
                        Case{80, Transport::kUdp, Family::kIpv6}, Case{1514, Transport::kTcp, Family::kIpv6}}) {
    SCOPED_TRACE(c.size);
    constexpr uint64_t kCount = 200003;  // a multiple of no batch
    const auto receiver = OpenReceiver();
    const auto sender = Value(Sender::Open(ToSink(Spec(c.size, c.transport, c.family), kCount)));
    Ok(sender->Run());
    EXPECT_EQ(sender->sent(), kCount);
    Ok(receiver->AwaitFrames(kCount, kTimeout));
    ExpectAll(Value(receiver->Read()), kCount, c.size);
  }
}

TEST_F(HgbenchTest, LargestFrameThatFitsAPage) {
  Ok(lab_->SetMtu({"hgbt-gw", "hgbt-out"}, kMaxFrameBytes));
  Ok(lab_->SetMtu({"hgbt-sink", "hgbt-sink"}, kMaxFrameBytes));
  const auto receiver = OpenReceiver();
  const auto sender = Value(Sender::Open(ToSink(Spec(kMaxFrameBytes), 1000)));
  Ok(sender->Run());
  Ok(receiver->AwaitFrames(1000, kTimeout));
  ExpectAll(Value(receiver->Read()), 1000, kMaxFrameBytes);
}

TEST_F(HgbenchTest, TwoStreamsAreToldApart) {
  const auto receiver = OpenReceiver();
  FrameSpec first = Spec(64), second = Spec(128);
  second.stream = kStream + 1;
  const auto one = Value(Sender::Open(ToSink(first, 30000)));
  const auto two = Value(Sender::Open(ToSink(second, 50000)));
  one->Start();
  two->Start();
  Ok(one->Wait());
  Ok(two->Wait());
  Ok(receiver->AwaitFrames(80000, kTimeout));
  const ReceiveReport report = Value(receiver->Read());
  ASSERT_EQ(report.streams.size(), 2u);
  EXPECT_EQ(report.streams[0].packets, 30000u);
  EXPECT_EQ(report.streams[0].bytes, 30000u * 64);
  EXPECT_EQ(report.streams[1].packets, 50000u);
  EXPECT_EQ(report.streams[1].bytes, 50000u * 128);
  EXPECT_EQ(report.Lost() + report.Duplicates() + report.Reordered(), 0u);
}

// A ring that is full most of the time refuses frames; those that the device took are complete all the same.
TEST_F(HgbenchTest, AccountIsExactWhenTheDeviceRefusesFrames) {
  constexpr uint64_t kCount = 100000;
  const auto receiver = OpenReceiver();
  Impairment gateway;
  Ok(gateway.Attach(gateway.slow()));
  Ok(RunNapiInThreads("hgbt-gw", "hgbt-in", {}));
  const auto sender = Value(Sender::Open(ThroughGateway(Spec(64), kCount)));
  Ok(sender->Run());
  EXPECT_GT(sender->refused(), 0u) << "nothing was refused: the test tests nothing";
  EXPECT_EQ(sender->sent(), kCount);
  Ok(receiver->AwaitFrames(kCount, kTimeout));
  Ok(receiver->AwaitIdle(milliseconds(50), kTimeout));
  ExpectAll(Value(receiver->Read()), kCount, 64);
}

TEST_F(HgbenchTest, CountsTheFaultsOfAPath) {
  constexpr uint64_t kCount = 100000;
  const auto receiver = OpenReceiver();
  Impairment gateway;
  Ok(gateway.Attach(gateway.faulty()));
  SendOptions options = ThroughGateway(Spec(64), kCount);
  options.packets_per_second = 200000;  // within what the gateway's egress takes: all faults are the program's
  const auto sender = Value(Sender::Open(options));
  Ok(sender->Run());
  EXPECT_EQ(sender->sent(), kCount);
  Ok(receiver->AwaitFrames(kCount, kTimeout));  // one of ten more, one of ten less
  Ok(receiver->AwaitIdle(milliseconds(50), kTimeout));
  const ReceiveReport report = Value(receiver->Read());
  EXPECT_EQ(report.packets, kCount);
  ASSERT_EQ(report.streams.size(), 1u);
  const StreamReport& stream = report.streams[0];
  // The last number ends in 9: nothing after it shows that it is missing.
  EXPECT_EQ(stream.next, kCount - 1);
  EXPECT_EQ(stream.lost, kCount / 10 - 1);
  EXPECT_EQ(stream.duplicates, kCount / 10);
  EXPECT_EQ(stream.reordered, kCount / 10);
  EXPECT_EQ(report.Unique(), kCount - kCount / 10);
}

TEST_F(HgbenchTest, BareRedirectLosesNothing) {
  constexpr uint64_t kCount = 500001;
  const auto receiver = OpenReceiver();
  const auto gateway = Value(BareRedirect::Open("hgbt-gw", "hgbt-in", "hgbt-out"));
  SendOptions options = ThroughGateway(Spec(64), kCount);
  options.scheduling.cpu = 0;  // the whole path runs between the sender's batches
  const auto sender = Value(Sender::Open(options));
  Ok(sender->Run());
  Ok(receiver->AwaitFrames(kCount, kTimeout));
  ExpectAll(Value(receiver->Read()), kCount, 64);
}

TEST_F(HgbenchTest, PacedSenderMakesTheFramesOfTheTime) {
  const auto receiver = OpenReceiver();
  SendOptions options = ToSink(Spec(64), 0);
  options.packets_per_second = 50000;
  options.duration = seconds(1);
  const auto sender = Value(Sender::Open(options));
  Ok(sender->Run());
  const SendReport report = sender->Report();
  EXPECT_GE(report.seconds, 1.0);
  // What a machine that was away for longer than a tenth of a second did not send is said, not made up for.
  EXPECT_EQ(report.sent + report.given_up, 50000u);
  // A run makes up for a tenth of a second at most, and the last one may be shorter than a burst.
  EXPECT_GE(sender->lateness().Count() * 5000 + 50, report.sent);
  EXPECT_LE(sender->lateness().Count(), 1000u);
  EXPECT_LE(sender->lateness().Max(), 100'000'000u);
  Ok(receiver->AwaitFrames(report.sent, kTimeout));
  ExpectAll(Value(receiver->Read()), report.sent, 64);
}

TEST_F(HgbenchTest, StopEndsWithACompleteAccount) {
  const auto receiver = OpenReceiver();
  const auto sender = Value(Sender::Open(ToSink(Spec(64), 0)));
  sender->Start();
  Ok(receiver->AwaitFrames(100000, kTimeout));
  Ok(sender->Stop());
  Ok(receiver->AwaitFrames(sender->sent(), kTimeout));
  ExpectAll(Value(receiver->Read()), sender->sent(), 64);
}

TEST_F(HgbenchTest, SaysSoWhenTheDeviceTakesNothing) {
  // The peer has no program and no NAPI.
  const auto sender = Value(Sender::Open(ToSink(Spec(64), 1000)));
  const absl::Status status = sender->Run();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
  EXPECT_EQ(sender->sent(), 0u);
}

uint16_t Word(const testing::Bytes& frame, size_t offset) {
  return static_cast<uint16_t>(frame[offset] << 8 | frame[offset + 1]);
}

TEST_F(HgbenchTest, PassedFramesAreRightPackets) {
  struct Case {
    Transport transport;
    Family family;
    bool mixed;
  };
  std::vector<Case> cases;
  for (const bool mixed : {false, true}) {
    for (const Transport transport : {Transport::kUdp, Transport::kTcp}) {
      for (const Family family : {Family::kIpv4, Family::kIpv6}) cases.push_back({transport, family, mixed});
    }
  }
  for (const Case& c : cases) {
    const bool is_ipv4 = c.family == Family::kIpv4, is_udp = c.transport == Transport::kUdp;
    SCOPED_TRACE(::testing::Message() << (is_ipv4 ? "IPv4 " : "IPv6 ") << (is_udp ? "UDP" : "TCP")
                                      << (c.mixed ? " mixed" : ""));
    FrameSpec spec = Spec(300, c.transport, c.family);
    // An odd size too, and the largest neither first nor last.
    if (c.mixed) spec.sizes = {92, 300, 113};
    Tap tap("hgbt-sink", "hgbt-sink");
    const auto receiver = OpenReceiver(/*pass=*/true);
    const auto sender = Value(Sender::Open(ToSink(spec, 1000)));
    Ok(sender->Run());

    const size_t l4 = 14 + (is_ipv4 ? 20 : 40), addresses = is_ipv4 ? 26 : 22, address_bytes = is_ipv4 ? 8 : 32;
    std::set<std::pair<uint16_t, uint16_t>> flows;
    uint64_t bytes = 0;
    for (size_t i = 0; i < 1000; ++i) {
      const testing::Bytes frame = tap.Receive();
      ASSERT_EQ(frame.size(), c.mixed ? spec.sizes[i % spec.sizes.size()] : spec.size);
      bytes += frame.size();
      EXPECT_EQ(Word(frame, is_ipv4 ? 16 : 18), frame.size() - (is_ipv4 ? 14 : 54));
      if (is_udp) {
        EXPECT_EQ(Word(frame, l4 + 4), frame.size() - l4);
      }
      if (is_ipv4) {
        EXPECT_EQ(InternetChecksum(&frame[14], 20), 0);
      }
      const size_t check = l4 + (is_udp ? 6 : 16);
      if (is_udp && is_ipv4) {
        EXPECT_EQ(Word(frame, check), 0);
      } else {
        // Over the pseudo header too: addresses, length and protocol.
        testing::Bytes summed(frame.begin() + static_cast<ptrdiff_t>(addresses),
                              frame.begin() + static_cast<ptrdiff_t>(addresses + address_bytes));
        const size_t length = frame.size() - l4, protocol = is_udp ? 17 : 6;
        for (const size_t byte : {length >> 8, length & 0xff, size_t{0}, protocol}) {
          summed.push_back(static_cast<uint8_t>(byte));
        }
        summed.insert(summed.end(), frame.begin() + static_cast<ptrdiff_t>(l4), frame.end());
        EXPECT_EQ(InternetChecksum(summed.data(), summed.size()), 0);
      }
      flows.emplace(Word(frame, addresses + address_bytes / 2 - 2), Word(frame, l4));
      EXPECT_EQ(Word(frame, l4 + 2), 20000);
    }
    EXPECT_EQ(flows.size(), 1000u) << "a flow of its own each";
    Ok(receiver->AwaitFrames(1000, kTimeout));
    const ReceiveReport report = Value(receiver->Read());
    EXPECT_EQ(report.packets, 1000u);
    EXPECT_EQ(report.bytes, bytes);
    EXPECT_EQ(report.Lost() + report.Duplicates() + report.Reordered(), 0u);
  }
}

// Numbers of frames that were refused come later, and bring their size.
TEST_F(HgbenchTest, AMixIsCompleteWhenTheDeviceRefusesFrames) {
  constexpr uint64_t kCount = 120000;
  const auto receiver = OpenReceiver();
  Impairment gateway;
  Ok(gateway.Attach(gateway.slow()));
  Ok(RunNapiInThreads("hgbt-gw", "hgbt-in", {}));
  FrameSpec spec = Spec(1514);
  spec.sizes = SpreadSizes(*ParseSizes("imix"));
  const auto sender = Value(Sender::Open(ThroughGateway(spec, kCount)));
  Ok(sender->Run());
  EXPECT_GT(sender->refused(), 0u) << "nothing was refused: the test tests nothing";
  Ok(receiver->AwaitFrames(kCount, kTimeout));
  const ReceiveReport report = Value(receiver->Read());
  EXPECT_EQ(report.Unique(), kCount);
  EXPECT_EQ(report.bytes, kCount / 12 * (7 * 60 + 4 * 590 + 1514));
}

TEST_F(HgbenchTest, ForeignFramesAreCountedApart) {
  const auto receiver = OpenReceiver();
  Tap source("hgbt-gw", "hgbt-out");
  const testing::Bytes frame = testing::Ethernet{} / testing::Ipv4{} / testing::Udp{} / testing::Payload(40);
  for (int i = 0; i < 7; ++i) source.Send(frame);
  Ok(receiver->AwaitFrames(7, kTimeout));
  const ReceiveReport report = Value(receiver->Read());
  EXPECT_EQ(report.foreign_packets, 7u);
  EXPECT_EQ(report.foreign_bytes, 7 * frame.size());
  EXPECT_EQ(report.packets, 0u);
  EXPECT_TRUE(report.streams.empty());
}

}  // namespace
}  // namespace headgate::bench
