// SPDX-License-Identifier: Apache-2.0
//
// Counters and rates as people read them.
#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "agent/api/text.h"
#include "cli/render_multicast.h"
#include "cli/render_stats.h"
#include "cli/table.h"

namespace headgate::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

v1::StatsResponse Stats(const std::string& yaml) {
  v1::StatsResponse stats;
  const absl::Status status = ParseYaml(yaml, "test", stats);
  EXPECT_TRUE(status.ok()) << status;
  return stats;
}

constexpr char kStats[] = R"(
interfaces:
  - name: uplink
    received_packets: 10
    received_bytes: 1000
    reasons:
      - {reason: pass_rule, class: pass, packets: 1, bytes: 100}
      - {reason: pass_default, class: pass, packets: 1, bytes: 100}
      - {reason: forward_route, class: forward, packets: 3, bytes: 300}
      - {reason: drop_rule, class: drop, packets: 4, bytes: 400}
      - {reason: ipv4_short, class: malformed, packets: 1, bytes: 100}
      - {reason: drop_default, class: drop}
    transmitted_packets: 7
    transmit_dropped_packets: 5
    transmit_refused_packets: 6
rules: [{name: r, packets: 9, bytes: 900, limited_packets: 2}]
counters: [{name: c, packets: 8, bytes: 800}]
unconfigured_packets: 3
samples_lost: 2
)";

TEST(StatsTest, TablesHaveEveryCounterWithItsReason) {
  EXPECT_EQ(
      StatsText(Stats(kStats), 0),
      "INTERFACE  RECEIVED  BYTES  PASSED  FORWARDED  DROPPED  MALFORMED  SENT  SEND DROPPED  SEND REFUSED\n"
      "uplink           10   1000       2          3        4          1     7             5             6\n"
      "\n"
      "INTERFACE  REASON         CLASS      PACKETS  BYTES  MEANING\n"
      "uplink     pass_rule      pass             1    100  a rule said pass\n"
      "uplink     pass_default   pass             1    100  no rule matched and the default action is pass\n"
      "uplink     forward_route  forward          3    300  forwarded by the kernel's routes and neighbours\n"
      "uplink     drop_rule      drop             4    400  a rule said drop\n"
      "uplink     ipv4_short     malformed        1    100  ends within the IPv4 header\n"
      "\n"
      "RULE  PACKETS  BYTES  LIMITED\n"
      "r           9    900        2\n"
      "\n"
      "COUNTER  PACKETS  BYTES\n"
      "c              8    800\n"
      "\n"
      "3 packets arrived on devices that are not interfaces\n"
      "\n"
      "2 samples were lost\n");
}

TEST(StatsTest, WhatIsNotThereHasNoTable) {
  EXPECT_EQ(StatsText(v1::StatsResponse(), 0), "nothing counted\n");
  const std::string text = StatsText(Stats("rules: [{name: r}]"), 0);
  EXPECT_EQ(text, "RULE  PACKETS  BYTES  LIMITED\nr           0      0        0\n");
}

TEST(StatsTest, ANarrowTerminalCutsTheMeaningOnly) {
  for (const auto line : absl::StrSplit(ReasonTable(Stats(kStats), 70), '\n')) EXPECT_LE(DisplayWidth(line), 70u);
  EXPECT_THAT(ReasonTable(Stats(kStats), 70),
              HasSubstr("uplink     ipv4_short     malformed        1    100  ends w"));
}

TEST(StatsTest, EveryReasonHasAMeaning) {
  EXPECT_EQ(ReasonText("drop_rate_limit"), "above the rule's rate limit");
  EXPECT_EQ(ReasonText("no_such_reason"), "");
}

constexpr char kMulticast[] = R"(
multicast_routes:
  - name: feed
    packets: 100
    bytes: 10000
    last_packet_age: 0.0125s
    feed: {packets: 60, duplicate_packets: 40, missing_packets: 3, late_packets: 4, stale_packets: 5, unread_packets: 6, restarts: 7}
    legs:
      - {name: out, offered_packets: 100, sent_packets: 100, sent_bytes: 9000}
      - {name: 10.0.0.9, offered_packets: 100, sent_packets: 64, sent_bytes: 6400, dropped_ttl_packets: 1,
         dropped_limited_packets: 2, dropped_no_source_packets: 3, dropped_malformed_packets: 4,
         dropped_no_device_packets: 5, dropped_no_neighbour_packets: 6, dropped_too_big_packets: 7,
         dropped_tx_full_packets: 8, fragments: 9,
         dropped_no_listener_packets: 10}
  - {name: silent, legs: [{name: out}]}
  - {name: orderly, feed: {packets: 5}}
)";

