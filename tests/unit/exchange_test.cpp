// SPDX-License-Identifier: Apache-2.0
//
// Rings between two threads, and what workers lend each other over them.
#include "agent/slowpath/exchange.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <list>
#include <thread>
#include <vector>

#include "agent/base/fd.h"

namespace headgate {
namespace {

TEST(SpscRing, AllOrNothing) {
  SpscRing<int> ring(4);
  std::array<int, 4> values = {1, 2, 3, 4};
  EXPECT_TRUE(ring.empty());
  EXPECT_TRUE(ring.Push({values.data(), 3}));
  EXPECT_FALSE(ring.Push({values.data(), 2}));
  EXPECT_TRUE(ring.Push({values.data(), 1}));
  std::array<int, 8> out{};
  EXPECT_EQ(ring.Peek(absl::MakeSpan(out)), 4);
  ring.Release(3);
  EXPECT_EQ(ring.Peek(absl::MakeSpan(out)), 1);
  EXPECT_EQ(out[0], 1);
  EXPECT_TRUE(ring.Push({values.data(), 3}));
}

TEST(SpscRing, TwoThreadsSeeEveryValueInOrder) {
  constexpr uint32_t kValues = 1'000'000;
  SpscRing<uint32_t> ring(64);
  std::thread writer([&ring] {
    for (uint32_t value = 0; value < kValues;) {
      std::array<uint32_t, 7> values{};
      const uint32_t count = std::min<uint32_t>(values.size(), kValues - value);
      for (uint32_t i = 0; i < count; ++i) values[i] = value + i;
      if (ring.Push({values.data(), count})) {
        value += count;
      } else {
        std::this_thread::yield();
      }
    }
  });
  std::array<uint32_t, 16> values{};
  uint32_t next = 0;
  bool in_order = true;
  while (next < kValues && in_order) {
    const size_t count = ring.Peek(absl::MakeSpan(values));
    for (size_t i = 0; i < count; ++i) in_order = in_order && values[i] == next++;
    ring.Release(count);
    if (count == 0) std::this_thread::yield();
  }
  EXPECT_TRUE(in_order);
  writer.join();
  EXPECT_TRUE(ring.empty());
}

// Two workers' ends: 0 lends to 1.
class ExchangeTest : public ::testing::Test {
 protected:
  static constexpr uint32_t kParcels = 8;

  ExchangeTest() {
    const auto there = std::make_shared<Link>(kParcels), back = std::make_shared<Link>(kParcels);
    lender_.Add({.worker = 1, .to = there, .from = back, .bell = &bell_});
    borrower_.Add({.worker = 0, .to = back, .from = there, .bell = &bell_});
  }

  Packet Make(uint16_t target, size_t segments = 1) {
    segments_.emplace_back();
    std::vector<Segment>& list = segments_.back();
    for (size_t i = 0; i < segments; ++i) list.push_back({.address = next_++, .length = 10});
    Packet packet{.segments = absl::MakeSpan(list), .length = static_cast<uint32_t>(10 * segments)};
    packet.meta.target = target;
    return packet;
  }

