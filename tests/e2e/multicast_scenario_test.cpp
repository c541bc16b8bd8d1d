// SPDX-License-Identifier: Apache-2.0
//
// Multicast as it is deployed, at modest rates: trees, converging sources, many streams, whole payloads. Not one
// copy is lost, doubled or sent to who has not asked for it, and neither after a restart of the agent.
#include "tests/e2e/multicast_paths.h"
#include "tests/e2e/payload_frames.h"

namespace headgate::testing {
namespace {

class MulticastFanout : public MulticastTest {
 protected:
  static constexpr int kMost = 50;
  MulticastFanout() : MulticastTest("mcfanout", kMost) {}
};

TEST_F(MulticastFanout, OneToFifty) {
  constexpr uint64_t kPackets = 1000, kRate = 2000;
  receivers_.clear();
  std::vector<std::unique_ptr<bench::Receiver>> ends;
  for (int i = 1; i <= kMost; ++i)
    ends.push_back(testing::OpenReceiver(lab(), absl::StrCat("r", i), absl::StrCat("d", i)));
  std::vector<uint64_t> due(kMost);
  const auto send = [&](int legs) {
    SCOPED_TRACE(legs);
    bench::FrameSpec frame = FlowFrames(1);
    frame.destination = Value(ParseAddress("239.1.1.1"));
    frame.group_macs = true;
    frame.size = 1400;
    bench::SendOptions options{.device = "c0", .netns = lab().Name("client"), .frame = frame};
    options.packets_per_second = kRate;
    options.count = kPackets;
    const auto sender = Value(bench::Sender::Open(options));
    Ok(sender->Run());
    for (int i = 0; i < kMost; ++i) {
      uint64_t& all = due[static_cast<size_t>(i)];
      if (i < legs) all += sender->sent();
      bench::ReceiveReport report;
      EXPECT_TRUE(WaitFor([&] {
        report = Value(ends[static_cast<size_t>(i)]->Read());
        return report.packets >= all;
      }));
      EXPECT_EQ(report.packets, all) << "at receiver " << i + 1;
      EXPECT_EQ(report.foreign_packets, 0U) << "at receiver " << i + 1;
    }
  };
  for (const int legs : {1, 2, 3, 8, kMost}) {
    std::string routes = "  - {name: feed, input: {interfaces: [in], group: 239.1.1.1}, legs: [{interface: out1}";
    for (int i = 2; i <= legs; ++i) absl::StrAppend(&routes, ", {interface: out", i, ", source: egress}");
    Apply(routes + "]}\n");
    EXPECT_EQ(State("feed").path(), pb::MulticastRouteState::PATH_KERNEL);
    send(legs);
  }
  agent().Restart();
  send(kMost);
  const pb::MulticastRouteStats route = Route("feed");
  for (const pb::MulticastLegStats& leg : route.legs()) EXPECT_EQ(leg.offered_packets(), leg.sent_packets());
}

class MulticastScenario : public MulticastPathTest {
 protected:
  MulticastScenario() : MulticastPathTest("mcscene", 4) {}
};
INSTANTIATE_TEST_SUITE_P(Path, MulticastScenario, kBothPaths, PathName);

class MulticastOneDevice : public MulticastScenario {};
INSTANTIATE_TEST_SUITE_P(Path, MulticastOneDevice, ::testing::Values(Path::kWorkers), PathName);

// The same behind one device, where only workers tell legs apart.
TEST_P(MulticastOneDevice, OneToFifty) {
  constexpr uint64_t kPackets = 500, kRate = 500;
  StartTallies();
  std::map<uint32_t, uint64_t> due;
  const auto send = [&](int legs) {
    SCOPED_TRACE(legs);
    const auto sender = Stream(Streams(1), kRate, kPackets);
    Ok(sender->Wait());
    for (int i = 1; i <= legs; ++i) due[0xef020000 + static_cast<uint32_t>(i)] += sender->sent();
    const auto groups = [&] {
      return DeliveredBy<uint32_t>(1, [](const hgt_mark& mark) { return mark.destination; });
    };
    EXPECT_TRUE(WaitFor([&] { return groups() == due; })) << ::testing::PrintToString(groups());
  };
  for (const int legs : {2, 3, 10, 50}) {
    std::string routes = "  - name: feed\n    input: {interfaces: [in], group: 239.1.1.1}\n    legs:\n";
    for (int i = 1; i <= legs; ++i)
      absl::StrAppend(&routes, "      - {name: l", i, ", interface: out1, group: 239.2.0.", i, "}\n");
    ApplyRoutes(routes);
    send(legs);
  }
  agent().Restart();
  AwaitPath();
  send(50);
}

// Out of three interfaces into one group; what comes in elsewhere is none of the route's.
TEST_P(MulticastScenario, ThreeSourcesConverge) {
  constexpr uint64_t kPackets = 5000;
  ApplyRoutes(
      "  - {name: feed, input: {interfaces: [in, out2, out3], group: 239.1.1.1}, legs: [{interface: out1}" +
          Extra(1) + "]}\n",
      {"in", "out2", "out3"});
  StartTally(1);
  uint64_t due = 0;
  NowAndAfterRestart(
      [&] {
        const std::unique_ptr<bench::Sender> senders[] = {
            Stream(From("172.16.0.1"), Modest() / 2, kPackets),
            Stream(From("172.16.0.2"), Modest() / 2, kPackets, "r2", "d2"),
            Stream(From("172.16.0.3"), Modest() / 2, kPackets, "r3", "d3"),
            Stream(From("172.16.0.4"), Modest() / 2, kPackets, "r4", "d4")};
        for (const auto& sender : senders) Ok(sender->Wait());
        due += kPackets;
        std::map<uint32_t, uint64_t> expected;
        for (uint32_t source = 0xac100001; source <= 0xac100003; ++source) expected[source] = due;
        EXPECT_TRUE(WaitFor([&] { return DeliveredBySource(1) == expected; }))
            << ::testing::PrintToString(DeliveredBySource(1));
        EXPECT_EQ(Route("feed").packets(), 3 * due);
        EXPECT_EQ(Reason("pass_default", "out4"), due);
      },
      {"in", "out2", "out3"});
}

// One group from two sources, each with legs of its own.
TEST_P(MulticastScenario, TwoSourcesOfOneGroup) {
  constexpr uint64_t kPackets = 5000;
  ApplyRoutes(
      "  - {name: one, input: {interfaces: [in], group: 239.1.1.1, sources: {include: [172.16.0.1]}}, legs: "
      "[{interface: out1}, {interface: out3, group: 239.3.3.3}" +
      Extra(1) +
      "]}\n  - {name: two, input: {interfaces: [in], group: 239.1.1.1, sources: {include: [172.16.0.2]}}, legs: "
      "[{interface: out2}, {interface: out3}" +
      Extra(2) + "]}\n");
  StartTallies();
  uint64_t due = 0;
  NowAndAfterRestart([&] {
    const std::unique_ptr<bench::Sender> senders[] = {Stream(From("172.16.0.1"), Modest() / 2, kPackets),
                                                      Stream(From("172.16.0.2"), Modest() / 2, kPackets),
                                                      Stream(From("172.16.0.3"), Modest() / 2, kPackets)};
    for (const auto& sender : senders) Ok(sender->Wait());
    due += kPackets;
    constexpr uint32_t kOne = 0xac100001, kTwo = 0xac100002;
    const std::map<uint32_t, uint64_t> expected[] = {{{kOne, due}}, {{kTwo, due}}, {{kOne, due}, {kTwo, due}}, {}};
    for (int i = 1; i <= 4; ++i) {
      EXPECT_TRUE(WaitFor([&] { return DeliveredBySource(i) == expected[i - 1]; }))
          << "at receiver " << i << ": " << ::testing::PrintToString(DeliveredBySource(i));
    }
    EXPECT_EQ(Reason("pass_default"), due);
  });
}

// 150 streams, of 2,000 a second where the kernel replicates: each its own route, spread over three devices.
TEST_P(MulticastScenario, ManyStreams) {
  constexpr uint32_t kStreams = 150;
  const uint64_t each = ByWorkers() ? 100 : 2000, packets = 2 * each;
  std::string routes;
  for (uint32_t i = 1; i <= kStreams; ++i) {
    const int out = static_cast<int>(i % 3) + 1;
    absl::StrAppend(&routes, "  - {name: s", i, ", input: {interfaces: [in], group: 239.1.1.", i,
                    "}, legs: [{interface: out", out, ", group: 239.2.2.", i, ", source: egress}", Extra(out),
                    "]}\n");
  }
  ApplyRoutes(routes);
  StartTallies();
  std::map<uint32_t, uint64_t> expected[3];
  NowAndAfterRestart([&] {
    const auto sender = Stream(Streams(kStreams, 1024), kStreams * each, kStreams * packets);
    Ok(sender->Wait());
    std::printf("%llu packets in %.2f s\n", static_cast<unsigned long long>(sender->sent()),
                sender->Report().seconds);
    for (uint32_t i = 1; i <= kStreams; ++i) expected[i % 3][0xef020200 + i] += packets;
    for (int out = 1; out <= 3; ++out) {
      const auto groups = [&] {
        auto frames = DeliveredBy<uint32_t>(out, [](const hgt_mark& mark) { return mark.destination; });
        frames.erase(kExtraGroup + static_cast<uint32_t>(out));
        return frames;
      };
      EXPECT_TRUE(WaitFor([&] { return groups() == expected[out - 1]; }))
          << "at receiver " << out << ": " << ::testing::PrintToString(groups());
    }
  });
}

// 100 MB, each packet with a payload of its own and sent 18 times; told by hash whatever the headers have become.
TEST_P(MulticastScenario, PayloadsAreWhole) {
  constexpr size_t kFrames = 4096, kBytes = 1358;
  constexpr uint64_t kPackets = 18 * kFrames;
  static_assert(kPackets * kBytes > 100'000'000);
  const PayloadFrames payloads(Ethernet{.destination = "01:00:5e:01:01:01"} /
                                   Ipv4{.source = "172.16.9.9", .destination = "239.1.1.1"} /
                                   Udp{.source_port = 4000, .destination_port = 5001},
                               kFrames, kBytes);
  ApplyRoutes(
      "  - {name: feed, input: {interfaces: [in], group: 239.1.1.1}, legs: [{interface: out1, group: 239.2.2.2, "
      "port: 6000, source: egress, source_port: 7, ttl: {set: 9}, dscp: 46}, {interface: out2}" +
      Extra(1) + "]}\n");
  uint64_t due = 0;
  StartTallies(true);
  NowAndAfterRestart([&] {
    bench::SendOptions options{.device = "c0", .netns = lab().Name("client"), .captured = payloads.frames()};
    options.packets_per_second = Modest(50'000, 15'000);
    options.count = kPackets;
    options.scheduling.cpu = 0;
    const auto sender = Value(bench::Sender::Open(options));
    Ok(sender->Run());
    due += sender->sent();
    const uint64_t copies = ByWorkers() ? 2 : 1;
    EXPECT_TRUE(WaitFor([&] { return Delivered(1) == copies * due; })) << Delivered(1) << " of " << copies * due;
    EXPECT_TRUE(WaitFor([&] { return Delivered(2) == due; })) << Delivered(2) << " of " << due;
    for (const int i : {1, 2}) {
      for (const bool extra : {false, true}) {
        if (extra && (i == 2 || !ByWorkers())) continue;
        SCOPED_TRACE(absl::StrCat("receiver ", i, extra ? ", the extra leg" : ""));
        std::map<uint64_t, uint64_t> arrived;
        tallies_[static_cast<size_t>(i - 1)]->ForEach([&](const hgt_mark& mark, uint64_t frames) {
          if (IsExtra(mark) == extra) arrived[mark.payload] += frames;
        });
        payloads.ExpectAll(std::move(arrived), due);
      }
    }
  });
}

}  // namespace
}  // namespace headgate::testing
