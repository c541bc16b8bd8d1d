// SPDX-License-Identifier: Apache-2.0
//
// What handlers and sockets stand on: the checksum over segments, the pool of frames, the count handler, and what
// a worker without sockets does.
#include <gtest/gtest.h>

#include <sys/eventfd.h>

#include <atomic>
#include <map>
#include <set>

#include "agent/slowpath/checksum.h"
#include "agent/slowpath/count_handler.h"
#include "agent/slowpath/frame_audit.h"
#include "agent/slowpath/frame_pool.h"
#include "agent/slowpath/worker.h"
#include "tests/harness/memory_output.h"
#include "tests/harness/memory_packet.h"
#include "tests/harness/packet.h"
#include "tests/harness/random.h"

namespace headgate::testing {
namespace {

// As it lies in the header.
uint16_t Naive(const Bytes& bytes) {
  const uint16_t host = InternetChecksum(bytes.data(), bytes.size());
  return htons(host);
}

struct Segments {
  explicit Segments(const std::vector<Bytes>& parts) : memory(parts) {
    for (Bytes& part : memory) list.push_back({0, part.data(), static_cast<uint32_t>(part.size())});
  }
  std::vector<Bytes> memory;
  std::vector<Segment> list;
};

TEST(Checksum, OfKnownBytes) {
  // RFC 1071, section 3.
  Segments known({{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}});
  EXPECT_EQ(Checksum{}.Add(known.list, 0, 8).Finish(), htons(0x220d));
  EXPECT_EQ(Checksum{}.Finish(), 0xffff);
  EXPECT_EQ(Checksum{}.AddNumber(0x1234).AddNumber(0xffff).Finish(), htons(static_cast<uint16_t>(~0x1234)));
}

TEST(Checksum, IsTheNaiveOneOverAnySegments) {
  auto random = MakeRandom();
  for (int round = 0; round < 20'000; ++round) {
    std::vector<Bytes> parts(1 + random() % 6);
    Bytes all;
    for (Bytes& part : parts) {
      part.resize(random() % 40);
      // All ones make the most carries.
      for (uint8_t& byte : part) byte = random() % 4 == 0 ? 0xff : static_cast<uint8_t>(random());
      all.insert(all.end(), part.begin(), part.end());
    }
    Segments segments(parts);
    const size_t offset = random() % (all.size() + 1), length = random() % (all.size() - offset + 1);
    const Bytes part(all.begin() + static_cast<ptrdiff_t>(offset),
                     all.begin() + static_cast<ptrdiff_t>(offset + length));
    ASSERT_EQ(Checksum{}.Add(segments.list, static_cast<uint32_t>(offset), static_cast<uint32_t>(length)).Finish(),
              Naive(part))
        << "round " << round;
  }
}

TEST(Checksum, AddsOnToWhatIsThere) {
  auto random = MakeRandom();
  for (int round = 0; round < 2'000; ++round) {
    Bytes head(2 * (random() % 20)), tail(random() % 100);
    for (uint8_t& byte : head) byte = static_cast<uint8_t>(random());
    for (uint8_t& byte : tail) byte = static_cast<uint8_t>(random());
    const auto number = static_cast<uint16_t>(random());
    Bytes all = head;
    all.insert(all.end(), {static_cast<uint8_t>(number >> 8), static_cast<uint8_t>(number)});
    all.insert(all.end(), tail.begin(), tail.end());
    Segments first({head}), second({tail});
    EXPECT_EQ(Checksum{}
                  .Add(first.list, 0, static_cast<uint32_t>(head.size()))
                  .AddNumber(number)
                  .Add(second.list, 0, static_cast<uint32_t>(tail.size()))
                  .Finish(),
              Naive(all));
  }
}

TEST(Checksum, OfTheLargestPacketDoesNotOverflow) {
  const std::vector<Bytes> parts(33, Bytes(1985, 0xff));
  Segments segments(parts);
  Bytes all(33 * 1985, 0xff);
  EXPECT_EQ(Checksum{}.Add(segments.list, 0, static_cast<uint32_t>(all.size())).Finish(), Naive(all));
}

std::unique_ptr<FramePool> Pool(uint32_t frames) {
  auto pool = FramePool::Create(frames);
  if (!pool.ok()) throw std::runtime_error(pool.status().ToString());
  return *std::move(pool);
}

TEST(FramePool, HandsOutEachFrameOnce) {
  const auto pool = Pool(100);
  EXPECT_EQ(pool->total(), 100U);
  EXPECT_EQ(pool->bytes(), 100U * FramePool::kFrameSize);
  std::set<uint64_t> taken;
  uint64_t address = 0;
  for (uint32_t left = 100; left > 0; --left) {
    EXPECT_EQ(pool->free(), left);
    ASSERT_TRUE(pool->Take(address));
    EXPECT_EQ(address % FramePool::kFrameSize, 0U);
    EXPECT_LT(address, pool->bytes());
    EXPECT_TRUE(taken.insert(address).second) << address;
    // All of it is there.
    std::fill_n(pool->Data(address), FramePool::kFrameSize, uint8_t{0xa5});
  }
  EXPECT_EQ(pool->free(), 0U);
  EXPECT_FALSE(pool->Take(address));
  for (const uint64_t frame : taken) pool->Release(frame);
  EXPECT_EQ(pool->free(), 100U);
}

TEST(FramePool, KeepsAFrameUntilItsLastReferenceGoes) {
  const auto pool = Pool(2);
  uint64_t address = 0, other = 0;
  ASSERT_TRUE(pool->Take(address));
  pool->Refer(address + 256);
  pool->Refer(address + 2047);
  ASSERT_TRUE(pool->Take(other));
  pool->Release(address + 300);
  pool->Release(address);
  EXPECT_EQ(pool->free(), 0U);
  EXPECT_FALSE(pool->Take(other));
  pool->Release(address + 1);
  EXPECT_EQ(pool->free(), 1U);
  uint64_t again = 0;
  ASSERT_TRUE(pool->Take(again));
  EXPECT_EQ(again, address);
}

TEST(FramePool, FreeAndHeldAreTheTotalWhateverIsDone) {
  auto random = MakeRandom();
  const auto pool = Pool(64);
  std::map<uint64_t, unsigned> held;  // references by frame
  for (int step = 0; step < 100'000; ++step) {
    uint64_t address = 0;
    if (held.empty() || random() % 3 == 0) {
      const bool room = held.size() < 64;
      ASSERT_EQ(pool->Take(address), room);
      ASSERT_EQ(room && held.emplace(address, 1).second, room);
    } else {
      const auto some = std::next(held.begin(), static_cast<ptrdiff_t>(random() % held.size()));
      const uint64_t within = some->first + random() % FramePool::kFrameSize;
      if (random() % 2 != 0) {
        pool->Refer(within);
        ++some->second;
      } else {
        pool->Release(within);
        if (--some->second == 0) held.erase(some);
      }
    }
    ASSERT_EQ(pool->free() + held.size(), pool->total());
  }
}

// A socket's part in the account.
struct FakeSocket {
  uint32_t held(uint32_t frame) const {
    const auto found = frames.find(frame);
    return found == frames.end() ? 0 : found->second;
  }
  std::map<uint32_t, uint32_t> frames;
};
struct FakeQueue {
  FakeSocket* socket;
};

TEST(FrameAudit, KnowsWhereEachFrameIs) {
  const auto pool = Pool(8);
  FakeSocket first, second;
  const std::vector<FakeQueue> queues = {{&first}, {&second}};
  EXPECT_TRUE(CheckFrames(*pool, queues).ok());
  EXPECT_FALSE(CheckFrames(*pool, queues, 1).ok());
  uint64_t address = 0;
  ASSERT_TRUE(pool->Take(address));
  const auto frame = static_cast<uint32_t>(address / FramePool::kFrameSize);
  EXPECT_FALSE(CheckFrames(*pool, queues).ok()) << "a frame that nobody has is lost";
  EXPECT_TRUE(CheckFrames(*pool, queues, 1).ok());
  first.frames[frame] = 1;
  EXPECT_TRUE(CheckFrames(*pool, queues).ok());
  EXPECT_FALSE(CheckFrames(*pool, queues, 1).ok());
  second.frames[frame] = 1;
  EXPECT_FALSE(CheckFrames(*pool, queues).ok()) << "two have it, and it would be free when one lets go";
  pool->Refer(address);
  EXPECT_TRUE(CheckFrames(*pool, queues).ok());
  pool->Release(address);
  pool->Release(address);
  EXPECT_FALSE(CheckFrames(*pool, queues).ok()) << "sockets hold a frame that is free";
  first.frames.clear();
  second.frames.clear();
  EXPECT_TRUE(CheckFrames(*pool, queues).ok());
}

#ifndef NDEBUG
TEST(FrameAudit, EndsDebugBuilds) {
  const auto pool = Pool(8);
  const std::vector<FakeQueue> queues;
  AuditFrames(*pool, queues);
  uint64_t address = 0;
  ASSERT_TRUE(pool->Take(address));
  EXPECT_DEATH(AuditFrames(*pool, queues), "not held by sockets");
  pool->Release(address);
  EXPECT_DEATH(pool->Release(address), "references_");
}
#endif

TEST(CountHandler, ConsumesWhateverComes) {
  MemoryPacket memory(Ethernet{} / Ipv4{} / Tcp{});
  const Bytes before = memory.bytes();
  memory.packet().disposition = Disposition::kReply;
  MemoryOutput output(1);
  CountHandler{}.Handle(absl::MakeSpan(&memory.packet(), 1), output);
  EXPECT_EQ(memory.packet().disposition, Disposition::kConsumed);
  EXPECT_EQ(memory.bytes(), before);
}

// Does not come back while it is told to hang.
class HangingHandler final : public Handler {
 public:
  explicit HangingHandler(std::atomic<bool>& hangs) : hangs_(hangs) {}
  void Handle(absl::Span<headgate::Packet>, Output&) override {}
  int fd() const override { return fd_.get(); }
  size_t Originate(Output&) override {
    hangs_.wait(true);
    return 0;
  }

