// SPDX-License-Identifier: Apache-2.0
//
// Drift in tables as large as they are unless told otherwise, with 100,000 rules in them.
#include <netinet/in.h>

#include "agent/api/convert.h"
#include "tests/e2e/drift_fixture.h"
#include "tests/harness/classbench.h"
#include "tests/harness/random.h"

namespace headgate::testing {
namespace {

constexpr uint32_t kFirstPriority = 1'000;  // above those of the document
constexpr int kDamages = 4;                 // of each table

TEST_F(DriftTest, ScribbledTablesOfManyRulesAreRepaired) {
  std::mt19937_64 random = MakeRandom();
  agent_->Kill();
  agent_->Start({.arguments = {"--drift-interval", "0.1"}});

  std::vector<Header> flows;
  for (const Flow& flow : kFlows) {
    Header header{.source_port = Udp{}.source_port, .destination_port = flow.port, .protocol = IPPROTO_UDP};
    header.source = ParseAddress(flow.source)->words;
    header.destination = ParseAddress(Ipv4{}.destination)->words;
    flows.push_back(header);
  }
  pb::ApplyRequest request;
  request.set_wait_applied(true);
  int rules = 0;
  for (Rule& rule : LoadClassBench("acl1_100k")) {
    // The flows are the document's, which the others are looked through for first.
    if (std::any_of(flows.begin(), flows.end(), [&](const Header& flow) { return Matches(rule.match, flow); }))
      continue;
    rule.priority += kFirstPriority;
    api::Write(rule, *request.mutable_patch()->mutable_upsert()->add_rules());
    ++rules;
  }
  const CallStatus applied = api().Apply(request);
  ASSERT_TRUE(applied.ok()) << applied.message;
  ASSERT_GT(rules, 90'000);
  ExpectInForce();

  for (const char* table : {"hg_nodes", "hg_slots", "hg_rules", "hg_matches"}) {
    const std::vector<uint32_t> used = PinnedMap(*agent_, table).Used();
    ASSERT_FALSE(used.empty()) << table;
    for (int i = 0; i < kDamages; ++i)
      ExpectScribbleRepaired(table, i == 0 ? used.back() : used[random() % used.size()]);
  }
  ExpectEmptiedRepaired("hg_rules");
}

}  // namespace
}  // namespace headgate::testing
