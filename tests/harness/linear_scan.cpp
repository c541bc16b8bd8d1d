// SPDX-License-Identifier: Apache-2.0
#include "tests/harness/linear_scan.h"

#include <algorithm>
#include <cstring>

namespace headgate::testing {
namespace {

// Rules compared at a time; the compiler makes of it what the machine has.
constexpr size_t kLanes = 8;
constexpr size_t kBlock = 4 * kLanes;
using Lanes = uint32_t __attribute__((vector_size(kLanes * sizeof(uint32_t))));

// What of an address is outside the prefixes of the rules from `first` on: adds to `differs`.
void Compare(const uint32_t* value, const uint32_t* mask, uint32_t word, Lanes& differs) {
  Lanes values, masks;
  std::memcpy(&values, value, sizeof(values));
  std::memcpy(&masks, mask, sizeof(masks));
  differs |= (values ^ word) & masks;
}

}  // namespace

void LinearScan::Fill(size_t slot, const Rule* rule) {
  const auto fill = [slot](Column& column, const std::optional<Prefix>& prefix, int word) {
    column.mask[slot] = prefix ? WordMask(prefix->length, word) : 0;
    column.value[slot] = prefix ? prefix->address.words[static_cast<size_t>(word)] : 0;
  };
  for (int word = 0; word < kAddressWords; ++word) {
    fill(source_[word], rule ? rule->match.source : std::nullopt, word);
    fill(destination_[word], rule ? rule->match.destination : std::nullopt, word);
  }
}

void LinearScan::Put(const Rule& rule) {
  const auto [found, fresh] = slots_.try_emplace(rule.name);
  size_t& slot = found->second;
  if (fresh && empty_.empty()) {
    slot = rules_.size();
    rules_.emplace_back();
    const size_t size = (rules_.size() + kBlock - 1) / kBlock * kBlock;
    for (int word = 0; word < kAddressWords; ++word) {
      for (Column* column : {&source_[word], &destination_[word]}) {
        column->value.resize(size);
        column->mask.resize(size);
      }
    }
  } else if (fresh) {
    slot = empty_.back();
    empty_.pop_back();
  }
  rules_[slot] = rule;
  Fill(slot, &rule);
}

void LinearScan::Erase(const std::string& name) {
  const auto found = slots_.find(name);
  if (found == slots_.end()) return;
  rules_[found->second] = Rule{};
  Fill(found->second, nullptr);
  empty_.push_back(found->second);
  slots_.erase(found);
}

void LinearScan::PutSet(const PrefixSet& set) {
  std::vector<Prefix>& prefixes = sets_[set.name];
  prefixes.clear();
  set.prefixes.ForEach([&](const Prefix& prefix) { prefixes.push_back(prefix); });
}

bool LinearScan::Holds(const std::string& set, const std::array<uint32_t, 4>& address, Family family) const {
  const auto found = sets_.find(set);
  if (found == sets_.end()) return false;
  return std::any_of(found->second.begin(), found->second.end(), [&](const Prefix& prefix) {
    return Contains(prefix, IpAddress{address, family});
  });
}

bool LinearScan::MatchesAll(const Match& match, const Header& header) const {
  return Matches(match, header) &&
         (match.source_set.empty() || Holds(match.source_set, header.source, header.family)) &&
         (match.destination_set.empty() || Holds(match.destination_set, header.destination, header.family));
}

template <int kWords>
const Rule* LinearScan::Scan(const Header& header) const {
  const Rule* best = nullptr;
  for (size_t first = 0; first < rules_.size(); first += kBlock) {
    Lanes outside[kBlock / kLanes] = {};
    Lanes any{};
    for (size_t part = 0; part < kBlock / kLanes; ++part) {
      const size_t at = first + part * kLanes;
      for (int word = 0; word < kWords; ++word) {
        Compare(&source_[word].value[at], &source_[word].mask[at], header.source[static_cast<size_t>(word)],
                outside[part]);
        Compare(&destination_[word].value[at], &destination_[word].mask[at],
                header.destination[static_cast<size_t>(word)], outside[part]);
      }
      any |= static_cast<Lanes>(outside[part] == 0);
    }
    uint64_t inside[sizeof(any) / sizeof(uint64_t)], some = 0;
    std::memcpy(inside, &any, sizeof(any));
    for (const uint64_t word : inside) some |= word;
    if (some == 0) continue;
    for (size_t slot = first; slot < std::min(first + kBlock, rules_.size()); ++slot) {
      if (outside[(slot - first) / kLanes][(slot - first) % kLanes] != 0) continue;
      const Rule& rule = rules_[slot];
      if (rule.name.empty() || (best && rule.priority <= best->priority)) continue;
      if (MatchesAll(rule.match, header)) best = &rule;
    }
  }
  return best;
}

const Rule* LinearScan::Find(const Header& header) const {
  return header.family == Family::kIpv4 ? Scan<1>(header) : Scan<kAddressWords>(header);
}

}  // namespace headgate::testing
