// SPDX-License-Identifier: Apache-2.0
//
// Addresses and their text, statuses, descriptors, and the immutable map.
#include <absl/strings/str_cat.h>
#include <fcntl.h>
#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <thread>

#include "agent/base/address.h"
#include "agent/base/fd.h"
#include "agent/base/persistent_map.h"
#include "agent/base/process.h"
#include "agent/base/status.h"
#include "tests/harness/random.h"

namespace headgate {
namespace {

using testing::MakeRandom;

TEST(Address, TextComesBack) {
  for (const char* text :
       {"0.0.0.0", "255.255.255.255", "192.0.2.1", "::", "::1", "2001:db8::1", "fe80::a:b:c:d"}) {
    const auto address = ParseAddress(text);
    ASSERT_TRUE(address.ok()) << text;
    EXPECT_EQ(ToString(*address), text);
  }
  EXPECT_EQ(ToString(*ParseAddress("2001:DB8:0:0:0:0:0:1")), "2001:db8::1");
  EXPECT_EQ(ParseAddress("192.0.2.1")->words, (std::array<uint32_t, 4>{0xc0000201, 0, 0, 0}));
  EXPECT_EQ(ParseAddress("2001:db8::1")->words, (std::array<uint32_t, 4>{0x20010db8, 0, 0, 1}));
}

TEST(Address, OtherTextIsRefusedWithAnExample) {
  for (const char* text : {"", " ", "1.2.3", "1.2.3.4.5", "256.1.1.1", "1.2.3.4 ", "0x7f.1", "localhost",
                           ":::", "1::2::3", "12345::", "fe80::1%eth0", "[::1]"}) {
    const auto address = ParseAddress(text);
    ASSERT_FALSE(address.ok()) << text;
    EXPECT_NE(address.status().message().find("192.0.2.1"), absl::string_view::npos);
  }
  EXPECT_NE(ParseAddress("::ffff:1.2.3.4").status().message().find("IPv4-mapped"), absl::string_view::npos);
  EXPECT_FALSE(ParseAddress(absl::string_view("1.2.3.4\0x", 9)).ok()) << "text after a zero byte";
}

TEST(Prefix, LengthsAndBits) {
  EXPECT_EQ(ToString(*ParsePrefix("10.1.2.3")), "10.1.2.3/32");
  EXPECT_EQ(ToString(*ParsePrefix("::1")), "::1/128");
  EXPECT_EQ(ToString(*ParsePrefix("0.0.0.0/0")), "0.0.0.0/0");
  EXPECT_EQ(ToString(*ParsePrefix("::/0")), "::/0");
  EXPECT_EQ(ToString(*ParsePrefix("2001:db8:8000::/33")), "2001:db8:8000::/33");
  EXPECT_NE(ParsePrefix("10.1.2.3/8").status().message().find("did you mean 10.0.0.0/8?"),
            absl::string_view::npos);
  EXPECT_NE(ParsePrefix("::1/127").status().message().find("did you mean ::/127?"), absl::string_view::npos);
  for (const char* text : {"10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/8/8", "::/129", "/8", "10.0.0.0/x",
                           "10.0.0.0/+8", "10.0.0.0/ 8", "10.0.0.0/8 "}) {
    EXPECT_FALSE(ParsePrefix(text).ok()) << text;
  }
}

TEST(Prefix, EveryLengthContainsItsOwnAndNoneBeside) {
  std::mt19937_64 random = MakeRandom();
  for (const Family family : {Family::kIpv4, Family::kIpv6}) {
    for (int length = 0; length <= AddressBits(family); ++length) {
      Prefix prefix;
      prefix.length = static_cast<uint8_t>(length);
      prefix.address.family = family;
      IpAddress inside{.family = family};
      for (int i = 0; i < (family == Family::kIpv4 ? 1 : 4); ++i) {
        prefix.address.words[i] = static_cast<uint32_t>(random()) & WordMask(length, i);
        inside.words[i] = prefix.address.words[i] | (static_cast<uint32_t>(random()) & ~WordMask(length, i));
      }
      EXPECT_TRUE(Contains(prefix, inside)) << ToString(prefix) << " " << ToString(inside);
      EXPECT_EQ(*ParsePrefix(ToString(prefix)), prefix);
      if (length == 0) continue;
      IpAddress outside = inside;
      outside.words[(length - 1) / 32] ^= 0x80000000U >> (length - 1) % 32;
      EXPECT_FALSE(Contains(prefix, outside)) << ToString(prefix) << " " << ToString(outside);
    }
  }
  EXPECT_FALSE(Contains(*ParsePrefix("::/0"), *ParseAddress("1.2.3.4")));
  EXPECT_FALSE(Contains(*ParsePrefix("0.0.0.0/0"), *ParseAddress("::")));
}

TEST(Mac, Text) {
  EXPECT_EQ(ToString(*ParseMac("02:00:5E:fF:00:01")), "02:00:5e:ff:00:01");
  for (const char* text : {"", "02:00:00:00:00", "02:00:00:00:00:01:02", "2:0:0:0:0:1", "02-00-00-00-00-01",
                           "02:00:00:00:00:0g", "02:00:00:00:00:001", " 2:00:00:00:00:01", "+2:00:00:00:00:01"}) {
    EXPECT_FALSE(ParseMac(text).ok()) << text;
  }
  EXPECT_TRUE(IsGroup(*ParseMac("01:00:00:00:00:00")));
  EXPECT_TRUE(IsGroup(*ParseMac("ff:ff:ff:ff:ff:ff")));
  EXPECT_FALSE(IsGroup(*ParseMac("02:00:00:00:00:01")));
  EXPECT_TRUE(IsZero(MacAddress{}));
}

TEST(Status, SaysWhatWasTriedAndWhy) {
  errno = ENOENT;
  EXPECT_EQ(ErrnoStatus("open ", "x").ToString(), "NOT_FOUND: open x: No such file or directory");
  EXPECT_EQ(ErrnoStatusOf(-EPERM, "load").code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(Annotate(absl::InternalError("why"), "rule ", 7).message(), "rule 7: why");
  EXPECT_TRUE(Annotate(absl::OkStatus(), "rule").ok());
}

TEST(Fd, ClosesOnceAndMoves) {
  const auto is_open = [](int fd) { return fcntl(fd, F_GETFD) >= 0; };
  int raw = -1;
  {
    Fd a(open("/dev/null", O_RDONLY | O_CLOEXEC));
    raw = a.get();
    ASSERT_TRUE(a);
    Fd b(std::move(a));
    EXPECT_EQ(b.get(), raw);
    Fd c;
    EXPECT_FALSE(c);
    c = std::move(b);
    EXPECT_TRUE(is_open(raw));
  }
  EXPECT_FALSE(is_open(raw));
  Fd d(open("/dev/null", O_RDONLY | O_CLOEXEC));
  raw = d.release();
  EXPECT_FALSE(d);
  EXPECT_TRUE(is_open(raw));
  close(raw);
}

TEST(Process, UsesMemory) { EXPECT_GT(ResidentBytes(), 1'000'000u); }

struct Entry {
  std::string key;
  int value = 0;
};
struct EntryTraits {
  static absl::string_view KeyOf(const std::shared_ptr<const Entry>& entry) { return entry->key; }
  static bool Same(const std::shared_ptr<const Entry>& a, const std::shared_ptr<const Entry>& b) { return a == b; }
};
using Map = PersistentMap<std::shared_ptr<const Entry>, EntryTraits>;
using Plain = std::map<std::string, int>;

Plain Content(const Map& map) {
  Plain content;
  map.ForEach([&](const auto& entry) { EXPECT_TRUE(content.emplace(entry->key, entry->value).second); });
  EXPECT_EQ(content.size(), map.size());
  return content;
}

TEST(PersistentMap, VersionsAreIndependent) {
  std::mt19937_64 random = MakeRandom();
  struct Version {
    Map map;
    Plain plain;
  };
  std::vector<Version> versions(1);
  for (int step = 0; step < 3000; ++step) {
    Version next = versions[random() % versions.size()];
    for (uint64_t changes = random() % 20; changes > 0; --changes) {
      const std::string key = absl::StrCat("k", random() % 500);
      if (random() % 3 == 0) {
        EXPECT_EQ(next.map.Erase(absl::string_view(key)), next.plain.erase(key) != 0);
      } else {
        const int value = static_cast<int>(random() % 1000);
        next.map.Put(std::make_shared<const Entry>(Entry{key, value}));
        next.plain[key] = value;
      }
    }
    versions.push_back(std::move(next));
    if (versions.size() > 40)
      versions.erase(versions.begin() + static_cast<ptrdiff_t>(random() % versions.size()));
    if (step % 50 == 0) {
      for (const Version& version : versions) ASSERT_EQ(Content(version.map), version.plain);
    }
  }
}

TEST(PersistentMap, DifferencesAreFoundWhateverTheHistory) {
  std::mt19937_64 random = MakeRandom();
  Map a;
  for (int i = 0; i < 5000; ++i) a.Put(std::make_shared<const Entry>(Entry{absl::StrCat("k", i), i}));
  for (int round = 0; round < 200; ++round) {
    Map b = a;
    std::map<std::string, std::pair<std::optional<int>, std::optional<int>>> expected, found;
    for (uint64_t changes = random() % 30; changes > 0; --changes) {
      const std::string key = absl::StrCat("k", random() % 6000);
      const auto* held = a.Find(absl::string_view(key));
      const std::optional<int> before = held ? std::optional<int>((*held)->value) : std::nullopt;
      if (random() % 2 == 0) {
        b.Erase(absl::string_view(key));
        expected.erase(key);
        if (before) expected[key] = {before, std::nullopt};
      } else {
        b.Put(std::make_shared<const Entry>(Entry{key, -round}));
        expected[key] = {before, -round};
      }
    }
    const auto value = [](const auto* entry) {
      return entry ? std::optional<int>((*entry)->value) : std::nullopt;
    };
    Map::ForEachDifference(a, b, [&](const auto* before, const auto* after) {
      const std::string key = before ? (*before)->key : (*after)->key;
      EXPECT_TRUE(found.emplace(key, std::make_pair(value(before), value(after))).second);
    });
    ASSERT_EQ(found, expected);
    if (round % 10 == 0) a = b;
  }
  int all = 0;
  Map::ForEachDifference(a, Map(), [&](const auto* before, const auto* after) {
    EXPECT_NE(before, nullptr);
    EXPECT_EQ(after, nullptr);
    ++all;
  });
  EXPECT_EQ(static_cast<size_t>(all), a.size());
}

TEST(PersistentMap, EmptyOnes) {
  Map map;
  EXPECT_TRUE(map.empty());
  EXPECT_EQ(map.Find(absl::string_view("x")), nullptr);
  EXPECT_FALSE(map.Erase(absl::string_view("x")));
  Map::ForEachDifference(map, Map(), [](const auto*, const auto*) { ADD_FAILURE(); });
  map.Put(std::make_shared<const Entry>(Entry{"x", 1}));
  EXPECT_TRUE(map.Erase(absl::string_view("x")));
  EXPECT_TRUE(map.empty());
  Map::ForEachDifference(map, Map(), [](const auto*, const auto*) { ADD_FAILURE(); });
}

// A reader may keep a version while the writer goes on from it.
TEST(PersistentMap, AReaderSeesItsVersion) {
  Map map;
  for (int i = 0; i < 1000; ++i) map.Put(std::make_shared<const Entry>(Entry{absl::StrCat("k", i), 0}));
  const Map seen = map;
  std::thread reader([seen] {
    for (int round = 0; round < 50; ++round) {
      int sum = 0;
      seen.ForEach([&](const auto& entry) { sum += entry->value; });
      EXPECT_EQ(sum, 0);
    }
  });
  for (int i = 0; i < 20'000; ++i) map.Put(std::make_shared<const Entry>(Entry{absl::StrCat("k", i % 1000), 1}));
  reader.join();
  EXPECT_EQ(Content(seen).at("k0"), 0);
  EXPECT_EQ(Content(map).at("k0"), 1);
}

}  // namespace
}  // namespace headgate
