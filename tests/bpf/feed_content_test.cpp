// SPDX-License-Identifier: Apache-2.0
//
// Multicast without sequence numbers: packets told apart by what is in them.
#include <netinet/in.h>

#include "tests/bpf/feed_gateway.h"

namespace headgate::testing {
namespace {

constexpr uint64_t kMillisecond = 1'000'000;

class FeedContent : public FeedTest {
 protected:
  void SetUp() override {
    FeedTest::SetUp();
    if (!IsSkipped() && !HasFatalFailure())
      ForEachContent([](int map, hg_content& key) { bpf_map_delete_elem(map, &key); });
  }
  template <typename Visit>
  void ForEachContent(Visit&& visit) {
    const Fd map = program().OpenMap("hg_contents");
    std::vector<hg_content> keys;
    hg_content key{};
    for (const void* last = nullptr; bpf_map_get_next_key(map.get(), last, &key) == 0; last = &key)
      keys.push_back(key);
    for (hg_content& one : keys) visit(map.get(), one);
  }
  size_t Contents() {
    size_t count = 0;
    ForEachContent([&count](int, hg_content&) { ++count; });
    return count;
  }
  // As if all had come so long ago.
  void AgeContents(uint64_t nanoseconds) {
    ForEachContent([nanoseconds](int map, hg_content& key) {
      const uint64_t time = Now() - nanoseconds;
      EXPECT_EQ(bpf_map_update_elem(map, &key, &time, BPF_EXIST), 0);
    });
  }
};
INSTANTIATE_TEST_SUITE_P(Ip, FeedContent, ::testing::ValuesIn(kIpNames), NameOf);

TEST_P(FeedContent, TheFirstOfTwoIsTaken) {
  UseFeed("deduplicate: {feed: f}");
  for (const size_t size : {0, 1, 7, 8, 9, 15, 16, 17, 64, 1400, 1452}) {
    SCOPED_TRACE(size);
    const Bytes payload(size, 0x31);
    EXPECT_TRUE(Takes(Frame(kA, payload)));
    EXPECT_FALSE(Takes(Frame(kB, payload)));
    EXPECT_FALSE(Takes(Frame(kA, payload)));
  }
  EXPECT_EQ(Counted(), (Counts{.packets = 11, .duplicates = 22}));
  EXPECT_EQ(Contents(), 11U);
  // By the first route: which one brings it does not matter, nor what comes before the payload.
  EXPECT_FALSE(Takes(Frame(kA, Bytes(64, 0x31), kEth / Vlan{.id = 9})));
  EXPECT_FALSE(Takes(kEth / ip().Ip("$HOST", kB) / Udp{.source_port = 9, .destination_port = 8} /
                     Payload(Bytes(64, 0x31))));
}

TEST_P(FeedContent, EachBitTells) {
  UseFeed("deduplicate: {feed: f, window: 10000}");
  const Bytes payload(41);
  EXPECT_TRUE(Takes(Frame(kA, payload)));
  for (size_t bit = 0; bit < 8 * payload.size(); ++bit) {
    Bytes other = payload;
    other[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
    EXPECT_TRUE(Takes(Frame(kB, other))) << bit;
  }
  EXPECT_TRUE(Takes(Frame(kA, Bytes(40)))) << "as filled up with zeros";
  EXPECT_TRUE(Takes(Frame(kA, Bytes(42))));
  // Words that change places.
  Bytes words(64);
  words[0] = 1;
  EXPECT_TRUE(Takes(Frame(kA, words)));
  for (size_t word = 1; word < 8; ++word) {
    Bytes moved(64);
    moved[8 * word] = 1;
    EXPECT_TRUE(Takes(Frame(kA, moved))) << word;
  }
  EXPECT_FALSE(Takes(Frame(kA, words)));
}

// Differences that a multiplication lets through as they are, chosen to cancel out in the next word, or the one
// after.
TEST_P(FeedContent, ChosenDifferencesDoNotCancelOut) {
  UseFeed("deduplicate: {feed: f, window: 10000}");
  EXPECT_TRUE(Takes(Frame(kA, Bytes(64))));
  for (const uint8_t high : {0x80, 0x00}) {
    for (const uint8_t low : {0x80, 0x00}) {
      for (const size_t next : {8, 16, 24}) {
        if ((high | low) == 0 && next != 8) continue;  // that frame again
        Bytes crafted(64);
        crafted[7] = 0x80;
        crafted[next + 7] = high;
        crafted[next + 3] = low;
        EXPECT_TRUE(Takes(Frame(kB, crafted))) << int{high} << " " << int{low} << " " << next;
      }
    }
  }
}

TEST_P(FeedContent, OnlyTheFirst1536BytesTell) {
  SetPort("in", "in0", LabGateway::kIn, {.mtu = 9000});
  SetPort("out", "out0", LabGateway::kOut, {.mtu = 9000});
  SetPort("gone", "side0", LabGateway::kSide, {.mtu = 9000});
  UseFeed("deduplicate: {feed: f, window: 10000}");
  Bytes payload(2000);
  EXPECT_TRUE(Takes(Frame(kA, payload)));
  payload[1535] = 1;
  EXPECT_TRUE(Takes(Frame(kA, payload)));
  payload[1536] = 1;
  EXPECT_FALSE(Takes(Frame(kA, payload)));
  payload.resize(2001);
  EXPECT_TRUE(Takes(Frame(kA, payload))) << "of another length";
  // Of several buffers.
  const Bytes large = Frame(kA, Bytes(8000));
  EXPECT_EQ(gateway().Run(large).reason, "drop_multicast_no_worker");
  EXPECT_EQ(gateway().Run(large).reason, "drop_multicast_duplicate");
}

TEST_P(FeedContent, ForAsLongAsTheWindow) {
  for (const auto& [window, milliseconds] : {std::pair{"", 100}, {", window: 1", 1}, {", window: 10000", 10000}}) {
    SCOPED_TRACE(milliseconds);
    UseFeed(absl::StrCat("deduplicate: {feed: f", window, "}"));
    const Bytes payload(100, static_cast<uint8_t>(milliseconds));
    EXPECT_TRUE(Takes(Frame(kA, payload)));
    // A clock that another CPU read later.
    AgeContents(-5000 * kMillisecond);
    EXPECT_FALSE(Takes(Frame(kB, payload)));
    if (milliseconds > 1) {
      AgeContents(static_cast<uint64_t>(milliseconds) * kMillisecond / 2);
      EXPECT_FALSE(Takes(Frame(kB, payload)));
    }
    AgeContents(static_cast<uint64_t>(milliseconds) * kMillisecond + 1);
    EXPECT_TRUE(Takes(Frame(kB, payload)));
    AgeContents(-5000 * kMillisecond);
    EXPECT_FALSE(Takes(Frame(kA, payload))) << "since the second";
  }
}

TEST_P(FeedContent, FeedsDoNotMix) {
  UseFeed("deduplicate: {}");
  EXPECT_TRUE(Takes(Frame(kA, Bytes(50))));
  EXPECT_TRUE(Takes(Frame(kB, Bytes(50))));
  EXPECT_FALSE(Takes(Frame(kA, Bytes(50))));
  EXPECT_FALSE(Takes(Frame(kB, Bytes(50))));
  EXPECT_EQ(Counted("a"), (Counts{.packets = 1, .duplicates = 1}));
  EXPECT_EQ(Counted("b"), (Counts{.packets = 1, .duplicates = 1}));
}

TEST_P(FeedContent, OtherProtocols) {
  Use("  - {name: a, input: {interfaces: [in], group: \"$G\", protocol: esp}, legs: [{interface: out}], "
      "deduplicate: "
      "{}}\n");
  Bytes bytes(80, 7);
  const auto frame = [&]() -> Bytes {
    return kEth / ip().Ip("$FAR", kA) / Protocol{.number = IPPROTO_ESP, .bytes = bytes};
  };
  EXPECT_TRUE(Takes(frame()));
  EXPECT_FALSE(Takes(frame()));
  bytes[0] = 8;
  EXPECT_TRUE(Takes(frame())) << "from the first byte after the IP header on";
  Bytes padded = frame();
  padded.resize(padded.size() + 9);
  EXPECT_FALSE(Takes(padded)) << "what follows the packet is not looked at";
}

TEST_P(FeedContent, FragmentsByTheFirst) {
  UseFeed("deduplicate: {feed: f}");
  EXPECT_TRUE(Takes(FirstFragment("$FAR", kA, 5001)));
  EXPECT_FALSE(Takes(FirstFragment("$FAR", kA, 5001)));
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(Takes(LaterFragment("$FAR", kA)));
  EXPECT_EQ(Counted(), (Counts{.packets = 1, .duplicates = 1, .unread = 3}));
}

TEST_P(FeedContent, TracedPacketsChangeNothing) {
  UseFeed("deduplicate: {feed: f}");
  const auto trace = [&](const Bytes& frame) {
    const auto traced = program().dataplane().Trace(gateway().Port("in"), frame);
    EXPECT_TRUE(traced.ok()) << traced.status();
    return std::string(ReasonName(traced->record.reason));
  };
  EXPECT_EQ(trace(Frame(kA, Bytes(30))), "forward_multicast");
  EXPECT_EQ(Contents(), 0U);
  EXPECT_EQ(Counted(), Counts{});
  EXPECT_TRUE(Takes(Frame(kA, Bytes(30))));
  AgeContents(1000 * kMillisecond);
  EXPECT_EQ(trace(Frame(kA, Bytes(30))), "forward_multicast");
  EXPECT_EQ(trace(Frame(kA, Bytes(30))), "forward_multicast") << "the time is what it was";
  EXPECT_EQ(trace(LaterFragment("$FAR", kA)), "forward_multicast");
  EXPECT_EQ(Counted(), (Counts{.packets = 1}));
}

// An agent that is started again keeps the key, or all would be new.
TEST_P(FeedContent, TheKeyIsDrawnOnce) {
  const Fd map = program().OpenMap("hg_content_keys");
  const uint32_t zero = 0;
  uint64_t keys[4] = {};
  ASSERT_EQ(bpf_map_lookup_elem(map.get(), &zero, keys), 0);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_NE(keys[i], 0U);
    for (size_t j = 0; j < i; ++j) EXPECT_NE(keys[i], keys[j]);
  }
}

}  // namespace
}  // namespace headgate::testing
