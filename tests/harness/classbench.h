// SPDX-License-Identifier: Apache-2.0
//
// The ClassBench rule sets of tests/data as rules of the model, headers drawn from them, and the linear search
// that says which rule a header matches.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "agent/control/model.h"
#include "bpf/hg_abi.h"

namespace headgate::testing {

// The set "acl1_1k" and so on, highest priority first: rule i of n has priority n - i, name "r<i>", id i + 1, and
// passes or drops by a hash of i.
std::vector<Rule> LoadClassBench(const std::string& set);

// A set of `count` IPv6 rules with the structure of such sets: nested prefixes, port ranges, protocols.
std::vector<Rule> MakeIpv6Rules(size_t count, std::mt19937_64& random);

// What the program would make of a packet: the match key's words. Ports are zero where the protocol has none, and
// flags where it is not TCP.
struct Header {
  Family family = Family::kIpv4;
  std::array<uint32_t, 4> source{};
  std::array<uint32_t, 4> destination{};
  uint16_t source_port = 0;
  uint16_t destination_port = 0;
  uint8_t protocol = 0;
  uint8_t dscp = 0;
  uint8_t tcp_flags = 0;
  uint16_t vlan = 0;
  uint16_t inner_vlan = 0;
  uint16_t length = 64;  // from the network header on; no fewer bytes than the headers have
};

// A header from a random rule's corners or inside, or now and then from nowhere.
Header DrawHeader(const std::vector<Rule>& rules, std::mt19937_64& random);

// The key the parser would produce for the header, from no interface.
std::array<uint32_t, HG_WORDS> KeyOf(const Header& header);

// Whether the header has what is asked for. Of no account are the interface, prefix sets, ICMP types and
// fragments.
bool Matches(const Match& match, const Header& header);

// The first rule that matches, null when none does. Uses the model alone, nothing of the compiler.
const Rule* LinearSearch(const std::vector<Rule>& rules, const Header& header);

}  // namespace headgate::testing
