// SPDX-License-Identifier: Apache-2.0
#include "tests/harness/set_rules.h"

#include <netinet/in.h>

#include <algorithm>
#include <cstdlib>

namespace headgate::testing {
namespace {

constexpr size_t kPrefixesPerSet = 64;
// Rules that a header is drawn from, at least.
constexpr size_t kDrawn = 10'000;

std::string SetName(size_t set) { return "s" + std::to_string(set); }
size_t SetOf(const RareString& name) { return static_cast<size_t>(std::atoi(name.str().c_str() + 1)); }

// Sets of prefixes drawn by `draw`.
template <typename Draw>
std::vector<PrefixSet> MakeSets(size_t count, Draw&& draw) {
  std::vector<PrefixSet> sets(count);
  for (size_t i = 0; i < count; ++i) {
    sets[i].name = SetName(i);
    sets[i].id = static_cast<uint32_t>(i);
    for (size_t n = 0; n < kPrefixesPerSet; ++n) sets[i].prefixes.Put(draw());
  }
  return sets;
}

Prefix DrawPrefix(std::mt19937_64& random, int length) {
  Prefix prefix;
  prefix.length = static_cast<uint8_t>(length);
  prefix.address.words[0] = static_cast<uint32_t>(random() % 0xe0000000) & WordMask(length, 0);
  return prefix;
}

void FillDrawn(SetRules& rules, std::mt19937_64& random) {
  std::vector<std::vector<Prefix>> members(rules.sets.size());
  for (size_t i = 0; i < members.size(); ++i) {
    rules.sets[i].prefixes.ForEach([&](const Prefix& prefix) { members[i].push_back(prefix); });
  }
  const auto replace = [&](const RareString& set, std::optional<Prefix>& prefix) {
    if (set.empty()) return;
    const auto& of_set = members[SetOf(set)];
    prefix = of_set[random() % of_set.size()];
  };
  const size_t copies = std::max<size_t>(1, kDrawn / rules.rules.size());
  for (const Rule& rule : rules.rules) {
    for (size_t i = 0; i < copies; ++i) {
      rules.drawn.push_back(rule);
      Match& match = rules.drawn.back().match;
      replace(match.source_set, match.source);
      replace(match.destination_set, match.destination);
    }
  }
}

}  // namespace

State SetRules::MakeState() const {
  State state;
  for (const PrefixSet& set : sets) {
    state.prefix_sets.Set(set);
    state.prefix_count += set.prefixes.size();
  }
  for (const Rule& rule : rules) state.rules.Set(rule);
  return state;
}

SetRules NameSets(std::vector<Rule> rules, size_t count, unsigned percent, SetOverlap overlap,
                  std::mt19937_64& random) {
  const bool dealt = overlap == SetOverlap::kDealt;
  const int shortest = dealt ? 20 : 8;
  PrefixMap distinct;
  for (const Rule& rule : rules) {
    for (const auto& prefix : {rule.match.source, rule.match.destination}) {
      if (prefix && prefix->length >= shortest) distinct.Put(*prefix);
    }
  }
  std::vector<Prefix> pool;
  distinct.ForEach([&pool](const Prefix& prefix) { pool.push_back(prefix); });
  std::shuffle(pool.begin(), pool.end(), random);
  SetRules made;
  // Dealt, each set gets as many as any other; what it lacks is from nowhere.
  const size_t share = std::min(kPrefixesPerSet, pool.size() / count);
  size_t draws = 0, next = 0;
  made.sets = MakeSets(count, [&] {
    if (dealt) return draws++ % kPrefixesPerSet < share ? pool[next++] : DrawPrefix(random, 24);
    return pool.empty() || random() % 8 == 0 ? DrawPrefix(random, 24) : pool[random() % pool.size()];
  });
  for (Rule& rule : rules) {
    if (random() % 100 >= percent) continue;
    const uint64_t kind = random() % 8;
    if (kind < 5 || kind == 7) {
      rule.match.source = std::nullopt;
      rule.match.source_set = SetName(random() % count);
    }
    if (kind >= 5) {
      rule.match.destination = std::nullopt;
      rule.match.destination_set = SetName(random() % count);
    }
  }
  made.rules = std::move(rules);
  FillDrawn(made, random);
  return made;
}

SetRules MakeSetPortRules(size_t count, size_t sets, std::mt19937_64& random) {
  SetRules made;
  made.sets = MakeSets(sets, [&random] { return DrawPrefix(random, 16 + static_cast<int>(random() % 17)); });
  const auto pass = std::make_shared<const Action>(Action{.verdict = Pass{}});
  const auto drop = std::make_shared<const Action>(Action{.verdict = Drop{}});
  for (size_t i = 0; i < count; ++i) {
    Rule rule;
    rule.name = "r" + std::to_string(i);
    rule.id = static_cast<uint32_t>(i + 1);
    rule.priority = static_cast<uint32_t>(count - i);
    rule.action = random() % 2 == 0 ? pass : drop;
    rule.match.source_set = SetName(random() % sets);
    rule.match.protocol = static_cast<uint8_t>(random() % 2 == 0 ? IPPROTO_TCP : IPPROTO_UDP);
    const auto first = static_cast<uint32_t>(random() % 65000);
    const uint64_t width = random() % 2 == 0 ? 1 : 1 + random() % 500;
    rule.match.destination_ports = {
        PortRange{static_cast<uint16_t>(first), static_cast<uint16_t>(first + width - 1)}};
    made.rules.push_back(std::move(rule));
  }
  FillDrawn(made, random);
  return made;
}

SetScan::Membership SetScan::SetsOf(const std::array<uint32_t, 4>& words, Family family) const {
  Membership sets;
  for (const PrefixSet& set : rules_.sets) {
    set.prefixes.ForEach([&](const Prefix& prefix) {
      if (Contains(prefix, IpAddress{words, family})) sets.set(set.id);
    });
  }
  return sets;
}

bool SetScan::In(const RareString& name, const Membership& sets) const {
  return name.empty() || sets.test(SetOf(name));
}

const Rule* SetScan::Find(const Header& header) const {
  const Membership source = SetsOf(header.source, header.family),
                   destination = SetsOf(header.destination, header.family);
  for (const Rule& rule : rules_.rules) {
    if (!Matches(rule.match, header)) continue;
    if (In(rule.match.source_set, source) && In(rule.match.destination_set, destination)) return &rule;
  }
  return nullptr;
}

}  // namespace headgate::testing
