// SPDX-License-Identifier: Apache-2.0
//
// hgctl's view of multicast routes and of workers: counters and rates.
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <thread>

#include "tests/e2e/hgctl_fixture.h"

namespace headgate::testing {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;

Bytes ToGroup(uint8_t ttl) {
  return Ethernet{.destination = "01:00:5e:01:01:01"} / Ipv4{.destination = "239.1.1.1", .ttl = ttl} / Udp{} /
         Payload(50);
}

bool IsUdp(const Bytes& frame) { return IsIp(frame, IPPROTO_UDP); }

TEST_F(HgctlTest, MulticastRoutesAreCountedByLeg) {
  Print({"apply", "--patch", "-f", "-", "--wait"}, R"(
delete_rules: [wire]
upsert:
  multicast_routes:
    - {name: feed, input: {interfaces: [in], group: 239.1.1.1}, legs: [{interface: out, ttl: {threshold: 8}}]}
)");
  const auto stats = [&] { return Unaligned(Print({"stats", "mroute"})); };
  EXPECT_EQ(stats(), "MULTICAST ROUTE LEG PACKETS BYTES LAST DROPPED\nfeed 0 0 -\nout 0 0 -\n");
  for (int i = 0; i < 3; ++i) client().Send(ToGroup(64));
  ASSERT_EQ(server().ReceiveCount(IsUdp, 3), 3u);
  for (int i = 0; i < 2; ++i) client().Send(ToGroup(5));
  NowAndAfterRestart([&] {
    EXPECT_TRUE(WaitFor([&] { return stats().find("2 ttl") != std::string::npos; }));
    // Frames of 92 bytes.
    EXPECT_THAT(stats(), MatchesRegex("MULTICAST [^\n]*\nfeed 5 460 [0-9]+m?s\nout 3 276 2 ttl\n"));
    EXPECT_THAT(Unaligned(Print({"stats"})), HasSubstr("\nout 3 276 2 ttl\n"));
    EXPECT_EQ(Hgctl({"stats", "mroute", "feed", "food"}).err, "hgctl: nothing is counted by the name \"food\"\n");
  });
}

TEST_F(HgctlTest, TopShowsTheRatesOfRoutesAndLegs) {
  Print({"apply", "--patch", "-f", "-", "--wait"}, R"(
delete_rules: [wire]
upsert:
  multicast_routes:
    - name: feed
      input: {interfaces: [in], group: 239.1.1.1}
      legs: [{interface: out, rate_limit: {packets_per_second: 1000}}]
)");
  const std::jthread sender([this](const std::stop_token& stop) {
    for (const Bytes frame = ToGroup(64); !stop.stop_requested(); std::this_thread::yield()) client().Send(frame);
  });
  // However busy the machine is, some interval has more packets than the limit lets pass, and some that it does.
  std::string text;
  const auto shows = [&text](const char* pattern) { return ::testing::Matches(ContainsRegex(pattern))(text); };
  EXPECT_TRUE(WaitFor([&] {
    text = Print({"top", "mroute", "-n", "1", "--interval", "300ms"});
    return shows("\nfeed +[1-9][0-9.k]* ") && shows("\n +out +[1-9][0-9.k]* +[0-9.kM]+ +[1-9][0-9.kM]*\n");
  })) << text;
  EXPECT_THAT(text, ContainsRegex("1 multicast-route  [0-9.kM]+ packets/s  [0-9.kM]+ bit/s\n"
                                  "MULTICAST ROUTE +LEG +PACKETS/S +BIT/S +DROPPED +MISSING +LAST\n"
                                  "feed [^\n]* [0-9]+m?s\n"));
}

TEST_F(HgctlTest, WorkersAreShownWhileTheyAreThere) {
  const auto patch = [&](const std::string& yaml) { Print({"apply", "--patch", "-f", "-", "--wait"}, yaml); };
  patch(R"(
upsert:
  steer_targets: [{name: count, handler: {count: {}}}]
  rules: [{name: count, priority: 60, match: {protocol: udp, destination_ports: ["77"]}, action: {steer: {target: count}}}]
)");
  const Bytes frame = Ethernet{} / Ipv4{} / Udp{.destination_port = 77} / Payload(50);
  pb::StatsResponse stats;
  const auto read = [&] {
    stats.Clear();
    EXPECT_TRUE(ParseJson(Print({"stats", "workers", "-o", "json"}), "json", stats).ok());
    return stats.workers_size() == 1;
  };
  ASSERT_TRUE(WaitFor([&] {
    client().Send(frame);
    return read() && stats.workers(0).received_packets() != 0;
  }));
  EXPECT_EQ(stats.interfaces_size() + stats.rules_size() + stats.counters_size() + stats.multicast_routes_size(),
            0);
  EXPECT_THAT(Print({"stats", "workers"}),
              MatchesRegex("WORKER +RECEIVED [^\n]*\n0 +[1-9][^\n]* in/0 copy[^\n]*\n"));
  const auto top = [&] { return Print({"top", "workers", "-n", "1", "--interval", "100ms"}); };
  EXPECT_THAT(top(), ContainsRegex("  1 worker  [^\n]*\nWORKER [^\n]*\n0 [^\n]*/[1-9][0-9]*\n"));
  // Its counters remain, its row does not.
  patch("delete_rules: [count]\ndelete_steer_targets: [count]\n");
  std::string text;
  EXPECT_TRUE(WaitFor([&] { return (text = top()).find("  0 workers  ") != std::string::npos; })) << text;
  EXPECT_THAT(text, Not(HasSubstr("\n0 ")));
  EXPECT_TRUE(read() && stats.workers(0).received_packets() != 0 && stats.workers(0).frames() == 0);
}

}  // namespace
}  // namespace headgate::testing
