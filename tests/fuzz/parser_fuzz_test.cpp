// SPDX-License-Identifier: Apache-2.0
//
// Random and mutated frames through the real program, against a reference parser: reason, verdict and every word
// of the match key agree, for the entry point of devices and for that of traces, and every packet is counted as
// what it was. Runs for HG_FUZZ_SECONDS (default 20).
#include <absl/strings/escaping.h>
#include <absl/strings/string_view.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <netinet/in.h>

#include <chrono>
#include <cstdlib>
#include <set>

#include "agent/control/stats.h"
#include "tests/bpf/gateway.h"
#include "tests/fuzz/parser_frames.h"
#include "tests/fuzz/parser_reference.h"
#include "tests/harness/random.h"

namespace headgate::testing {
namespace {

// Rules that look at each field, so that the program's own view of a frame decides, not only its trace.
struct FieldRule {
  const char* name;
  const char* match;
  bool drop;
  bool (*matches)(const Parsed&);
};
bool IsPort(uint16_t port) { return port == 53 || (port >= 1000 && port <= 1999); }
constexpr FieldRule kFieldRules[] = {
    {"vlan", "{vlan: 100}", true, [](const Parsed& p) { return p.vlan == 100; }},
    {"inner", "{inner_vlan: 200}", false, [](const Parsed& p) { return p.inner_vlan == 200; }},
    {"syn", "{protocol: tcp, tcp_flags: 'syn,!ack'}", true,
     [](const Parsed& p) { return p.protocol == IPPROTO_TCP && p.ports && (p.tcp_flags & 0x12) == 2; }},
    {"ports", "{destination_ports: ['53', '1000-1999']}", false,
     [](const Parsed& p) { return p.ports && IsPort(p.destination_port); }},
    {"low", "{source_ports: ['0-63']}", true, [](const Parsed& p) { return p.ports && p.source_port < 64; }},
    {"echo", "{protocol: icmpv6, icmp_type: 128}", true,
     [](const Parsed& p) { return p.protocol == IPPROTO_ICMPV6 && p.icmp && p.icmp_type == 128; }},
    {"dscp", "{dscp: 46}", false, [](const Parsed& p) { return (p.ipv4 || p.ipv6) && p.dscp == 46; }},
    {"first", "{fragment: first}", true, [](const Parsed& p) { return p.fragment && !p.later; }},
    {"later", "{fragment: later}", false, [](const Parsed& p) { return p.later; }},
    {"long", "{packet_length: 90-65535}", true, [](const Parsed& p) { return p.length >= 90; }},
    {"v4", "{source: 10.0.0.0/8}", false, [](const Parsed& p) { return p.ipv4 && p.source[0] >> 24 == 10; }},
    {"v6", "{destination: '2001:db8::/32'}", true,
     [](const Parsed& p) { return p.ipv6 && p.destination[0] == 0x20010db8; }},
    {"igmp", "{protocol: igmp}", true,
     [](const Parsed& p) { return p.protocol == IPPROTO_IGMP && (p.ipv4 || p.ipv6); }},
};
bool NamesItsProtocol(const FieldRule& rule) {
  return rule.name == std::string("igmp") || rule.name == std::string("echo");
}

struct Expected {
  hg_reason reason;
  std::string rule;
};

// With the rules above and default drop.
Expected UnderFieldRules(const Parsed& parsed) {
  if (parsed.malformed) return {*parsed.malformed, ""};
  for (const FieldRule& rule : kFieldRules) {
    if (!rule.matches(parsed)) continue;
    if (!rule.drop) return {HG_REASON_PASS_RULE, rule.name};
    const bool spared = parsed.essential && !NamesItsProtocol(rule);
    return {spared ? HG_REASON_PASS_ESSENTIAL : HG_REASON_DROP_RULE, rule.name};
  }
  return {parsed.essential ? HG_REASON_PASS_ESSENTIAL : HG_REASON_DROP_DEFAULT, ""};
}
std::string FieldRules() {
  std::string yaml = "default_action: drop\nrules:\n";
  int priority = static_cast<int>(std::size(kFieldRules));
  for (const FieldRule& rule : kFieldRules) {
    yaml += std::string("  - {name: ") + rule.name + ", priority: " + std::to_string(priority--) +
            ", match: " + rule.match + ", action: {" + (rule.drop ? "drop" : "pass") + ": {}}}\n";
  }
  return yaml;
}

// With one rule that reflects everything but groups.
Expected UnderTx(const Parsed& parsed) {
  if (parsed.malformed) return {*parsed.malformed, ""};
  return {parsed.group ? HG_REASON_DROP_TX_GROUP : HG_REASON_FORWARD_TX, "tx"};
}
constexpr char kTx[] = "rules: [{name: tx, priority: 1, action: {tx: {swap: ports}}}]\n";

class ParserFuzz : public ::testing::Test {
 protected:
  void Configure(bool fields) {
    fields_ = fields;
    gateway_->Configure(fields ? FieldRules() : kTx);
    counted_ = gateway_->Reasons();
    rules_.clear();
  }
  // True when program and reference agree.
  bool Check(const Bytes& frame) {
    const Parsed parsed = ParseFrame(frame);
    const Expected expected = fields_ ? UnderFieldRules(parsed) : UnderTx(parsed);
    const uint32_t port = gateway_->Port("in");
    const TraceResult trace = *gateway_->program().dataplane().Trace(port, frame);
    const uint32_t verdict = gateway_->program().Verdict(frame);
    const std::string reason = ReasonName(expected.reason);
    Count& count = counted_[reason];
    ++count.packets;
    count.bytes += frame.size();
    if (!expected.rule.empty()) ++rules_[expected.rule];
    seen_.insert(expected.reason);

    EXPECT_EQ(ReasonName(trace.record.reason), reason);
    EXPECT_EQ(VerdictName(trace.xdp_action), VerdictName(VerdictOf(reason)));
    EXPECT_EQ(VerdictName(verdict), VerdictName(VerdictOf(reason)));
    if (!parsed.malformed) {
      std::array<uint32_t, HG_WORDS> key;
      std::copy(std::begin(trace.record.key), std::end(trace.record.key), key.begin());
      EXPECT_EQ(key, parsed.Key(port));
      const uint32_t rule = expected.rule.empty() ? 0 : gateway_->state().rules.Get(expected.rule)->id;
      EXPECT_EQ(trace.record.rule_id, rule) << expected.rule;
    }
    return !HasFailure();
  }
  // What was counted since Configure is what the reference says, no more and no less.
  void CheckCounters() {
    EXPECT_TRUE(gateway_->Reasons() == counted_);
    for (const auto& [rule, packets] : rules_) EXPECT_EQ(gateway_->RuleCount(rule).packets, packets) << rule;
  }

