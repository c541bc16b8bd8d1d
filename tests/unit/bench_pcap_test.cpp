// SPDX-License-Identifier: Apache-2.0
//
// Capture files, and when their frames are due.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "bench/pcap_file.h"
#include "bench/timetable.h"

namespace headgate::bench {
namespace {

constexpr uint32_t kMicroseconds = 0xa1b2c3d4, kNanoseconds = 0xa1b23c4d, kEthernet = 1, kRawIp = 101;

struct Record {
  uint32_t seconds, fraction, captured, length;
};

// A pcap file in this machine's byte order, or in the other.
class PcapFileTest : public ::testing::Test {
 protected:
  void TearDown() override { std::filesystem::remove(path_); }

  void Write(uint32_t magic, uint32_t type, const std::vector<Record>& records, bool swapped = false) {
    std::ofstream file(path_, std::ios::binary | std::ios::trunc);
    const auto put32 = [&](uint32_t value) {
      if (swapped) value = __builtin_bswap32(value);
      file.write(reinterpret_cast<const char*>(&value), sizeof(value));
    };
    put32(magic);
    put32(swapped ? 4 | 2 << 16 : 2 | 4 << 16);  // version 2.4, in two halves
    for (const uint32_t value : {0u, 0u, 65535u, type}) put32(value);
    char fill = 'a';
    for (const Record& record : records) {
      for (const uint32_t value : {record.seconds, record.fraction, record.captured, record.length}) put32(value);
      file << std::string(record.captured, fill++);
    }
  }
  std::string Error() const { return std::string(ReadPcap(path_, 1514).status().message()); }

  std::string path_ = ::testing::TempDir() + "bench_pcap_test.pcap";
};

TEST_F(PcapFileTest, BothPrecisionsAndByteOrders) {
  for (const bool swapped : {false, true}) {
    for (const uint32_t magic : {kMicroseconds, kNanoseconds}) {
      Write(magic, kEthernet, {{10, 999'999, 60, 60}, {11, 1, 1514, 1514}, {10, 500'000, 14, 14}}, swapped);
      const auto frames = ReadPcap(path_, 1514);
      ASSERT_TRUE(frames.ok()) << frames.status();
      ASSERT_EQ(frames->size(), 3u);
      EXPECT_EQ((*frames)[0].bytes, std::vector<uint8_t>(60, 'a'));
      EXPECT_EQ((*frames)[1].bytes, std::vector<uint8_t>(1514, 'b'));
      EXPECT_EQ((*frames)[2].bytes, std::vector<uint8_t>(14, 'c'));
      EXPECT_EQ((*frames)[0].time, 0u);
      EXPECT_EQ((*frames)[1].time, magic == kMicroseconds ? 2'000u : 999'000'002u);
      EXPECT_EQ((*frames)[2].time, (*frames)[1].time) << "an earlier time is not gone back to";
    }
  }
}

TEST_F(PcapFileTest, SaysWhatCannotBeSent) {
  Write(kMicroseconds, kRawIp, {{0, 0, 60, 60}});
  EXPECT_NE(Error().find("only Ethernet"), std::string::npos) << Error();
  Write(kMicroseconds, kEthernet, {{0, 0, 60, 60}, {0, 0, 96, 1514}});
  EXPECT_NE(Error().find("frame 2"), std::string::npos) << Error();
  EXPECT_NE(Error().find("only 96 of its 1514 bytes"), std::string::npos) << Error();
  Write(kMicroseconds, kEthernet, {{0, 0, 1515, 1515}});
  EXPECT_NE(Error().find("1515 bytes"), std::string::npos) << Error();
  Write(kMicroseconds, kEthernet, {{0, 0, 13, 13}});
  EXPECT_NE(Error().find("13 bytes"), std::string::npos) << Error();
  Write(kMicroseconds, kEthernet, {});
  EXPECT_NE(Error().find("no frames"), std::string::npos) << Error();
  Write(kMicroseconds, kEthernet, {{0, 0, 60, 60}});
  std::filesystem::resize_file(path_, std::filesystem::file_size(path_) - 1);
  EXPECT_NE(Error().find("after frame 0"), std::string::npos) << Error();
  Write(0x12345678, kEthernet, {});
  EXPECT_NE(Error().find(path_), std::string::npos) << Error();
  std::filesystem::remove(path_);
  EXPECT_NE(Error().find("No such file"), std::string::npos) << Error();
}

TEST(TimetableTest, FramesAreDueAtTheirTimes) {
  const Timetable timetable({0, 100, 100, 400}, 2, 1000);
  EXPECT_EQ(timetable.Due(999), 0u);
  EXPECT_EQ(timetable.Due(1000), 1u);
  EXPECT_EQ(timetable.Due(1049), 1u);
  EXPECT_EQ(timetable.Due(1050), 3u);
  EXPECT_EQ(timetable.Due(1199), 3u);
  EXPECT_EQ(timetable.Due(1200), 4u);
  // The next pass after the mean of the gaps, 400 / 3.
  EXPECT_EQ(timetable.TimeOf(4), 1000u + 533 / 2);
  EXPECT_EQ(timetable.Due(1000 + 533 / 2 - 1), 4u);
  EXPECT_EQ(timetable.Due(1000 + 533 / 2), 5u);
  EXPECT_EQ(timetable.TimeOf(4 * 7 + 1), 1000u + (7 * 533 + 100) / 2);
}

TEST(TimetableTest, TimeAndCountAgree) {
  for (const double speed : {0.001, 0.3, 1.0, 7.0, 1e6}) {
    const Timetable timetable({0, 7, 7, 1'000'003, 2'000'000'011}, speed, 5'000'000'000);
    for (const uint64_t number : {0, 1, 2, 3, 4, 5, 6, 11, 1003, 4999}) {
      const uint64_t time = timetable.TimeOf(number);
      EXPECT_GT(timetable.Due(time), number) << speed;
      EXPECT_LE(timetable.Due(time - 1), number) << speed;
    }
  }
}

TEST(TimetableTest, WithoutTimesAllIsDueAtOnce) {
  EXPECT_GT(Timetable({0}, 1, 5).Due(5), 1'000'000'000u);
  EXPECT_GT(Timetable({0, 0}, 1, 5).Due(5), 1'000'000'000u);
  EXPECT_EQ(Timetable({0}, 1, 5).Due(4), 0u);
}

}  // namespace
}  // namespace headgate::bench
