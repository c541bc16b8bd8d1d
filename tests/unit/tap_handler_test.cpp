// SPDX-License-Identifier: Apache-2.0
//
// The tap handler on a socket pair in a device's place: what reaches the device, and where what it sends goes.
#include "agent/slowpath/tap_handler.h"

#include <gtest/gtest.h>
#include <linux/if_ether.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "agent/slowpath/frame_pool.h"
#include "tests/harness/memory_output.h"
#include "tests/harness/packet.h"

namespace headgate {
namespace {

using testing::Bytes;
using testing::Ethernet;
using testing::Ipv4;
using testing::Ipv6;
using testing::Payload;
using testing::Udp;

constexpr uint32_t kFrame = FramePool::kFrameSize;

// Frames from memory, and what was sent.
class FakeOutput : public testing::SimpleOutput {
 public:
  struct Sent {
    uint32_t port = 0;
    Bytes frame;
    size_t segments = 0;
  };

  explicit FakeOutput(size_t frames) : memory_(frames * kFrame), free_(frames) {}
  bool Take(Segment& segment) override {
    if (free_ == 0) return false;
    const uint64_t frame = next_++ % (memory_.size() / kFrame);
    --free_;
    segment = {.address = frame * kFrame, .data = &memory_[frame * kFrame], .length = kFrame};
    return true;
  }
  bool Transmit(uint32_t port, absl::Span<const Segment> segments) override {
    Sent sent{.port = port, .frame = {}, .segments = segments.size()};
    for (const Segment& segment : segments) {
      sent.frame.insert(sent.frame.end(), segment.data, segment.data + segment.length);
    }
    sent_.push_back(std::move(sent));
    free_ += segments.size();
    return true;
  }
  void Drop(absl::Span<const Segment> segments) override {
    ++dropped_;
    free_ += segments.size();
  }

  std::vector<Sent> sent_;
  size_t dropped_ = 0;
  Bytes memory_;
  size_t free_, next_ = 0;
};

class TapHandlerTest : public ::testing::Test {
 protected:
  void Open(const TapSetup& setup) {
    int ends[2];
    // Packets, as a device has them; the far end is its software.
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, ends) != 0) throw std::runtime_error("socketpair");
    software_ = Fd(ends[0]);
    handler_ = std::make_unique<TapHandler>(setup, TapDevice(Fd(ends[1])), 1);
  }
  // Of parts of so many bytes at most.
  Disposition Deliver(Bytes frame, hg_steer_meta meta, uint32_t part = kFrame) {
    std::vector<Segment> segments;
    for (size_t begin = 0; begin < frame.size(); begin += part) {
      const size_t length = std::min<size_t>(part, frame.size() - begin);
      segments.push_back({.address = 0, .data = &frame[begin], .length = static_cast<uint32_t>(length)});
    }
    Packet packet{.meta = meta,
                  .segments = absl::MakeSpan(segments),
                  .length = static_cast<uint32_t>(frame.size()),
                  .disposition = Disposition::kUnhandled};
    handler_->Handle(absl::MakeSpan(&packet, 1), output_);
    return packet.disposition;
  }
  // What the software has received.
  std::vector<Bytes> Received() {
    std::vector<Bytes> all;
    Bytes packet(65536);
    for (ssize_t size; (size = recv(software_.get(), packet.data(), packet.size(), 0)) > 0;) {
      all.emplace_back(packet.begin(), packet.begin() + size);
    }
    return all;
  }
  void SoftwareSends(const Bytes& packet) {
    ASSERT_EQ(send(software_.get(), packet.data(), packet.size(), 0), static_cast<ssize_t>(packet.size()));
  }
  // What becomes of a packet that the software sends.
  std::vector<FakeOutput::Sent> Answer(const Bytes& packet) {
    SoftwareSends(packet);
    const size_t before = output_.sent_.size();
    EXPECT_EQ(handler_->Originate(output_), 1u);
    EXPECT_EQ(output_.free_, kFrames);
    return {output_.sent_.begin() + static_cast<ptrdiff_t>(before), output_.sent_.end()};
  }

  static constexpr size_t kFrames = 70;
  FakeOutput output_{kFrames};
  Fd software_;
  std::unique_ptr<TapHandler> handler_;
};

const char kClient[] = "02:00:00:00:00:01", kGateway[] = "02:00:00:00:00:02";

hg_steer_meta Meta(uint16_t port, uint32_t kind = HG_KIND_IPV4, uint16_t l3 = ETH_HLEN) {
  return {.rule_id = 1, .target = 1, .port = port, .l3 = l3, .l4 = 0, .kind = kind};
}
Bytes Request(const std::string& source = "192.0.2.1", size_t payload = 100) {
  return Ethernet{.destination = kGateway, .source = kClient} /
         Ipv4{.source = source, .destination = "198.51.100.7"} / Udp{} / Payload(payload);
}
Bytes Reply(const std::string& destination = "192.0.2.1", size_t payload = 100) {
  return Ethernet{.destination = kClient, .source = kGateway} /
         Ipv4{.source = "198.51.100.7", .destination = destination} / Udp{} / Payload(payload);
}
Bytes WithoutEthernet(const Bytes& frame, size_t header = ETH_HLEN) {
  return {frame.begin() + static_cast<ptrdiff_t>(header), frame.end()};
}
// Behind the addresses.
Bytes Tagged(Bytes frame, const Bytes& tags) {
  frame.insert(frame.begin() + 2 * ETH_ALEN, tags.begin(), tags.end());
  return frame;
}

