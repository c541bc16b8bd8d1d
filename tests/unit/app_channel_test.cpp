// SPDX-License-Identifier: Apache-2.0
//
// A worker's end of a channel against a process that writes whatever it likes into the shared memory, and against
// one that follows the rules.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <cstring>
#include <deque>
#include <vector>

#include "agent/slowpath/app_channel.h"
#include "tests/harness/memory_output.h"
#include "tests/harness/random.h"

namespace headgate {
namespace {

constexpr uint32_t kRing = 1 << 16;
using Frame = std::vector<uint8_t>;

// Frames of a pool that may run dry, and what was sent with them.
class Frames : public testing::SimpleOutput {
 public:
  bool Take(Segment& segment) override {
    if (left == 0) return false;
    --left;
    memory_.push_back(Frame(2048));
    segment = {.address = memory_.size() - 1, .data = memory_.back().data(), .length = 2048};
    return true;
  }
  bool Transmit(uint32_t port, absl::Span<const Segment> segments) override {
    Frame frame;
    for (const Segment& segment : segments) frame.insert(frame.end(), segment.data, segment.data + segment.length);
    left += segments.size();
    sent.emplace_back(port, std::move(frame));
    if (sent.size() > 1000) sent.clear();
    if (memory_.size() > 1000) memory_.clear();
    return true;
  }
  void Drop(absl::Span<const Segment> segments) override { left += segments.size(); }
  size_t left = 64;
  std::vector<std::pair<uint32_t, Frame>> sent;

 private:
  std::deque<Frame> memory_;
};

class AppChannelTest : public ::testing::Test {
 protected:
  AppChannelTest() {
    // What lies behind the channel's memory must not be touched.
    const size_t bytes = hga_channel_offset(1, kRing);
    void* memory = mmap(nullptr, bytes + HGA_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(memory, bytes, PROT_READ | PROT_WRITE);
    memory_ = std::make_shared<AppMemory>(memory, bytes + HGA_PAGE);
    shared_ = reinterpret_cast<hga_channel_memory*>(memory_->at(hga_channel_offset(0, kRing)));
    in_ = reinterpret_cast<uint8_t*>(shared_ + 1);
    out_ = in_ + kRing;
    Open();
  }
  // A new process.
  void Open() {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends), 0);
    std::memset(static_cast<void*>(shared_), 0, sizeof(*shared_));
    theirs_ = Fd(ends[1]);
    channel_ = std::make_unique<AppChannel>(memory_, 0, kRing, Fd(ends[0]));
    in_tail_ = out_head_ = 0;
  }

  bool Put(Frame frame) {
    // In segments, as packets larger than a frame come.
    std::vector<Segment> segments;
    for (size_t at = 0; at < frame.size(); at += 2048) {
      segments.push_back({0, frame.data() + at, static_cast<uint32_t>(std::min<size_t>(2048, frame.size() - at))});
    }
    Packet packet{.meta = {.rule_id = 7, .port = 3, .l3 = 14, .l4 = 34, .kind = HG_KIND_IPV4},
                  .segments = absl::MakeSpan(segments),
                  .length = static_cast<uint32_t>(frame.size())};
    return channel_->Put(packet);
  }
  // The process's part, by the rules.
  std::vector<Frame> Receive() {
    std::vector<Frame> frames;
    while (in_tail_ != shared_->in.head) {
      const uint32_t position = in_tail_ % kRing;
      const auto* record = reinterpret_cast<const hga_record*>(in_ + position);
      if ((record->flags & HGA_RECORD_SKIP) != 0) {
        in_tail_ += kRing - position;
        continue;
      }
      EXPECT_EQ(record->rule, 7U);
      EXPECT_EQ(record->port, 3U);
      const auto* data = reinterpret_cast<const uint8_t*>(record + 1);
      frames.emplace_back(data, data + record->length);
      in_tail_ += hga_record_bytes(record->length);
    }
    shared_->in.tail = in_tail_;
    return frames;
  }
  bool Rung() {
    char byte = 0;
    return recv(theirs_.get(), &byte, 1, MSG_DONTWAIT) == 1;
  }
  void Write(const hga_record& record, uint32_t bytes) {
    std::memcpy(out_ + out_head_ % kRing, &record, sizeof(record));
    out_head_ += bytes;
    shared_->out.head = out_head_;
  }

