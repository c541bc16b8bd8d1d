// SPDX-License-Identifier: Apache-2.0
//
// A feed that arrives twice, by two interfaces and as two groups, each with losses of its own: receivers get every
// number once, and the counters say what each had.
#include <deque>
#include <map>

#include "tests/e2e/multicast_fixture.h"

namespace headgate::testing {
namespace {

constexpr size_t kOffset = 6;  // of the number

class MulticastFeed : public MulticastTest {
 protected:
  MulticastFeed() : MulticastTest("mcfeed", 2) {}

  void SetUp() override {
    MulticastTest::SetUp();
    if (IsSkipped()) return;
    lab().Link("client", "c9", "gw", "g9");
    other_ = std::make_unique<Wire>(lab().Name("client"), "c9");
    interfaces_.insert(interfaces_.find("]"), ", {name: in2, device: g9}");
  }
  void TearDown() override {
    other_.reset();
    MulticastTest::TearDown();
  }

  // Routes a and b of one feed, with these legs.
  void ApplyFeed(const std::string& legs) {
    constexpr char kHow[] = "sequence: {offset: 6, width: 4}, deduplicate: {feed: f}";
    Apply(absl::StrCat("  - {name: a, input: {interfaces: [in], group: 239.1.1.1}, legs: ", legs, ", ", kHow,
                       "}\n  - {name: b, input: {interfaces: [in2], group: 239.1.1.2}, legs: ", legs, ", ", kHow,
                       "}\n"));
  }
  static Bytes Frame(const std::string& group, const Bytes& payload) {
    return Ethernet{.destination = group == "239.1.1.1" ? "01:00:5e:01:01:01" : "01:00:5e:01:01:02"} /
           Ipv4{.source = "172.16.9.9", .destination = group} /
           Udp{.source_port = 4000, .destination_port = 5001} / Payload(payload);
  }
  static Bytes PayloadOf(uint32_t number) {
    Bytes payload(200, 0x77);
    for (size_t i = 0; i < 4; ++i) payload[kOffset + i] = static_cast<uint8_t>(number >> (24 - 8 * i));
    return payload;
  }
  void SendA(const Bytes& payload) { client().Send(Frame("239.1.1.1", payload)); }
  void SendB(const Bytes& payload) { other_->Send(Frame("239.1.1.2", payload)); }

  // Whoever replicates does: packets too short for a number are relayed, and change nothing.
  void ExpectRelay() {
    for (const bool a : {true, false}) {
      const Bytes probe(5, a ? 0xaa : 0xbb);
      ASSERT_TRUE(WaitFor([&] {
        a ? SendA(probe) : SendB(probe);
        return receivers_[1]
            ->Receive(
                [&](const Bytes& frame) { return IsUdp(frame) && frame.size() > 42 && frame[42] == probe[0]; },
                std::chrono::milliseconds(50))
            .has_value();
      })) << (a ? "a" : "b");
    }
  }
  // The numbers that came in at a receiver, and how often, when so many have come.
  void Collect(int receiver, size_t count, std::map<uint32_t, int>& numbers) {
    for (size_t i = 0; i < count; ++i) {
      const auto frame = receivers_[static_cast<size_t>(receiver)]->Receive(
          [](const Bytes& one) { return IsUdp(one) && one.size() >= 42 + 200; });
      ASSERT_TRUE(frame.has_value()) << "receiver " << receiver << " lacks " << count - i;
      const uint8_t* at = frame->data() + 42 + kOffset;
      ++numbers[static_cast<uint32_t>(at[0]) << 24 | static_cast<uint32_t>(at[1]) << 16 |
                static_cast<uint32_t>(at[2]) << 8 | at[3]];
    }
  }

