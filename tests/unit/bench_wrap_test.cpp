// SPDX-License-Identifier: Apache-2.0
//
// Frames to multicast groups and in GENEVE, made by the code that the sender's program runs.
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <algorithm>
#include <map>
#include <set>

#include "bench/bpf/fill.h"
#include "bench/frame.h"
#include "tests/harness/packet.h"

namespace headgate::bench {
namespace {

using testing::Bytes;
using testing::InternetChecksum;

constexpr size_t kEthernetBytes = 14, kUdpBytes = 8;

size_t IpBytes(Family family) { return family == Family::kIpv4 ? 20 : 40; }

uint16_t Word(const Bytes& frame, size_t offset) {
  return static_cast<uint16_t>(frame[offset] << 8 | frame[offset + 1]);
}
uint32_t Long(const Bytes& frame, size_t offset) {
  return static_cast<uint32_t>(Word(frame, offset)) << 16 | Word(frame, offset + 2);
}

FrameSpec Spec(Transport transport, Family family) {
  const bool is_ipv4 = family == Family::kIpv4;
  return {.destination_mac = {2, 0, 0, 0, 0, 1},
          .source_mac = {2, 0, 0, 0, 0, 2},
          .source = *ParseAddress(is_ipv4 ? "192.0.2.1" : "2001:db8::1"),
          .destination = *ParseAddress(is_ipv4 ? "198.51.100.1" : "2001:db8:1::1"),
          .transport = transport,
          .size = 400,
          .flows = 3,
          .stream = 7};
}

// The first frames of a sender.
std::vector<Bytes> Frames(const FrameSpec& spec, size_t count) {
  const auto built = BuildTemplate(spec);
  EXPECT_TRUE(built.ok()) << built.status();
  const hgb_template& frame = *built;
  hgb_turn turn{};
  std::vector<Bytes> frames;
  for (size_t number = 0; number < count; ++number) {
    const uint32_t size = spec.sizes.empty() ? spec.size : spec.sizes[number % spec.sizes.size()];
    Bytes bytes(size, 0x5a);
    hgb_write_template(bytes.data(), &frame);
    uint32_t sum = frame.sizes != 0 ? hgb_write_lengths(bytes.data(), &frame, size) : 0;
    sum = hgb_add(sum, hgb_write_flow(bytes.data(), &frame, &turn));
    hgb_write_record(bytes.data(), &frame, number, 123456789 * number, sum);
    // What follows the record is as the program finds it, zeros at first.
    std::fill(bytes.begin() + frame.bytes, bytes.end(), 0);
    frames.push_back(bytes);
  }
  return frames;
}

// Lengths and checksums of the packet at `l3`, up to the frame's end.
void ExpectRightPacket(const Bytes& frame, size_t l3, Transport transport, Family family) {
  const bool is_ipv4 = family == Family::kIpv4;
  const size_t l4 = l3 + IpBytes(family), length = frame.size() - l4;
  const size_t addresses = l3 + (is_ipv4 ? 12 : 8);
  EXPECT_EQ(Word(frame, l3 + (is_ipv4 ? 2 : 4)), is_ipv4 ? frame.size() - l3 : length);
  if (is_ipv4) {
    EXPECT_EQ(InternetChecksum(&frame[l3], 20), 0);
  }
  if (transport == Transport::kUdp) {
    EXPECT_EQ(Word(frame, l4 + 4), length);
  }
  if (is_ipv4 && transport == Transport::kUdp) {
    EXPECT_EQ(Word(frame, l4 + 6), 0);
    return;
  }
  Bytes summed(frame.begin() + static_cast<ptrdiff_t>(addresses), frame.begin() + static_cast<ptrdiff_t>(l4));
  summed.insert(summed.end(), {0, static_cast<uint8_t>(transport == Transport::kUdp ? IPPROTO_UDP : IPPROTO_TCP),
                               static_cast<uint8_t>(length >> 8), static_cast<uint8_t>(length)});
  summed.insert(summed.end(), frame.begin() + static_cast<ptrdiff_t>(l4), frame.end());
  EXPECT_EQ(InternetChecksum(summed.data(), summed.size()), 0);
}

struct Kind {
  Transport transport;
  Family family;
  bool mixed;
};
std::vector<Kind> Kinds() {
  std::vector<Kind> kinds;
  for (const bool mixed : {false, true}) {
    for (const Transport transport : {Transport::kUdp, Transport::kTcp}) {
      for (const Family family : {Family::kIpv4, Family::kIpv6}) kinds.push_back({transport, family, mixed});
    }
  }
  return kinds;
}

TEST(GroupTest, AddressesAndTheirMacs) {
  EXPECT_TRUE(IsGroup(*ParseAddress("224.0.0.1")));
  EXPECT_TRUE(IsGroup(*ParseAddress("239.255.255.255")));
  EXPECT_TRUE(IsGroup(*ParseAddress("ff02::1")));
  for (const char* other : {"223.255.255.255", "240.0.0.0", "255.255.255.255", "fe80::1", "::ff00"}) {
    EXPECT_FALSE(IsGroup(*ParseAddress(other))) << other;
  }
  // RFC 1112, section 6.4: the low 23 bits only.
  EXPECT_EQ(GroupMac(*ParseAddress("224.129.2.3")), *ParseMac("01:00:5e:01:02:03"));
  EXPECT_EQ(GroupMac(*ParseAddress("239.255.255.250")), *ParseMac("01:00:5e:7f:ff:fa"));
  EXPECT_EQ(GroupMac(*ParseAddress("ff02::1:ff8a:9b0c")), *ParseMac("33:33:ff:8a:9b:0c"));
}

TEST(GroupTest, EachFlowGoesToEachGroup) {
  for (const Kind& kind : Kinds()) {
    const bool is_ipv4 = kind.family == Family::kIpv4;
    SCOPED_TRACE(::testing::Message() << (is_ipv4 ? "IPv4 " : "IPv6 ") << static_cast<int>(kind.transport));
    FrameSpec spec = Spec(kind.transport, kind.family);
    if (kind.mixed) spec.sizes = {110, 400, 131};
    // Where the Ethernet address takes a step that the IP address does not, and over a word's half.
    spec.destination = *ParseAddress(is_ipv4 ? "239.127.255.254" : "ff05::1:fffe");
    spec.groups = 4;
    spec.group_macs = true;
    const size_t l4 = kEthernetBytes + IpBytes(kind.family);
    std::map<uint16_t, std::set<uint32_t>> groups;
    size_t number = 0;
    for (const Bytes& frame : Frames(spec, 4 * 3 + 1)) {
      IpAddress group = spec.destination;
      group.words[is_ipv4 ? 0 : 3] += static_cast<uint32_t>(number++ % 4);
      EXPECT_EQ(Long(frame, l4 - 4), group.words[is_ipv4 ? 0 : 3]);
      const MacAddress mac = GroupMac(group);
      EXPECT_TRUE(std::equal(mac.begin(), mac.end(), frame.begin()));
      ExpectRightPacket(frame, kEthernetBytes, kind.transport, kind.family);
      groups[Word(frame, l4)].insert(Long(frame, l4 - 4));
    }
    ASSERT_EQ(groups.size(), 3u) << "flows";
    for (const auto& [port, all] : groups) EXPECT_EQ(all.size(), 4u) << port;
  }
}

TEST(GroupTest, AGivenMacStays) {
  FrameSpec spec = Spec(Transport::kUdp, Family::kIpv4);
  spec.destination = *ParseAddress("239.0.0.1");
  spec.groups = 2;
  for (const Bytes& frame : Frames(spec, 4)) {
    EXPECT_TRUE(std::equal(spec.destination_mac.begin(), spec.destination_mac.end(), frame.begin()));
  }
}

std::string Error(const FrameSpec& spec) { return std::string(BuildTemplate(spec).status().message()); }

TEST(GroupTest, SaysWhichFieldIsWrong) {
  FrameSpec spec = Spec(Transport::kUdp, Family::kIpv4);
  spec.groups = 0;
  EXPECT_NE(Error(spec).find("groups"), std::string::npos);
  spec.groups = 2;
  EXPECT_NE(Error(spec).find("198.51.100.1 is not a multicast group"), std::string::npos);
  spec.destination = *ParseAddress("239.255.255.255");
  EXPECT_NE(Error(spec).find("beyond the last"), std::string::npos);
  spec.groups = 1;
  EXPECT_EQ(Error(spec), "");
}

FrameSpec Wrapped(const Kind& kind, Family outer) {
  const bool is_ipv4 = outer == Family::kIpv4;
  FrameSpec spec = Spec(kind.transport, kind.family);
  if (kind.mixed) spec.sizes = {250, 400, 271};
  spec.wrapped = true;
  spec.geneve = GeneveSpec{.source = *ParseAddress(is_ipv4 ? "10.0.0.1" : "fd00::1"),
                           .destination = *ParseAddress(is_ipv4 ? "10.0.0.2" : "fd00::2"),
                           .vni = 0x123456,
                           .options = {}};
  return spec;
}

// The options of a gateway load balancer: endpoint, attachment and flow cookie.
const char* const kOptions[] = {"0108:1:0123456789abcdef", "0108:2:0000000000000000", "0108:3:cafef00d"};

TEST(GeneveTest, PacketsAreWrapped) {
  for (const Family outer : {Family::kIpv4, Family::kIpv6}) {
    for (const Kind& kind : Kinds()) {
      SCOPED_TRACE(::testing::Message() << "outer " << static_cast<int>(outer) << " inner "
                                        << static_cast<int>(kind.family) << (kind.mixed ? " mixed" : ""));
      FrameSpec spec = Wrapped(kind, outer);
      Bytes options;
      for (const char* text : kOptions) {
        const Bytes option = *ParseGeneveOption(text);
        options.insert(options.end(), option.begin(), option.end());
      }
      EXPECT_EQ(options, (Bytes{1, 8, 1, 2, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef,  //
                                1, 8, 2, 2, 0,    0,    0,    0,    0,    0,    0,    0,     //
                                1, 8, 3, 1, 0xca, 0xfe, 0xf0, 0x0d}));
      spec.geneve.options = options;
      const size_t udp = kEthernetBytes + IpBytes(outer), geneve = udp + kUdpBytes, inner = geneve + 8 + 32;
      std::set<uint16_t> ports;
      for (const Bytes& frame : Frames(spec, 6)) {
        EXPECT_EQ(Word(frame, 12), outer == Family::kIpv4 ? 0x0800 : 0x86dd);
        EXPECT_EQ(Long(frame, udp - 4), spec.geneve.destination.words[outer == Family::kIpv4 ? 0 : 3]);
        EXPECT_EQ(Word(frame, kEthernetBytes + (outer == Family::kIpv4 ? 2 : 4)),
                  frame.size() - (outer == Family::kIpv4 ? kEthernetBytes : udp));
        if (outer == Family::kIpv4) {
          EXPECT_EQ(InternetChecksum(&frame[kEthernetBytes], 20), 0);
        }
        ports.insert(Word(frame, udp));
        EXPECT_GE(Word(frame, udp), 49152);
        EXPECT_EQ(Word(frame, udp + 2), 6081);
        EXPECT_EQ(Word(frame, udp + 4), frame.size() - udp);
        EXPECT_EQ(Word(frame, udp + 6), 0);
        EXPECT_EQ(Word(frame, geneve), 0x0800) << "version 0, eight words of options, no flags";
        EXPECT_EQ(Word(frame, geneve + 2), kind.family == Family::kIpv4 ? 0x0800 : 0x86dd);
        EXPECT_EQ(Long(frame, geneve + 4), 0x12345600u);
        EXPECT_TRUE(
            std::equal(options.begin(), options.end(), frame.begin() + static_cast<ptrdiff_t>(geneve + 8)));
        ExpectRightPacket(frame, inner, kind.transport, kind.family);
      }
      EXPECT_EQ(ports.size(), 3u) << "one a flow";
    }
  }
}

TEST(GeneveTest, ACriticalOptionIsSaidInTheHeader) {
  FrameSpec spec = Wrapped({Transport::kUdp, Family::kIpv4, false}, Family::kIpv4);
  for (const char* text : {"ffff:7f:01020304", "1:80:"}) {
    const Bytes option = *ParseGeneveOption(text);
    spec.geneve.options.insert(spec.geneve.options.end(), option.begin(), option.end());
  }
  EXPECT_EQ(Word(Frames(spec, 1)[0], 42), 3 << 8 | 0x40);
}

TEST(GeneveTest, SaysWhatIsWrong) {
  for (const char* wrong : {"", "0108", "0108:01", "10108:01:", "0108:100:", "x:01:", "0108:x:", "0108:01:012345",
                            "0108:01:0123456g", "0108:01:00000000:1"}) {
    EXPECT_FALSE(ParseGeneveOption(wrong).ok()) << wrong;
  }
  EXPECT_TRUE(ParseGeneveOption("0108:01:" + std::string(248, '0')).ok());
  EXPECT_FALSE(ParseGeneveOption("0108:01:" + std::string(256, '0')).ok());
  FrameSpec spec = Wrapped({Transport::kTcp, Family::kIpv6, false}, Family::kIpv6);
  spec.geneve.options.resize(256);
  EXPECT_NE(Error(spec).find("at most 252"), std::string::npos) << Error(spec);
  spec.geneve.options.clear();
  spec.geneve.vni = 1 << 24;
  EXPECT_NE(Error(spec).find("24 bits"), std::string::npos);
  spec.geneve.vni = 0;
  spec.geneve.source = *ParseAddress("10.0.0.1");
  EXPECT_NE(Error(spec).find("GENEVE's source"), std::string::npos);
}

TEST(GeneveTest, TheLongestHeadersFit) {
  FrameSpec spec = Wrapped({Transport::kTcp, Family::kIpv6, false}, Family::kIpv6);
  spec.geneve.options.resize(252);
  EXPECT_EQ(MinFrameBytes(spec), 400u);
  EXPECT_EQ(Error(spec), "");
  spec.size = 399;
  EXPECT_NE(Error(spec).find("such frames have 400 to"), std::string::npos) << Error(spec);
}

}  // namespace
}  // namespace headgate::bench