  std::shared_ptr<AppMemory> memory_;
  hga_channel_memory* shared_ = nullptr;
  uint8_t *in_ = nullptr, *out_ = nullptr;
  std::unique_ptr<AppChannel> channel_;
  Fd theirs_;
  uint32_t in_tail_ = 0, out_head_ = 0;
  Frames frames_;
};

TEST_F(AppChannelTest, PacketsArriveWholeAndInOrder) {
  std::mt19937_64 random = testing::MakeRandom();
  std::deque<Frame> expected;
  size_t refused = 0, arrived = 0;
  for (int round = 0; round < 20'000; ++round) {
    Frame frame(14 + random() % (round % 3 == 0 ? 9200 : 100));
    for (size_t i = 0; i < frame.size(); i += 7) frame[i] = static_cast<uint8_t>(random());
    if (Put(frame)) {
      expected.push_back(std::move(frame));
    } else {
      ++refused;
    }
    if (random() % 32 != 0) continue;
    channel_->Publish();
    for (const Frame& got : Receive()) {
      ASSERT_EQ(got, expected.front());
      expected.pop_front();
      ++arrived;
    }
    ASSERT_TRUE(expected.empty());
  }
  EXPECT_GT(refused, 100U) << "the ring was never full";
  EXPECT_GT(arrived, 5000U);
  EXPECT_EQ(channel_->broken(), nullptr);
  EXPECT_FALSE(Put(Frame(HGA_MAX_FRAME + 1)));
}

TEST_F(AppChannelTest, WakesWhoSleepsAndNobodyElse) {
  ASSERT_TRUE(Put(Frame(60)));
  channel_->Publish();
  EXPECT_FALSE(Rung());
  shared_->in.sleeping = 1;
  ASSERT_TRUE(Put(Frame(60)));
  channel_->Publish();
  EXPECT_TRUE(Rung());
  EXPECT_EQ(shared_->in.sleeping, 0U);
  ASSERT_TRUE(Put(Frame(60)));
  channel_->Publish();
  EXPECT_FALSE(Rung());
  // Our end: it asks to be woken once it has found nothing.
  EXPECT_EQ(channel_->Send(frames_, 64), 0U);
  EXPECT_EQ(shared_->out.sleeping, 1U);
  Write({.length = 60, .port = 3}, 128);
  EXPECT_EQ(channel_->Send(frames_, 64), 1U);
  EXPECT_EQ(shared_->out.sleeping, 0U);
}

TEST_F(AppChannelTest, FramesAreSentAsTheyAre) {
  std::mt19937_64 random = testing::MakeRandom();
  for (int round = 0; round < 5000; ++round) {
    Frame frame(14 + random() % 9200);
    for (size_t i = 0; i < frame.size(); i += 5) frame[i] = static_cast<uint8_t>(random());
    const uint32_t bytes = hga_record_bytes(static_cast<uint32_t>(frame.size()));
    const uint32_t left = kRing - out_head_ % kRing;
    if (left < bytes) {
      Write({.length = left - static_cast<uint32_t>(sizeof(hga_record)), .flags = HGA_RECORD_SKIP}, left);
    }
    std::memcpy(out_ + out_head_ % kRing + sizeof(hga_record), frame.data(), frame.size());
    Write({.length = static_cast<uint32_t>(frame.size()), .port = 9}, bytes);
    frames_.sent.clear();
    ASSERT_EQ(channel_->Send(frames_, 64), 1U);
    ASSERT_EQ(frames_.sent.size(), 1U);
    ASSERT_EQ(frames_.sent[0], std::make_pair(9U, frame));
    ASSERT_EQ(shared_->out.tail, out_head_);
  }
}

TEST_F(AppChannelTest, FramesWaitForRoomAndAPartOfOneIsNeverSent) {
  Write({.length = 60, .port = 3}, 128);
  frames_.left = 0;
  EXPECT_EQ(channel_->Send(frames_, 64), 0U);
  EXPECT_TRUE(frames_.sent.empty());
  frames_.left = 1;
  EXPECT_EQ(channel_->Send(frames_, 64), 1U);
  Write({.length = 4000, .port = 3}, hga_record_bytes(4000));
  frames_.sent.clear();
  frames_.left = 1;
  channel_->Send(frames_, 64);
  ASSERT_EQ(frames_.sent.size(), 1U);
  EXPECT_EQ(frames_.sent[0].first, 0U) << "half a frame leaves";
  EXPECT_EQ(frames_.left, 1U) << "frames are lost";
  EXPECT_EQ(channel_->broken(), nullptr);
}

struct Lie {
  const char* name;
  hga_record record;
  uint32_t head;
};
constexpr Lie kLies[] = {
    {"shorter than a header", {.length = 13, .port = 3}, 64},
    {"longer than the longest", {.length = HGA_MAX_FRAME + 1, .port = 3}, kRing},
    {"length that overflows", {.length = 0xffffffff, .port = 3}, kRing},
    {"length that overflows when rounded", {.length = 0xffffffe0, .port = 3}, kRing},
    {"longer than what is there", {.length = 100, .port = 3}, 64},
    {"no interface", {.length = 60, .port = 0}, 128},
    {"an interface that cannot be", {.length = 60, .port = HG_PORTS}, 128},
    {"a skip that is not the rest", {.length = 32, .flags = HGA_RECORD_SKIP}, 64},
    {"a skip over more than is there", {.length = kRing - 32, .flags = HGA_RECORD_SKIP}, kRing / 2},
    {"more than the ring", {.length = 60, .port = 3}, kRing + 64},
    {"a head between records", {.length = 60, .port = 3}, 65},
};

TEST_F(AppChannelTest, LiesBreakTheChannel) {
  for (const Lie& lie : kLies) {
    SCOPED_TRACE(lie.name);
    Open();
    frames_.sent.clear();
    Write(lie.record, lie.head);
    EXPECT_EQ(channel_->Send(frames_, 64), 0U);
    EXPECT_NE(channel_->broken(), nullptr);
    EXPECT_TRUE(frames_.sent.empty());
    // For good.
    EXPECT_FALSE(Put(Frame(60)));
    EXPECT_EQ(channel_->Send(frames_, 64), 0U);
  }
  Open();
  shared_->in.tail = 2 * kRing;  // so much was never put
  Frame big(9000);
  while (Put(big)) {
  }
  EXPECT_NE(channel_->broken(), nullptr);
}

TEST_F(AppChannelTest, FramesDoNotCrossTheEnd) {
  while (out_head_ < kRing - HGA_ALIGN) {
    Write({.length = 14, .port = 3}, HGA_ALIGN);
    ASSERT_EQ(channel_->Send(frames_, 64), 1U);
  }
  frames_.sent.clear();
  Write({.length = 100, .port = 3}, hga_record_bytes(100));
  EXPECT_EQ(channel_->Send(frames_, 64), 0U);
  EXPECT_TRUE(frames_.sent.empty());
  EXPECT_NE(channel_->broken(), nullptr);
}

// Whatever is in the memory, nothing outside is touched, nothing waits, and frames are not lost.
TEST_F(AppChannelTest, SurvivesRandomMemory) {
  std::mt19937_64 random = testing::MakeRandom();
  size_t broken = 0, sent = 0;
  for (int round = 0; round < 20'000; ++round) {
    if (channel_->broken() != nullptr) {
      ++broken;
      Open();
    }
    // Headers that are nearly right get further than noise does.
    for (uint32_t at = 0; at < kRing; at += HGA_ALIGN * (1 + random() % 64)) {
      const hga_record record{.length = static_cast<uint32_t>(random() % 8 == 0 ? random() : random() % 2000),
                              .flags = static_cast<uint16_t>(random() % 50 == 0 ? random() : 0),
                              .port = static_cast<uint16_t>(random() % 64 == 0 ? random() : 3)};
      std::memcpy(out_ + at, &record, sizeof(record));
    }
    shared_->out.head = random() % 4 == 0 ? static_cast<uint32_t>(random())
                                          : shared_->out.tail + static_cast<uint32_t>(random() % 64) * HGA_ALIGN;
    shared_->in.tail = random() % 16 == 0 ? static_cast<uint32_t>(random()) : shared_->in.head;
    shared_->in.sleeping = shared_->out.sleeping = static_cast<uint32_t>(random());
    shared_->beat = shared_->received = random();
    if (random() % 4 == 0) static_cast<void>(send(theirs_.get(), &round, 1, MSG_DONTWAIT));
    Put(Frame(14 + random() % 4000));
    channel_->Publish();
    sent += channel_->Send(frames_, 64);
    ASSERT_EQ(frames_.left, 64U);
    ASSERT_LE(channel_->unread(), channel_->delivered());
  }
  EXPECT_GT(broken, 100U);
  EXPECT_GT(sent, 100U);
}

}  // namespace
}  // namespace headgate
