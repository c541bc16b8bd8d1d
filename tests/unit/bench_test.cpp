// SPDX-License-Identifier: Apache-2.0
//
// hgbench without the kernel: the frames it sends, the account that its receiver keeps, and its figures.
#include <gtest/gtest.h>
#include <linux/if_ether.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>

#include "bench/frame.h"
#include "bench/histogram.h"
#include "bench/pacer.h"
#include "bench/progress.h"
#include "bench/report.h"
#include "bench/result.h"
#include "tests/harness/packet.h"
#include "tests/harness/random.h"

namespace headgate::bench {
namespace {

using testing::Bytes;
using testing::InternetChecksum;

constexpr uint32_t kIpv4Bytes = 20, kIpv6Bytes = 40, kUdpBytes = 8;

FrameSpec Spec(Transport transport, Family family, uint32_t size = 200) {
  const bool is_ipv4 = family == Family::kIpv4;
  return {.destination_mac = {2, 0, 0, 0, 0, 1},
          .source_mac = {2, 0, 0, 0, 0, 2},
          .source = *ParseAddress(is_ipv4 ? "192.0.2.1" : "2001:db8::1"),
          .destination = *ParseAddress(is_ipv4 ? "198.51.100.1" : "2001:db8:1::1"),
          .transport = transport,
          .size = size,
          .flows = 1000,
          .stream = 7};
}

Bytes Frame(const FrameSpec& spec, uint32_t flow) { return BuildFrame(spec, *BuildTemplate(spec), flow); }

uint16_t Word(const Bytes& frame, size_t offset) {
  return static_cast<uint16_t>(frame[offset] << 8 | frame[offset + 1]);
}

// Of the L4 header and what follows, with the pseudo header: zero when the checksum in it is right.
uint16_t L4Checksum(const Bytes& frame, Transport transport, Family family) {
  const bool is_ipv4 = family == Family::kIpv4;
  const size_t l4 = ETH_HLEN + (is_ipv4 ? kIpv4Bytes : kIpv6Bytes), addresses = is_ipv4 ? 26 : 22;
  Bytes summed(frame.begin() + static_cast<ptrdiff_t>(addresses), frame.begin() + static_cast<ptrdiff_t>(l4));
  const size_t length = frame.size() - l4;
  summed.insert(summed.end(), {0, static_cast<uint8_t>(transport == Transport::kUdp ? IPPROTO_UDP : IPPROTO_TCP),
                               static_cast<uint8_t>(length >> 8), static_cast<uint8_t>(length)});
  summed.insert(summed.end(), frame.begin() + static_cast<ptrdiff_t>(l4), frame.end());
  return InternetChecksum(summed.data(), summed.size());
}

TEST(FrameTest, HeadersAndChecksumsAreRight) {
  for (const Transport transport : {Transport::kUdp, Transport::kTcp}) {
    for (const Family family : {Family::kIpv4, Family::kIpv6}) {
      for (const uint32_t flow : {0u, 1u, 255u, 256u, 999u}) {
        const bool is_ipv4 = family == Family::kIpv4;
        SCOPED_TRACE(::testing::Message() << (transport == Transport::kUdp ? "UDP" : "TCP")
                                          << (is_ipv4 ? " IPv4" : " IPv6") << " flow " << flow);
        const FrameSpec spec = Spec(transport, family);
        const Bytes frame = Frame(spec, flow);
        ASSERT_EQ(frame.size(), spec.size);
        EXPECT_TRUE(std::equal(spec.destination_mac.begin(), spec.destination_mac.end(), frame.begin()));
        EXPECT_EQ(Word(frame, 12), is_ipv4 ? ETH_P_IP : ETH_P_IPV6);
        const size_t l4 = ETH_HLEN + (is_ipv4 ? kIpv4Bytes : kIpv6Bytes);
        EXPECT_EQ(Word(frame, l4), spec.source_port + flow % 256);
        EXPECT_EQ(Word(frame, l4 + 2), spec.destination_port);
        EXPECT_EQ(Word(frame, l4 - (is_ipv4 ? 6 : 18)), (is_ipv4 ? 0x0201 : 0x0001) + flow / 256)
            << "source address";
        if (is_ipv4) {
          EXPECT_EQ(InternetChecksum(&frame[ETH_HLEN], kIpv4Bytes), 0);
          EXPECT_EQ(Word(frame, ETH_HLEN + 2), spec.size - ETH_HLEN);
        } else {
          EXPECT_EQ(Word(frame, ETH_HLEN + 4), spec.size - ETH_HLEN - kIpv6Bytes);
        }
        if (is_ipv4 && transport == Transport::kUdp) {
          EXPECT_EQ(Word(frame, l4 + 6), 0) << "UDP over IPv4 goes without";
        } else {
          EXPECT_EQ(L4Checksum(frame, transport, family), 0);
        }
      }
    }
  }
}

TEST(FrameTest, RecordFollowsTheHeader) {
  const Bytes frame = Frame(Spec(Transport::kUdp, Family::kIpv4), 0);
  const size_t record = ETH_HLEN + kIpv4Bytes + kUdpBytes;
  EXPECT_EQ(Word(frame, record), HGB_MAGIC);
  EXPECT_EQ(Word(frame, record + 2), 7);
}

TEST(FrameTest, OfAMixTheLengthsAreLeftToTheProgram) {
  for (const Family family : {Family::kIpv4, Family::kIpv6}) {
    FrameSpec spec = Spec(Transport::kUdp, family, 1514);
    spec.sizes = {100, 1514, 600};
    const auto mixed = BuildTemplate(spec);
    ASSERT_TRUE(mixed.ok()) << mixed.status();
    EXPECT_EQ(mixed->sizes, 3u);
    const Bytes frame = BuildFrame(spec, *mixed, 0);
    ASSERT_EQ(frame.size(), 1514u);
    EXPECT_EQ(Word(frame, mixed->ip_length), 0);
    EXPECT_EQ(Word(frame, mixed->udp_length), 0);
    EXPECT_EQ(mixed->ip_overhead, family == Family::kIpv4 ? 14u : 54u);
    EXPECT_EQ(mixed->l4, family == Family::kIpv4 ? 34u : 54u);
  }
}

TEST(FrameTest, MixesAreParsedAndSpread) {
  const auto spread = [](const std::string& text) { return SpreadSizes(*ParseSizes(text)); };
  EXPECT_EQ(ParseSizes("1400")->front().size, 1400u);
  EXPECT_TRUE(spread("1400").empty());
  EXPECT_EQ(spread("64,1400"), (std::vector<uint32_t>{64, 1400}));
  EXPECT_EQ(spread("64:3,1400:1"), (std::vector<uint32_t>{64, 64, 1400, 64}));
  const std::vector<uint32_t> imix = spread("imix");
  EXPECT_EQ(imix.size(), 12u);
  EXPECT_EQ(std::count(imix.begin(), imix.end(), 60u), 7);
  EXPECT_EQ(std::count(imix.begin(), imix.end(), 590u), 4);
  EXPECT_EQ(std::count(imix.begin(), imix.end(), 1514u), 1);
  for (const char* wrong : {"", "x", "64:", ":7", "64:0", "0", "64,", "64:7:1", "-1", "64:200,128:57", "IMIX 2"}) {
    EXPECT_FALSE(ParseSizes(wrong).ok()) << wrong;
  }
}

TEST(FrameTest, FlowsAreDifferent) {
  const FrameSpec spec = Spec(Transport::kUdp, Family::kIpv4);
  std::set<Bytes> frames;
  for (uint32_t flow = 0; flow < spec.flows; ++flow) frames.insert(Frame(spec, flow));
  EXPECT_EQ(frames.size(), spec.flows);
}

TEST(FrameTest, SaysWhichFieldIsWrong) {
  const auto error = [](auto change) {
    FrameSpec spec = Spec(Transport::kUdp, Family::kIpv4);
    change(spec);
    return std::string(BuildTemplate(spec).status().message());
  };
  EXPECT_NE(error([](FrameSpec& spec) { spec.size = 59; }).find("59 bytes"), std::string::npos);
  EXPECT_NE(error([](FrameSpec& spec) { spec.size = kMaxFrameBytes + 1; }).find("frame size"), std::string::npos);
  EXPECT_NE(error([](FrameSpec& spec) { spec.destination = *ParseAddress("2001:db8::1"); }).find("family"),
            std::string::npos);
  EXPECT_NE(error([](FrameSpec& spec) { spec.flows = 0; }).find("flows"), std::string::npos);
  EXPECT_NE(error([](FrameSpec& spec) { spec.source_port = 65281; }).find("source port"), std::string::npos);
  EXPECT_NE(error([](FrameSpec& spec) { spec.source = *ParseAddress("255.255.255.255"); }).find("source address"),
            std::string::npos);
  EXPECT_EQ(error([](FrameSpec& spec) { spec.size = 60; }), "");
  EXPECT_EQ(error([](FrameSpec& spec) { spec.source_port = 65280; }), "");
}

TEST(HistogramTest, BucketsAreNarrowAndWithoutGaps) {
  for (uint32_t bucket = 0; bucket + 1 < HGB_BUCKETS; ++bucket) {
    const uint64_t lowest = Histogram::Lowest(bucket), highest = Histogram::Highest(bucket);
    ASSERT_EQ(hgb_bucket(lowest), bucket);
    ASSERT_EQ(hgb_bucket(highest), bucket);
    ASSERT_EQ(Histogram::Lowest(bucket + 1), highest + 1);
    ASSERT_LE(highest - lowest, lowest / 128);
  }
  EXPECT_EQ(hgb_bucket((1ULL << HGB_LATENCY_BITS) - 1), HGB_BUCKETS - 1u);
}

TEST(HistogramTest, PercentilesAreThoseOfTheValues) {
  std::mt19937_64 random = testing::MakeRandom();
  for (int round = 0; round < 20; ++round) {
    Histogram histogram;
    std::vector<uint64_t> values(1 + random() % 3000);
    for (uint64_t& value : values) {
      value = random() >> (27 + random() % 37);
      histogram.Add(value);
    }
    std::sort(values.begin(), values.end());
    histogram.SetMax(values.back());
    EXPECT_EQ(histogram.Count(), values.size());
    EXPECT_EQ(histogram.Max(), values.back());
    for (const double percent : {0.1, 50.0, 90.0, 99.0, 99.9, 100.0}) {
      const auto rank = static_cast<size_t>(std::ceil(percent / 100 * static_cast<double>(values.size())));
      const uint64_t exact = values[std::max<size_t>(rank, 1) - 1], got = histogram.Percentile(percent);
      EXPECT_LE(got > exact ? got - exact : exact - got, exact / 128 + 1) << percent;
    }
  }
}

TEST(HistogramTest, EmptyHasNoPercentile) {
  const Histogram histogram;
  EXPECT_EQ(histogram.Percentile(99), 0u);
  EXPECT_EQ(histogram.Max(), 0u);
}

TEST(AccountTest, KnowsWhatCameBefore) {
  const auto window = std::make_unique<hgb_window>();
  EXPECT_EQ(hgb_mark(window.get(), 0), HGB_FIRST);
  EXPECT_EQ(hgb_mark(window.get(), 0), HGB_AGAIN);
  EXPECT_EQ(hgb_mark(window.get(), 5), HGB_FIRST);
  EXPECT_EQ(hgb_mark(window.get(), 4), HGB_FIRST);
  EXPECT_EQ(hgb_mark(window.get(), 5), HGB_AGAIN);
  EXPECT_EQ(hgb_mark(window.get(), HGB_WINDOW_NUMBERS), HGB_FIRST) << "the word of 0, a turn later";
  EXPECT_EQ(hgb_mark(window.get(), 0), HGB_BEYOND);
  EXPECT_EQ(hgb_mark(window.get(), HGB_WINDOW_NUMBERS), HGB_AGAIN);
}

TEST(AccountTest, AgreesWithASet) {
  std::mt19937_64 random = testing::MakeRandom();
  const auto window = std::make_unique<hgb_window>();
  std::set<uint64_t> seen;
  uint64_t highest = 0;
  for (int i = 0; i < 200000; ++i) {
    highest += random() % 3;
    // Never further behind than a duplicate can be known.
    const uint64_t number = highest - std::min(highest, random() % (HGB_WINDOW_NUMBERS / 2));
    ASSERT_EQ(hgb_mark(window.get(), number), seen.insert(number).second ? HGB_FIRST : HGB_AGAIN) << number;
  }
}

TEST(ReportTest, LostIsWhatNoFrameBrought) {
  // Numbers 0 to 9 without 3 and 7, and 5 twice.
  const StreamReport stream = MakeStreamReport(1, {.packets = 9, .bytes = 576, .duplicates = 1, .next = 10});
  EXPECT_EQ(stream.lost, 2u);
  const StreamReport whole = MakeStreamReport(2, {.packets = 10, .bytes = 640, .next = 10});
  EXPECT_EQ(whole.lost, 0u);
  ReceiveReport report{.packets = 19, .bytes = 1216, .streams = {stream, whole}};
  EXPECT_EQ(report.Lost(), 2u);
  EXPECT_EQ(report.Duplicates(), 1u);
  EXPECT_EQ(report.Unique(), 18u);
  report.latency.Add(1000, 19);
  const nlohmann::json json = ToJson(report);
  EXPECT_EQ(json["lost"], 2);
  EXPECT_EQ(json["streams"].size(), 2u);
  EXPECT_EQ(json["streams"][0]["highest"], 9);
  EXPECT_EQ(json["latency_ns"]["count"], 19);
  EXPECT_NE(ToText(report).find("2 lost"), std::string::npos);
}

TEST(ReportTest, SendRate) {
  const SendReport report{.sent = 3000, .refused = 2, .given_up = 1, .seconds = 1.5};
  EXPECT_EQ(report.Rate(), 2000);
  EXPECT_EQ(SendReport{}.Rate(), 0);
  EXPECT_EQ(ToJson(report)["packets_per_second"], 2000);
}

TEST(PacerTest, FramesFollowTheClock) {
  Pacer pacer(1'000'000, 500);
  EXPECT_EQ(pacer.Due(500), 0u);
  EXPECT_EQ(pacer.Due(500 + 64'000), 64u);
  pacer.Take(64);
  EXPECT_EQ(pacer.Due(500 + 64'000), 0u);
  EXPECT_EQ(pacer.NextBurst(), 500u + 128'000);
  // Held up for a second: a tenth of it is made up for.
  EXPECT_EQ(pacer.Due(500 + 1'000'000'000), 100'000u);
  EXPECT_EQ(pacer.given_up(), 1'000'000u - 64 - 100'000);
}

TEST(ResultTest, SummariesAndPercentiles) {
  EXPECT_EQ(Summarize({}).median, 0);
  EXPECT_EQ(Summarize({3, 1, 2}).median, 2);
  EXPECT_EQ(Summarize({4, 1, 2, 3}).median, 2.5);
  EXPECT_EQ(Summarize({3, 1, 2}).min, 1);
  EXPECT_EQ(Summarize({3, 1, 2}).max, 3);
  EXPECT_EQ(Percentile({}, 99), 0);
  EXPECT_EQ(Percentile({1, 2, 3, 4}, 50), 2);
  EXPECT_EQ(Percentile({4, 3, 2, 1}, 99), 4);
  EXPECT_EQ(Percentile({4, 3, -2, 1}, 1), -2);
}

Result TwoRows() {
  return {.scenario = "test",
          .settings = {{"flows", "256"}},
          .rows = {{.name = "redirect/64",
                    .unit = "packets/s",
                    .headgate = {80, 90, 100},
                    .baseline = "bare_redirect",
                    .baseline_values = {100, 100, 200},
                    .details = {{"program_ns", 12.5}}},
                   {.name = "rss_mb", .unit = "MB", .headgate = {90, 91}}}};
}

TEST(ResultTest, RatiosAreOfTheRounds) {
  const ResultRow row = TwoRows().rows[0];
  EXPECT_EQ(row.Ratios(), (std::vector<double>{0.8, 0.9, 0.5}));
  EXPECT_EQ(row.Spread().min, 0.5);
  EXPECT_EQ(row.Spread().max, 0.9);
  EXPECT_EQ(TwoRows().rows[1].Spread().max, 91);
}

TEST(ResultTest, JsonHasTheSchemasFields) {
  const nlohmann::json json = ToJson(TwoRows());
  EXPECT_EQ(json["scenario"], "test");
  EXPECT_NE(json["machine"].get<std::string>().find("kernel"), std::string::npos);
  const nlohmann::json &with = json["rows"][0], &without = json["rows"][1];
  EXPECT_EQ(with["name"], "redirect/64");
  EXPECT_EQ(with["unit"], "packets/s");
  EXPECT_EQ(with["headgate"], 90);
  EXPECT_EQ(with["baseline"], "bare_redirect");
  EXPECT_EQ(with["baseline_value"], 100);
  EXPECT_EQ(with["ratio"], 0.8) << "the median of the ratios, not the ratio of the medians";
  EXPECT_EQ(with["spread"], (nlohmann::json{0.5, 0.9}));
  EXPECT_EQ(with["program_ns"], 12.5);
  EXPECT_EQ(without["baseline"], "");
  EXPECT_TRUE(without["baseline_value"].is_null());
  EXPECT_TRUE(without["ratio"].is_null());
  EXPECT_EQ(without["spread"], (nlohmann::json{90, 91}));
}

TEST(ResultTest, TableHasARowACase) {
  const std::string table = ToTable(TwoRows());
  EXPECT_NE(table.find("redirect/64"), std::string::npos);
  EXPECT_NE(table.find("0.800"), std::string::npos);
  EXPECT_NE(table.find("0.500..0.900"), std::string::npos);
  EXPECT_NE(table.find("rss_mb"), std::string::npos);
  EXPECT_EQ(std::count(table.begin(), table.end(), '\n'), 4);
}

TEST(ResultTest, JsonThatCannotBeWrittenIsAnError) { EXPECT_FALSE(WriteJson({}, "/proc/no/such/file").ok()); }

TEST(ProgressTest, LinesSayRatesAndLossOfTheEndsThereAre) {
  using std::chrono::milliseconds;
  const Counts before{.sent = 1000, .refused = 0, .received = 900, .lost = 1};
  const Counts now{.sent = 3000, .refused = 5, .received = 2900, .lost = 100};
  EXPECT_EQ(ToProgressLine(milliseconds(7010), milliseconds(2000), before, now),
            "7 s: sent 1000/s, 3000 in all, 5 refused; received 1000/s, 2900 in all, 100 lost (3.33 %)");
  EXPECT_EQ(ToProgressLine(milliseconds(1000), milliseconds(1000), {}, {.sent = 10, .refused = 0}),
            "1 s: sent 10/s, 10 in all");
  EXPECT_EQ(ToProgressLine(milliseconds(1000), milliseconds(500), {}, {.received = 0, .lost = 0}),
            "1 s: received 0/s, 0 in all, 0 lost (0 %)");
  EXPECT_EQ(ToProgressLine(milliseconds(1000), milliseconds(500), {}, {.received = 4}),
            "1 s: received 8/s, 4 in all");
}

}  // namespace
}  // namespace headgate::bench