TEST_F(TapHandlerTest, ATapGetsWholeFrames) {
  Open({.device = "t", .tun = false, .port = 0});
  const Bytes tagged = Tagged(Request(), {0x81, 0x00, 0x00, 0x05}), large = Request("192.0.2.1", 8900);
  EXPECT_EQ(Deliver(tagged, Meta(3, HG_KIND_IPV4, ETH_HLEN + 4)), Disposition::kConsumed);
  EXPECT_EQ(Deliver(large, Meta(3)), Disposition::kConsumed);
  EXPECT_EQ(Received(), (std::vector<Bytes>{tagged, large}));
}

TEST_F(TapHandlerTest, ATunGetsIpPacketsAlone) {
  Open({.device = "t", .tun = true, .port = 0});
  const Bytes tags = {0x88, 0xa8, 0x00, 0x07, 0x81, 0x00, 0x60, 0x05};
  const Bytes plain = Request(), tagged = Tagged(Request(), tags), large = Request("192.0.2.1", 8900);
  EXPECT_EQ(Deliver(plain, Meta(3)), Disposition::kConsumed);
  EXPECT_EQ(Deliver(tagged, Meta(3, HG_KIND_IPV4, ETH_HLEN + 8)), Disposition::kConsumed);
  EXPECT_EQ(Deliver(large, Meta(3)), Disposition::kConsumed);
  EXPECT_EQ(Received(),
            (std::vector<Bytes>{WithoutEthernet(plain), WithoutEthernet(plain), WithoutEthernet(large)}));

  // As ARP.
  EXPECT_EQ(Deliver(plain, Meta(3, 0)), Disposition::kDropped);
  // What the data path says of the packet is not in it.
  EXPECT_EQ(Deliver(Bytes(plain.begin(), plain.begin() + ETH_HLEN + 19), Meta(3)), Disposition::kDropped);
  EXPECT_TRUE(Received().empty());
}

TEST_F(TapHandlerTest, WhatTheDeviceDoesNotTakeIsDropped) {
  Open({.device = "t", .tun = false, .port = 0});
  size_t taken = 0;
  while (Deliver(Request("192.0.2.1", 1000), Meta(3)) == Disposition::kConsumed) ++taken;
  EXPECT_EQ(Received().size(), taken);
  EXPECT_EQ(Deliver(Request(), Meta(3)), Disposition::kConsumed);
  EXPECT_FALSE(handler_->failed());
}

TEST_F(TapHandlerTest, FramesOfATapGoWhereTheirDestinationWasSeenLast) {
  Open({.device = "t", .tun = false, .port = 0});
  for (const uint16_t port : {3, 9}) {
    Deliver(Request(), Meta(port));
    const auto sent = Answer(Reply());
    ASSERT_EQ(sent.size(), 1u);
    EXPECT_EQ(sent[0].port, port);
    EXPECT_EQ(sent[0].frame, Reply());
  }
  EXPECT_EQ(output_.dropped_, 0u);
}

TEST_F(TapHandlerTest, OtherFramesOfATapGoToItsInterface) {
  Bytes unknown = Reply(), group = Reply();
  unknown[5] = 0x55;
  group[0] = 0x01;
  for (const uint32_t port : {0U, 5U}) {
    Open({.device = "t", .tun = false, .port = port});
    Deliver(Request(), Meta(3));
    // A source that is a group's is nobody's.
    Bytes forged = Request();
    forged[ETH_ALEN] = 0x01;
    Deliver(forged, Meta(3));
    for (const Bytes& frame : {unknown, group}) {
      const size_t dropped = output_.dropped_;
      const auto sent = Answer(frame);
      EXPECT_EQ(sent.size(), port == 0 ? 0u : 1u);
      EXPECT_EQ(output_.dropped_, dropped + (port == 0 ? 1 : 0));
      for (const auto& one : sent) {
        EXPECT_EQ(one.port, port);
        EXPECT_EQ(one.frame, frame);
      }
    }
  }
}