  // A loses every 7th, B every 5th and lags behind by `lag`. A few at a time, so that nothing else is lost.
  void SendLossy(uint32_t first, uint32_t last, uint32_t lag, const std::map<int, size_t>& copies) {
    std::map<int, std::map<uint32_t, int>> got;
    size_t waiting = 0;
    for (uint32_t number = first; number <= last + lag; ++number) {
      const uint32_t late = number - lag;
      const bool by_a = number <= last && number % 7 != 0, by_b = number >= first + lag && late % 5 != 0;
      if (by_a) SendA(PayloadOf(number));
      if (by_b) SendB(PayloadOf(late));
      packets_ += by_a + (by_b && late % 7 == 0);
      duplicates_ += by_b && late % 7 != 0;
      missing_ += number <= last && number % 35 == 0;
      waiting += by_a + (by_b && late % 7 == 0);
      if (waiting < 50 && number != last + lag) continue;
      for (const auto& [receiver, each] : copies) Collect(receiver, waiting * each, got[receiver]);
      if (HasFatalFailure()) return;
      waiting = 0;
    }
    for (const auto& [receiver, each] : copies) {
      for (uint32_t number = first; number <= last; ++number) {
        EXPECT_EQ(got[receiver][number], number % 35 == 0 ? 0 : static_cast<int>(each)) << number;
      }
      EXPECT_EQ(got[receiver].size(), last - first + 1) << "and no others";
    }
  }
  void ExpectCounters() {
    const auto feed = [&](const char* route) { return Route(route).feed(); };
    EXPECT_TRUE(WaitFor([&] { return feed("a").duplicate_packets() >= duplicates_; }));
    for (const char* route : {"a", "b"}) {
      EXPECT_EQ(feed(route).packets(), packets_);
      EXPECT_EQ(feed(route).duplicate_packets(), duplicates_);
      EXPECT_EQ(feed(route).missing_packets(), missing_);
      EXPECT_EQ(feed(route).stale_packets(), 0U);
      EXPECT_EQ(feed(route).restarts(), 0U);
    }
  }
  void Check(const std::map<int, size_t>& copies) {
    constexpr uint32_t kMany = 1999;
    uint32_t next = 1;
    NowAndAfterRestart([&] {
      ExpectRelay();
      if (HasFatalFailure()) return;
      // After the quiet an old number would be a new run's; after a new one it is known from before the restart.
      SendA(PayloadOf(next));
      ++packets_;
      std::map<uint32_t, int> got;
      for (const auto& [receiver, each] : copies) Collect(receiver, each, got);
      if (HasFatalFailure()) return;
      EXPECT_EQ(got.size(), 1U);
      for (uint32_t number = next > 10 ? next - 10 : next; number < next; ++number) {
        if (number % 35 == 0) continue;
        SendB(PayloadOf(number));
        ++duplicates_;
      }
      SendLossy(next + 1, next + kMany, 20, copies);
      if (HasFatalFailure()) return;
      next += kMany + 1;
      ExpectCounters();
    });
    EXPECT_GT(api().Reasons("in2").at("drop_multicast_duplicate"), duplicates_ / 2);
  }

  std::unique_ptr<Wire> other_;
  uint64_t packets_ = 0, duplicates_ = 0, missing_ = 0;  // that are to be counted
};

TEST_F(MulticastFeed, EveryNumberOnceByTheKernel) {
  ApplyFeed("[{interface: out1, group: 239.9.9.9}, {interface: out2}]");
  EXPECT_EQ(State("a").path(), pb::MulticastRouteState::PATH_KERNEL);
  Check({{1, 1}, {2, 1}});
}

TEST_F(MulticastFeed, EveryNumberOnceByWorkers) {
  ApplyFeed(
      "[{name: x, interface: out1, group: 239.9.9.9}, {name: y, interface: out1, group: 239.8.8.8}, {interface: "
      "out2}]");
  EXPECT_EQ(State("b").path(), pb::MulticastRouteState::PATH_USERSPACE);
  Check({{1, 2}, {2, 1}});
}

}  // namespace
}  // namespace headgate::testing
