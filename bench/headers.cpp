// SPDX-License-Identifier: Apache-2.0
#include "bench/headers.h"

#include <absl/container/flat_hash_set.h>
#include <absl/strings/str_cat.h>
#include <arpa/inet.h>

#include <cstring>
#include <exception>
#include <string_view>

namespace headgate::bench {
namespace {

// Of which one gave a header that was there already: the rules have few.
constexpr size_t kDrawsPerHeader = 50;
constexpr uint32_t kPriorityStep = 16;

hgb_header FromHeader(const testing::Header& header) {
  return {.source = htonl(header.source[0]),
          .destination = htonl(header.destination[0]),
          .source_port = htons(header.source_port),
          .destination_port = htons(header.destination_port),
          .protocol = header.protocol,
          .pad = {}};
}

}  // namespace

absl::StatusOr<std::vector<Rule>> LoadRuleSet(const std::string& name) {
  try {
    std::vector<Rule> rules = testing::LoadClassBench(name);
    for (Rule& rule : rules) rule.priority *= kPriorityStep;
    return rules;
  } catch (const std::exception& error) {
    return absl::NotFoundError(absl::StrCat("load the rule set ", name, ": ", error.what()));
  }
}

absl::StatusOr<std::vector<hgb_header>> DrawHeaders(const std::vector<Rule>& rules, size_t count,
                                                    std::mt19937_64& random) {
  std::vector<hgb_header> headers;
  headers.reserve(count);
  absl::flat_hash_set<std::string> seen;
  seen.reserve(count);
  for (size_t draws = 0; headers.size() < count; ++draws) {
    if (draws == kDrawsPerHeader * count) {
      return absl::ResourceExhaustedError(
          absl::StrCat("the rules have only about ", headers.size(), " different headers"));
    }
    const testing::Header drawn = testing::DrawHeader(rules, random);
    if (!MaySend(drawn)) continue;
    const hgb_header header = FromHeader(drawn);
    if (seen.emplace(reinterpret_cast<const char*>(&header), sizeof(header)).second) headers.push_back(header);
  }
  return headers;
}

// Frames from group addresses are dropped for that alone.
bool MaySend(const testing::Header& header) {
  constexpr uint32_t kFirstGroup = 0xe0000000, kFirstReserved = 0xf0000000, kBroadcast = 0xffffffff;
  const uint32_t source = header.source[0];
  return header.family == Family::kIpv4 && (source < kFirstGroup || source >= kFirstReserved) &&
         source != kBroadcast;
}

testing::Header ToHeader(const hgb_header& header) {
  testing::Header out{.source_port = ntohs(header.source_port),
                      .destination_port = ntohs(header.destination_port),
                      .protocol = header.protocol};
  out.source[0] = ntohl(header.source);
  out.destination[0] = ntohl(header.destination);
  return out;
}

}  // namespace headgate::bench
