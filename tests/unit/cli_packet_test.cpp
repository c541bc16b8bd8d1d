// SPDX-License-Identifier: Apache-2.0
//
// Packets as text: descriptions into frames, frames into lines, and what people mistype.
#include "cli/packet.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <string>

#include "agent/api/text_values.h"
#include "agent/api/trace_text.h"
#include "tests/harness/packet.h"
#include "tests/harness/random.h"

namespace headgate::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Text(const Bytes& bytes) { return {bytes.begin(), bytes.end()}; }

cli::DecodedFrame Decode(const Bytes& frame) { return cli::DecodeFrame(Text(frame)); }

Bytes Built(const std::string& description) {
  const auto input = api::ParseTraceText(description);
  EXPECT_TRUE(input.ok()) << description << ": " << input.status();
  return input.ok() ? input->frame : Bytes();
}

std::string Refused(const std::string& description) {
  const auto input = api::ParseTraceText(description);
  EXPECT_FALSE(input.ok()) << description;
  return std::string(input.status().message());
}

// The checksum over what it covers is right when it comes out as zero.
bool ChecksumsHold(const Bytes& frame, size_t l3) {
  const bool ipv4 = frame[l3] >> 4 == 4;
  const size_t l4 = l3 + (ipv4 ? 20 : 40);
  if (ipv4 && InternetChecksum(&frame[l3], 20) != 0) return false;
  const uint8_t protocol = frame[l3 + (ipv4 ? 9 : 6)];
  const size_t size = frame.size() - l4;
  uint32_t pseudo = 0;
  if (protocol != IPPROTO_ICMP) {
    const size_t addresses = l3 + (ipv4 ? 12 : 8);
    for (size_t at = addresses; at < l4; at += 2) pseudo += static_cast<uint32_t>(frame[at] << 8 | frame[at + 1]);
    pseudo += protocol + static_cast<uint32_t>(size);
  }
  return InternetChecksum(&frame[l4], size, pseudo) == 0;
}

TEST(CliPacketTest, DescriptionBecomesTheFrameItDescribes) {
  const auto input = api::ParseTraceText("udp 10.0.0.1:1234 > 10.1.1.1:53 in eth0");
  ASSERT_TRUE(input.ok()) << input.status();
  EXPECT_EQ(input->interface, "eth0");
  const cli::DecodedFrame frame = Decode(input->frame);
  EXPECT_EQ(frame.summary, "udp 10.0.0.1:1234 > 10.1.1.1:53 ttl 64");
  EXPECT_EQ(input->frame.size(), 42u);
  EXPECT_TRUE(ChecksumsHold(input->frame, 14));
}

TEST(CliPacketTest, DescriptionsOfEveryKind) {
  const std::pair<const char*, const char*> kinds[] = {
      {"tcp 10.0.0.1:1 > 10.0.0.2:2", "tcp 10.0.0.1:1 > 10.0.0.2:2 flags syn ttl 64"},
      {"tcp 10.0.0.1:1 > 10.0.0.2:2 flags fin,ack ttl 3", "tcp 10.0.0.1:1 > 10.0.0.2:2 flags fin,ack ttl 3"},
      {"udp [2001:db8::1]:5 > [2001:db8::2]:6 vlan 7", "udp [2001:db8::1]:5 > [2001:db8::2]:6 vlan 7 ttl 64"},
      {"udp 10.0.0.1:5 > 10.0.0.2:6 vlan 7 vlan 8", "udp 10.0.0.1:5 > 10.0.0.2:6 vlan 7 vlan 8 ttl 64"},
      {"icmp 10.0.0.1 > 10.0.0.2:3/4", "icmp 10.0.0.1 > 10.0.0.2:3/4 ttl 64"},
      {"icmp 10.0.0.1 > 10.0.0.2", "icmp 10.0.0.1 > 10.0.0.2:8/0 ttl 64"},
      {"icmpv6 fe80::1 > [ff02::1]:135", "icmpv6 fe80::1 > [ff02::1]:135/0 ttl 64"},
      {"47 10.0.0.1 > 10.0.0.2", "gre 10.0.0.1 > 10.0.0.2 ttl 64"},
      {"200 10.0.0.1 > 10.0.0.2 in x", "200 10.0.0.1 > 10.0.0.2 ttl 64"},
      {"sctp 10.0.0.1:5 > 10.0.0.2:6", "sctp 10.0.0.1:5 > 10.0.0.2:6 ttl 64"},
  };
  for (const auto& [description, summary] : kinds) EXPECT_EQ(Decode(Built(description)).summary, summary);
}

