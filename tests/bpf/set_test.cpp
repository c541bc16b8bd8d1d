// SPDX-License-Identifier: Apache-2.0
//
// Prefix sets of 100,000 entries that overlap each other and themselves: membership equals a reference's, entry by
// entry changed and replaced as a whole.
#include <absl/container/flat_hash_map.h>
#include <absl/container/flat_hash_set.h>
#include <gtest/gtest.h>

#include <random>

#include "tests/bpf/gateway.h"
#include "tests/harness/random.h"

namespace headgate::testing {
namespace {

constexpr size_t kEntries = 100'000;
const std::vector<std::string> kNames = {"a", "b", "c"};

IpAddress Masked(IpAddress address, int length) {
  for (int i = 0; i < 4; ++i) address.words[static_cast<size_t>(i)] &= WordMask(length, i);
  return address;
}

// A set as one thinks of it: a prefix is in it or not, for every length.
class ReferenceSet {
 public:
  void Add(const Prefix& prefix) {
    if (prefixes_.insert(prefix).second) ++lengths_[LengthKey(prefix)];
  }
  void Remove(const Prefix& prefix) {
    if (prefixes_.erase(prefix) != 0 && --lengths_[LengthKey(prefix)] == 0) lengths_.erase(LengthKey(prefix));
  }
  bool Contains(const IpAddress& address) const {
    for (const auto& [key, count] : lengths_) {
      if (key.first != address.family) continue;
      if (prefixes_.contains(Prefix{Masked(address, key.second), static_cast<uint8_t>(key.second)})) return true;
    }
    return false;
  }
  const absl::flat_hash_set<Prefix>& prefixes() const { return prefixes_; }

