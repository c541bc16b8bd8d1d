// SPDX-License-Identifier: Apache-2.0
//
// The program's verdict on real frames against a linear search over the model, for every ClassBench set.
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <netinet/in.h>

#include "tests/harness/classbench.h"
#include "tests/harness/program.h"
#include "tests/harness/random.h"

namespace headgate::testing {
namespace {

constexpr int kHeaders = 100'000;

Bytes FrameOf(const Header& header) {
  const IpAddress source{header.source, header.family}, destination{header.destination, header.family};
  const auto with_l4 = [&](const auto& l3) -> Bytes {
    const Packet packet = Ethernet{} / l3;
    switch (header.protocol) {
      case IPPROTO_TCP:
        return packet / Tcp{.source_port = header.source_port, .destination_port = header.destination_port};
      case IPPROTO_UDP:
        return packet / Udp{.source_port = header.source_port, .destination_port = header.destination_port};
      case IPPROTO_ICMP:
        return packet / Icmp{};
      case IPPROTO_ICMPV6:
        return packet / Icmpv6{};
      default:
        return packet / Protocol{.number = header.protocol, .bytes = Bytes(20)};
    }
  };
  if (header.family == Family::kIpv4) {
    return with_l4(Ipv4{.source = ToString(source), .destination = ToString(destination)});
  }
  return with_l4(Ipv6{.source = ToString(source), .destination = ToString(destination)});
}

// Addresses that are malformed as a source, and headers the program walks past, are other tests' matter.
bool Usable(const Header& header) {
  if (header.family == Family::kIpv4) return header.source[0] >> 28 != 0xe && header.source[0] != 0xffffffff;
  return header.source[0] >> 24 != 0xff;
}

void ExpectVerdicts(Program& program, const std::vector<Rule>& rules, std::mt19937_64& random) {
  State state;
  for (const Rule& rule : rules) state.rules.Set(rule);
  // What no rule matches must be told from both verdicts of rules: by the counters.
  program.Apply(state);
  std::vector<uint64_t> expected_counts(rules.size() + 1), counts;
  int matched = 0, wrong = 0, runs = 0;
  while (runs < kHeaders) {
    const Header header = DrawHeader(rules, random);
    if (!Usable(header)) continue;
    ++runs;
    const Rule* expected = LinearSearch(rules, header);
    const bool drop = expected != nullptr && std::holds_alternative<Drop>(expected->action->verdict);
    matched += expected != nullptr ? 1 : 0;
    if (expected != nullptr) ++expected_counts[expected->id];
    if (program.Verdict(FrameOf(header)) != (drop ? XDP_DROP : XDP_PASS) && ++wrong < 5) {
      ADD_FAILURE() << "header " << runs << " expected " << (expected ? expected->name : "no rule");
    }
  }
  EXPECT_EQ(wrong, 0);
  EXPECT_GT(matched, kHeaders / 2);
  // Each packet counted once, by the rule that the search names.
  const auto rows =
      *program.dataplane().ReadCounters(CounterId::kRules, 0, static_cast<uint32_t>(rules.size()) + 1);
  for (size_t i = 0; i < rows.size(); i += 3) counts.push_back(rows[i]);
  EXPECT_TRUE(counts == expected_counts);
}

class ClassBench : public ::testing::TestWithParam<const char*> {};

TEST_P(ClassBench, VerdictsEqualLinearSearch) {
  HG_REQUIRE_BPF();
  std::mt19937_64 random = MakeRandom();
  Program program(std::string("classbench-") + GetParam());
  ExpectVerdicts(program, LoadClassBench(GetParam()), random);
}
INSTANTIATE_TEST_SUITE_P(Sets, ClassBench,
                         ::testing::Values("acl1_1k", "fw1_1k", "ipc1_1k", "acl1_8k", "fw1_8k", "ipc1_8k"),
                         [](const auto& set) { return std::string(set.param); });

class GeneratedIpv6 : public ::testing::TestWithParam<int> {};

TEST_P(GeneratedIpv6, VerdictsEqualLinearSearch) {
  HG_REQUIRE_BPF();
  std::mt19937_64 random = MakeRandom();
  Program program("classbench-ipv6-" + std::to_string(GetParam()));
  ExpectVerdicts(program, MakeIpv6Rules(static_cast<size_t>(GetParam()), random), random);
}
INSTANTIATE_TEST_SUITE_P(Sizes, GeneratedIpv6, ::testing::Values(1000, 8000));

}  // namespace
}  // namespace headgate::testing
