// SPDX-License-Identifier: Apache-2.0
//
// What workers make of a multicast packet, byte for byte, frame by frame. The expected frames, checksums included,
// are built by the tests' own packet library.
#include "agent/slowpath/multicast_handler.h"

#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>

#include "agent/slowpath/checksum.h"
#include "tests/harness/memory_output.h"
#include "tests/harness/memory_packet.h"
#include "tests/harness/random.h"

namespace headgate::testing {
namespace {

constexpr uint32_t kRoute = 3;
constexpr uint64_t kFirst = 0x123456789abcdef0;  // number of a packet for the copier, less one
constexpr uint32_t kHeadroom = 256;
const Ethernet kIn = {.destination = "01:00:5e:01:01:01", .source = "02:00:00:00:00:02"};
const Ethernet kOut = {.destination = "01:00:5e:01:01:01", .source = "02:00:00:00:00:aa"};

Bytes Content(size_t size) {
  Bytes bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<uint8_t>(i * 7 + i / 251);
  return bytes;
}

PlannedLeg Leg(uint32_t id, uint16_t port = 5) {
  PlannedLeg leg{.id = id, .mtu = 1500};
  leg.leg.port = port;
  leg.source_mac[0] = 2;
  leg.source_mac[5] = 0xaa;
  return leg;
}

class MulticastHandlerTest : public ::testing::Test {
 protected:
  MulticastHandlerTest() : counts_(HG_LEGS), limiters_(HG_LEGS) {}

  // A packet of the route comes, in frames of the pool, parts of so many bytes at most.
  Disposition Replicate(const Bytes& frame, const std::vector<PlannedLeg>& legs, uint32_t part = 1700,
                        uint32_t route = kRoute) {
    MulticastPlan plan;
    plan.routes.resize(kRoute + 1);
    plan.routes[kRoute] = {protocol_, legs, bundles_};
    plan.listeners = listeners_;
    MulticastHandler handler({std::make_shared<const MulticastPlan>(plan)},
                             MulticastAccount(counts_.data(), limiters_.data()), kFirst);
    std::vector<Segment> segments;
    for (size_t begin = 0; begin < frame.size(); begin += part) {
      Segment segment;
      EXPECT_TRUE(output_.Take(segment));
      segment.address += kHeadroom;
      segment.data += kHeadroom;
      segment.length = static_cast<uint32_t>(std::min<size_t>(part, frame.size() - begin));
      std::copy_n(&frame[begin], segment.length, segment.data);
      segments.push_back(segment);
    }
    headgate::Packet packet{.meta = SteerMeta(frame),
                            .segments = absl::MakeSpan(segments),
                            .length = static_cast<uint32_t>(frame.size()),
                            .borrowed = borrowed_};
    packet.meta.rule_id = route;
    packet.meta.target = HG_TARGET_MULTICAST;
    handler.Handle(absl::MakeSpan(&packet, 1), output_);
    output_.Release(segments);
    EXPECT_EQ(output_.pool().free(), output_.pool().total()) << "a frame is lost";
    return packet.disposition;
  }
  const hg_leg_count& Count(uint32_t leg) const { return counts_[leg]; }
  void ExpectSent(size_t index, uint32_t port, const Bytes& frame) {
    ASSERT_LT(index, output_.sent_.size());
    EXPECT_EQ(output_.sent_[index].port, port);
    EXPECT_EQ(output_.sent_[index].frame, frame);
  }
  // Each copy is in a counter.
  void ExpectAccount(uint32_t leg) {
    const hg_leg_count& c = Count(leg);
    EXPECT_EQ(c.offered, c.packets + c.ttl + c.limited + c.no_source + c.malformed + c.no_listener +
                             c.no_neighbour + c.too_big + c.tx_full);
  }

