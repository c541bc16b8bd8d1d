// SPDX-License-Identifier: Apache-2.0
//
// Anything on the wire as IGMP and MLD: nothing is read beyond a packet's end, what is accepted is sound, and
// whoever keeps listeners by it stays within bounds. Runs for HG_FUZZ_SECONDS (default 10).
#include <absl/strings/numbers.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "agent/listeners/listeners.h"
#include "agent/listeners/wire.h"
#include "tests/harness/random.h"

namespace headgate::testing {
namespace {

using Bytes = std::vector<uint8_t>;

std::chrono::seconds FuzzTime() {
  const char* given = std::getenv("HG_FUZZ_SECONDS");
  int seconds = 10;
  if (given != nullptr && !absl::SimpleAtoi(given, &seconds)) seconds = 10;
  return std::chrono::seconds(seconds);
}

// Packets that end where nothing may be read.
class Fence {
 public:
  Fence() : page_(static_cast<size_t>(sysconf(_SC_PAGESIZE))) {
    memory_ = static_cast<uint8_t*>(
        mmap(nullptr, 2 * page_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(memory_ + page_, page_, PROT_NONE);
  }
  ~Fence() { munmap(memory_, 2 * page_); }
  Fence(const Fence&) = delete;
  Fence& operator=(const Fence&) = delete;
  absl::Span<const uint8_t> Put(const Bytes& packet) {
    uint8_t* const start = memory_ + page_ - packet.size();
    std::copy(packet.begin(), packet.end(), start);
    return {start, packet.size()};
  }
  size_t page() const { return page_; }

 private:
  const size_t page_;
  uint8_t* memory_;
};

// A packet that lacks right lengths and checksums gets no further than the first check.
void Mend(Bytes& packet) {
  const auto put = [&packet](size_t at, uint16_t value) {
    if (at + 2 > packet.size()) return;
    packet[at] = static_cast<uint8_t>(value >> 8);
    packet[at + 1] = static_cast<uint8_t>(value);
  };
  const absl::Span<const uint8_t> all = packet;
  if (packet.size() >= 28 && packet[0] >> 4 == 4) {
    const size_t header = std::min<size_t>((packet[0] & 0xfU) * 4, packet.size() - 8);
    put(2, static_cast<uint16_t>(packet.size()));
    put(10, 0);
    put(10, wire::Fold(wire::Sum(all.first(header))));
    put(header + 2, 0);
    put(header + 2, wire::Fold(wire::Sum(all.subspan(header))));
  } else if (packet.size() >= 56) {
    const size_t message = std::min<size_t>(48 + size_t{packet[41]} * 8, packet.size() - 8);
    put(4, static_cast<uint16_t>(packet.size() - 40));
    put(message + 2, 0);
    put(message + 2, wire::Icmp6Checksum(all.subspan(8, 32), all.subspan(message)));
  }
}

class Fuzzer {
 public:
  Fuzzer() : random_(MakeRandom()) {
    const IpAddress group = *ParseAddress("239.1.1.1"), group6 = *ParseAddress("ff3e:1::1");
    for (const IpAddress& of : {group, group6}) {
      const bool ipv4 = of.family == Family::kIpv4;
      ListenerQuery query{
          .group = of, .response = std::chrono::seconds(1), .robustness = 2, .interval_seconds = 125};
      query.sources.assign(4, *ParseAddress(ipv4 ? "10.1.1.1" : "2001:db8::1"));
      Bytes packet = BuildQuery(query, *ParseAddress(ipv4 ? "10.0.0.1" : "fe80::1"));
      corpus_.push_back(packet);
      const size_t message = ipv4 ? 24 : 48;
      for (const uint8_t type : {0x12, 0x16, 0x17, 0x22}) {
        packet[message] = ipv4 ? type : static_cast<uint8_t>(type == 0x22 ? 143 : 131 + type % 2);
        corpus_.push_back(packet);
      }
      // A report with two records: its group and sources, as a record has them.
      Bytes report(packet.begin(), packet.begin() + static_cast<ptrdiff_t>(message));
      report.insert(report.end(), {static_cast<uint8_t>(ipv4 ? 0x22 : 143), 0, 0, 0, 0, 0, 0, 2});
      for (const uint8_t type : {1, 4}) {
        report.insert(report.end(), {type, 0, 0, 1});
        for (const size_t at : {size_t{16}, size_t{12}}) {
          const size_t address = ipv4 ? at : at == 16 ? 24 : 8, size = ipv4 ? 4 : 16;
          report.insert(report.end(), packet.begin() + static_cast<ptrdiff_t>(address),
                        packet.begin() + static_cast<ptrdiff_t>(address + size));
        }
      }
      corpus_.push_back(report);
    }
  }

  size_t Below(size_t limit) { return std::uniform_int_distribution<size_t>(0, limit - 1)(random_); }
  Bytes Next(size_t most) {
    Bytes packet = corpus_[Below(corpus_.size())];
    for (size_t n = Below(6); n > 0; --n) {
      const size_t at = Below(packet.size() + 1);
      const auto place = packet.begin() + static_cast<ptrdiff_t>(at);
      switch (Below(4)) {
        case 0:
          if (at < packet.size()) packet[at] = static_cast<uint8_t>(Below(256));
          break;
        case 1:
          if (at < packet.size()) packet[at] ^= static_cast<uint8_t>(1U << Below(8));
          break;
        case 2:
          packet.insert(place, Below(24), static_cast<uint8_t>(Below(256)));
          break;
        default:
          packet.erase(place, place + static_cast<ptrdiff_t>(std::min(Below(24), packet.size() - at)));
      }
      if (packet.empty()) packet.push_back(0x46);
    }
    if (packet.size() > most) packet.resize(most);
    if (Below(8) != 0) Mend(packet);
    return packet;
  }
  // What was accepted is a start for more.
  void Keep(const Bytes& packet) {
    if (corpus_.size() < 500) {
      corpus_.push_back(packet);
    } else {
      corpus_[12 + Below(corpus_.size() - 12)] = packet;
    }
  }

 private:
  std::mt19937_64 random_;
  std::vector<Bytes> corpus_;
};

void CheckSources(const std::vector<IpAddress>& sources) {
  for (const IpAddress& source : sources) {
    ASSERT_FALSE(IsRoutedGroup(source));
    ASSERT_NE(source, IpAddress{.family = source.family});
  }
}

void CheckHeard(const Heard& heard) {
  if (const auto* report = std::get_if<Report>(&heard.message)) {
    for (const GroupRecord& record : report->records) {
      ASSERT_TRUE(IsRoutedGroup(record.group));
      ASSERT_EQ(record.group.family, heard.sender.family);
      CheckSources(record.sources);
    }
    return;
  }
  const auto& query = std::get<ListenerQuery>(heard.message);
  ASSERT_TRUE(!query.group || IsRoutedGroup(*query.group));
  ASSERT_TRUE(query.group || query.sources.empty());
  CheckSources(query.sources);
  if (query.version != HostVersion::kCurrent) return;
  // Written again, it says the same.
  const auto again = ParseListenerPacket(BuildQuery(query, heard.sender));
  ASSERT_TRUE(std::holds_alternative<Heard>(again));
  ASSERT_EQ(std::get<ListenerQuery>(std::get<Heard>(again).message), query);
}

TEST(ListenerFuzz, PacketsAreReadWithinBounds) {
  Fuzzer fuzzer;
  Fence fence;
  ListenerTime now{std::chrono::hours(1)};
  Listeners ip4(Family::kIpv4, {.robustness = 3}), ip6(Family::kIpv6, {.robustness = 3});
  ip4.SetAddress(*ParseAddress("10.0.0.5"), now);
  ip6.SetAddress(*ParseAddress("fe80::5"), now);
  const auto end = std::chrono::steady_clock::now() + FuzzTime();
  size_t accepted = 0, packets = 0;
  for (; std::chrono::steady_clock::now() < end; ++packets) {
    const Bytes packet = fuzzer.Next(fence.page());
    const auto parsed = ParseListenerPacket(fence.Put(packet));
    if (const Heard* const heard = std::get_if<Heard>(&parsed)) {
      ++accepted;
      CheckHeard(*heard);
      if (HasFatalFailure()) return;
      fuzzer.Keep(packet);
      (heard->sender.family == Family::kIpv4 ? ip4 : ip6).Hear(*heard, now);
    }
    if (fuzzer.Below(4) == 0) now += std::chrono::milliseconds(fuzzer.Below(3000));
    for (Listeners* listeners : {&ip4, &ip6}) {
      for (const ListenerQuery& query : listeners->Run(now)) ASSERT_LE(query.sources.size(), kMaxQuerySources);
      ASSERT_GT(listeners->Next(), now);
      if (packets % 1000 != 0) continue;
      size_t entries = 0;
      for (const ListenedView& view : listeners->View(now)) entries += 1 + view.sources.size();
      ASSERT_LE(entries, Listeners::kMaxEntries);
    }
  }
  // Otherwise it is the checks at the door alone that were tried.
  EXPECT_GT(accepted, packets / 20) << "of " << packets;
}

}  // namespace
}  // namespace headgate::testing
