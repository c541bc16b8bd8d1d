// SPDX-License-Identifier: Apache-2.0
//
// Sequence numbers of multicast: which packets are relayed, and what is counted as missing.
#include <netinet/in.h>

#include "tests/bpf/feed_gateway.h"

namespace headgate::testing {
namespace {

class FeedNumbers : public FeedTest {};
INSTANTIATE_TEST_SUITE_P(Ip, FeedNumbers, ::testing::ValuesIn(kIpNames), NameOf);

constexpr uint64_t kSecond = 1'000'000'000;

TEST_P(FeedNumbers, TheFirstOfTwoIsTaken) {
  UseNumbers({.offset = 8});
  for (const uint64_t number : {1, 2, 3}) EXPECT_TRUE(Takes(kA, number));
  for (const uint64_t number : {1, 2, 3}) EXPECT_FALSE(Takes(kB, number));
  EXPECT_TRUE(Takes(kB, 4));
  EXPECT_FALSE(Takes(kA, 4));
  EXPECT_FALSE(Takes(kB, 4));
  EXPECT_EQ(Counted(), (Counts{.packets = 4, .duplicates = 5}));
  // What is dropped is the route's, and offered to no leg.
  EXPECT_EQ(gateway().RouteCount("b").packets, 5U);
  EXPECT_EQ(gateway().Offered(), (std::map<std::string, uint64_t>{{"a/out", 3}, {"b/gone", 1}}));
}

TEST_P(FeedNumbers, GapsAreFilledByLatePackets) {
  UseNumbers({});
  EXPECT_TRUE(Takes(kA, 1));
  EXPECT_TRUE(Takes(kA, 5));
  EXPECT_EQ(Counted(), (Counts{.packets = 2, .missing = 3}));
  EXPECT_TRUE(Takes(kA, 3));
  EXPECT_FALSE(Takes(kB, 3));
  EXPECT_EQ(Counted(), (Counts{.packets = 3, .duplicates = 1, .missing = 2, .late = 1}));
  EXPECT_TRUE(Takes(kB, 2));
  EXPECT_TRUE(Takes(kB, 4));
  EXPECT_EQ(Counted(), (Counts{.packets = 5, .duplicates = 1, .missing = 0, .late = 3}));
}

// What a route that began earlier would have had is not missing until it is seen that there was something.
TEST_P(FeedNumbers, NumbersBeforeTheFirst) {
  UseNumbers({});
  EXPECT_TRUE(Takes(kA, 10));
  EXPECT_TRUE(Takes(kB, 7));
  EXPECT_EQ(Counted(), (Counts{.packets = 2, .missing = 2, .late = 1}));
  EXPECT_TRUE(Takes(kB, 9));
  EXPECT_TRUE(Takes(kB, 6));
  EXPECT_FALSE(Takes(kB, 10));
  EXPECT_EQ(Counted(), (Counts{.packets = 4, .duplicates = 1, .missing = 1, .late = 3}));
}

TEST_P(FeedNumbers, GoOnWhereTheyWrap) {
  for (const size_t width : {1, 2, 4, 8}) {
    for (const bool little_endian : {false, true}) {
      SCOPED_TRACE(absl::StrCat(width, little_endian ? " bytes, little endian" : " bytes"));
      UseNumbers({.offset = 3, .width = width, .little_endian = little_endian});
      const uint64_t last = ~uint64_t{0} >> (64 - 8 * width);
      for (const uint64_t number : {last - 2, last - 1, last, uint64_t{1}, uint64_t{2}}) {
        EXPECT_TRUE(Takes(kA, number));
        EXPECT_FALSE(Takes(kB, number));
      }
      EXPECT_EQ(Counted(), (Counts{.packets = 5, .duplicates = 5, .missing = 1}));
      EXPECT_TRUE(Takes(kB, 0));
      for (const uint64_t number : {last - 2, last - 1, last, uint64_t{0}}) EXPECT_FALSE(Takes(kB, number));
      EXPECT_EQ(Counted(), (Counts{.packets = 6, .duplicates = 9, .missing = 0, .late = 1}));
    }
  }
}

// All bytes of a number tell, in their order.
TEST_P(FeedNumbers, EachByteTells) {
  for (const size_t width : {2, 4, 8}) {
    for (const bool little_endian : {false, true}) {
      SCOPED_TRACE(absl::StrCat(width, little_endian ? " bytes, little endian" : " bytes"));
      UseNumbers({.width = width, .little_endian = little_endian});
      const uint64_t top = ~uint64_t{0} >> (65 - 8 * width), start = top / 255 * 2;
      EXPECT_TRUE(Takes(kA, start));
      EXPECT_TRUE(Takes(kA, start + 300));
      EXPECT_EQ(Counted(), (Counts{.packets = 2, .missing = 299}));
      EXPECT_EQ(Feed().next % (uint64_t{1} << 16), (start + 301) % (uint64_t{1} << 16));
    }
  }
}

TEST_P(FeedNumbers, TheWindowHasTwoEnds) {
  for (const uint64_t window : {1U, 63U, 64U, 65U, 1024U, 4095U, 4096U}) {
    SCOPED_TRACE(window);
    UseNumbers({}, absl::StrCat(window));
    EXPECT_TRUE(Takes(kA, 10'000));
    EXPECT_FALSE(Takes(kB, 10'000 - window)) << "behind it";
    EXPECT_EQ(Counted(), (Counts{.packets = 1, .stale = 1}));
    EXPECT_EQ(Takes(kB, 10'000 - window + 1), window > 1) << "its last, if that is not the highest itself";
    EXPECT_FALSE(Takes(kA, 10'000 - window + 1)) << "a second time";
    EXPECT_TRUE(Takes(kA, 10'001));
    EXPECT_FALSE(Takes(kB, 10'000 - window + 1)) << "moved on";
    EXPECT_EQ(Counted().stale, 2U);
  }
}

// Bits of numbers that the window passed are used anew, however far it moved.
TEST_P(FeedNumbers, NothingStaysOfWhatTheWindowPassed) {
  for (const uint64_t step :
       {1U, 63U, 64U, 65U, 100U, 4031U, 4032U, 4033U, 4095U, 4096U, 4097U, 4159U, 4160U, 4161U, 9999U}) {
    for (const uint64_t start : {1'000'000U, 1'000'063U, 1'000'000U - 1'000'000U % 4096}) {
      SCOPED_TRACE(absl::StrCat("from ", start, " by ", step));
      UseNumbers({}, "4096");
      uint64_t all = 0;
      for (uint64_t number = start; number < start + 130; ++number) all += Takes(Frame(kA, PayloadOf(number)));
      ASSERT_EQ(all, 130U);
      const uint64_t highest = start + 129 + step;
      EXPECT_TRUE(Takes(kA, highest));
      // Those between come late, and once; of those before, what the window has is known.
      for (const uint64_t behind : {1U, 62U, 63U, 64U, 65U, 127U, 128U, 4030U, 4032U, 4094U, 4095U}) {
        const uint64_t number = highest - behind;
        const bool had = number >= start && number < start + 130;
        EXPECT_EQ(Takes(kB, number), !had) << behind << " behind";
        EXPECT_FALSE(Takes(kA, number)) << behind << " behind";
      }
    }
  }
}

TEST_P(FeedNumbers, FarAheadIsAnotherRun) {
  UseNumbers({});
  EXPECT_TRUE(Takes(kA, 7));
  EXPECT_TRUE(Takes(kA, 8 + HG_FEED_JUMP)) << "just not too far";
  EXPECT_EQ(Counted(), (Counts{.packets = 2, .missing = HG_FEED_JUMP}));
  const uint64_t other = 9 + HG_FEED_JUMP + HG_FEED_JUMP + 1;
  EXPECT_TRUE(Takes(kA, other));
  EXPECT_FALSE(Takes(kB, other));
  EXPECT_FALSE(Takes(kB, 9 + HG_FEED_JUMP)) << "of the former run";
  EXPECT_TRUE(Takes(kB, other + 1));
  EXPECT_EQ(Counted(),
            (Counts{.packets = 4, .duplicates = 1, .missing = HG_FEED_JUMP, .stale = 1, .restarts = 1}));
}

TEST_P(FeedNumbers, AfterQuietTheSequenceMayBeginAnew) {
  UseNumbers({});
  for (const uint64_t number : {4999, 5000}) EXPECT_TRUE(Takes(kA, number));
  Age(kSecond / 2);
  EXPECT_FALSE(Takes(kA, 10)) << "too early";
  EXPECT_FALSE(Takes(kA, 5000));
  Age(kSecond + kSecond / 2);
  EXPECT_TRUE(Takes(kA, 10));
  EXPECT_EQ(Counted(), (Counts{.packets = 3, .duplicates = 1, .stale = 1, .restarts = 1}));
  EXPECT_FALSE(Takes(kB, 10));
  EXPECT_TRUE(Takes(kA, 11));
  // Within the window, too: a sender that begins again after few packets.
  Age(kSecond + kSecond / 2);
  EXPECT_TRUE(Takes(kA, 10));
  EXPECT_FALSE(Takes(kB, 10));
  EXPECT_TRUE(Takes(kA, 11));
  EXPECT_EQ(Counted().restarts, 2U);
  // What follows is no new run, however late.
  Age(100 * kSecond);
  EXPECT_TRUE(Takes(kA, 12));
  EXPECT_EQ(Counted(), (Counts{.packets = 7, .duplicates = 3, .stale = 1, .restarts = 2}));
  // A clock that another CPU read later.
  Age(-kSecond);
  EXPECT_FALSE(Takes(kA, 12));
}

TEST_P(FeedNumbers, AreReadWhereverTheDatagramBegins) {
  UseNumbers({.offset = 5});
  uint64_t next = 1;
  const auto expect = [&](const char* name, const std::function<Bytes(const Bytes&)>& frame) {
    SCOPED_TRACE(name);
    const Bytes once = frame(PayloadOf(next++));
    EXPECT_TRUE(Takes(once));
    EXPECT_FALSE(Takes(once));
  };
  const auto linked = [&](const Packet& link) {
    return [this, link](const Bytes& payload) -> Bytes { return Frame(kA, payload, link); };
  };
  expect("untagged", linked(Packet(kEth)));
  expect("tagged", linked(kEth / Vlan{.id = 9}));
  expect("two tags", linked(kEth / Vlan{.id = 9, .tpid = 0x88a8} / Vlan{.id = 8}));
  if (ip().ipv6) {
    expect("extension header", [&](const Bytes& payload) -> Bytes {
      return kEth / ip().Ip("$FAR", kA) / Ipv6Extension{.type = IPPROTO_DSTOPTS, .extra_units = 2} / Udp{} /
             Payload(payload);
    });
  } else {
    expect("options", [&](const Bytes& payload) -> Bytes {
      const Ipv4 ip4{.source = ip().Expand("$FAR"), .destination = ip().Expand(kA), .options = Bytes(40, 1)};
      return kEth / ip4 / Udp{} / Payload(payload);
    });
  }
  expect("first fragment", [&](const Bytes& payload) -> Bytes {
    return kEth / ip().Fragment("$FAR", kA, 0) / Udp{.length = 1000, .checksum = 0x1234} / Payload(payload) /
           Payload(16);
  });
  EXPECT_EQ(Counted().missing, 0U);
}

TEST_P(FeedNumbers, AtTheFarthestOffsetThereIs) {
  UseNumbers({.offset = 1400, .width = 8});
  for (const uint64_t number : {1, 2}) {
    EXPECT_TRUE(Takes(kA, number));
    EXPECT_FALSE(Takes(kB, number));
  }
  EXPECT_EQ(Counted(), (Counts{.packets = 2, .duplicates = 2}));
}

TEST_P(FeedNumbers, WithoutOnePacketsAreRelayed) {
  UseNumbers({.offset = 8});
  EXPECT_TRUE(Takes(Frame(kA, Bytes(12))));
  for (int i = 0; i < 2; ++i) {
    EXPECT_TRUE(Takes(Frame(kA, Bytes(11)))) << "one byte too few";
    EXPECT_TRUE(Takes(Frame(kB, {})));
    EXPECT_TRUE(Takes(LaterFragment("$FAR", kA)));
    Bytes padded = Frame(kA, Bytes(9));
    padded.resize(padded.size() + 20);
    EXPECT_TRUE(Takes(padded)) << "what follows the packet is not read";
  }
  EXPECT_EQ(Counted(), (Counts{.packets = 1, .unread = 8}));
}

TEST_P(FeedNumbers, AreCountedWithoutDeduplication) {
  UseFeed(Sequence({}));
  for (const uint64_t number : {1, 4, 4, 3}) EXPECT_TRUE(Takes(kA, number));
  EXPECT_TRUE(Takes(kB, 4)) << "of a feed of its own";
  for (const uint64_t number : {5000, 10}) EXPECT_TRUE(Takes(kA, number));
  EXPECT_EQ(Counted("a"), (Counts{.packets = 4, .duplicates = 1, .missing = 1 + 4995, .late = 1, .stale = 1}));
  EXPECT_EQ(Counted("b"), (Counts{.packets = 1}));
}

// A feed goes on while it has a route; without one it is forgotten.
TEST_P(FeedNumbers, RoutesComeAndGo) {
  const auto configure = [&](const std::vector<std::string>& routes, const std::string& feed) {
    std::string text = "multicast_routes:\n";
    for (const std::string& route : routes) {
      absl::StrAppend(&text, "  - {name: ", route, ", input: {interfaces: [in], group: \"", route == "a" ? kA : kB,
                      "\"}, legs: [{interface: out}], ", Sequence({}), ", deduplicate: ", feed, "}\n");
    }
    gateway().Configure(ip().Expand(text));
  };
  configure({"a", "b"}, "{feed: f}");
  EXPECT_TRUE(Takes(kA, 100));
  configure({"b"}, "{feed: f}");
  EXPECT_FALSE(Takes(kB, 100)) << "what the deleted route had counts";
  configure({"a", "b"}, "{feed: f, window: 7}");
  EXPECT_FALSE(Takes(kA, 100)) << "neither does a route that comes make it forget";
  EXPECT_EQ(Counted(), (Counts{.packets = 1, .duplicates = 2}));
  configure({"a", "b"}, "{feed: g}");
  EXPECT_TRUE(Takes(kA, 100));
  EXPECT_FALSE(Takes(kB, 100));
  configure({"a", "b"}, "{}");
  EXPECT_TRUE(Takes(kA, 100));
  EXPECT_TRUE(Takes(kB, 100)) << "each its own";
  gateway().Configure("");
  configure({"a", "b"}, "{feed: f}");
  EXPECT_TRUE(Takes(kB, 100));
  EXPECT_EQ(Counted(), (Counts{.packets = 1}));
}

// Decided before it is settled who replicates.
TEST_P(FeedNumbers, OfRoutesThatWorkersReplicate) {
  numbers_ = {};
  Use("  - {name: a, input: {interfaces: [in], group: \"$G\"}, legs: [{name: x, interface: out}, {name: y, "
      "interface: "
      "out, port: 6}], " +
      Sequence({}) + ", deduplicate: {}}\n");
  const Bytes frame = Frame(kA, PayloadOf(1));
  EXPECT_EQ(gateway().Run(frame).reason, "drop_multicast_no_worker");
  EXPECT_EQ(gateway().Run(frame).reason, "drop_multicast_duplicate");
  EXPECT_EQ(Counted(), (Counts{.packets = 1, .duplicates = 1}));
}

TEST_P(FeedNumbers, TracedPacketsChangeNothing) {
  UseNumbers({});
  const auto row = [&] {
    const hg_feed feed = Feed();
    return Bytes(reinterpret_cast<const uint8_t*>(&feed), reinterpret_cast<const uint8_t*>(&feed + 1));
  };
  const auto trace = [&](const Bytes& frame) {
    const auto traced = program().dataplane().Trace(gateway().Port("in"), frame);
    EXPECT_TRUE(traced.ok()) << traced.status();
    return std::string(ReasonName(traced->record.reason));
  };
  const Bytes zero = row();
  EXPECT_EQ(trace(Frame(kA, PayloadOf(1))), "forward_multicast");
  EXPECT_EQ(row(), zero) << "of the first";
  for (const uint64_t number : {5000, 5003}) EXPECT_TRUE(Takes(kA, number));
  Age(kSecond / 2);
  const Bytes before = row();
  EXPECT_EQ(trace(Frame(kA, PayloadOf(5003))), "drop_multicast_duplicate");
  EXPECT_EQ(trace(Frame(kA, PayloadOf(5001))), "forward_multicast");
  EXPECT_EQ(trace(Frame(kA, PayloadOf(6000))), "forward_multicast");
  EXPECT_EQ(trace(Frame(kA, PayloadOf(10))), "drop_multicast_duplicate");
  EXPECT_EQ(trace(Frame(kA, PayloadOf(9'000'000))), "forward_multicast");
  EXPECT_EQ(trace(Frame(kA, {})), "forward_multicast");
  EXPECT_EQ(row(), before);
}

}  // namespace
}  // namespace headgate::testing
