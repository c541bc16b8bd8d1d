// SPDX-License-Identifier: Apache-2.0
//
// What echo answers, byte for byte, and what it leaves alone. The expected frames, checksums included, are built
// by the tests' own packet library.
#include "agent/slowpath/echo_handler.h"

#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <algorithm>

#include "tests/harness/memory_output.h"
#include "tests/harness/memory_packet.h"
#include "tests/harness/packet.h"
#include "tests/harness/random.h"

namespace headgate::testing {
namespace {

constexpr size_t kUdpHeader = 8;

Bytes Content(size_t size) {
  Bytes bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<uint8_t>(i * 7 + 1);
  return bytes;
}

// One packet through a handler.
struct Outcome {
  Disposition disposition{};
  Bytes bytes;
};
Outcome Echo(MemoryPacket& memory) {
  EchoHandler handler;
  MemoryOutput output(1);
  handler.Handle(absl::MakeSpan(&memory.packet(), 1), output);
  return {memory.packet().disposition, memory.bytes()};
}
Outcome Echo(const Bytes& frame, const std::vector<size_t>& splits = {}) {
  MemoryPacket memory(frame, splits);
  return Echo(memory);
}

void ExpectAnswer(const Bytes& request, const Bytes& answer, const std::vector<size_t>& splits = {}) {
  const Outcome outcome = Echo(request, splits);
  EXPECT_EQ(outcome.disposition, Disposition::kReply);
  EXPECT_EQ(outcome.bytes, answer);
}
// Neither answered nor touched.
void ExpectDropped(const Bytes& request) {
  const Outcome outcome = Echo(request);
  EXPECT_EQ(outcome.disposition, Disposition::kDropped);
  EXPECT_EQ(outcome.bytes, request);
}

const Ethernet kThere = {.destination = "02:00:00:00:00:01", .source = "02:00:00:00:00:02"};
const Ethernet kBack = {.destination = "02:00:00:00:00:02", .source = "02:00:00:00:00:01"};
const Ipv4 kThere4 = {.source = "192.0.2.1", .destination = "198.51.100.7", .ttl = 3, .tos = 0xb8, .id = 99};
const Ipv4 kBack4 = {.source = "198.51.100.7", .destination = "192.0.2.1", .ttl = 64, .tos = 0xb8, .id = 99};
const Ipv6 kThere6 = {.source = "2001:db8::1", .destination = "2001:db8:7::2", .hop_limit = 3};
const Ipv6 kBack6 = {.source = "2001:db8:7::2", .destination = "2001:db8::1", .hop_limit = 64};
const Udp kThereUdp = {.source_port = 4000, .destination_port = 9000};
const Udp kBackUdp = {.source_port = 9000, .destination_port = 4000};

// With a UDP checksum of zero, which means none; the packet library takes zero for "to be filled in".
Bytes WithoutChecksum(Bytes frame) {
  const size_t at = SteerMeta(frame).l4 + 6U;
  frame[at] = frame[at + 1] = 0;
  return frame;
}

TEST(EchoHandler, AnswersIpv4) {
  for (const size_t size : {0, 1, 2, 17, 100, 1472}) {
    SCOPED_TRACE(size);
    ExpectAnswer(kThere / kThere4 / kThereUdp / Payload(Content(size)),
                 kBack / kBack4 / kBackUdp / Payload(Content(size)));
  }
}

TEST(EchoHandler, AnswersIpv6) {
  for (const size_t size : {0, 1, 2, 17, 100, 1452}) {
    SCOPED_TRACE(size);
    ExpectAnswer(kThere / kThere6 / kThereUdp / Payload(Content(size)),
                 kBack / kBack6 / kBackUdp / Payload(Content(size)));
  }
}

TEST(EchoHandler, KeepsIpv4Options) {
  for (const size_t size : {1, 4, 20, 40}) {
    SCOPED_TRACE(size);
    Ipv4 there = kThere4, back = kBack4;
    there.options = back.options = Bytes(size, 1);  // no operation
    ExpectAnswer(kThere / there / kThereUdp / Payload(Content(33)),
                 kBack / back / kBackUdp / Payload(Content(33)));
  }
}

TEST(EchoHandler, KeepsVlanTags) {
  const Vlan outer = {.id = 7, .priority = 5, .tpid = 0x88a8}, inner = {.id = 42};
  const Payload payload(Content(50));
  ExpectAnswer(kThere / inner / kThere4 / kThereUdp / payload, kBack / inner / kBack4 / kBackUdp / payload);
  ExpectAnswer(kThere / outer / inner / kThere4 / kThereUdp / payload,
               kBack / outer / inner / kBack4 / kBackUdp / payload);
  ExpectAnswer(kThere / outer / inner / kThere6 / kThereUdp / payload,
               kBack / outer / inner / kBack6 / kBackUdp / payload);
}

// RFC 768: the sender made none, so neither does the answer. RFC 8200, section 8.1: not in IPv6.
TEST(EchoHandler, TakesNoChecksumInIpv4Only) {
  ExpectAnswer(WithoutChecksum(kThere / kThere4 / kThereUdp / Payload(Content(21))),
               WithoutChecksum(kBack / kBack4 / kBackUdp / Payload(Content(21))));
  ExpectDropped(WithoutChecksum(kThere / kThere6 / kThereUdp / Payload(Content(21))));
}

// A sum that comes out as zero is sent as 0xffff, and stays that.
TEST(EchoHandler, TakesAChecksumOfAllOnes) {
  const auto request = [](uint16_t last) {
    return Bytes(kThere / kThere4 / kThereUdp /
                 Payload(Bytes{static_cast<uint8_t>(last >> 8), static_cast<uint8_t>(last)}));
  };
  const Bytes other = request(0);
  const size_t at = SteerMeta(other).l4 + 6U;
  const auto last = static_cast<uint16_t>(other[at] << 8 | other[at + 1]);
  const Bytes frame = request(last);
  ASSERT_EQ(frame[at], 0xff);
  ASSERT_EQ(frame[at + 1], 0xff);
  const Outcome outcome = Echo(frame);
  EXPECT_EQ(outcome.disposition, Disposition::kReply);
  EXPECT_EQ(outcome.bytes[at], 0xff);
  EXPECT_EQ(outcome.bytes[at + 1], 0xff);
}

TEST(EchoHandler, LeavesEthernetPaddingAlone) {
  Bytes request = kThere / kThere4 / kThereUdp / Payload(Content(5));
  Bytes answer = kBack / kBack4 / kBackUdp / Payload(Content(5));
  request.resize(60, 0xee);
  answer.resize(60, 0xee);
  ExpectAnswer(request, answer);
}

TEST(EchoHandler, SumsOverSegmentsSplitAnywhere) {
  auto random = MakeRandom();
  const Bytes request = kThere / kThere4 / kThereUdp / Payload(Content(301));
  const Bytes answer = kBack / kBack4 / kBackUdp / Payload(Content(301));
  const size_t headers = SteerMeta(request).l4 + kUdpHeader;
  for (size_t split = headers; split <= request.size(); ++split) {
    SCOPED_TRACE(split);
    ExpectAnswer(request, answer, {split});
  }
  for (int round = 0; round < 2000; ++round) {
    std::vector<size_t> splits(1 + random() % 8);
    for (size_t& split : splits) split = headers + random() % (request.size() - headers);
    std::sort(splits.begin(), splits.end());  // equal ones make an empty segment
    ExpectAnswer(request, answer, splits);
    Bytes wrong = request;
    wrong[headers + random() % (request.size() - headers)] ^= static_cast<uint8_t>(1U << (random() % 8));
    EXPECT_EQ(Echo(wrong, splits).disposition, Disposition::kDropped) << absl::StrCat("round ", round);
  }
}

TEST(EchoHandler, AnswersJumboFramesInSegments) {
  const Bytes request = kThere / kThere6 / kThereUdp / Payload(Content(8900));
  const Bytes answer = kBack / kBack6 / kBackUdp / Payload(Content(8900));
  ExpectAnswer(request, answer, {1792, 3840, 5888, 7936});
}

TEST(EchoHandler, AnswersEachPacketOfABatchByItself) {
  std::vector<MemoryPacket> memory;
  memory.emplace_back(kThere / kThere4 / kThereUdp / Payload(Content(10)));
  memory.emplace_back(kThere / kThere4 / Tcp{});
  memory.emplace_back(kThere / kThere6 / kThereUdp / Payload(Content(30)));
  std::vector<headgate::Packet> batch;
  for (MemoryPacket& packet : memory) batch.push_back(packet.packet());
  EchoHandler handler;
  MemoryOutput output(1);
  handler.Handle(absl::MakeSpan(batch), output);
  EXPECT_EQ(batch[0].disposition, Disposition::kReply);
  EXPECT_EQ(batch[1].disposition, Disposition::kDropped);
  EXPECT_EQ(batch[2].disposition, Disposition::kReply);
  EXPECT_EQ(memory[0].bytes(), Bytes(kBack / kBack4 / kBackUdp / Payload(Content(10))));
  EXPECT_EQ(memory[2].bytes(), Bytes(kBack / kBack6 / kBackUdp / Payload(Content(30))));
}

TEST(EchoHandler, DropsWrongChecksums) {
  const Bytes ipv4 = kThere / kThere4 / kThereUdp / Payload(Content(40));
  const Bytes ipv6 = kThere / kThere6 / kThereUdp / Payload(Content(40));
  for (const Bytes& right : {ipv4, ipv6}) {
    // Every byte that a checksum covers, from the network header on; but those that say what kind of packet it is
    // and how long are lies of their own.
    const hg_steer_meta meta = SteerMeta(right);
    const bool is_ipv4 = (meta.kind & HG_KIND_IPV4) != 0;
    const size_t first = is_ipv4 ? meta.l3 : meta.l3 + 8U;
    for (size_t at = first; at < right.size(); ++at) {
      SCOPED_TRACE(absl::StrCat(is_ipv4 ? "IPv4" : "IPv6", " byte ", at));
      MemoryPacket memory(right);
      memory.packet().segments[0].data[at] ^= 0x10;
      EXPECT_EQ(Echo(memory).disposition, Disposition::kDropped);
    }
  }
}

TEST(EchoHandler, DropsFragments) {
  Ipv4 first = kThere4, later = kThere4;
  first.more_fragments = true;
  later.fragment_offset = 185;
  ExpectDropped(kThere / first / kThereUdp / Payload(Content(40)));
  ExpectDropped(kThere / later / kThereUdp / Payload(Content(40)));
  ExpectDropped(kThere / kThere6 / Ipv6Fragment{.more = true} / kThereUdp / Payload(Content(40)));
  ExpectDropped(kThere / kThere6 / Ipv6Fragment{.offset = 3} / kThereUdp / Payload(Content(40)));
}

TEST(EchoHandler, DropsGroups) {
  for (const char* mac : {"ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "03:00:00:00:00:01"}) {
    SCOPED_TRACE(mac);
    ExpectDropped(Ethernet{.destination = mac} / kThere4 / kThereUdp / Payload(Content(9)));
  }
  for (const char* group : {"224.0.0.1", "239.255.255.255", "255.255.255.255"}) {
    SCOPED_TRACE(group);
    ExpectDropped(kThere / Ipv4{.destination = group} / kThereUdp / Payload(Content(9)));
  }
  ExpectDropped(kThere / Ipv6{.destination = "ff02::1"} / kThereUdp / Payload(Content(9)));
  // The neighbours of what is dropped.
  for (const char* host : {"223.255.255.255", "240.0.0.1"}) {
    SCOPED_TRACE(host);
    EXPECT_EQ(Echo(kThere / Ipv4{.destination = host} / kThereUdp / Payload(Content(9))).disposition,
              Disposition::kReply);
  }
  EXPECT_EQ(Echo(kThere / Ipv6{.destination = "fe80::1"} / kThereUdp / Payload(Content(9))).disposition,
            Disposition::kReply);
}

// Two services that answer each other never end.
TEST(EchoHandler, DropsWhatMayBeAnAnswer) {
  const Udp same = {.source_port = 9000, .destination_port = 9000};
  ExpectDropped(kThere / kThere4 / same / Payload(Content(9)));
  ExpectDropped(kThere / kThere6 / same / Payload(Content(9)));
  ExpectDropped(kThere / Ipv4{.source = "192.0.2.9", .destination = "192.0.2.9"} / kThereUdp /
                Payload(Content(9)));
  ExpectDropped(kThere / Ipv6{.source = "2001:db8::9", .destination = "2001:db8::9"} / kThereUdp /
                Payload(Content(9)));
}

TEST(EchoHandler, DropsWhatIsNotUdp) {
  ExpectDropped(kThere / kThere4 / Tcp{});
  ExpectDropped(kThere / kThere6 / Tcp{});
  ExpectDropped(kThere / kThere4 / Icmp{});
  ExpectDropped(kThere / kThere4 / Protocol{.number = 132});
  ExpectDropped(kThere / kThere4 / Protocol{.number = IPPROTO_UDPLITE});
  ExpectDropped(kThere / Arp{});
  ExpectDropped(kThere / kThere6 / Ipv6Extension{.type = 0} / kThereUdp / Payload(Content(9)));
}

// It would be right but for the protocol; or for what the program found in it.
TEST(EchoHandler, DropsWhatIsUdpInAllButName) {
  Ipv4 ipv4 = kThere4;
  ipv4.protocol = IPPROTO_UDPLITE;
  ExpectDropped(WithoutChecksum(kThere / ipv4 / kThereUdp / Payload(Content(40))));
  Bytes ipv6 = kThere / kThere6 / kThereUdp / Payload(Content(40));
  ipv6[SteerMeta(ipv6).l3 + 6U] = IPPROTO_UDPLITE;
  ExpectDropped(ipv6);
  MemoryPacket portless(kThere / kThere4 / kThereUdp / Payload(Content(40)));
  portless.packet().meta.kind &= ~static_cast<uint32_t>(HG_KIND_PORTS);
  EXPECT_EQ(Echo(portless).disposition, Disposition::kDropped);
}

// Lengths that the headers state and the packet does not have.
TEST(EchoHandler, DropsWhatIsTruncatedOrLies) {
  const Bytes whole = kThere / kThere4 / kThereUdp / Payload(Content(40));
  const hg_steer_meta meta = SteerMeta(whole);
  for (size_t size = meta.l4; size < whole.size(); ++size) {
    SCOPED_TRACE(size);
    ExpectDropped(Truncate(whole, size));
    // Nor does it help that no checksum is asked for.
    ExpectDropped(Truncate(WithoutChecksum(whole), size));
  }
  for (const uint16_t length : {0, 1, 7, 49, 1000, 0xffff}) {
    SCOPED_TRACE(length);
    Udp udp = kThereUdp;
    udp.length = length;
    ExpectDropped(kThere / kThere4 / udp / Payload(Content(40)));
    ExpectDropped(WithoutChecksum(kThere / kThere4 / udp / Payload(Content(40))));
    ExpectDropped(kThere / kThere6 / udp / Payload(Content(40)));
  }
}

// Headers that are not in the first segment cannot be looked at.
TEST(EchoHandler, DropsHeadersInSeveralSegments) {
  const Bytes frame = kThere / kThere4 / kThereUdp / Payload(Content(40));
  const hg_steer_meta meta = SteerMeta(frame);
  for (size_t split = 1; split < meta.l4 + kUdpHeader; ++split) {
    SCOPED_TRACE(split);
    EXPECT_EQ(Echo(frame, {split}).disposition, Disposition::kDropped);
  }
}

// Whatever bytes the packet and whatever kinds its metadata have, nothing beyond the packet is read: the
// sanitizers' word. Offsets are the program's, and rise.
TEST(EchoHandler, SurvivesAnyBytes) {
  auto random = MakeRandom();
  for (int round = 0; round < 20'000; ++round) {
    const Bytes right = kThere / kThere4 / kThereUdp / Payload(Content(random() % 80));
    MemoryPacket memory(right, {42 + random() % (right.size() - 41)});
    headgate::Packet& packet = memory.packet();
    for (auto changes = random() % 4; changes > 0; --changes) {
      packet.segments[0].data[random() % packet.segments[0].length] = static_cast<uint8_t>(random());
    }
    if (random() % 2 != 0) packet.meta.kind = static_cast<uint32_t>(random() % 128);
    if (random() % 2 != 0) packet.meta.l4 = static_cast<uint16_t>(packet.meta.l3 + random() % 128);
    EXPECT_EQ(Echo(memory).bytes.size(), right.size());
  }
}

}  // namespace
}  // namespace headgate::testing