TEST(CliPacketTest, FramesGoToTheDeviceOrTheGroup) {
  const std::pair<const char*, Bytes> groups[] = {
      {"udp 10.0.0.1 > 239.129.1.2", {0x01, 0x00, 0x5e, 0x01, 0x01, 0x02}},
      {"udp 10.0.0.1 > 255.255.255.255", {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
      {"udp fe80::1 > ff02::1:ff00:2", {0x33, 0x33, 0xff, 0x00, 0x00, 0x02}},
      {"udp 10.0.0.1 > 10.0.0.2", {0x02, 0x00, 0x00, 0x00, 0x00, 0x0a}},
      {"udp fe80::1 > fe80::2", {0x02, 0x00, 0x00, 0x00, 0x00, 0x0a}},
  };
  for (const auto& [description, mac] : groups) {
    auto input = api::ParseTraceText(description);
    ASSERT_TRUE(input.ok()) << input.status();
    api::Address(*input, {0x02, 0, 0, 0, 0, 0x0a});
    EXPECT_EQ(Truncate(input->frame, 6), mac) << description;
  }
}

TEST(CliPacketTest, DescriptionSetsLengthAndDscp) {
  const Bytes frame = Built("udp 10.0.0.1:1 > 10.0.0.2:2 len 128 dscp 46");
  EXPECT_EQ(frame.size(), 14u + 128);
  EXPECT_TRUE(ChecksumsHold(frame, 14));
  EXPECT_THAT(Decode(frame).headers[1], HasSubstr("dscp 46 id 0 length 128"));
}

TEST(CliPacketTest, MistakesSayWhatWouldBeRight) {
  EXPECT_THAT(Refused(""), HasSubstr("PROTOCOL SOURCE[:PORT] > DESTINATION[:PORT]"));
  EXPECT_THAT(Refused("udp 10.0.0.1:1 10.0.0.2:2 in eth0"),
              HasSubstr("PROTOCOL SOURCE[:PORT] > DESTINATION[:PORT]"));
  EXPECT_THAT(Refused("udq 10.0.0.1 > 10.0.0.2"), HasSubstr("\"udq\" is not a protocol"));
  EXPECT_THAT(Refused("udp 10.0.0.1:1 > 2001:db8::1"), HasSubstr("different IP versions"));
  EXPECT_THAT(Refused("udp 10.0.0.300:1 > 10.0.0.2:2"), HasSubstr("10.0.0.300"));
  EXPECT_THAT(Refused("udp 10.0.0.1:70000 > 10.0.0.2:2"), HasSubstr("a number up to 65535 is needed"));
  EXPECT_THAT(Refused("gre 10.0.0.1:1 > 10.0.0.2"), HasSubstr("has no ports"));
  EXPECT_THAT(Refused("udp [2001:db8::1:5 > [2001:db8::2]:6"), HasSubstr("a ] is missing"));
  EXPECT_THAT(Refused("udp 10.0.0.1:1 > 10.0.0.2:2 in"), HasSubstr("\"in\" needs a value"));
  EXPECT_THAT(Refused("udp 10.0.0.1:1 > 10.0.0.2:2 size 9"), HasSubstr("use in, vlan, len, ttl, dscp or flags"));
  EXPECT_THAT(Refused("udp 10.0.0.1:1 > 10.0.0.2:2 len 20"), HasSubstr("the headers alone take 28"));
  EXPECT_THAT(Refused("udp 10.0.0.1:1 > 10.0.0.2:2 ttl 256"), HasSubstr("a number up to 255 is needed"));
  EXPECT_THAT(Refused("udp 10.0.0.1:1 > 10.0.0.2:2 vlan 4095"), HasSubstr("a number up to 4094 is needed"));
  EXPECT_THAT(Refused("tcp 10.0.0.1:1 > 10.0.0.2:2 flags sin"), HasSubstr("sin"));
}

TEST(CliPacketTest, MistakesAreNamedByTheirColumn) {
  const std::pair<const char*, const char*> mistakes[] = {
      {"udq 10.0.0.1 > 10.0.0.2", "column 1: "},
      {"  udq 10.0.0.1 > 10.0.0.2", "column 3: "},
      {"udp 10.0.0.300 > 10.0.0.2", "column 5: "},
      {"udp 10.0.0.1:70000 > 10.0.0.2", "column 14: port \"70000\""},
      {"udp 10.0.0.1: > 10.0.0.2", "column 14: port \"\""},
      {"udp 10.0.0.1:+5 > 10.0.0.2", "column 14: "},
      {"udp [2001:db8::1]:x > [2001:db8::2]", "column 19: port \"x\""},
      {"udp [2001:db8::1]x > [2001:db8::2]", "column 5: "},
      {"udp 10.0.0.1 > 2001:db8::2", "column 16: "},
      {"icmp 10.0.0.1:5 > 10.0.0.2:8/0", "column 15: an ICMP packet has no ports"},
      {"icmpv6 [fe80::1]:1 > [fe80::2]:128", "column 18: an ICMP packet has no ports"},
      {"icmp 10.0.0.1 > 10.0.0.2:8/256", "column 28: ICMP code \"256\""},
      {"icmp 10.0.0.1 > 10.0.0.2:8/", "column 28: ICMP code \"\""},
      {"icmp 10.0.0.1 > 10.0.0.2:/1", "column 26: ICMP type \"\""},
      {"gre 10.0.0.1 > 10.0.0.2:7", "column 25: protocol gre has no ports"},
      {"udp 10.0.0.1 > 10.0.0.2 ttl", "column 25: "},
      {"udp 10.0.0.1 > 10.0.0.2 ttl 5 hop 6", "column 31: \"hop\""},
      {"udp 10.0.0.1 > 10.0.0.2 ttl  300", "column 30: "},
      {"udp 10.0.0.1 > 10.0.0.2 flags syn", "column 25: flags need protocol tcp"},
      {"udp 10.0.0.1 > 10.0.0.2 len 20 ttl 1", "column 29: len 20"},
      {"udp 10.0.0.1 > 10.0.0.2 vlan 1 vlan 2 vlan 3 vlan 4", "column 46: more than three"},
  };
  for (const auto& [description, mistake] : mistakes) {
    EXPECT_THAT(Refused(description), ::testing::StartsWith(mistake)) << description;
  }
}

// A UDP checksum of zero means that there is none, so one that comes to zero goes as its other form.
TEST(CliPacketTest, AUdpChecksumIsNeverZero) {
  for (const char* protocol : {"udp", "udplite"}) {
    for (const char* destination : {"10.0.0.2:53", "[2001:db8::2]:53"}) {
      const bool ipv4 = destination[0] == '1';
      const size_t at = ipv4 ? 14 + 20 + 6 : 14 + 40 + 6;
      int turned = 0;
      // The port runs through all values of its 16-bit word: once the sum comes to zero.
      for (int port = 0; port < 65536; ++port) {
        const Bytes frame =
            Built(absl::StrCat(protocol, ipv4 ? " 10.0.0.1:" : " [2001:db8::1]:", port, " > ", destination));
        ASSERT_NE(frame[at] << 8 | frame[at + 1], 0) << port;
        ASSERT_TRUE(ChecksumsHold(frame, 14)) << port;
        turned += frame[at] == 0xff && frame[at + 1] == 0xff ? 1 : 0;
      }
      EXPECT_EQ(turned, 1) << protocol << " " << destination;
    }
  }
}

// What the trace prints of a packet describes the same packet again.
TEST(CliPacketTest, SummaryDescribesTheSameFrame) {
  auto random = MakeRandom();
  const auto pick = [&](uint32_t below) { return static_cast<uint32_t>(random() % below); };
  for (int i = 0; i < 2000; ++i) {
    const bool ipv6 = pick(2) == 1;
    const char* protocol = std::array{"tcp", "udp", "sctp", "dccp"}[pick(4)];
    const auto side = [&] {
      return ipv6 ? absl::StrCat("[2001:db8::", absl::Hex(pick(65535) + 1), "]:", pick(65536))
                  : absl::StrCat("10.", pick(256), ".", pick(256), ".", pick(256), ":", pick(65536));
    };
    std::string text = absl::StrCat(protocol, " ", side(), " > ", side());
    if (pick(2) == 1) absl::StrAppend(&text, " vlan ", pick(4095));
    if (pick(2) == 1) absl::StrAppend(&text, " ttl ", pick(256));
    if (pick(2) == 1 && std::string_view(protocol) == "tcp") absl::StrAppend(&text, " flags syn,ack");
    const Bytes frame = Built(text);
    EXPECT_EQ(Built(Decode(frame).summary), frame) << text;
  }
}

TEST(CliPacketTest, HeadersHaveALineEach) {
  const cli::DecodedFrame frame = Decode(Ethernet{} / Vlan{.id = 5, .priority = 3} / Ipv4{.ttl = 7} /
                                         Udp{.destination_port = 53} / Payload(9));
  EXPECT_THAT(
      frame.headers,
      ElementsAre("ethernet 02:00:00:00:00:02 > 02:00:00:00:00:01 type 0x8100", "vlan 5 priority 3 type 0x0800",
                  ::testing::StartsWith("ipv4 192.0.2.1 > 192.0.2.2 udp ttl 7 dscp 0 id 1 length 37"),
                  ::testing::StartsWith("udp 12345 > 53 length 17"), "payload 9 bytes"));
}

TEST(CliPacketTest, FragmentsAndExtensionHeadersAreNamed) {
  EXPECT_THAT(Decode(Ethernet{} / Ipv4{.more_fragments = true, .fragment_offset = 10, .protocol = 17} / Payload(8))
                  .summary,
              HasSubstr("udp 192.0.2.1 > 192.0.2.2 fragment later"));
  const cli::DecodedFrame v6 =
      Decode(Ethernet{} / Ipv6{} / Ipv6Extension{.type = 60} / Ipv6Fragment{.more = true} / Tcp{.flags = 0x12});
  EXPECT_EQ(v6.summary, "tcp [2001:db8::1]:12345 > [2001:db8::2]:80 flags syn,ack ttl 64");
  EXPECT_THAT(absl::StrJoin(v6.headers, "\n"), HasSubstr("extension header 60 length 8"));
  EXPECT_THAT(Decode(Ethernet{} / Arp{}).summary, ::testing::StartsWith("arp "));
}

// Whatever the bytes, something is said of them, and nothing beyond them is read (the sanitizers see to that).
TEST(CliPacketTest, CutAndRandomFramesAreSaidToBe) {
  const Bytes whole = Ethernet{} / Vlan{} / Ipv6{} / Ipv6Extension{} / Ipv6Fragment{} / Tcp{} / Payload(4);
  for (size_t size = 0; size < whole.size(); ++size) {
    const cli::DecodedFrame frame = Decode(Truncate(whole, size));
    EXPECT_FALSE(frame.summary.empty());
    if (size < 14) {
      EXPECT_EQ(frame.summary, absl::StrCat("ethernet cut: ", size, " of 14 bytes"));
    }
  }
  auto random = MakeRandom();
  for (int i = 0; i < 20000; ++i) {
    Bytes frame = i % 2 == 0 ? whole : Bytes(Ethernet{} / Ipv4{} / Tcp{});
    for (int flips = 0; flips < 4; ++flips) frame[random() % frame.size()] = static_cast<uint8_t>(random());
    frame.resize(random() % (frame.size() + 1));
    EXPECT_FALSE(Decode(frame).summary.empty());
  }
}

TEST(CliPacketTest, HexIsReadInTheWaysItIsWritten) {
  const std::string bytes("\x02\x00\xff\x10", 4);
  for (const char* text : {"0200ff10", "02:00:ff:10", "02-00-FF-10", "02 00 ff 10", "0200 ff10\n"}) {
    const auto parsed = ParseHex(text);
    ASSERT_TRUE(parsed.ok()) << text << ": " << parsed.status();
    EXPECT_EQ(*parsed, bytes) << text;
  }
  for (const char* text : {"0", "0g", "02:0", "0x02"}) EXPECT_FALSE(ParseHex(text).ok()) << text;
}

TEST(CliPacketTest, HexDumpHasSixteenBytesALine) {
  std::string bytes;
  for (int i = 0; i < 18; ++i) bytes += static_cast<char>('a' + i);
  bytes[1] = '\n';
  EXPECT_EQ(cli::HexDump(bytes, "  "),
            "  0000  61 0a 63 64 65 66 67 68  69 6a 6b 6c 6d 6e 6f 70  a.cdefghijklmnop\n"
            "  0010  71 72                                             qr\n");
  EXPECT_EQ(cli::HexDump("", "  "), "");
}

}  // namespace
}  // namespace headgate::testing