TEST_F(TapHandlerTest, PacketsOfATunGetTheHeaderOfTheirDestinationTurnedRound) {
  Open({.device = "t", .tun = true, .port = 0});
  const Bytes tags = {0x88, 0xa8, 0x00, 0x07, 0x81, 0x00, 0x60, 0x05};
  Deliver(Tagged(Request("192.0.2.1"), tags), Meta(3, HG_KIND_IPV4, ETH_HLEN + 8));
  Deliver(Request("192.0.2.2"), Meta(4));
  const Bytes v6 = Ethernet{.destination = kGateway, .source = kClient} /
                   Ipv6{.source = "2001:db8::1", .destination = "2001:db8::7"} / Udp{} / Payload(100);
  const Bytes v6_reply = Ethernet{.destination = kClient, .source = kGateway} /
                         Ipv6{.source = "2001:db8::7", .destination = "2001:db8::1"} / Udp{} / Payload(100);
  Deliver(v6, Meta(5, HG_KIND_IPV6));

  struct Case {
    Bytes packet, frame;
    uint32_t port;
  };
  for (const Case& c : {Case{WithoutEthernet(Reply("192.0.2.1")), Tagged(Reply("192.0.2.1"), tags), 3},
                        Case{WithoutEthernet(Reply("192.0.2.2")), Reply("192.0.2.2"), 4},
                        Case{WithoutEthernet(v6_reply), v6_reply, 5}}) {
    const auto sent = Answer(c.packet);
    ASSERT_EQ(sent.size(), 1u);
    EXPECT_EQ(sent[0].port, c.port);
    EXPECT_EQ(sent[0].frame, c.frame);
  }
  EXPECT_TRUE(Answer(WithoutEthernet(Reply("192.0.2.3"))).empty());
  EXPECT_TRUE(Answer({0x45, 0x00}).empty());
  EXPECT_EQ(output_.dropped_, 2u);
}

TEST_F(TapHandlerTest, LargePacketsTakeSeveralFrames) {
  for (const bool tun : {false, true}) {
    Open({.device = "t", .tun = tun, .port = 0});
    // With the header exactly one frame, one byte more, and many.
    for (const size_t size : {size_t{kFrame}, size_t{kFrame} + 1, size_t{9000}}) {
      const size_t payload = size - ETH_HLEN - 28;
      Deliver(Request(), Meta(3));
      const Bytes reply = Reply("192.0.2.1", payload);
      ASSERT_EQ(reply.size(), size);
      const auto sent = Answer(tun ? WithoutEthernet(reply) : reply);
      ASSERT_EQ(sent.size(), 1u);
      EXPECT_EQ(sent[0].frame, reply);
      EXPECT_EQ(sent[0].segments, (size + kFrame - 1) / kFrame);
    }
  }
}

TEST_F(TapHandlerTest, WithoutFreeFramesPacketsAreDroppedAndNoFrameIsLost) {
  Open({.device = "t", .tun = false, .port = 5});
  output_.free_ = 2;
  SoftwareSends(Reply("192.0.2.1", 9000));
  EXPECT_EQ(handler_->Originate(output_), 1u);
  EXPECT_EQ(output_.free_, 2u);
  EXPECT_EQ(output_.dropped_, 1u);
  EXPECT_TRUE(output_.sent_.empty());
}

TEST_F(TapHandlerTest, ReadsABatchAtATime) {
  Open({.device = "t", .tun = false, .port = 5});
  EXPECT_EQ(handler_->Originate(output_), 0u);
  for (int i = 0; i < 100; ++i) SoftwareSends(Reply());
  const size_t first = handler_->Originate(output_);
  EXPECT_GT(first, 0u);
  EXPECT_LT(first, 100u);
  size_t all = first;
  while (const size_t more = handler_->Originate(output_)) all += more;
  EXPECT_EQ(all, 100u);
  EXPECT_EQ(output_.sent_.size(), 100u);
}

SourceKey Key(uint32_t number) {
  SourceKey key{};
  std::memcpy(&key[12], &number, sizeof(number));
  return key;
}

TEST(SourceTable, HoldsMoreThanHalfOfWhatItHasRoomFor) {
  SourceTable table(7);
  constexpr uint32_t kSources = SourceTable::kEntries / 2;
  for (uint32_t i = 0; i < kSources; ++i) table.Learn(Key(i), {.port = static_cast<uint16_t>(i)});
  size_t found = 0;
  for (uint32_t i = 0; i < kSources; ++i) {
    const Origin* origin = table.Find(Key(i));
    if (origin == nullptr) continue;
    ++found;
    EXPECT_EQ(origin->port, i);
  }
  EXPECT_GT(found, kSources * 99 / 100);
  EXPECT_EQ(table.Find(Key(kSources)), nullptr);
}

TEST(SourceTable, ForgetsWhatItHasNotHeardOfForLongest) {
  SourceTable table(7);
  constexpr uint32_t kFriends = 100, kStrangers = 20 * SourceTable::kEntries;
  for (uint32_t stranger = 0; stranger < kStrangers; ++stranger) {
    table.Advance();
    if (stranger % 256 == 0) {
      for (uint32_t i = 0; i < kFriends; ++i) table.Learn(Key(i), {.port = 1});
    }
    table.Learn(Key(1'000'000 + stranger), {.port = 2});
  }
  size_t friends = 0;
  for (uint32_t i = 0; i < kFriends; ++i) friends += table.Find(Key(i)) != nullptr ? 1 : 0;
  EXPECT_GT(friends, kFriends * 9 / 10);
  // The newest of all is there whatever was before.
  EXPECT_NE(table.Find(Key(1'000'000 + kStrangers - 1)), nullptr);
  EXPECT_EQ(table.Find(Key(1'000'000)), nullptr);
}

}  // namespace
}  // namespace headgate
