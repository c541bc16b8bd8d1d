// SPDX-License-Identifier: Apache-2.0
//
// IGMP and MLD on the wire, against bytes written by hand from RFC 2236, 3376, 2710 and 3810.
#include <gtest/gtest.h>

#include <cctype>
#include <string>

#include "agent/listeners/message.h"
#include "agent/listeners/wire.h"

namespace headgate {
namespace {

using Bytes = std::vector<uint8_t>;

Bytes Hex(const std::string& text) {
  Bytes bytes;
  std::string digits;
  for (const char c : text) {
    if (std::isxdigit(static_cast<unsigned char>(c)) == 0) continue;
    digits += c;
    if (digits.size() < 2) continue;
    bytes.push_back(static_cast<uint8_t>(std::stoi(digits, nullptr, 16)));
    digits.clear();
  }
  return bytes;
}

IpAddress Ip(const char* text) { return *ParseAddress(text); }

// 10.0.0.2 joins 239.1.1.1 and leaves it.
const char kReport2[] = "46c0 0020 0000 4000 0102 ea13 0a000002 ef010101 94040000 1600 f9fc ef010101";
const char kLeave[] = "46c0 0020 0000 4000 0102 fa13 0a000002 e0000002 94040000 1700 f8fc ef010101";

Bytes Fix4(Bytes packet) {
  const size_t header = (packet[0] & 0xfU) * 4;
  packet[2] = static_cast<uint8_t>(packet.size() >> 8);
  packet[3] = static_cast<uint8_t>(packet.size());
  packet[10] = packet[11] = packet[header + 2] = packet[header + 3] = 0;
  const uint16_t ip = wire::Fold(wire::Sum(absl::MakeConstSpan(packet).first(header)));
  const uint16_t igmp = wire::Fold(wire::Sum(absl::MakeConstSpan(packet).subspan(header)));
  packet[10] = static_cast<uint8_t>(ip >> 8);
  packet[11] = static_cast<uint8_t>(ip);
  packet[header + 2] = static_cast<uint8_t>(igmp >> 8);
  packet[header + 3] = static_cast<uint8_t>(igmp);
  return packet;
}

// A message behind a header with Router Alert, from 10.0.0.2.
Bytes Igmp(const std::string& message, const char* to = "e0000016") {
  return Fix4(Hex(std::string("46c0 0000 0000 4000 0102 0000 0a000002") + to + "94040000" + message));
}

Bytes Fix6(Bytes packet) {
  packet[4] = static_cast<uint8_t>((packet.size() - 40) >> 8);
  packet[5] = static_cast<uint8_t>(packet.size() - 40);
  packet[50] = packet[51] = 0;
  const auto all = absl::MakeConstSpan(packet);
  const uint16_t check = wire::Icmp6Checksum(all.subspan(8, 32), all.subspan(48));
  packet[50] = static_cast<uint8_t>(check >> 8);
  packet[51] = static_cast<uint8_t>(check);
  return packet;
}

constexpr char kAllMld[] = "ff020000000000000000000000000016";
constexpr char kGroup6[] = "ff3e0001000000000000000000010001";

Bytes Mld(const std::string& message, const std::string& to = kAllMld,
          const std::string& from = "fe800000000000000000000000000002") {
  return Fix6(Hex("60000000 0000 0001" + from + to + "3a00 0502 0000 0100" + message));
}

Refusal RefusalOf(const Bytes& packet) {
  const auto parsed = ParseListenerPacket(packet);
  EXPECT_TRUE(std::holds_alternative<Refusal>(parsed));
  return std::holds_alternative<Refusal>(parsed) ? std::get<Refusal>(parsed) : Refusal{99};
}

template <typename T>
T MessageOf(const Bytes& packet) {
  const auto parsed = ParseListenerPacket(packet);
  const Heard* const heard = std::get_if<Heard>(&parsed);
  if (heard == nullptr || !std::holds_alternative<T>(heard->message)) {
    ADD_FAILURE() << "refused, or another message";
    return {};
  }
  return std::get<T>(heard->message);
}

TEST(ListenerMessage, Igmp2) {
  EXPECT_EQ(MessageOf<Report>(Hex(kReport2)),
            (Report{HostVersion::kOlder, {{RecordType::kIsExclude, Ip("239.1.1.1"), {}}}}));
  EXPECT_EQ(MessageOf<Report>(Hex(kLeave)),
            (Report{HostVersion::kOlder, {{RecordType::kToInclude, Ip("239.1.1.1"), {}}}}));
  EXPECT_EQ(std::get<Heard>(ParseListenerPacket(Hex(kReport2))).sender, Ip("10.0.0.2"));
  // Ethernet pads it.
  Bytes padded = Hex(kReport2);
  padded.resize(46);
  EXPECT_EQ(MessageOf<Report>(padded).version, HostVersion::kOlder);
  EXPECT_EQ(MessageOf<Report>(Igmp("1200 0000 ef010101", "ef010101")).version, HostVersion::kOldest);
}

TEST(ListenerMessage, Igmp3) {
  const Report report =
      MessageOf<Report>(Igmp("2200 0000 0000 0004"
                             "0400 0000 ef010101"
                             "0500 0002 e8010101 0a010101 0a010102"
                             "0601 0001 ef010102 0a010103 deadbeef"  // auxiliary data
                             "0300 0000 e00000fb"));                 // mDNS: link-local
  EXPECT_EQ(report, (Report{HostVersion::kCurrent,
                            {{RecordType::kToExclude, Ip("239.1.1.1"), {}},
                             {RecordType::kAllow, Ip("232.1.1.1"), {Ip("10.1.1.1"), Ip("10.1.1.2")}},
                             {RecordType::kBlock, Ip("239.1.1.2"), {Ip("10.1.1.3")}}}}));
  // A type to come, and senders that cannot be.
  EXPECT_EQ(MessageOf<Report>(Igmp("2200 0000 0000 0002 0700 0000 ef010101"
                                   "0100 0003 ef010101 0a010101 00000000 e0000001")),
            (Report{HostVersion::kCurrent, {{RecordType::kIsInclude, Ip("239.1.1.1"), {Ip("10.1.1.1")}}}}));
}

TEST(ListenerMessage, IgmpQueries) {
  EXPECT_EQ(MessageOf<ListenerQuery>(Igmp("1164 0000 00000000", "e0000001")),
            (ListenerQuery{.version = HostVersion::kOlder, .response = std::chrono::seconds(10)}));
  EXPECT_EQ(MessageOf<ListenerQuery>(Igmp("1100 0000 00000000", "e0000001")),
            (ListenerQuery{.version = HostVersion::kOldest, .response = std::chrono::seconds(10)}));
  // Response 0x8a: (10 | 16) << 3 tenths; QQIC 0x9b: (11 | 16) << 4 seconds; S, QRV 3.
  EXPECT_EQ(MessageOf<ListenerQuery>(Igmp("118a 0000 ef010101 0b9b 0001 0a010101", "ef010101")),
            (ListenerQuery{.group = Ip("239.1.1.1"),
                           .sources = {Ip("10.1.1.1")},
                           .response = std::chrono::milliseconds(20800),
                           .suppress = true,
                           .robustness = 3,
                           .interval_seconds = 432}));
}

TEST(ListenerMessage, IgmpIsRefused) {
  const Bytes good = Hex(kReport2);
  const auto with = [&](size_t at, uint8_t value) {
    Bytes packet = good;
    packet[at] = value;
    return packet;
  };
  EXPECT_EQ(RefusalOf(with(12, 11)), Refusal::kChecksum) << "of IP";
  EXPECT_EQ(RefusalOf(with(31, 2)), Refusal::kChecksum) << "of IGMP";
  EXPECT_EQ(RefusalOf(Fix4(with(8, 2))), Refusal::kHops);
  EXPECT_EQ(RefusalOf(Fix4(with(9, 17))), Refusal::kNotOurs);
  EXPECT_EQ(RefusalOf(Fix4(with(6, 0x20))), Refusal::kNotOurs) << "a fragment";
  EXPECT_EQ(RefusalOf(Fix4(with(24, 0x99))), Refusal::kNotOurs) << "a type to come";
  EXPECT_EQ(RefusalOf(Fix4(with(12, 0xe0))), Refusal::kSender) << "a group";
  EXPECT_EQ(RefusalOf(Fix4(with(12, 127))), Refusal::kSender);
  EXPECT_EQ(RefusalOf(Fix4(with(28, 10))), Refusal::kGroup) << "no group";
  EXPECT_EQ(RefusalOf(Fix4(with(19, 9))), Refusal::kGroup) << "to another group";
  EXPECT_EQ(RefusalOf(Igmp("1600 0000 e00000fb", "e00000fb")), Refusal::kGroup) << "link-local";
  EXPECT_EQ(RefusalOf({}), Refusal::kTruncated);
  for (size_t size = 1; size < good.size(); ++size) {
    EXPECT_EQ(RefusalOf(Bytes(good.begin(), good.begin() + static_cast<ptrdiff_t>(size))), Refusal::kTruncated);
  }
  // More records, sources or auxiliary data than there are; nothing is taken of what came before.
  EXPECT_EQ(RefusalOf(Igmp("2200 0000 0000 0002 0400 0000 ef010101")), Refusal::kTruncated);
  EXPECT_EQ(RefusalOf(Igmp("2200 0000 0000 0001 0400 0001 ef010101")), Refusal::kTruncated);
  EXPECT_EQ(RefusalOf(Igmp("2200 0000 0000 0001 0401 0000 ef010101")), Refusal::kTruncated);
  EXPECT_EQ(RefusalOf(Igmp("2200 0000 0000 ffff 0400 ffff ef010101")), Refusal::kTruncated);
  EXPECT_EQ(RefusalOf(Igmp("1164 0000 ef010101 0000 0001", "ef010101")), Refusal::kTruncated);
  EXPECT_EQ(RefusalOf(Igmp("1164 0000 00000000 0000 0001 0a010101", "e0000001")), Refusal::kGroup);
  // Who has no address yet may ask.
  EXPECT_EQ(MessageOf<Report>(Fix4([&] {
              Bytes packet = good;
              std::fill_n(packet.begin() + 12, 4, 0);
              return packet;
            }()))
                .version,
            HostVersion::kOlder);
}

TEST(ListenerMessage, Mld1) {
  const std::string group = kGroup6;
  EXPECT_EQ(MessageOf<Report>(Mld("8300 0000 0000 0000" + group, group)),
            (Report{HostVersion::kOlder, {{RecordType::kIsExclude, Ip("ff3e:1::1:1"), {}}}}));
  EXPECT_EQ(MessageOf<Report>(Mld("8400 0000 0000 0000" + group, "ff020000000000000000000000000002")),
            (Report{HostVersion::kOlder, {{RecordType::kToInclude, Ip("ff3e:1::1:1"), {}}}}));
  EXPECT_EQ(MessageOf<ListenerQuery>(Mld("8200 0000 2710 0000 00000000000000000000000000000000")),
            (ListenerQuery{.version = HostVersion::kOlder, .response = std::chrono::seconds(10)}));
}

TEST(ListenerMessage, Mld2) {
  const std::string group = kGroup6, source = "20010db8000000000000000000000009";
  EXPECT_EQ(MessageOf<Report>(Mld("8f00 0000 0000 0002 0300 0001" + group + source +
                                  "0400 0000 ff0200000000000000000000000000fb")),
            (Report{HostVersion::kCurrent, {{RecordType::kToInclude, Ip("ff3e:1::1:1"), {Ip("2001:db8::9")}}}}));
  // Response 0x8abc: (0xabc | 0x1000) << 3.
  EXPECT_EQ(MessageOf<ListenerQuery>(Mld("8200 0000 8abc 0000" + group + "027d 0001" + source, group)),
            (ListenerQuery{.group = Ip("ff3e:1::1:1"),
                           .sources = {Ip("2001:db8::9")},
                           .response = std::chrono::milliseconds(0x1abc << 3),
                           .robustness = 2,
                           .interval_seconds = 125}));
}

TEST(ListenerMessage, MldIsRefused) {
  const std::string group = kGroup6;
  const Bytes good = Mld("8f00 0000 0000 0001 0400 0000" + group);
  const auto with = [&](size_t at, uint8_t value) {
    Bytes packet = good;
    packet[at] = value;
    return packet;
  };
  EXPECT_EQ(MessageOf<Report>(good).records.size(), 1U);
  EXPECT_EQ(RefusalOf(with(70, 1)), Refusal::kChecksum);
  EXPECT_EQ(RefusalOf(Fix6(with(7, 2))), Refusal::kHops);
  EXPECT_EQ(RefusalOf(Fix6(with(42, 1))), Refusal::kNotOurs) << "no Router Alert";
  EXPECT_EQ(RefusalOf(Fix6(with(45, 1))), Refusal::kNotOurs) << "Router Alert for something else";
  EXPECT_EQ(RefusalOf(Fix6(with(40, 17))), Refusal::kNotOurs);
  EXPECT_EQ(RefusalOf(Fix6(with(48, 135))), Refusal::kNotOurs) << "neighbour solicitation";
  EXPECT_EQ(RefusalOf(Mld("8f00 0000 0000 0001 0400 0000" + group, kAllMld, "20010db8000000000000000000000002")),
            Refusal::kSender);
  EXPECT_EQ(RefusalOf(Mld("8f00 0000 0000 0001 0400 0000" + group, kAllMld, "00000000000000000000000000000000")),
            Refusal::kSender);
  EXPECT_EQ(RefusalOf(Mld("8f00 0000 0000 0002 0400 0000" + group)), Refusal::kTruncated);
  EXPECT_EQ(RefusalOf(Mld("8f00 0000 0000 0001 0400 0001" + group)), Refusal::kTruncated);
  EXPECT_EQ(RefusalOf(Mld("8300 0000 0000 0000" + group)), Refusal::kGroup) << "to another group";
  for (size_t size = 1; size < good.size(); ++size) {
    EXPECT_EQ(RefusalOf(Bytes(good.begin(), good.begin() + static_cast<ptrdiff_t>(size))), Refusal::kTruncated);
  }
}

TEST(ListenerMessage, QueriesAreBuilt) {
  const ListenerQuery general{.response = std::chrono::seconds(10), .robustness = 2, .interval_seconds = 125};
  EXPECT_EQ(BuildQuery(general, Ip("10.0.0.1")),
            Hex("46c0 0024 0000 4000 0102 fa11 0a000001 e0000001 94040000 1164 ec1e 00000000 027d 0000"));
  const ListenerQuery specific{.group = Ip("239.1.1.1"),
                               .sources = {Ip("10.1.1.1")},
                               .response = std::chrono::milliseconds(20800),
                               .suppress = true,
                               .robustness = 3,
                               .interval_seconds = 432};
  EXPECT_EQ(
      BuildQuery(specific, Ip("10.0.0.1")),
      Fix4(Hex("46c0 0028 0000 4000 0102 0000 0a000001 ef010101 94040000 118a 0000 ef010101 0b9b 0001 0a010101")));
  EXPECT_EQ(MessageOf<ListenerQuery>(BuildQuery(specific, Ip("0.0.0.0"))), specific);
  ListenerQuery mld = specific;
  mld.group = Ip("ff3e:1::1:1");
  mld.sources = {Ip("2001:db8::9"), Ip("2001:db8::a")};
  EXPECT_EQ(BuildQuery(mld, Ip("fe80::1")),
            Fix6(Hex("60000000 0044 0001 fe800000000000000000000000000001 ff3e0001000000000000000000010001"
                     "3a00 0502 0000 0100 8200 0000 5140 0000 ff3e0001000000000000000000010001 0b9b 0002"
                     "20010db8000000000000000000000009 20010db800000000000000000000000a")));
  EXPECT_EQ(MessageOf<ListenerQuery>(BuildQuery(mld, Ip("fe80::1"))), mld);
  // More than seven cannot be said.
  EXPECT_EQ(MessageOf<ListenerQuery>(BuildQuery({.robustness = 8}, Ip("fe80::1"))).robustness, 0);
  EXPECT_EQ(ToString(GroupMac(Ip("239.129.1.2"))), "01:00:5e:01:01:02");
  EXPECT_EQ(ToString(GroupMac(Ip("ff02::1"))), "33:33:00:00:00:01");
}

TEST(ListenerMessage, NumbersWithExponents) {
  for (const int mantissa : {wire::kByteMantissa, wire::kWordMantissa}) {
    const uint32_t codes = 1U << (mantissa + 4);
    for (uint32_t code = 0; code < codes; ++code) {
      const uint32_t value = wire::Decode(code, mantissa);
      EXPECT_EQ(wire::Encode(value, mantissa), code);
      EXPECT_EQ(wire::Encode(value + 1, mantissa),
                wire::Decode(code + 1, mantissa) == value + 1 ? code + 1 : code);
      if (code + 1 == codes) {
        EXPECT_EQ(wire::Encode(~0U, mantissa), code);
      }
    }
  }
  EXPECT_EQ(wire::Decode(0xff, wire::kByteMantissa), 31744U);
}

}  // namespace
}  // namespace headgate
