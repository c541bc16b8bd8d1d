// SPDX-License-Identifier: Apache-2.0
//
// Tables of the sizes that the loader gives them have room for as many rules as the limit says, whatever the rules
// are: those that nothing tells apart, those that only a wild card does, and all replaced by all others at once.
// And packets meet the rule that a linear search finds.
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <netinet/in.h>

#include <functional>
#include <map>
#include <vector>

#include "tests/harness/header_frame.h"
#include "tests/harness/linear_scan.h"
#include "tests/harness/program.h"
#include "tests/harness/random.h"

namespace headgate::testing {
namespace {

constexpr uint32_t kRules = 8192;
constexpr uint32_t kDefaultRules = 131'072;  // headgated's --max-rules
constexpr int kFrames = 400;                 // looked up in each batch

using Shape = std::function<void(Match& match, uint32_t number, std::mt19937_64& random)>;

Prefix DrawPrefix(std::mt19937_64& random, int length) {
  Prefix prefix;
  prefix.length = static_cast<uint8_t>(length);
  prefix.address.words[0] = static_cast<uint32_t>(random()) & WordMask(length, 0);
  return prefix;
}

void DrawProtocol(Match& match, std::mt19937_64& random) {
  match.protocol = random() % 2 == 0 ? IPPROTO_TCP : IPPROTO_UDP;
}

uint16_t DrawPort(std::mt19937_64& random) { return static_cast<uint16_t>(1 + random() % 65000); }

struct Named {
  const char* name;
  Shape shape;
};
void PrintTo(const Named& named, std::ostream* out) { *out << named.name; }

const Named kShapes[] = {
    {"AllAlike", [](Match&, uint32_t, std::mt19937_64&) {}},
    // Every field given or not, at random.
    {"EveryWildCard",
     [](Match& match, uint32_t number, std::mt19937_64& random) {
       if (number & 1) match.source = DrawPrefix(random, 32);
       if (number & 2) match.destination = DrawPrefix(random, 32);
       if (number & 4) DrawProtocol(match, random);
       if ((number & 12) == 12) match.source_ports = {PortRange{DrawPort(random), 65535}};
       if ((number & 20) == 20) match.destination_ports = {PortRange{1, DrawPort(random)}};
       if (number & 32) match.vlan = static_cast<uint16_t>(1 + random() % 4000);
       if (number & 64) match.dscp = static_cast<uint8_t>(random() % 64);
       if (number & 128) match.inner_vlan = static_cast<uint16_t>(1 + random() % 4000);
     }},
    // One field of many, so that any window leaves most of the rules aside.
    {"OneFieldEach",
     [](Match& match, uint32_t number, std::mt19937_64& random) {
       switch (number % 6) {
         case 0:
           match.source = DrawPrefix(random, 1 + static_cast<int>(random() % 32));
           break;
         case 1:
           match.destination = DrawPrefix(random, 1 + static_cast<int>(random() % 32));
           break;
         case 2:
           match.vlan = static_cast<uint16_t>(1 + random() % 4000);
           break;
         case 3:
           match.inner_vlan = static_cast<uint16_t>(1 + random() % 4000);
           break;
         case 4:
           match.dscp = static_cast<uint8_t>(random() % 64);
           break;
         default:
           match.protocol = static_cast<uint8_t>(random() % 256);
       }
     }},
    {"EveryPairOfPrefixLengths",
     [](Match& match, uint32_t number, std::mt19937_64& random) {
       match.source = DrawPrefix(random, 1 + static_cast<int>(number % 32));
       match.destination = DrawPrefix(random, 1 + static_cast<int>(number / 32 % 32));
     }},
    // Nested: each within the one before.
    {"Nested",
     [](Match& match, uint32_t number, std::mt19937_64&) {
       const Prefix whole{{{0x0a0b0c0d}, Family::kIpv4}, 32};
       Prefix source = whole, destination = whole;
       source.length = static_cast<uint8_t>(1 + number % 32);
       destination.length = static_cast<uint8_t>(1 + number / 32 % 32);
       for (Prefix* prefix : {&source, &destination}) prefix->address.words[0] &= WordMask(prefix->length, 0);
       match.source = source;
       match.destination = destination;
     }},
    {"Hosts",
     [](Match& match, uint32_t number, std::mt19937_64&) {
       match.destination = Prefix{{{0xc0000000 + number}, Family::kIpv4}, 32};
     }},
    {"ScatteredHosts",
     [](Match& match, uint32_t, std::mt19937_64& random) { match.source = DrawPrefix(random, 32); }},
    {"PortRanges",
     [](Match& match, uint32_t, std::mt19937_64& random) {
       DrawProtocol(match, random);
       const uint16_t first = DrawPort(random);
       match.source_ports = {PortRange{first, static_cast<uint16_t>(first + random() % (65536U - first))}};
       match.destination_ports = {PortRange{static_cast<uint16_t>(random() % 1000), DrawPort(random)}};
       if (match.destination_ports[0].first > match.destination_ports[0].last) match.destination_ports = {};
     }},
};

class Room : public ::testing::TestWithParam<Named> {
 protected:
  // Rules that none of the batches before had.
  std::vector<Rule> Draw(uint32_t batch, uint32_t count) {
    static const auto kDrop = std::make_shared<const Action>(Action{.verdict = Drop{}});
    static const auto kPass = std::make_shared<const Action>(Action{.verdict = Pass{}});
    std::vector<Rule> rules(count);
    for (uint32_t i = 0; i < count; ++i) {
      Rule& rule = rules[i];
      rule.name = std::to_string(batch) + "-" + std::to_string(i);
      rule.priority = 1 + i;
      rule.id = 1 + i + batch % 2 * count;
      rule.action = random_() % 2 == 0 ? kDrop : kPass;
      GetParam().shape(rule.match, batch * count + i, random_);
    }
    return rules;
  }

