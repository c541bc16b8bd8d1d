// SPDX-License-Identifier: Apache-2.0
#include "tests/e2e/mixed_rules.h"

#include <absl/strings/str_cat.h>
#include <netinet/in.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "tests/harness/classbench.h"

namespace headgate::testing {
namespace {

constexpr size_t kSetsOfFamily = 4, kPrefixesOfSet = 100;
constexpr uint64_t kSpecialShare = 10;
// Set tests are made of addresses that other rules of the set have.
constexpr uint32_t kTrafficSource = 0xc0000200, kTrafficMask = 0xffffff00;  // 192.0.2.0/24

bool HoldsTraffic(const Prefix& prefix) {
  return prefix.address.family == Family::kIpv4 &&
         ((prefix.address.words[0] ^ kTrafficSource) & WordMask(prefix.length, 0) & kTrafficMask) == 0;
}

std::string SetName(Family family, uint64_t number) {
  return absl::StrCat(family == Family::kIpv4 ? "four-" : "six-", number);
}

PrefixSet MakeSet(Family family, uint64_t number, const std::vector<Rule>& rules, std::mt19937_64& random) {
  PrefixSet set{.name = SetName(family, number)};
  while (set.prefixes.size() < kPrefixesOfSet) {
    const std::optional<Prefix>& prefix = rules[random() % rules.size()].match.source;
    // Long ones: a set of all addresses would tell nothing apart.
    if (prefix && prefix->length >= 16 && !HoldsTraffic(*prefix)) set.prefixes.Put(*prefix);
  }
  return set;
}

void AskForMore(Match& match, Family family, std::mt19937_64& random) {
  const std::string set = SetName(family, random() % kSetsOfFamily);
  switch (random() % 7) {
    case 0:
      match.source.reset();
      match.source_set = set;
      break;
    case 1:
      match.destination.reset();
      match.destination_set = set;
      break;
    case 2:
      match.vlan = static_cast<uint16_t>(1 + random() % 200);
      break;
    case 3:
      match.vlan = static_cast<uint16_t>(1 + random() % 200);
      match.inner_vlan = static_cast<uint16_t>(2 + random() % 200);
      break;
    case 4:
      match.dscp = static_cast<uint8_t>(random() % 64);
      break;
    case 5: {
      const auto first = static_cast<uint16_t>(64 + random() % 200);
      match.packet_length = PortRange{first, static_cast<uint16_t>(first + random() % 200)};
      break;
    }
    default:
      match.protocol = IPPROTO_TCP;
      match.tcp_flags.mask = static_cast<uint8_t>(1 + random() % 63);
      match.tcp_flags.value = static_cast<uint8_t>(random() & match.tcp_flags.mask);
  }
}

}  // namespace

RuleSet MakeMixedRules(size_t count, std::mt19937_64& random) {
  std::vector<Rule> four = LoadClassBench("acl1_100k");
  std::shuffle(four.begin(), four.end(), random);
  four.resize(std::min(four.size(), count / 2));
  std::vector<Rule> six = MakeIpv6Rules(count / 2, random);
  RuleSet set;
  for (const auto& [family, rules] : {std::pair(Family::kIpv4, &four), std::pair(Family::kIpv6, &six)}) {
    for (uint64_t i = 0; i < kSetsOfFamily; ++i) set.sets.push_back(MakeSet(family, i, *rules, random));
    for (const Rule& rule : *rules) {
      set.rules.push_back(rule);
      if (random() % kSpecialShare == 0) AskForMore(set.rules.back().match, family, random);
    }
  }
  std::shuffle(set.rules.begin(), set.rules.end(), random);
  for (size_t i = 0; i < set.rules.size(); ++i) set.rules[i].name = absl::StrCat("m", i);
  return set;
}

}  // namespace headgate::testing
