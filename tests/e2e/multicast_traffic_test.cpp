// SPDX-License-Identifier: Apache-2.0
//
// Multicast at full rate: every copy is at its receiver or in a counter, whatever comes and goes meanwhile.
#include <algorithm>

#include "tests/e2e/multicast_traffic.h"

namespace headgate::testing {
namespace {

class MulticastTraffic : public MulticastTrafficTest {
 protected:
  MulticastTraffic() : MulticastTrafficTest("mcasttraffic") {}

  // What was sent arrived, was replicated to all legs that were there, and is at the receivers or in a counter.
  using MulticastTest::ExpectAccount;
  void ExpectAccount(const std::string& route, uint64_t sent) {
    EXPECT_TRUE(WaitFor([&] { return Route(route).packets() >= sent; }));
    EXPECT_EQ(Route(route).packets(), sent);
    const pb::MulticastRouteStats stats = Route(route);
    for (int i = 0; i < stats.legs_size(); ++i) {
      const pb::MulticastLegStats& leg = stats.legs(i);
      SCOPED_TRACE(leg.ShortDebugString());
      EXPECT_EQ(leg.offered_packets(), sent);
      EXPECT_EQ(leg.offered_packets(), leg.sent_packets() + leg.dropped_no_device_packets());
      const pb::InterfaceStats egress = api().Interface(leg.name());
      const auto number = leg.name().back() - '0';
      EXPECT_EQ(leg.sent_packets(), Delivered(number) + egress.transmit_dropped_packets());
      EXPECT_EQ(egress.transmitted_packets(), Delivered(number));
      EXPECT_EQ(tallies_[static_cast<size_t>(number - 1)]->FramesWithMetadata(), 0U);
    }
  }
};

TEST_F(MulticastTraffic, EveryCopyIsAccountedFor) {
  Apply(R"(
  - name: feed
    input: {interfaces: [in], group: 239.1.1.1}
    legs: [{interface: out1}, {interface: out2, group: 239.2.2.2, source: egress}, {interface: out3, port: 7000}]
)");
  StartTallies();
  const auto sender = OpenSender(lab(), Streams(1));
  sender->Start();
  ASSERT_TRUE(WaitFor([&] { return sender->sent() > 500'000; }, std::chrono::seconds(30)));
  Ok(sender->Stop());
  ExpectAccount("feed", sender->sent());
  EXPECT_GT(Delivered(1), 0U);
}

// Copies and what is redirected to the same device are in one bulk of the kernel's, which has one program.
TEST_F(MulticastTraffic, OthersOfADeviceAreLeftAlone) {
  const auto apply = [&](const std::string& leg) {
    api().ApplyYaml(interfaces_ +
                    "rules: [{name: away, priority: 1, match: {destination: 239.1.1.2}, action: {redirect: "
                    "{interface: out1}}}]\n"
                    "multicast_routes:\n"
                    "  - {name: feed, input: {interfaces: [in], group: 239.1.1.1}, legs: [{interface: out1" +
                    leg + "}]}\n");
  };
  constexpr uint64_t kPackets = 100'000;
  apply(", group: 239.2.2.2, ttl: {set: 9}");
  StartTallies();
  NowAndAfterRestart([&] {
    const std::function<uint32_t(const hgt_mark&)> group = [](const hgt_mark& mark) { return mark.destination; };
    const auto before = DeliveredBy(1, group);
    const auto sender = Stream(Streams(2), 100'000, kPackets);
    ASSERT_TRUE(WaitFor([&] { return sender->sent() == kPackets; }, std::chrono::seconds(20)));
    Ok(sender->Stop());
    const auto came = [&](uint32_t address) {
      const auto now = DeliveredBy(1, group);
      const auto count = [&](const auto& frames) { return frames.contains(address) ? frames.at(address) : 0; };
      return count(now) - count(before);
    };
    EXPECT_TRUE(WaitFor([&] { return came(0xef020202) == kPackets / 2; })) << came(0xef020202);
    EXPECT_TRUE(WaitFor([&] { return came(0xef010102) == kPackets / 2; })) << came(0xef010102);
    EXPECT_EQ(came(0xef010101), 0U) << "copies that are nobody's";
  });
  // The same when legs drop: that is no drop of the device's.
  apply(", ttl: {threshold: 255}");
  const auto port = [&] { return api().Interface("out1"); };
  const uint64_t dropped = port().transmit_dropped_packets();
  const auto sender = Stream(Streams(2), 100'000, kPackets);
  ASSERT_TRUE(WaitFor([&] { return sender->sent() == kPackets; }, std::chrono::seconds(20)));
  Ok(sender->Stop());
  EXPECT_TRUE(WaitFor([&] { return Leg("feed", "out1").dropped_ttl_packets() == kPackets / 2; }))
      << Leg("feed", "out1").ShortDebugString();
  EXPECT_EQ(port().transmit_dropped_packets(), dropped);
}

TEST_F(MulticastTraffic, KillLosesNotOneCopy) {
  Apply(R"(
  - name: feed
    input: {interfaces: [in], group: 239.1.1.1}
    legs: [{interface: out1}, {interface: out2, source: egress}, {interface: out3, ttl: {set: 9}}]
)");
  StartTallies();
  bench::SendOptions options{.device = "c0", .netns = lab().Name("client"), .frame = Streams(1)};
  options.packets_per_second = 50'000;
  options.scheduling.cpu = 0;
  const auto sender = Value(bench::Sender::Open(options));
  sender->Start();
  for (int i = 0; i < 4; ++i) {
    agent().Kill();
    const uint64_t before = Delivered(3);
    ASSERT_TRUE(WaitFor([&] { return Delivered(3) > before + 10'000; })) << "nobody replicates";
    agent().Start();
    const uint64_t after = Delivered(3);
    ASSERT_TRUE(WaitFor([&] { return Delivered(3) > after + 10'000; }));
  }
  Ok(sender->Stop());
  ExpectAccount("feed", sender->sent());
  for (int i = 1; i <= 3; ++i) EXPECT_EQ(Delivered(i), sender->sent()) << i;
}

// As fast as they come, to many legs by one device: what workers were handed is copied to each leg, or counted.
TEST_F(MulticastTraffic, EveryCopyOfWorkersIsAccountedFor) {
  Apply(R"(
  - name: feed
    input: {interfaces: [in], group: 239.1.1.1}
    legs:
      - {name: a, interface: out1}
      - {name: b, interface: out1, group: 239.2.2.2, source: egress}
      - {name: c, interface: out2, port: 7000}
)");
  StartTallies();
  const auto sender = OpenSender(lab(), Streams(1));
  sender->Start();
  ASSERT_TRUE(WaitFor([&] { return sender->sent() > 500'000; }, std::chrono::seconds(30)));
  Ok(sender->Stop());
  const auto reasons = [this] { return api().Reasons("in"); };
  ASSERT_TRUE(WaitFor([&] {
    const auto now = reasons();
    const auto lost = now.find("drop_multicast_no_worker");
    return now.at("forward_multicast_worker") + (lost == now.end() ? 0 : lost->second) == sender->sent();
  }));
  // Until the workers have dealt with what was handed to them.
  pb::WorkerStats work;
  ASSERT_TRUE(WaitFor([&] {
    work = api().Stats().workers(0);
    return work.received_packets() + work.kernel_rx_ring_full_packets() + work.kernel_fill_ring_empty_packets() ==
               reasons().at("forward_multicast_worker") &&
           work.waiting_packets() == 0;
  })) << work.ShortDebugString();
  uint64_t sent_by_first = 0;
  const pb::MulticastRouteStats route = Route("feed");
  for (const pb::MulticastLegStats& leg : route.legs()) {
    ExpectAccount(leg);
    EXPECT_EQ(leg.offered_packets(), work.received_packets()) << leg.name();
    if (leg.name() != "c") sent_by_first += leg.sent_packets();
  }
  EXPECT_TRUE(WaitFor([&] { return Delivered(1) == sent_by_first; })) << Delivered(1) << " of " << sent_by_first;
  EXPECT_TRUE(WaitFor([&] { return Delivered(2) == Leg("feed", "c").sent_packets(); }));
  EXPECT_GT(Delivered(2), 0U);
}

// At a modest rate none is lost, to 300 legs, but what a killed agent had in its rings, and what came until it
// served again, within a second.
TEST_F(MulticastTraffic, ManyLegsAndAKill) {
  std::string routes = "  - name: feed\n    input: {interfaces: [in], group: 239.1.1.1}\n    legs:\n";
  for (int i = 0; i < 300; ++i) {
    absl::StrAppend(&routes, "      - {name: l", i, ", interface: out1, group: 239.2.", i / 250, ".", i % 250 + 1,
                    "}\n");
  }
  Apply(routes);
  StartTallies();
  bench::SendOptions options{.device = "c0", .netns = lab().Name("client"), .frame = Streams(1, 200)};
  options.packets_per_second = 300;
  options.scheduling.cpu = 0;
  ASSERT_TRUE(WaitFor([this] { return api().Stats().workers_size() != 0; }));
  const auto taken = [this] {
    const auto reasons = api().Reasons("in");
    const auto found = reasons.find("forward_multicast_worker");
    return found == reasons.end() ? 0 : found->second;
  };
  const auto expect_all = [&] {
    const uint64_t delivered = Delivered(1), before = taken();
    const auto sender = Value(bench::Sender::Open(options));
    sender->Start();
    ASSERT_TRUE(WaitFor([&] { return sender->sent() > 300; }));
    Ok(sender->Stop());
    ASSERT_TRUE(WaitFor([&] { return taken() == before + sender->sent(); }));
    EXPECT_TRUE(WaitFor([&] { return Delivered(1) == delivered + 300 * sender->sent(); }))
        << Delivered(1) - delivered << " of " << 300 * sender->sent();
  };
  expect_all();
  {
    const auto sender = Value(bench::Sender::Open(options));
    sender->Start();
    agent().Kill();
    const uint64_t sent = sender->sent();
    ASSERT_TRUE(WaitFor([&] { return sender->sent() > sent + 30; }));
    agent().Start();
    const uint64_t delivered = Delivered(1);
    EXPECT_TRUE(WaitFor([&] { return Delivered(1) > delivered + 300; }, std::chrono::seconds(1)))
        << "not served within a second of the restart";
    Ok(sender->Stop());
    // What came while nobody was there is counted.
    EXPECT_GT(api().Reasons("in").at("drop_multicast_no_worker"), 0U);
  }
  ASSERT_TRUE(
      WaitFor([this] { return Leg("feed", "l0").offered_packets() == Leg("feed", "l299").offered_packets(); }));
  expect_all();
  const pb::MulticastRouteStats route = Route("feed");
  for (const pb::MulticastLegStats& leg : route.legs()) {
    ExpectAccount(leg);
    EXPECT_EQ(leg.offered_packets(), leg.sent_packets());
  }
}

// Routes and legs that come and go under load do not disturb the others.
TEST_F(MulticastTraffic, ChangesDisturbNobody) {
  const std::string stay =
      "  - {name: stay, input: {interfaces: [in], group: 239.1.1.1}, legs: [{interface: out1, source: egress}]}\n";
  Apply(stay);
  StartTallies();
  bench::SendOptions options{.device = "c0", .netns = lab().Name("client"), .frame = Streams(2, 256)};
  options.packets_per_second = 60'000;
  options.scheduling.cpu = 0;
  const auto sender = Value(bench::Sender::Open(options));
  sender->Start();
  for (int i = 0; i < 10; ++i) {
    const uint64_t before = Delivered(2);
    Apply(stay +
          "  - {name: come, input: {interfaces: [in], group: 239.1.1.2}, legs: [{interface: out2}, {interface: "
          "out3}]}\n");
    ASSERT_TRUE(WaitFor([&] { return Delivered(2) > before + 1000; }));
    Apply(stay + "  - {name: come, input: {interfaces: [in], group: 239.1.1.2}, legs: [{interface: out2}]}\n");
    const uint64_t third = Delivered(3);
    ASSERT_TRUE(WaitFor([&] { return Delivered(2) > before + 3000; }));
    EXPECT_LT(Delivered(3), third + 64) << "a leg that is gone still sends";
    Apply(stay);
  }
  Ok(sender->Stop());
  // The two groups take turns, and the first begins.
  const uint64_t expected = (sender->sent() + 1) / 2;
  ASSERT_TRUE(WaitFor([&] { return Route("stay").packets() >= expected; }));
  EXPECT_EQ(Delivered(1), expected);
  EXPECT_EQ(Leg("stay", "out1").sent_packets(), Delivered(1));
  // What was of no route passed, and nothing else happened.
  const auto reasons = api().Reasons("in");
  EXPECT_EQ(reasons.at("forward_multicast") + reasons.at("pass_default"), sender->sent());
}

}  // namespace
}  // namespace headgate::testing
