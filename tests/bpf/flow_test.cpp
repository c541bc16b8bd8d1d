// SPDX-License-Identifier: Apache-2.0
//
// What is remembered of flows: packets of one flow get the same answers and counts as if each were the first, and
// no answer outlives the tables it was found in.
#include <bpf/bpf.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <vector>

#include "tests/bpf/gateway.h"
#include "tests/harness/cpus.h"

namespace headgate::testing {
namespace {

class FlowTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (WhyNoBpf().empty()) gateway_ = std::make_unique<Gateway>("flow");
  }
  static void TearDownTestSuite() { gateway_.reset(); }
  void SetUp() override { HG_REQUIRE_BPF(); }

  // Flows remembered by any CPU under what is in force now.
  static size_t Remembered(Program& program = gateway_->program()) {
    hg_active active{};
    const uint32_t zero = 0;
    EXPECT_EQ(bpf_map_lookup_elem(program.OpenMap("hg_active").get(), &zero, &active), 0);
    const Fd flows = program.OpenMap("hg_flows");
    bpf_map_info info{};
    uint32_t length = sizeof(info);
    EXPECT_EQ(bpf_obj_get_info_by_fd(flows.get(), &info, &length), 0);
    std::vector<uint8_t> values(static_cast<size_t>(info.value_size) * 1024);
    size_t found = 0;
    for (uint32_t slot = 0; slot < info.max_entries; ++slot) {
      EXPECT_EQ(bpf_map_lookup_elem(flows.get(), &slot, values.data()), 0);
      for (size_t at = 0; at < values.size(); at += info.value_size) {
        // After six pairs of key words: the stamp, which begins as hg_active does.
        found += std::memcmp(values.data() + at + 48, &active, 8) == 0;
      }
    }
    return found;
  }

  static std::unique_ptr<Gateway> gateway_;
};
std::unique_ptr<Gateway> FlowTest::gateway_;

const Ethernet kEth;

Bytes Frame(int port, size_t payload = 0, const std::string& source = "192.0.2.1") {
  return kEth / Ipv4{.source = source} / Udp{.destination_port = static_cast<uint16_t>(port)} / Payload(payload);
}

TEST_F(FlowTest, CountsEveryPacket) {
  gateway_->Configure(
      "rules: [{name: r, priority: 1, match: {destination_ports: ['53']}, "
      "action: {drop: {}, count: {counter: c}}}]\n");
  for (uint64_t i = 1; i <= 5; ++i) {
    const Outcome outcome = gateway_->Run(Frame(53, i));
    EXPECT_EQ(outcome.reason, "drop_rule");
    EXPECT_EQ(outcome.rule, "r");
    EXPECT_EQ(outcome.counters, (std::map<std::string, uint64_t>{{"c", 1}}));
    EXPECT_EQ(gateway_->RuleCount("r").packets, i);
    // None matches: remembered, too.
    EXPECT_EQ(gateway_->Run(Frame(54, i)).reason, "pass_default");
  }
  EXPECT_EQ(Remembered(), 2U) << "one for each flow, whatever the packets' lengths";
}

TEST_F(FlowTest, LengthIsAskedEachTime) {
  gateway_->Configure(
      "rules:\n"
      "  - {name: long, priority: 2, match: {destination_ports: ['53'], packet_length: 100-200}, action: {drop: "
      "{}}}\n"
      "  - {name: any, priority: 1, match: {destination_ports: ['53-54']}, action: {pass: {}}}\n");
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ(gateway_->Run(Frame(53, 71)).rule, "any");
    EXPECT_EQ(gateway_->Run(Frame(53, 72)).rule, "long");
    EXPECT_EQ(gateway_->Run(Frame(53, 172)).rule, "long");
    EXPECT_EQ(gateway_->Run(Frame(53, 173)).rule, "any");
  }
}