  Exchange lender_, borrower_;
  Fd wake_{eventfd(0, EFD_NONBLOCK)};
  Doorbell bell_{wake_.get()};
  std::list<std::vector<Segment>> segments_;
  uint64_t next_ = 100;
};

TEST_F(ExchangeTest, APacketGoesAndComesBackWithItsFate) {
  EXPECT_EQ(lender_.Lend(1, Make(7), {.queue = 3}), Disposition::kLent);
  EXPECT_EQ(lender_.Lend(1, Make(8, 3), {.queue = 4}), Disposition::kLent);
  EXPECT_EQ(lender_.Lend(1, Make(9), {.errand = Errand::kTransmit}), Disposition::kLent);
  EXPECT_EQ(lender_.lent(), 5);
  EXPECT_TRUE(borrower_.HasMail());
  std::vector<std::pair<size_t, Errand>> runs;
  EXPECT_EQ(borrower_.Borrow([&](absl::Span<Packet> packets, Errand errand) {
    runs.emplace_back(packets.size(), errand);
    for (Packet& packet : packets) {
      packet.disposition = packet.meta.target == 7 ? Disposition::kReply : Disposition::kConsumed;
    }
  }),
            3);
  EXPECT_EQ(runs, (std::vector<std::pair<size_t, Errand>>{{2, Errand::kHandle}, {1, Errand::kTransmit}}));
  EXPECT_FALSE(borrower_.HasMail());
  EXPECT_TRUE(lender_.HasMail());
  std::vector<uint64_t> addresses;
  std::vector<uint16_t> queues;
  EXPECT_EQ(lender_.TakeBack([&](const Packet& packet, const LoanTerms& terms) {
    EXPECT_EQ(packet.disposition == Disposition::kReply, packet.meta.target == 7);
    EXPECT_EQ(packet.length, 10 * packet.segments.size());
    for (const Segment& segment : packet.segments) addresses.push_back(segment.address);
    queues.push_back(terms.queue);
  }),
            3);
  EXPECT_EQ(addresses, (std::vector<uint64_t>{100, 101, 102, 103, 104}));
  EXPECT_EQ(queues, (std::vector<uint16_t>{3, 4, 0}));
  EXPECT_EQ(lender_.lent(), 0);
}

// What is lent is bounded until it is back, so that bringing it back never fails.
TEST_F(ExchangeTest, NoMoreIsLentThanARingHolds) {
  for (uint32_t i = 0; i < kParcels; ++i) EXPECT_EQ(lender_.Lend(1, Make(1), {}), Disposition::kLent);
  EXPECT_EQ(lender_.Lend(1, Make(1), {}), Disposition::kNoRoom);
  EXPECT_EQ(borrower_.Borrow([](absl::Span<Packet>, Errand) {}), kParcels);
  EXPECT_EQ(lender_.Lend(1, Make(1), {}), Disposition::kNoRoom);
  EXPECT_EQ(lender_.TakeBack([](const Packet&, const LoanTerms&) {}), kParcels);
  EXPECT_EQ(lender_.Lend(1, Make(1), {}), Disposition::kLent);
  // Not even in parts.
  EXPECT_EQ(lender_.Lend(1, Make(1, kParcels), {}), Disposition::kNoRoom);
  EXPECT_EQ(lender_.lent(), 1);
}

TEST_F(ExchangeTest, LowPriorityIsShedFirst) {
  constexpr LoanTerms kLow{.shed_at = 64};  // a quarter
  EXPECT_EQ(lender_.Lend(1, Make(1), kLow), Disposition::kLent);
  EXPECT_EQ(lender_.Lend(1, Make(1), kLow), Disposition::kLent);
  EXPECT_EQ(lender_.Lend(1, Make(1), kLow), Disposition::kShed);
  EXPECT_EQ(lender_.Lend(1, Make(1), {}), Disposition::kLent);
}

TEST_F(ExchangeTest, AStrangerGetsNothing) {
  EXPECT_EQ(lender_.Lend(2, Make(1), {}), Disposition::kNoRoom);
  EXPECT_EQ(lender_.lent(), 0);
}

TEST_F(ExchangeTest, WakesOnlyWhoSleeps) {
  const auto rung = [this] {
    uint64_t count = 0;
    return read(wake_.get(), &count, sizeof(count)) == sizeof(count);
  };
  EXPECT_EQ(lender_.Lend(1, Make(1), {}), Disposition::kLent);
  lender_.RingBells();
  EXPECT_FALSE(rung());
  EXPECT_EQ(lender_.Lend(1, Make(1), {}), Disposition::kLent);
  bell_.SetSleeping(true);
  lender_.RingBells();
  EXPECT_TRUE(rung());
  lender_.RingBells();
  EXPECT_FALSE(rung());
}

}  // namespace
}  // namespace headgate