TEST(StatsTest, MulticastLegsSayWhyTheyDropped) {
  EXPECT_EQ(StatsText(Stats(kMulticast), 0),
            "MULTICAST ROUTE  LEG       PACKETS  BYTES  LAST  DROPPED\n"
            "feed                           100  10000  12ms  "
            "40 duplicate, 3 missing, 4 late, 5 stale, 6 unread, 7 restarts\n"
            "                 out           100   9000        -\n"
            "                 10.0.0.9       64   6400        "
            "1 ttl, 2 limited, 3 no source, 4 malformed, 5 no device, 6 no neighbour, 7 too big, 8 tx full, 10 no "
            "listener\n"
            "silent                           0      0     -\n"
            "                 out             0      0        -\n"
            "orderly                          0      0     -  -\n");
}

TEST(StatsTest, TheLastPacketIsAsLongAgoAsItWas) {
  const auto last = [](const std::string& age) {
    return LastPacketText(
        Stats("multicast_routes: [{name: r, last_packet_age: " + age + "}]").multicast_routes(0));
  };
  EXPECT_EQ(last("0s"), "0ms");
  EXPECT_EQ(last("0.9999s"), "999ms");
  EXPECT_EQ(last("1s"), "1s");
  EXPECT_EQ(last("3725s"), "1h 2m");
}

// ---- top -------------------------------------------------------------------------------------------------------

std::string Interfaces(int seconds, const std::string& list) {
  return absl::StrCat("time: '2026-01-02T03:04:", seconds, "Z'\ninterfaces:\n", list);
}

std::string Interface(const std::string& name, uint64_t packets, uint64_t bytes, uint64_t drops) {
  return absl::StrCat("  - {name: ", name, ", received_packets: ", packets, ", received_bytes: ", bytes,
                      ", transmitted_packets: ", 2 * packets,
                      ", reasons: [{reason: drop_rule, class: drop, packets: ", drops,
                      "}, {reason: pass_rule, class: pass, packets: ", packets - drops, "}]}\n");
}

TEST(TopTest, ShowsRatesBetweenTwoReadings) {
  const auto before = Stats(Interfaces(10, Interface("a", 100, 1000, 0) + Interface("b", 0, 0, 0)));
  const auto now = Stats(Interfaces(12, Interface("a", 300, 251000, 100) + Interface("b", 5000, 10, 0)));
  EXPECT_EQ(TopText(before, now, TopView::kInterfaces, TopOrder::kPackets, {}, absl::UTCTimeZone()),
            "2026-01-02 03:04:12  2 interfaces  2.60k packets/s  1.00M bit/s\n"
            "INTERFACE  PACKETS/S  BIT/S   PASS  FORWARD  DROP  MALFORMED   SENT  NOT SENT\n"
            "b              2.50k     40  2.50k        0     0          0  5.00k         0\n"
            "a                100  1.00M     50        0    50          0    200         0\n");
  const auto order = [&](TopOrder by) {
    const std::string text = TopText(before, now, TopView::kInterfaces, by, {}, absl::UTCTimeZone());
    return text.find("\na ") < text.find("\nb ") ? "ab" : "ba";
  };
  EXPECT_EQ(order(TopOrder::kBits), std::string("ab"));
  EXPECT_EQ(order(TopOrder::kName), std::string("ab"));
}

TEST(TopTest, ObjectsThatComeGoOrStartAgain) {
  const auto before = Stats(Interfaces(10, Interface("gone", 100, 1000, 0) + Interface("reset", 1000, 1000, 0)));
  const auto now = Stats(Interfaces(11, Interface("reset", 10, 10, 0) + Interface("new", 500, 500, 0)));
  const std::string text = TopText(before, now, TopView::kInterfaces, TopOrder::kPackets, {}, absl::UTCTimeZone());
  EXPECT_THAT(text, HasSubstr("1 interface "));
  EXPECT_THAT(text, HasSubstr("\nreset             10"));
  EXPECT_THAT(text, AllOf(Not(HasSubstr("gone")), Not(HasSubstr("new"))));
}

TEST(TopTest, FitsTheScreen) {
  std::string before, now;
  for (int i = 0; i < 100; ++i) {
    const std::string name = absl::StrCat("rule-with-a-long-name-", i);
    absl::StrAppend(&before, "  - {name: ", name, "}\n");
    absl::StrAppend(&now, "  - {name: ", name, ", packets: ", 1000 + i, ", bytes: 1, limited_packets: 1}\n");
  }
  const std::string text = TopText(Stats("time: '2026-01-02T03:04:10Z'\nrules:\n" + before),
                                   Stats("time: '2026-01-02T03:04:11Z'\nrules:\n" + now), TopView::kRules,
                                   TopOrder::kPackets, {.width = 40, .height = 10}, absl::UTCTimeZone());
  const std::vector<std::string> lines = absl::StrSplit(text, '\n', absl::SkipEmpty());
  EXPECT_EQ(lines.size(), 10u);
  for (const std::string& line : lines) EXPECT_LE(DisplayWidth(line), 40u) << line;
  EXPECT_THAT(lines[2], HasSubstr("1.10k"));
}