TEST_F(FlowTest, NothingOutlivesAChange) {
  const Bytes frame = Frame(53);
  for (int round = 0; round < 3; ++round) {
    gateway_->Configure("rules: [{name: r, priority: 1, action: {drop: {}}}]\n");
    EXPECT_EQ(Remembered(), 0U);
    EXPECT_EQ(gateway_->Run(frame).reason, "drop_rule");
    EXPECT_EQ(gateway_->Run(frame).reason, "drop_rule");
    gateway_->Configure("default_action: drop\n");
    EXPECT_EQ(gateway_->Run(frame).reason, "drop_default");
    EXPECT_EQ(gateway_->Run(frame).reason, "drop_default");
    gateway_->Configure(
        "prefix_sets: [{name: s, prefixes: [192.0.2.0/24]}]\n"
        "rules: [{name: r, priority: 1, match: {source_set: s}, action: {drop: {}}}]\n");
    EXPECT_EQ(gateway_->Run(frame).reason, "drop_rule");
    gateway_->Configure(
        "prefix_sets: [{name: s, prefixes: [192.0.3.0/24]}]\n"
        "rules: [{name: r, priority: 1, match: {source_set: s}, action: {drop: {}}}]\n");
    EXPECT_EQ(gateway_->Run(frame).reason, "pass_default");
  }
}

// A table that is put right, and the same root in force once more: as when the agent finds that others wrote to
// them.
TEST_F(FlowTest, NothingOutlivesAWriteOrTheNextActivation) {
  gateway_->Configure("rules: [{name: r, priority: 1, action: {drop: {}}}]\n");
  BpfDataplane& dataplane = gateway_->program().dataplane();
  const Bytes frame = Frame(53);
  const auto expect_void = [&](const std::function<void()>& change) {
    EXPECT_EQ(gateway_->Run(frame).reason, "drop_rule");
    EXPECT_EQ(Remembered(), 1U);
    change();
    EXPECT_EQ(Remembered(), 0U);
  };
  for (const TableId table : {TableId::kNodes, TableId::kSlots, TableId::kRules, TableId::kMatches,
                              TableId::kPrefixes, TableId::kActions, TableId::kNextHops, TableId::kTargets}) {
    const TableInfo info = dataplane.Info(table);
    SCOPED_TRACE(info.name);
    const uint32_t last = info.capacity - 1;
    const std::vector<char> zeros(info.value_size);
    expect_void([&] { EXPECT_TRUE(dataplane.Write(table, absl::MakeConstSpan(&last, 1), zeros.data()).ok()); });
  }
  expect_void([&] { EXPECT_TRUE(dataplane.Activate(*dataplane.Active()).ok()); });
}

// Whoever can write to the maps can forge an answer. It does not last.
TEST_F(FlowTest, AForgedAnswerEndsWithTheNextActivation) {
  gateway_->Configure("default_action: drop\nrules: [{name: r, priority: 1, action: {pass: {}}}]\n");
  Program& program = gateway_->program();
  const OnCpu here(AllowedCpus().front());
  const Bytes frame = Frame(53);
  ASSERT_EQ(program.Verdict(frame), XDP_PASS);
  const Fd flows = program.OpenMap("hg_flows");
  bpf_map_info info{};
  uint32_t length = sizeof(info);
  ASSERT_EQ(bpf_obj_get_info_by_fd(flows.get(), &info, &length), 0);
  std::vector<uint8_t> values(static_cast<size_t>(info.value_size) * 1024);
  for (uint32_t slot = 0; slot < info.max_entries; ++slot) {
    ASSERT_EQ(bpf_map_lookup_elem(flows.get(), &slot, values.data()), 0);
    // The rule and the answer, of every CPU: none matches.
    for (size_t at = 0; at < values.size(); at += info.value_size) std::fill_n(&values[at + 56], 8, uint8_t{0});
    ASSERT_EQ(bpf_map_update_elem(flows.get(), &slot, values.data(), BPF_ANY), 0);
  }
  for (int i = 0; i < 3; ++i) EXPECT_EQ(program.Verdict(frame), XDP_DROP) << "what is forged decides";
  ASSERT_TRUE(program.dataplane().Activate(*program.dataplane().Active()).ok());
  for (int i = 0; i < 3; ++i) EXPECT_EQ(program.Verdict(frame), XDP_PASS);
}

TEST_F(FlowTest, SwitchedOffNothingIsRemembered) {
  Program program("flow-off", {.max_entries = 1024, .max_prefixes = 1024}, false);
  State state;
  Rule rule{.name = "r", .priority = 1, .id = 1};
  rule.action = std::make_shared<const Action>(Action{.verdict = Drop{}});
  state.rules.Set(rule);
  program.Apply(state);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(program.Run(Frame(53)).reason, "drop_rule");
  EXPECT_EQ(Remembered(program), 0U);
  EXPECT_EQ((*program.dataplane().ReadCounters(CounterId::kRules, 1, 1))[0], 3U);
}

}  // namespace
}  // namespace headgate::testing
