// SPDX-License-Identifier: Apache-2.0
//
// hgbench's frames to multicast groups and in GENEVE, as they arrive: what is in them, and that the receiver finds
// its own in them.
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "bench/receiver.h"
#include "bench/sender.h"
#include "tests/e2e/hgbench_lab.h"
#include "tests/e2e/hgbench_tap.h"
#include "tests/harness/program.h"

namespace headgate::bench {
namespace {

constexpr std::chrono::milliseconds kTimeout(20000);
constexpr uint64_t kCount = 600;

uint32_t Long(const testing::Bytes& frame, size_t offset) {
  return static_cast<uint32_t>(frame[offset]) << 24 | static_cast<uint32_t>(frame[offset + 1]) << 16 |
         static_cast<uint32_t>(frame[offset + 2]) << 8 | frame[offset + 3];
}

class HgbenchWrapTest : public ::testing::Test {
 protected:
  void SetUp() override {
    HG_REQUIRE_BPF();
    lab_ = MakeHgbenchLab();
  }

  static FrameSpec Spec(Family family) {
    const bool is_ipv4 = family == Family::kIpv4;
    return {.destination_mac = {2, 0, 0, 0, 0, 1},
            .source_mac = {2, 0, 0, 0, 0, 2},
            .source = *ParseAddress(is_ipv4 ? "192.0.2.1" : "2001:db8::1"),
            .destination = *ParseAddress(is_ipv4 ? "239.1.2.254" : "ff05::1:fffe"),
            .size = 300,
            .flows = 10};
  }

  // The frames of a sender as they were on the wire; the receiver has counted all of them.
  static std::vector<testing::Bytes> Send(const FrameSpec& spec) {
    Tap tap("hgbt-sink", "hgbt-sink");
    const auto receiver = Value(Receiver::Open({.device = "hgbt-sink", .netns = "hgbt-sink", .pass = true}));
    const auto sender =
        Value(Sender::Open({.device = "hgbt-out", .netns = "hgbt-gw", .frame = spec, .count = kCount}));
    const absl::Status status = sender->Run();
    EXPECT_TRUE(status.ok()) << status;
    std::vector<testing::Bytes> frames;
    for (uint64_t i = 0; i < kCount; ++i) frames.push_back(tap.Receive());
    EXPECT_TRUE(receiver->AwaitFrames(kCount, kTimeout).ok());
    const ReceiveReport report = Value(receiver->Read());
    EXPECT_EQ(report.packets, kCount);
    EXPECT_EQ(report.foreign_packets, 0u);
    EXPECT_EQ(report.latency.Count(), kCount);
    EXPECT_EQ(report.Lost() + report.Duplicates() + report.Reordered(), 0u);
    return frames;
  }

  std::unique_ptr<Lab> lab_;
};

TEST_F(HgbenchWrapTest, GroupsHaveTheirEthernetAddresses) {
  for (const Family family : {Family::kIpv4, Family::kIpv6}) {
    const bool is_ipv4 = family == Family::kIpv4;
    SCOPED_TRACE(is_ipv4 ? "IPv4" : "IPv6");
    FrameSpec spec = Spec(family);
    spec.groups = 5;
    spec.group_macs = true;
    spec.sizes = {100, 300, 121};
    std::map<uint32_t, size_t> frames_of;
    for (const testing::Bytes& frame : Send(spec)) {
      IpAddress group = spec.destination;
      group.words[is_ipv4 ? 0 : 3] = Long(frame, is_ipv4 ? 30 : 50);
      ++frames_of[group.words[is_ipv4 ? 0 : 3]];
      const MacAddress mac = GroupMac(group);
      EXPECT_TRUE(std::equal(mac.begin(), mac.end(), frame.begin())) << ToString(group);
      if (is_ipv4) {
        EXPECT_EQ(testing::InternetChecksum(&frame[14], 20), 0);
      }
    }
    ASSERT_EQ(frames_of.size(), 5u);
    EXPECT_EQ(frames_of.begin()->first, spec.destination.words[is_ipv4 ? 0 : 3]);
    for (const auto& [group, frames] : frames_of) EXPECT_EQ(frames, kCount / 5) << group;
  }
}

TEST_F(HgbenchWrapTest, TheReceiverLooksIntoGeneve) {
  for (const Family outer : {Family::kIpv4, Family::kIpv6}) {
    for (const Family inner : {Family::kIpv4, Family::kIpv6}) {
      for (const Transport transport : {Transport::kUdp, Transport::kTcp}) {
        const bool is_ipv4 = outer == Family::kIpv4;
        SCOPED_TRACE(::testing::Message() << static_cast<int>(outer) << " around " << static_cast<int>(inner));
        FrameSpec spec = Spec(inner);
        spec.transport = transport;
        spec.sizes = {260, 300, 251};
        spec.wrapped = true;
        spec.geneve = GeneveSpec{.source = *ParseAddress(is_ipv4 ? "10.0.0.1" : "fd00::1"),
                                 .destination = *ParseAddress(is_ipv4 ? "10.0.0.2" : "fd00::2"),
                                 .vni = 77,
                                 .options = *ParseGeneveOption("0108:1:0123456789abcdef")};
        const size_t udp = is_ipv4 ? 34 : 54;
        std::set<uint32_t> ports;
        for (const testing::Bytes& frame : Send(spec)) {
          ports.insert(Long(frame, udp) >> 16);
          EXPECT_EQ(Long(frame, udp) & 0xffff, 6081u);
          EXPECT_EQ(Long(frame, udp + 4) >> 16, frame.size() - udp);
          EXPECT_EQ(Long(frame, udp + 8), 0x03000000u | (inner == Family::kIpv4 ? 0x0800u : 0x86ddu));
          EXPECT_EQ(Long(frame, udp + 12), 77u << 8);
          EXPECT_EQ(Long(frame, udp + 16), 0x01080102u);
          EXPECT_EQ(Long(frame, udp + 24), 0x89abcdefu);
          EXPECT_EQ(frame[udp + 28] >> 4, inner == Family::kIpv4 ? 4 : 6);
          if (is_ipv4) {
            EXPECT_EQ(testing::InternetChecksum(&frame[14], 20), 0);
          }
        }
        EXPECT_EQ(ports.size(), 10u) << "a source port of its own each flow";
      }
    }
  }
}

// A record is no GENEVE header.
TEST_F(HgbenchWrapTest, PlainFramesMayGoToGenevesPort) {
  FrameSpec spec = Spec(Family::kIpv4);
  spec.destination_port = 6081;
  EXPECT_EQ(Send(spec).size(), kCount);
}

}  // namespace
}  // namespace headgate::bench
