// SPDX-License-Identifier: Apache-2.0
//
// Two redundant multicast routes and what their feed had.
#pragma once

#include <time.h>

#include <utility>
#include <vector>

#include "tests/bpf/multicast_gateway.h"

namespace headgate::testing {

class FeedTest : public MulticastProgramTest {
 protected:
  static constexpr char kA[] = "$G", kB[] = "$G2";
  struct Numbers {
    size_t offset = 0;
    size_t width = 4;
    bool little_endian = false;
  };

  // Routes a and b, of the groups kA and kB; `how` is what both have beside input and leg.
  void UseFeed(const std::string& how) {
    Use("  - {name: a, input: {interfaces: [in], group: \"$G\"}, legs: [{interface: out}], " + how +
        "}\n  - {name: b, input: {interfaces: [in], group: \"$G2\"}, legs: [{interface: gone}], " + how + "}\n");
  }
  void UseNumbers(const Numbers& numbers, const std::string& window = "") {
    numbers_ = numbers;
    UseFeed(absl::StrCat(Sequence(numbers), ", deduplicate: {feed: f", window.empty() ? "" : ", window: ", window,
                         "}"));
  }
  static std::string Sequence(const Numbers& numbers) {
    return absl::StrCat("sequence: {offset: ", numbers.offset, ", width: ", numbers.width,
                        ", little_endian: ", numbers.little_endian ? "true" : "false", "}");
  }

  Bytes PayloadOf(uint64_t number) const {
    Bytes payload(numbers_.offset + numbers_.width + 3, 0xee);
    for (size_t i = 0; i < numbers_.width; ++i) {
      const size_t shift = 8 * (numbers_.little_endian ? i : numbers_.width - 1 - i);
      payload[numbers_.offset + i] = static_cast<uint8_t>(number >> shift);
    }
    return payload;
  }
  Packet Frame(const char* group, const Bytes& payload, const Packet& link = Packet(kEth)) const {
    return link / ip().Ip("$FAR", group) / Udp{.source_port = 4000, .destination_port = 5001} / Payload(payload);
  }
  // Whether a packet is relayed; a trace beforehand has said the same.
  bool Takes(const Bytes& frame) {
    const std::string reason = gateway().Run(frame).reason;
    if (reason != "forward_multicast") {
      EXPECT_EQ(reason, "drop_multicast_duplicate");
    }
    return reason == "forward_multicast";
  }
  bool Takes(const char* group, uint64_t number) {
    SCOPED_TRACE(absl::StrCat(group, " ", number));
    return Takes(Frame(group, PayloadOf(number)));
  }

  uint32_t FeedId(const std::string& route = "a") {
    return gateway().state().multicast_feeds.Get(FeedKey(*gateway().state().multicast_routes.Get(route)))->id;
  }
  hg_feed Feed(const std::string& route = "a") {
    const uint32_t id = FeedId(route);
    hg_feed feed{};
    EXPECT_EQ(bpf_map_lookup_elem(program().OpenMap("hg_feeds").get(), &id, &feed), 0);
    return feed;
  }
  // As if the highest number had come so long ago.
  void Age(uint64_t nanoseconds, const std::string& route = "a") {
    const uint32_t id = FeedId(route);
    hg_feed feed = Feed(route);
    feed.time = Now() - nanoseconds;
    ASSERT_EQ(bpf_map_update_elem(program().OpenMap("hg_feeds").get(), &id, &feed, BPF_ANY), 0);
  }
  static uint64_t Now() {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
  }

  // Those that are not named are 0.
  struct Counts {
    uint64_t packets = 0, duplicates = 0, missing = 0, late = 0, stale = 0, restarts = 0, unread = 0;
    friend bool operator==(const Counts&, const Counts&) = default;
    friend void PrintTo(const Counts& c, std::ostream* out) {
      *out << c.packets << " packets, " << c.duplicates << " duplicates, " << c.missing << " missing, " << c.late
           << " late, " << c.stale << " stale, " << c.restarts << " restarts, " << c.unread << " unread";
    }
  };
  Counts Counted(const std::string& route = "a") {
    const hg_feed feed = Feed(route);
    return {feed.packets, feed.duplicates, feed.missing, feed.late, feed.stale, feed.restarts, feed.unread};
  }

  Numbers numbers_;
};

}  // namespace headgate::testing