  std::unique_ptr<Gateway> gateway_;
  bool fields_ = false;
  std::map<std::string, Count> counted_;
  std::map<std::string, uint64_t> rules_;
  std::set<hg_reason> seen_;
};

std::string Hex(const Bytes& frame) {
  return absl::BytesToHexString(absl::string_view(reinterpret_cast<const char*>(frame.data()), frame.size()));
}

// What a frame is like, by the reference: a frame unlike any before is worth keeping.
uint64_t Signature(const Parsed& parsed, const Bytes& frame) {
  const auto key = parsed.Key(0);
  const uint64_t kind = key[HG_WORD_PROTO] & 0xff, reason = parsed.malformed ? 1 + *parsed.malformed : 0;
  const uint64_t tags = (parsed.vlan != 0) + (parsed.inner_vlan != 0);
  return reason << 32 | kind << 24 | static_cast<uint64_t>(parsed.protocol) << 16 | tags << 8 |
         static_cast<uint64_t>(parsed.essential) << 4 | static_cast<uint64_t>(parsed.group) << 5 |
         (frame.size() > 1500 ? 1 : 0);
}

TEST_F(ParserFuzz, AgreesWithTheReference) {
  HG_REQUIRE_BPF();
  gateway_ = std::make_unique<Gateway>("parser-fuzz", std::vector<std::string>{"in"});
  std::mt19937_64 random = MakeRandom();
  const std::vector<Bytes> corpus = LoadFrames(HG_PARSER_CORPUS);
  ASSERT_FALSE(corpus.empty());
  for (const bool fields : {true, false}) {
    Configure(fields);
    for (const Bytes& frame : corpus) ASSERT_TRUE(Check(frame)) << Hex(frame);
    CheckCounters();
  }

  FrameMaker maker(random, corpus);
  const char* given = std::getenv("HG_FUZZ_SECONDS");
  const auto end =
      std::chrono::steady_clock::now() + std::chrono::seconds(given != nullptr ? std::atoi(given) : 20);
  std::set<uint64_t> signatures;
  size_t frames = 0, sound = 0;
  for (bool fields = true; std::chrono::steady_clock::now() < end; fields = !fields) {
    Configure(fields);
    for (int i = 0; i < 20'000; ++i, ++frames) {
      const Bytes frame = maker.Next();
      ASSERT_TRUE(Check(frame)) << "frame " << frames << ", rules " << (fields ? "on each field" : "tx") << ": "
                                << Hex(frame);
      const Parsed parsed = ParseFrame(frame);
      sound += parsed.malformed ? 0 : 1;
      if (signatures.insert(Signature(parsed, frame)).second) maker.Add(frame);
    }
    CheckCounters();
    ASSERT_FALSE(HasFailure());
  }
  std::printf("%zu frames, %zu sound, %zu kinds, %zu reasons\n", frames, sound, signatures.size(), seen_.size());
  // The makers make what they are meant to: all reasons that one buffer of 14 bytes or more can have.
  EXPECT_GT(sound, frames / 10);
  for (int reason = HG_REASON_VLAN_SHORT; reason < HG_REASON_COUNT; ++reason) {
    const bool malformed = ReasonOf(static_cast<uint32_t>(reason)).reason_class == ReasonClass::kMalformed;
    if (!malformed || reason == HG_REASON_HEADER_SPLIT) continue;
    EXPECT_TRUE(seen_.contains(static_cast<hg_reason>(reason))) << ReasonName(static_cast<uint32_t>(reason));
  }
}

}  // namespace
}  // namespace headgate::testing
