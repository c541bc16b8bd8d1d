// SPDX-License-Identifier: Apache-2.0
//
// Which worker a packet goes to, and when packets are spread in software.
#include "agent/slowpath/spread.h"

#include <gtest/gtest.h>

#include <netinet/in.h>

#include <array>
#include <cstring>

#include "agent/slowpath/balance.h"
#include "agent/slowpath/worker_status.h"

namespace headgate {
namespace {

constexpr uint16_t kL3 = 14;

struct Flow {
  uint32_t source = 0x0a000001, destination = 0x0a000002;
  uint16_t source_port = 1000, destination_port = 2000;
  uint32_t kind = HG_KIND_IPV4 | HG_KIND_IP | HG_KIND_PORTS;
  bool ipv6 = false;
};

uint32_t Hash(const Flow& flow, SpreadMode mode) {
  std::array<uint8_t, 100> bytes{};
  const size_t address = flow.ipv6 ? 16 : 4, addresses = flow.ipv6 ? 8 : 12;
  Segment segment{.data = bytes.data(), .length = bytes.size()};
  Packet packet{.segments = {&segment, 1}, .length = bytes.size()};
  packet.meta.kind = flow.ipv6 ? (flow.kind & ~HG_KIND_IPV4) | HG_KIND_IPV6 : flow.kind;
  packet.meta.l3 = kL3;
  packet.meta.l4 = kL3 + (flow.ipv6 ? 40 : 20);
  std::memcpy(&bytes[kL3 + addresses + address - 4], &flow.source, 4);
  std::memcpy(&bytes[kL3 + addresses + 2 * address - 4], &flow.destination, 4);
  std::memcpy(&bytes[packet.meta.l4], &flow.source_port, 2);
  std::memcpy(&bytes[packet.meta.l4 + 2], &flow.destination_port, 2);
  return SpreadHash(packet, mode);
}

Flow Reverse(const Flow& flow) {
  return {.source = flow.destination,
          .destination = flow.source,
          .source_port = flow.destination_port,
          .destination_port = flow.source_port,
          .kind = flow.kind,
          .ipv6 = flow.ipv6};
}

TEST(Spread, BothDirectionsOfAFlowAreAlikeOnlyWhenSymmetric) {
  for (const bool ipv6 : {false, true}) {
    const Flow flow{.ipv6 = ipv6};
    EXPECT_EQ(Hash(flow, SpreadMode::kFlowSymmetric), Hash(Reverse(flow), SpreadMode::kFlowSymmetric));
    EXPECT_NE(Hash(flow, SpreadMode::kFlow), Hash(Reverse(flow), SpreadMode::kFlow));
    // Ports belong to their addresses.
    const Flow crossed{.source_port = flow.destination_port, .destination_port = flow.source_port, .ipv6 = ipv6};
    EXPECT_NE(Hash(flow, SpreadMode::kFlowSymmetric), Hash(crossed, SpreadMode::kFlowSymmetric));
  }
}

TEST(Spread, ASourceIsOneWhateverItSends) {
  const Flow one{}, other{.destination = 0x0a000099, .source_port = 7, .destination_port = 8};
  EXPECT_EQ(Hash(one, SpreadMode::kSource), Hash(other, SpreadMode::kSource));
  EXPECT_NE(Hash(one, SpreadMode::kFlow), Hash(other, SpreadMode::kFlow));
}

TEST(Spread, FragmentsOfADatagramGoTogether) {
  constexpr uint32_t kIp = HG_KIND_IPV4 | HG_KIND_IP | HG_KIND_FRAGMENT;
  const Flow first{.kind = kIp | HG_KIND_PORTS};
  const Flow later{.source_port = 0x4711, .destination_port = 0x0815, .kind = kIp | HG_KIND_LATER};
  for (const SpreadMode mode : {SpreadMode::kFlow, SpreadMode::kFlowSymmetric}) {
    EXPECT_EQ(Hash(first, mode), Hash(later, mode));
  }
}

TEST(Spread, FlowsAreSpreadEvenly) {
  for (const SpreadMode mode : {SpreadMode::kFlow, SpreadMode::kFlowSymmetric, SpreadMode::kSource}) {
    for (const bool ipv6 : {false, true}) {
      std::array<int, 6> workers{};
      constexpr int kFlows = 6000;
      for (uint32_t i = 0; i < kFlows; ++i) {
        const Flow flow{.source = htonl(0x0a000000 + i / 4), .source_port = htons(1000 + i % 4), .ipv6 = ipv6};
        ++workers[Hash(flow, mode) % workers.size()];
      }
      for (const int count : workers) EXPECT_NEAR(count, kFlows / 6, kFlows / 30);
    }
  }
}

TEST(Spread, WhatIsNoIpGoesByItsEthernetAddresses) {
  std::array<uint8_t, 20> bytes{};
  Segment segment{.data = bytes.data(), .length = bytes.size()};
  Packet packet{.segments = {&segment, 1}, .length = bytes.size()};
  const uint32_t before = SpreadHash(packet, SpreadMode::kFlow);
  bytes[11] = 5;
  EXPECT_NE(SpreadHash(packet, SpreadMode::kFlow), before);
  segment.length = 10;
  EXPECT_EQ(SpreadHash(packet, SpreadMode::kFlow), 0);
}

SlowPathConfig Config(uint32_t workers, uint32_t queues, SpreadMode mode = SpreadMode::kAuto) {
  return {.targets = {{.id = 1, .handler = CountSetup{}, .mode = mode, .workers = workers}},
          .ports = {{.id = 3, .ifindex = 9, .queues = queues}}};
}

TEST(Balance, FewerQueuesThanWorkersAreSpreadAtOnce) {
  Balance balance;
  balance.Reset(Config(2, 1));
  EXPECT_TRUE(balance.reasons().contains(3));
  balance.Reset(Config(2, 2));
  EXPECT_TRUE(balance.reasons().empty());
  balance.Reset(Config(1, 1));
  EXPECT_TRUE(balance.reasons().empty());
  balance.Reset(Config(2, 1, SpreadMode::kQueue));
  EXPECT_TRUE(balance.reasons().empty());
}

TEST(Balance, AWorkerThatFallsBehindBesideAnIdleOneIsFound) {
  const auto loads = [](uint64_t first, uint64_t second, uint64_t lost, uint32_t waiting = 0) {
    return std::vector<QueueLoad>{{.port = 3, .worker = 0, .received = first, .lost = lost, .waiting = waiting},
                                  {.port = 3, .queue = 1, .worker = 1, .received = second}};
  };
  Balance balance;
  balance.Reset(Config(2, 2));
  balance.Look(loads(1000, 1000, 5));  // what was lost before is not news
  balance.Look(loads(9000, 1100, 5));  // uneven, but nobody falls behind
  EXPECT_TRUE(balance.reasons().empty());
  balance.Look(loads(10000, 2000, 6));  // behind, but even
  EXPECT_TRUE(balance.reasons().empty());
  balance.Look(loads(20000, 2100, 7));
  EXPECT_TRUE(balance.reasons().contains(3));
  balance.Look(loads(21000, 3100, 7));
  EXPECT_TRUE(balance.reasons().contains(3)) << "to and fro reorders flows";
  balance.Reset(Config(2, 2));
  EXPECT_TRUE(balance.reasons().contains(3)) << "the same configuration";

  balance.Reset(Config(2, 3));
  balance.Look(loads(0, 0, 0));
  balance.Look(loads(1000, 100, 0, kReceiveRing));  // nothing lost yet
  EXPECT_TRUE(balance.reasons().contains(3));
}

}  // namespace
}  // namespace headgate