  MemoryOutput output_;
  std::vector<hg_leg_count> counts_;
  std::vector<uint64_t> limiters_;
  uint8_t protocol_ = IPPROTO_UDP;
  std::vector<LegBundle> bundles_;
  bool borrowed_ = false;
  std::shared_ptr<const ListenerTable> listeners_;  // null: nobody listens
};

Packet Datagram(const Bytes& payload, Ipv4 ip = {}) {
  ip.source = "172.16.9.9";
  ip.destination = "239.1.1.1";
  return kIn / ip / Udp{.source_port = 4000, .destination_port = 5001} / Payload(payload);
}
Packet CopyOf(const Bytes& payload, Ipv4 ip = {}) {
  ip.source = "172.16.9.9";
  ip.destination = "239.1.1.1";
  --ip.ttl;
  return kOut / ip / Udp{.source_port = 4000, .destination_port = 5001} / Payload(payload);
}

void Rewrite(PlannedLeg& leg) {
  leg.leg.flags =
      HG_LEG_SOURCE | HG_LEG_DESTINATION | HG_LEG_SOURCE_PORT | HG_LEG_DESTINATION_PORT | HG_LEG_DSCP | HG_LEG_TTL;
  leg.leg.src[0] = htonl(0x0a090909);
  leg.leg.dst[0] = htonl(0xef020202);
  const uint8_t mac[] = {0x01, 0x00, 0x5e, 0x02, 0x02, 0x02};
  std::copy_n(mac, 6, leg.leg.dmac);
  leg.leg.sport = htons(6000);
  leg.leg.dport = htons(5002);
  leg.leg.dscp = 46;
  leg.leg.ttl = 9;
}

hg_listener Listener(uint32_t port, uint32_t group, uint32_t source) {
  return {.port = port, .group = {htonl(group)}, .source = {htonl(source)}};
}

// By port, group and source that copies leave with; before the rate limit.
TEST_F(MulticastHandlerTest, OnJoinOnlyWhatIsListenedTo) {
  constexpr uint32_t kGroup = 0xef010101, kSource = 0xac100909, kNewGroup = 0xef020202, kNewSource = 0x0a090909;
  PlannedLeg kept = Leg(1), written = Leg(2, 6);
  Rewrite(written);
  kept.leg.flags |= HG_LEG_ON_JOIN | HG_LEG_POLICE;
  kept.leg.police_cost = 1;
  kept.leg.police_depth = 1;
  written.leg.flags |= HG_LEG_ON_JOIN;
  struct Case {
    const char* name;
    std::vector<std::pair<hg_listener, bool>> entries;
    bool kept, written;
  };
  const Case cases[] = {
      {"nobody", {}, false, false},
      {"all of the group", {{Listener(5, kGroup, 0), true}}, true, false},
      {"of another port", {{Listener(6, kGroup, 0), true}}, false, false},
      {"all but the source",
       {{Listener(5, kGroup, 0), true}, {Listener(5, kGroup, kSource), false}},
       false,
       false},
      {"all but another", {{Listener(5, kGroup, 0), true}, {Listener(5, kGroup, kNewSource), false}}, true, false},
      {"the source", {{Listener(5, kGroup, kSource), true}}, true, false},
      {"another source", {{Listener(5, kGroup, kNewSource), true}}, false, false},
      {"as written", {{Listener(6, kNewGroup, kNewSource), true}}, false, true},
      {"as it came", {{Listener(6, kNewGroup, kSource), true}, {Listener(6, kGroup, 0), true}}, false, false},
      {"nobody says so", {{Listener(5, kGroup, 0), false}}, false, false},
  };
  for (const Case& one : cases) {
    SCOPED_TRACE(one.name);
    auto table = std::make_shared<ListenerTable>();
    for (const auto& [listener, wanted] : one.entries) table->Put(listener, wanted);
    listeners_ = table;
    counts_.assign(HG_LEGS, {});
    limiters_.assign(HG_LEGS, 0);
    output_.sent_.clear();
    Replicate(Datagram(Content(50)), {kept, written});
    EXPECT_EQ(Count(1).packets, one.kept ? 1U : 0U);
    EXPECT_EQ(Count(1).no_listener, one.kept ? 0U : 1U);
    EXPECT_EQ(limiters_[1] != 0, one.kept) << "a token is for what is sent";
    EXPECT_EQ(Count(2).packets, one.written ? 1U : 0U);
    EXPECT_EQ(Count(2).no_listener, one.written ? 0U : 1U);
    EXPECT_EQ(output_.sent_.size(), (one.kept ? 1U : 0U) + (one.written ? 1U : 0U));
    ExpectAccount(1);
    ExpectAccount(2);
  }
  listeners_ = nullptr;
  Replicate(Datagram(Content(50)), {kept, Leg(3)});
  EXPECT_EQ(Count(3).packets, 1U) << "a leg that is not on_join sends always";
}

// IPv6: whole addresses.
TEST_F(MulticastHandlerTest, OnJoinIpv6) {
  PlannedLeg leg = Leg(1);
  leg.leg.flags |= HG_LEG_ON_JOIN;
  const Bytes frame = Ethernet{.destination = "33:33:00:01:00:01", .source = "02:00:00:00:00:02"} /
                      Ipv6{.source = "2001:db8::9", .destination = "ff3e:1::1:1"} / Udp{} / Payload(Content(50));
  const auto offer = [&](uint32_t group, uint32_t source) {
    auto table = std::make_shared<ListenerTable>();
    hg_listener listener{.port = 5};
    const uint32_t words[] = {0xff3e0001, 0, 0, group}, of[] = {0x20010db8, 0, 0, source};
    std::transform(words, words + 4, listener.group, htonl);
    if (source != 0) std::transform(of, of + 4, listener.source, htonl);
    table->Put(listener, true);
    listeners_ = table;
    const uint64_t before = Count(1).packets;
    Replicate(frame, {leg});
    return Count(1).packets != before;
  };
  EXPECT_TRUE(offer(0x10001, 9));
  EXPECT_TRUE(offer(0x10001, 0));
  EXPECT_FALSE(offer(0x10001, 8));
  EXPECT_FALSE(offer(0x10002, 9));
  EXPECT_EQ(Count(1).no_listener, 2U);
}

// Whichever it is, of several: the last is the packet itself.
TEST_F(MulticastHandlerTest, EachLegWritesItsCopy) {
  for (const bool gathers : {false, true}) {
    for (const uint32_t part : {1700U, 500U}) {
      SCOPED_TRACE(absl::StrCat("gathers ", gathers, ", parts of ", part));
      output_.gathers_ = gathers;
      output_.sent_.clear();
      PlannedLeg second = Leg(2, 6);
      Rewrite(second);
      const Bytes payload = Content(1200);
      EXPECT_EQ(Replicate(Datagram(payload, {.tos = 3}), {Leg(1), second, Leg(3, 7), second}, part),
                Disposition::kConsumed);
      ASSERT_EQ(output_.sent_.size(), 4U);
      const Bytes plain = CopyOf(payload, {.tos = 3});
      const Bytes written = Ethernet{.destination = "01:00:5e:02:02:02", .source = kOut.source} /
                            Ipv4{.source = "10.9.9.9", .destination = "239.2.2.2", .ttl = 9, .tos = 46 << 2 | 3} /
                            Udp{.source_port = 6000, .destination_port = 5002} / Payload(payload);
      ExpectSent(0, 5, plain);
      ExpectSent(1, 6, written);
      ExpectSent(2, 7, plain);
      ExpectSent(3, 6, written);
      // Nothing behind the headers was copied, but where it is cheaper.
      EXPECT_EQ(output_.sent_[0].segments, part == 500 ? (gathers ? 4U : 3U) : (gathers ? 2U : 1U));
      EXPECT_EQ(output_.sent_[3].segments, part == 500 ? 3U : 1U);
    }
  }
  EXPECT_EQ(Count(1).offered, 4U);
  EXPECT_EQ(Count(1).packets, 4U);
  EXPECT_EQ(Count(2).packets, 8U);
  EXPECT_EQ(Count(1).bytes, 4 * Bytes(CopyOf(Content(1200))).size());
}

// What the copier gets: the packet as it came, behind what says which bundle it is for.
Bytes ForCopier(const Bytes& frame, uint16_t bundle, uint64_t packet) {
  const hg_bundle_meta meta{.packet = packet,
                            .bundle = bundle,
                            .l3 = 14,
                            .l4 = 34,
                            .kind = static_cast<uint8_t>(SteerMeta(frame).kind),
                            .protocol = IPPROTO_UDP};
  Bytes bytes(sizeof(meta));
  std::memcpy(bytes.data(), &meta, sizeof(meta));
  bytes.insert(bytes.end(), frame.begin(), frame.end());
  return bytes;
}

TEST_F(MulticastHandlerTest, BundlesAreTheCopiers) {
  const Bytes frame = Datagram(Content(1200));
  std::vector<PlannedLeg> legs = {Leg(1), Leg(2), Leg(3), Leg(4, 6), Leg(5, 7), Leg(6, 7), Leg(7, 7)};
  bundles_ = {{.first = 0, .count = 3, .id = 11}, {.first = 4, .count = 3, .id = 12}};
  for (const bool borrowed : {false, true}) {
    SCOPED_TRACE(borrowed);
    borrowed_ = borrowed;
    output_.sent_.clear();
    EXPECT_EQ(Replicate(frame, legs), Disposition::kConsumed);
    ASSERT_EQ(output_.sent_.size(), 3U);
    ExpectSent(0, HG_PORT_COPIER, ForCopier(frame, 11, kFirst + 1));
    ExpectSent(1, 6, CopyOf(Content(1200)));
    ExpectSent(2, HG_PORT_COPIER, ForCopier(frame, 12, kFirst + 2));
  }
  for (const uint32_t leg : {1, 2, 3, 5, 6, 7}) {
    EXPECT_EQ(Count(leg).offered, 2U);
    EXPECT_EQ(Count(leg).packets, 0U) << "the program counts what it sends";
  }
  EXPECT_EQ(Count(4).packets, 2U);
  // No room at the copier.
  output_.full_ports_ = {HG_PORT_COPIER};
  Replicate(frame, legs);
  for (const uint32_t leg : {1, 2, 3, 5, 6, 7}) EXPECT_EQ(Count(leg).tx_full, 1U);
  EXPECT_EQ(Count(4).packets, 3U);
  output_.full_ports_ = {};

  // Each by itself, whatever the copier or a device has no room for.
  const auto sent_to_copier = [&](const Bytes& packet, uint32_t part = 1700) {
    output_.sent_.clear();
    Replicate(packet, legs, part);
    return std::count_if(output_.sent_.begin(), output_.sent_.end(),
                         [](const MemoryOutput::Sent& sent) { return sent.port == HG_PORT_COPIER; });
  };
  EXPECT_EQ(sent_to_copier(frame, 1000), 0) << "several buffers";
  EXPECT_EQ(output_.sent_.size(), legs.size());
  EXPECT_EQ(sent_to_copier(Datagram(Content(1472))), 2);
  EXPECT_EQ(sent_to_copier(Datagram(Content(1473))), 0) << "larger than an MTU";
  for (const size_t leg : {4, 5, 6}) legs[leg].mtu = 9000;
  EXPECT_EQ(sent_to_copier(Datagram(Content(1473))), 1) << "than that of one device";
  output_.unknown_ports_ = {HG_PORT_COPIER};
  EXPECT_EQ(sent_to_copier(frame), 0) << "the worker has no way to it";
  EXPECT_EQ(output_.sent_.size(), legs.size());
}

// Another worker's frames are read and left where they are.
TEST_F(MulticastHandlerTest, BorrowedPacketsAreCopied) {
  borrowed_ = true;
  output_.gathers_ = true;
  for (const uint32_t part : {1700U, 500U}) {
    output_.sent_.clear();
    Replicate(Datagram(Content(1200)), {Leg(1), Leg(2)}, part);
    ASSERT_EQ(output_.sent_.size(), 2U);
    for (const size_t i : {0, 1}) {
      ExpectSent(i, 5, CopyOf(Content(1200)));
      EXPECT_EQ(output_.referred_, 0U) << "its frames would be sent";
    }
  }
}

TEST_F(MulticastHandlerTest, Ipv6) {
  PlannedLeg leg = Leg(1);
  leg.leg.flags = HG_LEG_SOURCE | HG_LEG_DSCP | HG_LEG_DESTINATION_PORT;
  const uint8_t source[16] = {0x20, 0x01, 0x0d, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  std::memcpy(leg.leg.src, source, sizeof(source));
  leg.leg.dscp = 10;
  leg.leg.dport = htons(7000);
  const Ethernet in = {.destination = "33:33:00:00:12:34", .source = kIn.source};
  Replicate(in / Ipv6{.source = "2001:db8:9::9", .destination = "ff3e::1234", .traffic_class = 1} /
                Udp{.source_port = 4000, .destination_port = 5001} / Payload(33),
            {leg, leg});
  const Bytes copy =
      Ethernet{.destination = in.destination, .source = kOut.source} /
      Ipv6{.source = "2001:db8:1::1", .destination = "ff3e::1234", .hop_limit = 63, .traffic_class = 41} /
      Udp{.source_port = 4000, .destination_port = 7000} / Payload(33);
  ExpectSent(0, 5, copy);
  ExpectSent(1, 5, copy);
}

TEST_F(MulticastHandlerTest, Tags) {
  const Bytes payload = Content(100);
  const auto frame = [&](const Ethernet& ethernet, const std::vector<Vlan>& tags, uint8_t ttl) {
    Packet packet = Packet(ethernet);
    for (const Vlan& tag : tags) packet = packet / tag;
    return (packet / Ipv4{.destination = "239.1.1.1", .ttl = ttl} / Udp{} / Payload(payload)).Build();
  };
  struct Case {
    std::vector<Vlan> in;
    uint8_t mode;
    std::vector<Vlan> out;
  };
  const Vlan outer = {.id = 7, .priority = 5, .tpid = 0x88a8}, inner = {.id = 9, .priority = 2};
  const Vlan pushed = {.id = 42}, replaced = {.id = 42, .priority = 5, .tpid = 0x88a8};
  const Case cases[] = {{{}, HG_NEXT_HOP_VLAN_KEEP, {}},
                        {{}, HG_NEXT_HOP_VLAN_SET, {pushed}},
                        {{}, HG_NEXT_HOP_VLAN_STRIP, {}},
                        {{inner}, HG_NEXT_HOP_VLAN_KEEP, {inner}},
                        {{inner}, HG_NEXT_HOP_VLAN_STRIP, {}},
                        {{inner}, HG_NEXT_HOP_VLAN_SET, {{.id = 42, .priority = 2}}},
                        {{outer, inner}, HG_NEXT_HOP_VLAN_KEEP, {outer, inner}},
                        {{outer, inner}, HG_NEXT_HOP_VLAN_STRIP, {inner}},
                        {{outer, inner}, HG_NEXT_HOP_VLAN_SET, {replaced, inner}}};
  for (const Case& c : cases) {
    PlannedLeg leg = Leg(1);
    leg.leg.vlan_mode = c.mode;
    leg.leg.vlan = c.mode == HG_NEXT_HOP_VLAN_SET ? 42 : 0;
    output_.sent_.clear();
    Replicate(frame(kIn, c.in, 64), {leg, leg});
    SCOPED_TRACE(absl::StrCat(c.in.size(), " tags, mode ", c.mode));
    ExpectSent(0, 5, frame(kOut, c.out, 63));
    ExpectSent(1, 5, frame(kOut, c.out, 63));
  }
}

// What was wrong stays wrong, and none stays none.
TEST_F(MulticastHandlerTest, ChecksumsAreKeptByWhatChanges) {
  PlannedLeg leg = Leg(1);
  Rewrite(leg);
  Bytes frame = Datagram(Content(100));
  frame[40] = frame[41] = 0;
  Replicate(frame, {leg});
  EXPECT_EQ(output_.sent_.back().frame[40] << 8 | output_.sent_.back().frame[41], 0);
  Bytes good = Datagram(Content(100)), bad = good;
  bad[40] ^= 0x55;
  Replicate(good, {leg});
  const Bytes right = output_.sent_.back().frame;
  Replicate(bad, {leg});
  const Bytes wrong = output_.sent_.back().frame;
  EXPECT_NE(right[40] << 8 | right[41], wrong[40] << 8 | wrong[41]);
  const auto sum = [](const Bytes& bytes, int sign) { return sign * (bytes[40] << 8 | bytes[41]); };
  const auto off = [&](const Bytes& a, const Bytes& b) {
    return ((sum(a, 1) + sum(b, -1)) % 65535 + 65535) % 65535;
  };
  EXPECT_EQ(off(wrong, right), off(bad, good));
}

// Of any protocol, and later fragments of any: bytes that are no port are not written.
TEST_F(MulticastHandlerTest, OnlyUdpHeadersAreWritten) {
  PlannedLeg leg = Leg(1);
  leg.leg.flags = HG_LEG_DESTINATION_PORT | HG_LEG_SOURCE_PORT;
  leg.leg.dport = leg.leg.sport = htons(9);
  const Ipv4 later = {.destination = "239.1.1.1", .fragment_offset = 10, .protocol = IPPROTO_UDP};
  Ipv4 after = later;
  after.ttl = 63;
  Replicate(kIn / later / Payload(Content(64)), {leg});
  ExpectSent(0, 5, kOut / after / Payload(Content(64)));
  protocol_ = 50;
  Replicate(kIn / Ipv4{.destination = "239.1.1.1"} / Protocol{.number = 50} / Payload(Content(64)), {leg});
  ExpectSent(1, 5,
             kOut / Ipv4{.destination = "239.1.1.1", .ttl = 63} / Protocol{.number = 50} / Payload(Content(64)));
}

TEST_F(MulticastHandlerTest, WhatIsNotSentIsCounted) {
  PlannedLeg no_device = Leg(1), no_source = Leg(2), no_neighbour = Leg(3), low = Leg(4), full = Leg(5, 9),
             ok = Leg(6);
  no_device.trouble = LegTrouble::kNoDevice;
  no_source.trouble = LegTrouble::kNoSource;
  no_neighbour.trouble = LegTrouble::kNoNeighbour;
  low.leg.ttl_threshold = 64;
  output_.full_ports_ = {9};
  PlannedLeg limited = Leg(7);
  limited.leg.flags = HG_LEG_POLICE;
  limited.leg.police_cost = uint64_t{1'000'000'000} << HG_POLICE_SHIFT;  // one a second
  limited.leg.police_depth = limited.leg.police_cost;
  const std::vector<PlannedLeg> legs = {no_device, no_source, no_neighbour, low, full, limited, ok};
  for (int i = 0; i < 2; ++i) Replicate(Datagram(Content(100)), legs);
  for (const PlannedLeg& leg : legs) {
    EXPECT_EQ(Count(leg.id).offered, 2U) << leg.id;
    if (leg.id != 1) ExpectAccount(leg.id);
  }
  EXPECT_EQ(Count(1).packets, 0U);
  EXPECT_EQ(Count(2).no_source, 2U);
  EXPECT_EQ(Count(3).no_neighbour, 2U);
  EXPECT_EQ(Count(4).ttl, 2U);
  EXPECT_EQ(Count(5).tx_full, 2U);
  EXPECT_EQ(Count(7).limited, 1U);
  EXPECT_EQ(Count(7).packets, 1U);
  EXPECT_EQ(Count(6).packets, 2U);
  EXPECT_EQ(output_.sent_.size(), 3U);
  // A TTL of 1 is at its end, one at the threshold is not.
  low.leg.ttl_threshold = 63;
  Replicate(Datagram(Content(100)), {low});
  EXPECT_EQ(Count(4).packets, 1U);
  low.leg.ttl_threshold = 0;
  Replicate(Datagram(Content(100), {.ttl = 1}), {low});
  EXPECT_EQ(Count(4).ttl, 3U);
}

TEST_F(MulticastHandlerTest, APacketOfNoRouteIsDropped) {
  EXPECT_EQ(Replicate(Datagram(Content(100)), {Leg(1)}, 1700, kRoute - 1), Disposition::kDropped);
  EXPECT_EQ(Replicate(Datagram(Content(100)), {Leg(1)}, 1700, kRoute + 1), Disposition::kDropped);
  EXPECT_TRUE(output_.sent_.empty());
}

TEST_F(MulticastHandlerTest, NoFrameIsLeftForACopy) {
  std::vector<Segment> taken(output_.pool().total() - 1);
  for (Segment& segment : taken) ASSERT_TRUE(output_.Take(segment));
  MulticastPlan plan;
  plan.routes.resize(kRoute + 1);
  plan.routes[kRoute] = {IPPROTO_UDP, {Leg(1), Leg(2)}};
  MulticastHandler handler({std::make_shared<const MulticastPlan>(plan)},
                           MulticastAccount(counts_.data(), limiters_.data()), kFirst);
  Segment segment;
  ASSERT_TRUE(output_.Take(segment));
  const Bytes frame = Datagram(Content(100));
  segment.data += kHeadroom;
  segment.address += kHeadroom;
  segment.length = static_cast<uint32_t>(frame.size());
  std::copy(frame.begin(), frame.end(), segment.data);
  headgate::Packet packet{
      .meta = SteerMeta(frame), .segments = absl::MakeSpan(&segment, 1), .length = segment.length};
  packet.meta.rule_id = kRoute;
  handler.Handle(absl::MakeSpan(&packet, 1), output_);
  EXPECT_EQ(Count(1).tx_full, 1U);
  EXPECT_EQ(Count(2).packets, 1U) << "the packet itself needs none";
}

// The parts of a datagram, put together again; each fits, and none overlaps another.
Bytes Assembled(const std::vector<MemoryOutput::Sent>& sent, size_t mtu) {
  Bytes payload;
  std::vector<std::pair<size_t, Bytes>> parts;
  bool last = false;
  for (const MemoryOutput::Sent& one : sent) {
    const Bytes& f = one.frame;
    const size_t header = (f.at(14) & 15) * 4U, total = f.at(16) << 8U | f.at(17);
    EXPECT_LE(total, mtu);
    EXPECT_EQ(f.size(), 14 + total);
    Segment all{0, const_cast<uint8_t*>(f.data()), static_cast<uint32_t>(f.size())};
    EXPECT_EQ(Checksum{}.Add({&all, 1}, 14, static_cast<uint32_t>(header)).Finish(), 0) << "of the header";
    const size_t offset = ((f.at(20) & 0x1f) << 8U | f.at(21)) * 8U;
    const bool more = (f.at(20) & 0x20) != 0;
    EXPECT_TRUE(more ? (total - header) % 8 == 0 : !last);
    last = last || !more;
    parts.emplace_back(offset, Bytes(f.begin() + 14 + static_cast<ptrdiff_t>(header), f.end()));
  }
  EXPECT_TRUE(last);
  std::sort(parts.begin(), parts.end());
  for (const auto& [offset, bytes] : parts) {
    EXPECT_EQ(offset, payload.size());
    payload.insert(payload.end(), bytes.begin(), bytes.end());
  }
  return payload;
}

TEST_F(MulticastHandlerTest, LargePacketsAreFragmented) {
  std::mt19937_64 random = MakeRandom();
  for (int i = 0; i < 200; ++i) {
    const size_t size = 1 + random() % 8900, mtu = 68 + random() % 9000;
    const auto part = static_cast<uint32_t>(200 + random() % 1500);
    Ipv4 ip;
    ip.options = Bytes((random() % 11) * 4, 1);
    SCOPED_TRACE(absl::StrCat(size, " bytes, MTU ", mtu, ", parts of ", part, ", options ", ip.options.size()));
    const Bytes payload = Content(size), frame = Datagram(payload, ip);
    PlannedLeg leg = Leg(1);
    Rewrite(leg);
    leg.mtu = static_cast<uint32_t>(mtu);
    output_.sent_.clear();
    const hg_leg_count before = Count(1);
    Replicate(frame, {leg, leg}, part);
    ASSERT_EQ(output_.sent_.size() % 2, 0U);
    const size_t half = output_.sent_.size() / 2;
    for (const size_t first : {size_t{0}, half}) {
      const auto begin = output_.sent_.begin() + static_cast<ptrdiff_t>(first);
      const Bytes whole =
          Assembled({begin, begin + static_cast<ptrdiff_t>(half)}, std::max(mtu, frame.size() - 14));
      ASSERT_EQ(whole.size(), size + 8);
      EXPECT_TRUE(std::equal(whole.begin() + 8, whole.end(), payload.begin()));
    }
    const bool fits = frame.size() - 14 <= mtu;
    EXPECT_EQ(half == 1, fits);
    EXPECT_EQ(Count(1).packets, before.packets + 2);
    EXPECT_EQ(Count(1).fragments, before.fragments + 2 * (half - 1));
    if (!fits) {
      for (const auto& one : output_.sent_) EXPECT_LE(one.frame.size(), mtu + 14);
    }
  }
  ExpectAccount(1);
}

TEST_F(MulticastHandlerTest, WhatMustNotBeFragmentedIsCounted) {
  PlannedLeg leg = Leg(1);
  leg.mtu = 1000;
  Replicate(Datagram(Content(973), {.dont_fragment = true}), {leg});
  EXPECT_EQ(Count(1).too_big, 1U);
  Replicate(Datagram(Content(972), {.dont_fragment = true}), {leg});
  EXPECT_EQ(Count(1).packets, 1U);
  Replicate(Ethernet{.destination = "33:33:00:00:12:34"} / Ipv6{.destination = "ff3e::1234"} / Udp{} /
                Payload(Content(953)),
            {leg});
  EXPECT_EQ(Count(1).too_big, 2U);
  EXPECT_EQ(output_.sent_.size(), 1U);
}

// Devices allow one tag beyond their MTU, and no second.
TEST_F(MulticastHandlerTest, SecondTagsCountToTheMtu) {
  PlannedLeg leg = Leg(1);
  leg.mtu = 1000;
  const Vlan outer = {.id = 7, .tpid = 0x88a8}, inner = {.id = 9};
  const auto frame = [](const Packet& link, size_t bytes) -> Bytes {
    return link / Ipv4{.destination = "239.1.1.1", .dont_fragment = true} / Udp{} / Payload(Content(bytes - 28));
  };
  Replicate(frame(kIn / inner, 1000), {leg});
  Replicate(frame(kIn / outer / inner, 996), {leg});
  EXPECT_EQ(Count(1).packets, 2U);
  Replicate(frame(kIn / outer / inner, 997), {leg});
  Replicate(frame(kIn / inner, 1001), {leg});
  EXPECT_EQ(Count(1).too_big, 2U);
  leg.leg.vlan_mode = HG_NEXT_HOP_VLAN_STRIP;
  Replicate(frame(kIn / outer / inner, 1000), {leg});
  EXPECT_EQ(Count(1).packets, 3U);
}

// Of a fragment, the parts stay where they are in the datagram, and only its end is the datagram's.
TEST_F(MulticastHandlerTest, FragmentsAreFragmented) {
  PlannedLeg leg = Leg(1);
  leg.mtu = 100;
  for (const bool more : {true, false}) {
    output_.sent_.clear();
    Replicate(
        kIn / Ipv4{.destination = "239.1.1.1", .more_fragments = more, .fragment_offset = 100, .protocol = 17} /
            Payload(Content(200)),
        {leg});
    ASSERT_EQ(output_.sent_.size(), 3U);
    for (size_t i = 0; i < 3; ++i) {
      const Ipv4 ip = {.destination = "239.1.1.1",
                       .ttl = 63,
                       .more_fragments = more || i != 2,
                       .fragment_offset = static_cast<uint16_t>(100 + 10 * i),
                       .protocol = 17};
      const Bytes all = Content(200);
      const auto begin = all.begin() + static_cast<ptrdiff_t>(80 * i);
      ExpectSent(i, 5, kOut / ip / Payload(Bytes(begin, i == 2 ? all.end() : begin + 80)));
    }
  }
}

// Options are of the first fragment, but for those that say otherwise (RFC 791, section 3.1).
TEST_F(MulticastHandlerTest, OptionsOfFragments) {
  PlannedLeg leg = Leg(1);
  leg.mtu = 500;
  Ipv4 ip = {.options = {0x07, 3, 4, 0x94, 4, 0, 0, 1}};  // record route, router alert
  Replicate(Datagram(Content(800), ip), {leg});
  ASSERT_EQ(output_.sent_.size(), 2U);
  const auto options = [&](size_t i) {
    const Bytes& f = output_.sent_[i].frame;
    return Bytes(f.begin() + 34, f.begin() + 42);
  };
  EXPECT_EQ(options(0), ip.options);
  EXPECT_EQ(options(1), (Bytes{1, 1, 1, 0x94, 4, 0, 0, 1}));
  Assembled(output_.sent_, 500);
}

// Without a new handler, so that packets do not wait for one.
TEST_F(MulticastHandlerTest, PlansAreReplaced) {
  const auto plan = [](uint16_t port) {
    MulticastPlan made;
    made.routes.resize(kRoute + 1);
    made.routes[kRoute] = {IPPROTO_UDP, {Leg(1, port)}};
    return MulticastSetup{std::make_shared<const MulticastPlan>(std::move(made))};
  };
  EXPECT_EQ(plan(1), plan(1));
  EXPECT_NE(plan(1), plan(2));
  MulticastHandler handler(plan(1), MulticastAccount(counts_.data(), limiters_.data()), kFirst);
  EXPECT_TRUE(handler.Reconfigure(HandlerSetup(plan(2))));
  EXPECT_FALSE(handler.Reconfigure(HandlerSetup(EchoSetup{})));
  EXPECT_TRUE(MayGoOn(plan(1), plan(2)));
  EXPECT_FALSE(MayGoOn(EchoSetup{}, plan(2)));
}

}  // namespace
}  // namespace headgate::testing
