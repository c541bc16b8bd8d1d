// SPDX-License-Identifier: Apache-2.0
//
// The linear search, affordable for 100,000 rules and as many headers: it looks at every rule, but at addresses
// first, which lie in columns and are compared many rules at a time. What is left is for the model's own Matches.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "agent/control/model.h"
#include "tests/harness/classbench.h"

namespace headgate::testing {

class LinearScan {
 public:
  LinearScan() = default;
  explicit LinearScan(const std::vector<Rule>& rules) {
    for (const Rule& rule : rules) Put(rule);
  }

  // The rule as it is now, in place of one of its name.
  void Put(const Rule& rule);
  void Erase(const std::string& name);
  // What rules mean by a set. One that is not known has no prefixes.
  void PutSet(const PrefixSet& set);

  // The rule of the highest priority that matches, null when none does. Holds until the next change.
  const Rule* Find(const Header& header) const;

 private:
  // The words that tell most rules apart: of an IPv4 address there is one, of an IPv6 address two are enough here.
  static constexpr int kAddressWords = 2;
  struct Column {
    std::vector<uint32_t> value, mask;
  };

  void Fill(size_t slot, const Rule* rule);
  bool Holds(const std::string& set, const std::array<uint32_t, 4>& address, Family family) const;
  bool MatchesAll(const Match& match, const Header& header) const;
  template <int kWords>
  const Rule* Scan(const Header& header) const;

  std::vector<Rule> rules_;  // by slot; those without a name are empty slots
  std::map<std::string, size_t> slots_;
  std::vector<size_t> empty_;
  std::map<std::string, std::vector<Prefix>> sets_;
  Column source_[kAddressWords], destination_[kAddressWords];
};

}  // namespace headgate::testing