 private:
  std::atomic<bool>& hangs_;
  const Fd fd_{eventfd(1, EFD_NONBLOCK)};  // always readable: there is always something to originate
};

bool Becomes(Worker& worker, bool stale) {
  for (int tries = 0; tries < 1000; ++tries) {
    if (worker.Status().stale == stale) return true;
  }
  return false;
}

TEST(Worker, ThatHangsKeepsNobodyWaiting) {
  std::atomic<bool> hangs = false;
  absl::StatusOr<std::unique_ptr<Worker>> started = Worker::Start({.index = 3});
  ASSERT_TRUE(started.ok()) << started.status();
  const std::unique_ptr<Worker> worker = *std::move(started);
  worker->SetHandler(0, std::make_unique<HangingHandler>(hangs));
  const WorkerStatus before = worker->Status();
  EXPECT_FALSE(before.stale);
  hangs = true;
  ASSERT_TRUE(Becomes(*worker, true));
  const WorkerStatus during = worker->Status();
  EXPECT_EQ(during.index, 3U);
  EXPECT_EQ(during.frames_total, before.frames_total) << "what was known of it is lost";
  hangs = false;
  hangs.notify_all();
  // What was not run in time is not run later: its caller is gone.
  EXPECT_TRUE(Becomes(*worker, false));
  EXPECT_NE(worker->SetHandler(0, nullptr), nullptr);
}

}  // namespace
}  // namespace headgate::testing