TEST(TopTest, WorkersHaveARowEach) {
  const auto before = Stats(R"(
time: '2026-01-02T03:04:10Z'
workers:
  - {index: 0, received_packets: 1000, cpu_seconds: 1.0}
  - {index: 1}
  - {index: 2, received_packets: 5, processed_packets: 5, cpu_seconds: 9.0}
  - {index: 3}
  - {index: 7}
)");
  const auto now = Stats(R"(
time: '2026-01-02T03:04:12Z'
workers:
  - {index: 0, received_packets: 201000, received_bytes: 250000, processed_packets: 100000, transmitted_packets: 90000,
     dropped_handler_packets: 2, dropped_overload_packets: 4, dropped_handover_packets: 6, kernel_rx_ring_full_packets: 8,
     wakeups: 1000, cpu_seconds: 2.5, waiting_packets: 1024, receive_ring_packets: 4096, free_frames: 100, frames: 8192}
  - {index: 1, free_frames: 8, frames: 8}
  - {index: 2, received_packets: 5, processed_packets: 5, cpu_seconds: 9.0}
  - {index: 3, kernel_other_packets: 2}
)");
  // Of those that have no frames any more, one did something after the first reading.
  EXPECT_EQ(
      TopText(before, now, TopView::kWorkers, TopOrder::kPackets, {}, absl::UTCTimeZone()),
      "2026-01-02 03:04:12  3 workers  100k packets/s  1.00M bit/s\n"
      "WORKER  PACKETS/S  BIT/S  PROCESSED   SENT  DROPPED  IN KERNEL  PER WAKEUP  CPU  RING  FREE FRAMES\n"
      "0            100k  1.00M      50.0k  45.0k        6          4         100  75%   25%     100/8192\n"
      "1               0      0          0      0        0          0           -   0%    0%          8/8\n"
      "3               0      0          0      0        0          1           -   0%    0%          0/0\n");
}

std::string Routes(int seconds, const std::string& list) {
  return absl::StrCat("time: '2026-01-02T03:04:", seconds, "Z'\nmulticast_routes:\n", list);
}

TEST(TopTest, MulticastRoutesHaveTheirLegsBelowThem) {
  const auto before = Stats(Routes(10, R"(
  - {name: a, packets: 100, bytes: 10000, legs: [{name: y, sent_packets: 100, sent_bytes: 10000}, {name: x}]}
  - {name: b, packets: 0, legs: [{name: only}]}
  - {name: gone, legs: [{name: only}]}
)"));
  const auto now = Stats(Routes(12, R"(
  - name: a
    packets: 300
    bytes: 260000
    last_packet_age: 2s
    feed: {packets: 9, missing_packets: 17}
    legs:
      - {name: y, sent_packets: 280, sent_bytes: 135000, dropped_ttl_packets: 2, dropped_tx_full_packets: 18}
      - {name: x, sent_packets: 2000, sent_bytes: 20}
      - {name: new, sent_packets: 9}
  - {name: b, packets: 5000, bytes: 50, last_packet_age: 0.004s, legs: [{name: only, dropped_limited_packets: 5000}]}
  - {name: new, packets: 1}
)"));
  EXPECT_EQ(TopText(before, now, TopView::kMulticastRoutes, TopOrder::kPackets, {}, absl::UTCTimeZone()),
            "2026-01-02 03:04:12  2 multicast-routes  2.60k packets/s  1.00M bit/s\n"
            "MULTICAST ROUTE  LEG   PACKETS/S  BIT/S  DROPPED  MISSING  LAST\n"
            "b                          2.50k    200                     4ms\n"
            "                 only          0      0    2.50k\n"
            "a                            100  1.00M                17    2s\n"
            "                 y            90   500k       10\n"
            "                 x         1.00k     80        0\n");
  EXPECT_THAT(TopText(before, now, TopView::kMulticastRoutes, TopOrder::kBits, {}, absl::UTCTimeZone()),
              ::testing::ContainsRegex("\na  .*\n +y .*\n +x .*\nb  .*\n +only "));
  // What does not fit is cut off, legs, too.
  EXPECT_THAT(TopText(before, now, TopView::kMulticastRoutes, TopOrder::kName, {.height = 4}, absl::UTCTimeZone()),
              ::testing::EndsWith("\n                 y           90   500k       10\n"));
}

}  // namespace
}  // namespace headgate::cli