  static State StateOf(const std::vector<Rule>& rules) {
    State state;
    for (const Rule& rule : rules) state.rules.Set(rule);
    return state;
  }

  // Packets of the rules meet those that a linear search finds, and are counted by them.
  void ExpectDecided(Program& program, const std::vector<Rule>& rules, const LinearScan& scan, int frames) {
    std::map<uint32_t, uint64_t> hits, before;
    const auto packets_of = [&](uint32_t id) {
      return (*program.dataplane().ReadCounters(CounterId::kRules, id, 1))[0];
    };
    for (int i = 0; i < frames; ++i) {
      const Header header = DrawDecided(rules);
      const Rule* expected = scan.Find(header);
      if (expected) {
        before.try_emplace(expected->id, packets_of(expected->id));
        ++hits[expected->id];
      }
      const bool drop = expected && std::holds_alternative<Drop>(expected->action->verdict);
      ASSERT_EQ(program.Verdict(FrameOf(header)), drop ? XDP_DROP : XDP_PASS)
          << "frame " << i << ", expected " << (expected ? expected->name : "no rule");
      if (expected) {
        ASSERT_EQ(packets_of(expected->id), before[expected->id] + hits[expected->id]) << expected->name;
      }
    }
    EXPECT_FALSE(hits.empty());
  }

  // One that rules alone decide: IGMP is spared by those that do not name it.
  Header DrawDecided(const std::vector<Rule>& rules) {
    while (true) {
      const Header header = DrawUsableHeader(rules, random_);
      if (header.protocol != IPPROTO_IGMP) return header;
    }
  }

  std::mt19937_64 random_ = MakeRandom();
};

TEST_P(Room, ForAllOfThemAndForAllOthersAtOnce) {
  HG_REQUIRE_BPF();
  Program program("room", {.max_entries = kRules, .max_prefixes = 16});
  for (uint32_t batch = 0; batch < 4 && !HasFatalFailure(); ++batch) {
    SCOPED_TRACE(batch);
    const std::vector<Rule> rules = Draw(batch, kRules);
    ASSERT_NO_THROW(program.Apply(StateOf(rules)));
    ExpectDecided(program, rules, LinearScan(rules), kFrames);
  }
}

// One after the other, in steps that never shape the tree as a whole anew.
TEST_P(Room, ForAllOfThemBitByBit) {
  HG_REQUIRE_BPF();
  constexpr uint32_t kStep = kRules / 128;
  Program program("room", {.max_entries = kRules, .max_prefixes = 16});
  const std::vector<Rule> all = Draw(0, kRules);
  std::vector<Rule> rules;
  State state;
  LinearScan scan;
  for (const Rule& rule : all) {
    state.rules.Set(rule);
    scan.Put(rule);
    rules.push_back(rule);
    if (rules.size() % kStep != 0) continue;
    SCOPED_TRACE(rules.size());
    ASSERT_NO_THROW(program.Apply(state));
    ASSERT_NO_FATAL_FAILURE(ExpectDecided(program, rules, scan, kFrames / 16));
  }
}
INSTANTIATE_TEST_SUITE_P(Rules, Room, ::testing::ValuesIn(kShapes),
                         [](const auto& shape) { return std::string(shape.param.name); });

class DefaultRoom : public Room {};

// As many as headgated takes unless told otherwise, and then all others.
TEST_P(DefaultRoom, ForAllOfThemAndForAllOthersAtOnce) {
  HG_REQUIRE_BPF();
  Program program("room", {.max_entries = kDefaultRules, .max_prefixes = 16});
  for (uint32_t batch = 0; batch < 2 && !HasFatalFailure(); ++batch) {
    SCOPED_TRACE(batch);
    const std::vector<Rule> rules = Draw(batch, kDefaultRules);
    ASSERT_NO_THROW(program.Apply(StateOf(rules)));
    ExpectDecided(program, rules, LinearScan(rules), kFrames);
  }
}
INSTANTIATE_TEST_SUITE_P(Rules, DefaultRoom, ::testing::ValuesIn(kShapes),
                         [](const auto& shape) { return std::string(shape.param.name); });

}  // namespace
}  // namespace headgate::testing
