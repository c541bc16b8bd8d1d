// SPDX-License-Identifier: Apache-2.0
//
// Multicast at full rate: every copy is at its receiver or in a counter, whatever comes and goes meanwhile.
#include <algorithm>

#include "tests/e2e/multicast_fixture.h"
#include "tests/harness/traffic.h"

namespace headgate::testing {
namespace {

class MulticastTraffic : public MulticastTest {
 protected:
  MulticastTraffic() : MulticastTest("mcasttraffic") {}

  // Streams to 239.1.1.1 and the groups after it, each with a route of its own name.
  static bench::FrameSpec Streams(uint32_t groups, uint32_t size = 1400) {
    bench::FrameSpec frame = FlowFrames(1);
    frame.destination = Value(ParseAddress("239.1.1.1"));
    frame.groups = groups;
    frame.group_macs = true;
    frame.size = size;
    return frame;
  }
  void StartTallies() {
    receivers_.clear();
    for (int i = 1; i <= count_; ++i) {
      tallies_.push_back(std::make_unique<Tally>(lab(), absl::StrCat("r", i), absl::StrCat("d", i)));
    }
  }
  uint64_t Delivered(int i) const { return tallies_[static_cast<size_t>(i - 1)]->Frames(); }

  // What was sent arrived, was replicated to all legs that were there, and is at the receivers or in a counter.
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
    }
  }

  std::vector<std::unique_ptr<Tally>> tallies_;
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
