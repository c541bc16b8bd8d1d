// SPDX-License-Identifier: Apache-2.0
//
// Many legs behind one device: a worker sends the packet once and the kernel copies it, where the device takes
// what XDP programs send; where it does not, workers send each copy.
#include <absl/strings/str_format.h>
#include <absl/strings/str_split.h>

#include "tests/e2e/multicast_fixture.h"
#include "tests/harness/workers.h"

namespace headgate::testing {
namespace {

constexpr char kUnicastMac[] = "02:00:00:00:00:77";

class MulticastCopier : public MulticastTest {
 protected:
  MulticastCopier() : MulticastTest("mccopier", 2) {}

  static Bytes In(const Bytes& payload, const char* source = "172.16.9.9") {
    return Ethernet{.destination = "01:00:5e:01:01:01"} / Ipv4{.source = source, .destination = "239.1.1.1"} /
           Udp{.source_port = 4000, .destination_port = 5001} / Payload(payload);
  }
  // Of a leg to 239.2.0.NUMBER.
  Bytes Out(int number, const Bytes& payload, const char* source = "172.16.9.9") {
    return Ethernet{.destination = absl::StrFormat("01:00:5e:02:00:%02x", number), .source = EgressMac(1)} /
           Ipv4{.source = source, .destination = absl::StrCat("239.2.0.", number), .ttl = 63} /
           Udp{.source_port = 4000, .destination_port = 5001} / Payload(payload);
  }
  // A route with so many legs to such groups, by the first interface.
  static std::string Route(int legs) {
    std::string route = "  - name: feed\n    input: {interfaces: [in], group: 239.1.1.1}\n    legs:\n";
    for (int i = 1; i <= legs; ++i) {
      absl::StrAppend(&route, "      - {name: l", i, ", interface: out1, group: 239.2.0.", i, "}\n");
    }
    return route;
  }
  // The agent's own devices, of the names' common part.
  std::vector<std::string> Devices() {
    std::vector<std::string> names;
    for (absl::string_view line : absl::StrSplit(lab().Ip("gw", "-br link"), '\n')) {
      if (absl::StartsWith(line, "hgcopy")) names.emplace_back(line.substr(0, line.find_first_of("@ ")));
    }
    return names;
  }
  uint64_t Transmitted() { return SumWorkers(api().Stats()).transmitted; }
  // What workers sent for one packet, all of whose copies come as they should.
  uint64_t SentFor(const Bytes& payload, int legs) {
    const uint64_t before = Transmitted();
    client().Send(In(payload));
    for (int i = 1; i <= legs; ++i) EXPECT_EQ(Received(1), Out(i, payload)) << "leg " << i;
    return Transmitted() - before;
  }
  void ExpectNoLoss(int legs) {
    for (int i = 1; i <= legs; ++i) {
      const pb::MulticastLegStats leg = Leg("feed", absl::StrCat("l", i));
      EXPECT_EQ(leg.offered_packets(), leg.sent_packets()) << leg.ShortDebugString();
    }
  }
};

TEST_F(MulticastCopier, ThePacketIsSentOnceForEachBundle) {
  constexpr int kLegs = 131;  // 64, 64 and 3
  Apply(Route(kLegs));
  NowAndAfterRestart([&] {
    ASSERT_TRUE(WaitFor([&] { return Fate(In(Bytes(100, 1))) == "forward_multicast_worker"; }));
    for (int i = 1; i <= kLegs; ++i) EXPECT_EQ(Received(1), Out(i, Bytes(100, 1)));
    for (const size_t size : {1, 18, 1400, 1472}) {
      EXPECT_EQ(SentFor(Bytes(size, static_cast<uint8_t>(size)), kLegs), 3U) << size;
    }
    EXPECT_EQ(Devices().size(), 2U);
  });
  ExpectNoLoss(kLegs);
  agent().Kill();
  EXPECT_EQ(Devices().size(), 2U) << "nobody is there to remove them";
  agent().Start();
  ASSERT_TRUE(WaitFor([&] { return Fate(In(Bytes(100, 2))) == "forward_multicast_worker"; }));
  EXPECT_EQ(Devices().size(), 2U) << "in place of the former";
  EXPECT_EQ(agent().Stop(), 0);
  EXPECT_EQ(Devices(), std::vector<std::string>{});
  agent().Start();
}

TEST_F(MulticastCopier, EachLegWritesItsCopy) {
  Apply(R"(
  - name: feed
    input: {interfaces: [in], group: 239.1.1.1}
    legs:
      - {name: plain, interface: out1}
      - {name: all, interface: out1, group: 239.2.2.2, port: 5002, source: egress, source_port: 6000, ttl: {set: 9}, dscp: 46}
      - {name: tagged, interface: out1, vlan: 42}
      - {name: head-end, interface: out1, unicast: 10.0.1.77, mac: "02:00:00:00:00:77", source: 10.9.9.9}
      - {name: far, interface: out1, group: 239.3.3.3, ttl: {threshold: 64}}
      - {name: slow, interface: out1, group: 239.4.4.4, rate_limit: {packets_per_second: 1, burst: 1}}
)");
  const Bytes payload(1472, 0x31);
  const auto copy = [&](const char* mac, const Ipv4& ip) {
    return Ethernet{.destination = mac, .source = EgressMac(1)} / ip;
  };
  const Ipv4 plain{.source = "172.16.9.9", .destination = "239.1.1.1", .ttl = 63};
  const Udp udp{.source_port = 4000, .destination_port = 5001};
  NowAndAfterRestart([&] {
    ASSERT_TRUE(WaitFor([&] { return Fate(In(payload)) == "forward_multicast_worker"; }));
    EXPECT_EQ(Received(1), (copy("01:00:5e:01:01:01", plain) / udp / Payload(payload)).Build());
    EXPECT_EQ(Received(1), (copy("01:00:5e:02:02:02",
                                 {.source = "10.0.1.1", .destination = "239.2.2.2", .ttl = 9, .tos = 46 << 2}) /
                            Udp{.source_port = 6000, .destination_port = 5002} / Payload(payload))
                               .Build());
    EXPECT_EQ(Received(1), (Ethernet{.destination = "01:00:5e:01:01:01", .source = EgressMac(1)} / Vlan{.id = 42} /
                            plain / udp / Payload(payload))
                               .Build());
    EXPECT_EQ(Received(1), (copy(kUnicastMac, {.source = "10.9.9.9", .destination = "10.0.1.77", .ttl = 63}) /
                            udp / Payload(payload))
                               .Build());
    // A packet a second: of what this test sends it may be the first.
    client().Send(In(Bytes(9, 9)));
    const Bytes next = Received(1);
    if (next != (copy("01:00:5e:01:01:01", plain) / udp / Payload(Bytes(9, 9))).Build()) {
      EXPECT_EQ(next, (copy("01:00:5e:04:04:04", {.source = "172.16.9.9", .destination = "239.4.4.4", .ttl = 63}) /
                       udp / Payload(payload))
                          .Build());
      EXPECT_FALSE(Received(1).empty());
    }
    for (int i = 0; i < 3; ++i) EXPECT_FALSE(Received(1).empty());
    ASSERT_TRUE(WaitFor([&] { return Leg("feed", "slow").dropped_limited_packets() != 0; }));
    for (const char* leg : {"plain", "all", "tagged", "head-end", "far", "slow"}) ExpectAccount(Leg("feed", leg));
    EXPECT_EQ(Leg("feed", "far").dropped_ttl_packets(), Leg("feed", "far").offered_packets());
    EXPECT_EQ(Leg("feed", "all").sent_packets(), Leg("feed", "all").offered_packets());
  });
}

// A device whose far end reads no redirected frames gets each copy from a worker, and one that begins to does not.
TEST_F(MulticastCopier, OnlyDevicesThatTakeCopies) {
  constexpr int kLegs = 5;
  lab().In("r1", "ethtool -K d1 gro off");
  Apply(Route(kLegs));
  const Bytes payload(200, 0x32);
  const auto sends = [&](uint64_t frames) { return WaitFor([&] { return SentFor(payload, kLegs) == frames; }); };
  NowAndAfterRestart([&] {
    ASSERT_TRUE(WaitFor([&] { return Fate(In(payload)) == "forward_multicast_worker"; }));
    for (int i = 1; i <= kLegs; ++i) EXPECT_EQ(Received(1), Out(i, payload));
    EXPECT_TRUE(sends(kLegs));
  });
  lab().In("r1", "ethtool -K d1 gro on");
  EXPECT_TRUE(sends(1));
  ExpectNoLoss(kLegs);
}

// The agent's own devices, too, may go.
TEST_F(MulticastCopier, ComesBack) {
  constexpr int kLegs = 5;
  Apply(Route(kLegs));
  const Bytes payload(200, 0x32);
  ASSERT_TRUE(WaitFor([&] { return Fate(In(payload)) == "forward_multicast_worker"; }));
  for (int i = 1; i <= kLegs; ++i) EXPECT_EQ(Received(1), Out(i, payload));
  EXPECT_EQ(SentFor(payload, kLegs), 1U);
  ASSERT_EQ(Devices().size(), 2U);
  lab().Ip("gw", "link del " + Devices()[0]);
  const auto served = [&] {
    client().Send(In(payload));
    return WaitFor([&] { return Received(1) == Out(kLegs, payload); }, std::chrono::milliseconds(100));
  };
  EXPECT_TRUE(WaitFor(served));
  EXPECT_EQ(Devices().size(), 2U);
  lab().Ip("gw", "link del e1");
  MakeReceiver(1);
  OpenReceiver(1);
  EXPECT_TRUE(WaitFor(served));
  for (int i = 1; i <= kLegs; ++i) ExpectAccount(Leg("feed", absl::StrCat("l", i)));
  Apply(Route(2));
  EXPECT_TRUE(WaitFor([&] { return Devices().empty(); })) << "no route needs it";
  Apply(Route(kLegs));
  EXPECT_TRUE(WaitFor([&] { return Devices().size() == 2; }));
  EXPECT_TRUE(WaitFor(served));
}

// Packets that one worker receives and another replicates, which cannot send the former's frames: by the copier
// and by sockets.
class SpreadMulticast : public MulticastCopier, public ::testing::WithParamInterface<int> {};
INSTANTIATE_TEST_SUITE_P(Legs, SpreadMulticast, ::testing::Values(2, 5));

TEST_P(SpreadMulticast, OverWorkers) {
  const int legs = GetParam();
  api().ApplyYaml(interfaces_ + "steer_targets: [{name: t, handler: {count: {}}, workers: {count: 2}}]\n" +
                  "multicast_routes:\n" + Route(legs));
  NowAndAfterRestart([&] {
    ASSERT_TRUE(WaitFor([&] { return SumWorkers(api().Stats()).alive == 2; }));
    ASSERT_TRUE(WaitFor([&] { return Fate(In(Bytes(9, 9))) == "forward_multicast_worker"; }));
    for (int i = 1; i <= legs; ++i) EXPECT_EQ(Received(1), Out(i, Bytes(9, 9)));
    // Of so many senders both workers have some.
    for (int sender = 1; sender <= 32; ++sender) {
      const std::string source = absl::StrCat("172.16.9.", sender);
      const Bytes payload(1000, static_cast<uint8_t>(sender));
      client().Send(In(payload, source.c_str()));
      for (int i = 1; i <= legs; ++i) EXPECT_EQ(Received(1), Out(i, payload, source.c_str()));
    }
    ExpectNoLoss(legs);
  });
}

}  // namespace
}  // namespace headgate::testing