 private:
  static std::pair<Family, int> LengthKey(const Prefix& prefix) { return {prefix.address.family, prefix.length}; }
  absl::flat_hash_set<Prefix> prefixes_;
  std::map<std::pair<Family, int>, size_t> lengths_;
};

class SetTest : public ::testing::Test {
 protected:
  void SetUp() override {
    HG_REQUIRE_BPF();
    gateway_ = std::make_unique<Gateway>("sets", std::vector<std::string>{"in"},
                                         TableSizes{.max_entries = 1024, .max_prefixes = 400'000});
    // Which combination of sets an address pair is in shows by the rule that it matches.
    gateway_->Configure(R"(
prefix_sets: [{name: a}, {name: b}, {name: c}]
rules:
  - {name: ab, priority: 6, match: {source_set: a, destination_set: b}, action: {drop: {}}}
  - {name: ba, priority: 5, match: {source_set: b, destination_set: a}, action: {drop: {}}}
  - {name: a, priority: 4, match: {source_set: a}, action: {pass: {}}}
  - {name: b, priority: 3, match: {destination_set: b}, action: {drop: {}}}
  - {name: c, priority: 2, match: {source_set: c}, action: {drop: {}}}
  - {name: cc, priority: 1, match: {destination_set: c}, action: {drop: {}}}
)");
    const Ethernet eth;
    frame4_ = eth / Ipv4{} / Udp{};
    frame6_ = eth / Ipv6{} / Udp{};
  }

  uint32_t Word() { return static_cast<uint32_t>(random_()); }
  size_t Below(size_t bound) { return random_() % bound; }

  Prefix DrawPrefix() {
    Prefix prefix;
    prefix.address.family = Below(2) == 0 ? Family::kIpv4 : Family::kIpv6;
    const bool ipv4 = prefix.address.family == Family::kIpv4;
    // Most are made longer from one made before, so that they nest; the rest from a few networks.
    if (!pool_.empty() && Below(3) == 0) {
      prefix = pool_[Below(pool_.size())];
    } else {
      prefix.address.words[0] = ipv4 ? Word() % 0xd0000000 : 0x20010db8;
      prefix.length = ipv4 ? 4 : 32;
    }
    const bool v4 = prefix.address.family == Family::kIpv4;
    const int most = AddressBits(prefix.address.family);
    const int length = std::min(most, prefix.length + static_cast<int>(Below(v4 ? 29 : 97)));
    IpAddress address = prefix.address;
    for (int i = 0; i < (v4 ? 1 : 4); ++i)
      address.words[static_cast<size_t>(i)] |= Word() & ~WordMask(prefix.length, i);
    prefix.address = Masked(address, length);
    prefix.length = static_cast<uint8_t>(length);
    if (pool_.size() < 5000) pool_.push_back(prefix);
    return prefix;
  }

  // Inside a prefix, at its ends or just outside.
  IpAddress DrawAddress(const Prefix& prefix) {
    IpAddress address = prefix.address;
    const size_t corner = Below(5);
    const int words = address.family == Family::kIpv4 ? 1 : 4;
    for (int i = 0; i < words; ++i) {
      const uint32_t host = corner == 0 || corner == 3 ? 0 : corner == 1 || corner == 4 ? 0xffffffff : Word();
      address.words[static_cast<size_t>(i)] |= host & ~WordMask(prefix.length, i);
    }
    // One below the first or one above the last.
    for (int i = words; i-- > 0 && corner >= 3;) {
      uint32_t& word = address.words[static_cast<size_t>(i)];
      const uint32_t before = word;
      word += corner == 3 ? 0xffffffff : 1;
      if (corner == 3 ? before != 0 : word != 0) break;
    }
    return address;
  }
  IpAddress DrawAddress(Family family) {
    for (;;) {
      const ReferenceSet& set = sets_[kNames[Below(3)]];
      IpAddress address;
      address.family = family;
      if (set.prefixes().empty() || Below(8) == 0) {
        for (int i = 0; i < (family == Family::kIpv4 ? 1 : 4); ++i) address.words[static_cast<size_t>(i)] = Word();
      } else {
        address = DrawAddress(sample_[Below(sample_.size())]);
      }
      const bool group = family == Family::kIpv4 ? address.words[0] >= 0xe0000000 : address.words[0] >> 24 == 0xff;
      if (address.family == family && !group) return address;
    }
  }

  std::string Expected(const IpAddress& source, const IpAddress& destination) {
    const auto in = [this](const char* set, const IpAddress& address) { return sets_[set].Contains(address); };
    if (in("a", source) && in("b", destination)) return "ab";
    if (in("b", source) && in("a", destination)) return "ba";
    if (in("a", source)) return "a";
    if (in("b", destination)) return "b";
    if (in("c", source)) return "c";
    return in("c", destination) ? "cc" : "";
  }
  const Bytes& Frame(const IpAddress& source, const IpAddress& destination) {
    const bool ipv4 = source.family == Family::kIpv4;
    Bytes& frame = ipv4 ? frame4_ : frame6_;
    size_t at = ipv4 ? 26 : 22;
    for (const IpAddress& address : {source, destination}) {
      for (size_t i = 0; i < (ipv4 ? 1U : 4U); ++i) {
        for (const int shift : {24, 16, 8, 0}) frame[at++] = static_cast<uint8_t>(address.words[i] >> shift);
      }
    }
    return frame;
  }

  // Runs `count` packets and compares what each rule counted, and each verdict, with the reference.
  void ExpectMembership(int count) {
    std::map<std::string, uint64_t> expected, counted;
    for (const char* rule : {"ab", "ba", "a", "b", "c", "cc"}) expected[rule] = gateway_->RuleCount(rule).packets;
    int wrong = 0;
    for (int i = 0; i < count; ++i) {
      const Family family = Below(2) == 0 ? Family::kIpv4 : Family::kIpv6;
      const IpAddress source = DrawAddress(family), destination = DrawAddress(family);
      const std::string rule = Expected(source, destination);
      if (!rule.empty()) ++expected[rule];
      const uint32_t verdict = gateway_->program().Verdict(Frame(source, destination));
      const bool drop = !rule.empty() && rule != "a";
      if (VerdictName(verdict) != (drop ? "drop" : "pass") && ++wrong < 5) {
        ADD_FAILURE() << ToString(source) << " to " << ToString(destination) << ": expected rule \"" << rule
                      << "\"";
      }
    }
    EXPECT_EQ(wrong, 0);
    for (const auto& [rule, packets] : expected) counted[rule] = gateway_->RuleCount(rule).packets;
    EXPECT_EQ(counted, expected);
  }

  // Whole sets, by one change.
  void Replace(const std::map<std::string, size_t>& sizes) {
    Change change;
    pool_.clear();
    for (const auto& [name, size] : sizes) {
      ReferenceSet fresh;
      // Shared with other sets, in part.
      for (const auto& [other, set] : sets_) {
        if (other == name || sizes.contains(other)) continue;
        for (const Prefix& prefix : set.prefixes()) {
          if (Below(4) == 0 && fresh.prefixes().size() < size / 2) fresh.Add(prefix);
        }
      }
      while (fresh.prefixes().size() < size) fresh.Add(DrawPrefix());
      PrefixSet set{.name = name};
      for (const Prefix& prefix : fresh.prefixes()) set.prefixes.Put(prefix);
      change.prefix_sets.push_back({.object = std::move(set), .path = name});
      sets_[name] = std::move(fresh);
    }
    gateway_->Apply(std::move(change));
    Resample();
  }
  // What addresses are drawn near to.
  void Resample() {
    sample_.clear();
    for (const auto& [name, set] : sets_) {
      for (const Prefix& prefix : set.prefixes()) {
        if (Below(std::max<size_t>(1, set.prefixes().size() / 5000)) == 0) sample_.push_back(prefix);
      }
    }
  }

  std::mt19937_64 random_ = MakeRandom();
  std::unique_ptr<Gateway> gateway_;
  std::map<std::string, ReferenceSet> sets_;
  std::vector<Prefix> pool_, sample_;
  Bytes frame4_, frame6_;
};

TEST_F(SetTest, LargeSetsReplaced) {
  Replace({{"a", kEntries}});
  ExpectMembership(20'000);
  Replace({{"b", kEntries / 2}, {"c", 1000}});
  ExpectMembership(20'000);
  Replace({{"a", kEntries}});
  ExpectMembership(20'000);
  Replace({{"a", 10}, {"b", 0}});
  ExpectMembership(5'000);
  Replace({{"b", kEntries}});
  ExpectMembership(20'000);
}

TEST_F(SetTest, LargeSetsChangedOneByOne) {
  Replace({{"a", kEntries}, {"b", 2000}, {"c", 50}});
  for (int i = 0; i < 400; ++i) {
    Change change;
    const std::string name = kNames[Below(3)];
    PrefixSetEdit edit{.name = name, .path = name};
    const size_t changes = 1 + Below(3);
    std::vector<Prefix> touched;
    for (size_t n = 0; n < changes; ++n) {
      // Something of this set, of another, or new; that it is there already or not is no error.
      const Prefix prefix = !sample_.empty() && Below(2) == 0 ? sample_[Below(sample_.size())] : DrawPrefix();
      if (std::find(touched.begin(), touched.end(), prefix) != touched.end()) continue;
      touched.push_back(prefix);
      if (Below(2) == 0) {
        edit.add.push_back(prefix);
        sets_[name].Add(prefix);
      } else {
        edit.remove.push_back(prefix);
        sets_[name].Remove(prefix);
      }
    }
    change.prefix_set_edits.push_back(std::move(edit));
    gateway_->Apply(std::move(change));
    std::swap(sample_, touched);
    ExpectMembership(30);
    std::swap(sample_, touched);
    ASSERT_FALSE(HasFailure()) << "after change " << i;
  }
  Resample();
  ExpectMembership(20'000);
}

TEST_F(SetTest, Overlaps) {
  gateway_->Configure(R"(
prefix_sets:
  - {name: a, prefixes: [10.0.0.0/8, 10.1.0.0/16, 10.1.2.0/24, 10.1.2.3, 0.0.0.0/1]}
  - {name: b, prefixes: [10.1.2.3, "::/0", "2001:db8::1"]}
rules:
  - {name: both, priority: 3, match: {source_set: a, destination_set: b}, action: {drop: {}}}
  - {name: a, priority: 2, match: {source_set: a}, action: {drop: {}}}
  - {name: b, priority: 1, match: {source_set: b}, action: {drop: {}}}
)");
  const auto expect = [this](const char* source, const char* destination, const char* rule) {
    EXPECT_EQ(gateway_->Run(Frame(*ParseAddress(source), *ParseAddress(destination))).rule, rule)
        << source << " " << destination;
  };
  expect("10.1.2.3", "10.1.2.3", "both");
  expect("10.1.2.3", "10.1.2.4", "a");
  expect("127.255.255.255", "10.1.2.3", "both");
  expect("128.0.0.0", "10.1.2.3", "");
  expect("::", "::", "b");
  expect("fe80::1", "2001:db8::1", "b");
  // Without the longer or the shorter of two that cover an address, the other still does.
  const auto remove = [this](const char* set, const char* prefix) {
    Change change;
    change.prefix_set_edits.push_back({.name = set, .path = set, .add = {}, .remove = {*ParsePrefix(prefix)}});
    gateway_->Apply(std::move(change));
  };
  remove("a", "0.0.0.0/1");
  expect("127.255.255.255", "10.1.2.3", "");
  remove("a", "10.0.0.0/8");
  expect("10.1.2.3", "8.8.8.8", "a");
  expect("10.2.0.0", "8.8.8.8", "");
  remove("a", "10.1.2.3/32");
  expect("10.1.2.3", "8.8.8.8", "a");
  remove("a", "10.1.2.0/24");
  remove("a", "10.1.0.0/16");
  expect("10.1.2.3", "8.8.8.8", "b");
  remove("b", "::/0");
  expect("::", "::", "");
  expect("2001:db8::1", "::", "b");
}

// As many sets as there are ids: the bits of all words.
TEST_F(SetTest, AllIds) {
  std::string sets = "prefix_sets:\n", rules = "rules:\n";
  for (int i = 0; i < HG_SETS; ++i) {
    const std::string n = std::to_string(i);
    sets += "  - {name: s" + n + ", prefixes: [10.0." + n + ".0/24]}\n";
    rules += "  - {name: r" + n + ", priority: " + std::to_string(i + 1) + ", match: {destination_set: s" + n +
             "}, action: {drop: {}}}\n";
  }
  gateway_->Configure("");  // room for all ids
  gateway_->Configure(sets + rules);
  for (int i = 0; i < HG_SETS; ++i) {
    const std::string n = std::to_string(i);
    EXPECT_EQ(gateway_->Run(Frame(*ParseAddress("192.0.2.1"), *ParseAddress("10.0." + n + ".9"))).rule, "r" + n);
  }
  EXPECT_EQ(gateway_->Run(Frame(*ParseAddress("10.0.5.1"), *ParseAddress("192.0.2.1"))).rule, "");
}

// Both addresses in every set there is: each tree is searched, as source and as destination.
TEST_F(SetTest, InEverySet) {
  std::string sets = "prefix_sets:\n", rules = "rules:\n";
  const auto name = [&](const char* kind, int set, int priority, int port) {
    rules += std::string("  - {name: ") + kind[0] + std::to_string(set) +
             ", priority: " + std::to_string(priority) + ", match: {" + kind + "_set: s" + std::to_string(set) +
             ", destination_ports: ['" + std::to_string(port) + "']}, action: {drop: {}}}\n";
  };
  for (int i = 0; i < HG_SETS; ++i) {
    sets += "  - {name: s" + std::to_string(i) + ", prefixes: [10.0.0.0/8]}\n";
    name("source", i, 1001 + i, 1000 + i);
    // Above or below the source set's rule for the same port.
    name("destination", i, (i % 2 == 0 ? 1 : 2001) + i, 1000 + i);
  }
  rules += "  - {name: m, priority: 900, match: {destination: 10.0.0.1}, action: {drop: {}}}\n";
  gateway_->Configure("");  // room for all ids
  gateway_->Configure(sets + rules);
  const auto run = [this](int port, const char* source = "10.0.0.2") {
    return gateway_->Run(Ethernet{} / Ipv4{.source = source, .destination = "10.0.0.1"} /
                         Udp{.destination_port = static_cast<uint16_t>(port)});
  };
  for (int i = 0; i < HG_SETS; ++i) {
    const std::string n = std::to_string(i);
    EXPECT_EQ(run(1000 + i).rule, (i % 2 == 0 ? "s" : "d") + n);
    EXPECT_EQ(run(1000 + i, "192.0.2.1").rule, i % 2 == 0 ? "m" : "d" + n);
  }
  EXPECT_EQ(run(999).rule, "m");
}

}  // namespace
}  // namespace headgate::testing
