// SPDX-License-Identifier: Apache-2.0
//
// Apply: whole documents and patches, what is refused and why, and that a refusal changes nothing.
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>

#include <atomic>
#include <set>
#include <thread>

#include "tests/harness/live_gateway.h"

namespace headgate::testing {
namespace {

constexpr int kFailedPrecondition = 9;

using Paths = std::multiset<std::string>;

std::set<std::string> Changes(const pb::ApplyResponse& response) {
  std::set<std::string> changes;
  for (const pb::Difference& difference : response.differences()) {
    changes.insert(absl::StrCat(pb::Difference::Change_Name(difference.change()), " ",
                                pb::Kind_Name(difference.kind()), " ", difference.name()));
  }
  EXPECT_EQ(response.difference_count(), changes.size());
  return changes;
}

class ApplyTest : public LiveGatewayTest {
 protected:
  ApplyTest() : LiveGatewayTest("apply") {}

  uint32_t RuleId(const std::string& name) { return api().GetObject(pb::KIND_RULE, name).id(); }
  pb::ApplyResponse Applied(const pb::ApplyRequest& request) {
    pb::ApplyResponse response;
    const CallStatus status = api().Apply(request, &response);
    EXPECT_TRUE(status.ok()) << status.message;
    return response;
  }
};

TEST_F(ApplyTest, APatchChangesWhatItNamesAndLeavesTheRest) {
  const uint32_t wire = RuleId("wire"), evil = RuleId("evil");
  EXPECT_EQ(FateOfPort(53), "forward_redirect");
  const pb::ApplyResponse response = Applied(PatchRequest(R"(
upsert:
  rules:
    - {name: wire, priority: 10, match: {interface: in}, action: {pass: {}}}
    - {name: drop-11, priority: 50, match: {protocol: udp, destination_ports: ["11"]}, action: {drop: {}}}
delete_rules: [drop-9]
prefix_set_changes: [{name: bogons, add: [203.0.113.0/24], remove: [198.51.100.0/24]}]
)"));
  EXPECT_EQ(Changes(response),
            (std::set<std::string>{"CHANGE_UPDATE KIND_RULE wire", "CHANGE_CREATE KIND_RULE drop-11",
                                   "CHANGE_DELETE KIND_RULE drop-9", "CHANGE_UPDATE KIND_PREFIX_SET bogons"}));
  const std::string held = Held();
  uint64_t passed = 1;  // redirected before the patch: an upsert keeps the counters
  NowAndAfterRestart([&] {
    EXPECT_EQ(FateOfPort(9), "pass_rule");
    EXPECT_EQ(FateOfPort(11), "drop_rule");
    EXPECT_EQ(FateOfPort(53, "203.0.113.5"), "drop_rule");
    EXPECT_EQ(FateOfPort(53, "198.51.100.7"), "pass_rule");
    EXPECT_EQ(FateOfPort(7005), "forward_next_hop");
    EXPECT_EQ(api().Rule("wire").packets(), passed += 2);
    EXPECT_EQ(RuleId("wire"), wire);
    EXPECT_EQ(RuleId("evil"), evil);
    EXPECT_EQ(Held(), held);
  });
}

TEST_F(ApplyTest, AWholeDocumentDeletesWhatItDoesNotName) {
  const uint32_t in = api().GetObject(pb::KIND_INTERFACE, "in").id(), wire = RuleId("wire");
  const pb::ApplyResponse response = Applied(ConfigRequest(R"(
interfaces: [{name: in, device: g0}]
default_action: drop
rules: [{name: wire, priority: 7, match: {interface: in, protocol: udp}, action: {pass: {}}}]
)"));
  EXPECT_EQ(Changes(response),
            (std::set<std::string>{"CHANGE_DELETE KIND_INTERFACE out", "CHANGE_DELETE KIND_PREFIX_SET bogons",
                                   "CHANGE_DELETE KIND_NEXT_HOP hop", "CHANGE_DELETE KIND_RULE drop-9",
                                   "CHANGE_DELETE KIND_RULE evil", "CHANGE_DELETE KIND_RULE hop",
                                   "CHANGE_UPDATE KIND_RULE wire", "CHANGE_UPDATE KIND_SETTINGS "}));
  NowAndAfterRestart([&] {
    EXPECT_EQ(FateOfPort(9), "pass_rule");
    EXPECT_EQ(Fate(Ethernet{} / Ipv4{} / Tcp{}), "drop_default");
    EXPECT_EQ(api().GetObject(pb::KIND_INTERFACE, "in").id(), in);
    EXPECT_EQ(RuleId("wire"), wire);
    EXPECT_EQ(api().GetAll({pb::KIND_RULE}).size(), 1U);
    // The program is off the device that is no interface any more.
    EXPECT_EQ(lab().Ip("gw", "link show g1").find("xdp"), std::string::npos);
  });
}

TEST_F(ApplyTest, TheSameAgainChangesNothing) {
  const std::string held = Held();
  NowAndAfterRestart([&] {
    const pb::ApplyResponse whole = Applied(ConfigRequest(kDocument));
    EXPECT_EQ(whole.difference_count(), 0U);
    const pb::ApplyResponse patch = Applied(PatchRequest(R"(
upsert: {rules: [{name: drop-9, priority: 40, match: {protocol: "17", destination_ports: [9-9]}, action: {drop: {}}}]}
delete_rules: [never-was]
prefix_set_changes: [{name: bogons, add: [198.51.100.0/24], remove: [192.0.2.0/24]}]
)"));
    EXPECT_EQ(patch.difference_count(), 0U);
    EXPECT_EQ(patch.generation(), whole.generation());
    EXPECT_EQ(patch.applied_generation(), whole.generation());
    EXPECT_EQ(Held(), held);
    ExpectDocumentInForce();
  });
}

TEST_F(ApplyTest, ADryRunTellsWhatWouldChangeAndChangesNothing) {
  const std::string held = Held();
  const std::string patch = R"(
upsert:
  rules:
    - {name: wire, priority: 10, action: {drop: {}}}
    - {name: new, priority: 11, match: {protocol: tcp}, action: {pass: {}}}
  steer_targets: [{name: app}]
delete_rules: [drop-9]
)";
  pb::ApplyRequest request = PatchRequest(patch);
  request.set_dry_run(true);
  pb::ApplyResponse would;
  NowAndAfterRestart([&] {
    would = Applied(request);
    EXPECT_EQ(would.difference_count(), 4U);
    EXPECT_EQ(would.generation(), would.applied_generation() + 1);
    EXPECT_EQ(Held(), held);
    ExpectDocumentInForce();
  });
  // Many in a row use nothing up: ids, above all, of which there are few.
  for (int i = 0; i < 200; ++i) Applied(request);
  EXPECT_EQ(Held(), held);

  request.set_dry_run(false);
  const pb::ApplyResponse did = Applied(request);
  EXPECT_EQ(Changes(did), Changes(would));
  EXPECT_EQ(did.generation(), would.generation());
  EXPECT_EQ(FateOfPort(53), "drop_rule");
}

TEST_F(ApplyTest, ADryRunAnswersWithViolations) {
  const std::string held = Held();
  pb::ApplyRequest request = PatchRequest(R"(
upsert: {rules: [{name: a, priority: 40, action: {drop: {}}}, {name: b, priority: 0, action: {}}]}
)");
  request.set_dry_run(true);
  pb::ApplyResponse response = Applied(request);
  Paths fields;
  for (const pb::Violation& violation : response.violations()) fields.insert(violation.field());
  EXPECT_EQ(fields, (Paths{"patch.upsert.rules[0].priority", "patch.upsert.rules[1].priority",
                           "patch.upsert.rules[1].action"}));
  EXPECT_EQ(Held(), held);
  ExpectDocumentInForce();
  // An expected generation that does not hold is no matter of the content.
  request.set_expected_generation(4711);
  EXPECT_EQ(api().Apply(request).code, kFailedPrecondition);
}

TEST_F(ApplyTest, AnExpectedGenerationMustHold) {
  NowAndAfterRestart([&] {
    const uint64_t now = api().Status().desired_generation();
    pb::ApplyRequest request = PatchRequest("delete_rules: [drop-9]");
    request.set_expected_generation(now + 1);
    const CallStatus status = ExpectRefused(request, kFailedPrecondition);
    EXPECT_TRUE(absl::StrContains(status.message, absl::StrCat("at generation ", now, ","))) << status.message;
    EXPECT_TRUE(absl::StrContains(status.message, absl::StrCat("expected ", now + 1))) << status.message;

    request.set_expected_generation(now);
    EXPECT_EQ(Applied(request).generation(), now + 1);
    EXPECT_EQ(api().Apply(request).code, kFailedPrecondition);  // it has moved on
    EXPECT_EQ(Applied(ConfigRequest(kDocument)).generation(), now + 2);
  });
}

TEST_F(ApplyTest, WaitAppliedAnswersWhenPacketsFareThatWay) {
  NowAndAfterRestart([&] {
    for (int i = 0; i < 20; ++i) {
      const bool drop = i % 2 == 0;
      const pb::ApplyResponse response = Applied(PatchRequest(absl::StrCat(
          "upsert: {rules: [{name: wire, priority: 10, action: ", drop ? "{drop: {}}" : "{pass: {}}", "}]}")));
      EXPECT_EQ(response.applied_generation(), response.generation());
      EXPECT_EQ(FateOfPort(53), drop ? "drop_rule" : "pass_rule");
    }
  });
}

TEST_F(ApplyTest, WithoutWaitingItIsDurableAndSoonInForce) {
  pb::ApplyRequest request = PatchRequest("upsert: {rules: [{name: wire, priority: 10, action: {pass: {}}}]}");
  request.set_wait_applied(false);
  const pb::ApplyResponse response = Applied(request);
  EXPECT_EQ(api().Status().desired_generation(), response.generation());  // one's own change is seen at once
  EXPECT_TRUE(WaitFor([&] { return api().Status().applied_generation() == response.generation(); }));
  NowAndAfterRestart([&] { EXPECT_EQ(FateOfPort(53), "pass_rule"); });
}

TEST_F(ApplyTest, ADeviceThatChangesHandsIsNeverWithoutTheProgram) {
  // Every packet is dropped by a rule, whatever its interface is called; one that meets no program is not counted.
  const auto document = [](const std::string& first, const std::string& second) {
    return absl::StrCat("interfaces: [{name: ", first, ", device: g0}, {name: ", second, ", device: g1}]\n",
                        "rules: [{name: all, priority: 1, action: {drop: {}}}]\n");
  };
  api().ApplyYaml(document("in", "out"));
  std::atomic<bool> done = false;
  uint64_t sent = 0;
  std::thread sender([&] {
    const Bytes frame = Ethernet{} / Ipv4{} / Udp{} / Payload(40);
    for (; !done; ++sent) client().Send(frame);
  });
  for (int round = 0; round < 10; ++round) {
    api().ApplyYaml(document("out", "in"));   // they swap devices
    api().ApplyYaml(document("lan", "wan"));  // others take over
    api().ApplyYaml(document("out", "lan"));  // one of them at the other's device
    api().ApplyYaml(document("in", "out"));
    for (const pb::Object& object : api().GetAll({pb::KIND_INTERFACE})) {
      EXPECT_EQ(object.status().state(), pb::ObjectStatus::STATE_APPLIED) << object.ShortDebugString();
    }
  }
  done = true;
  sender.join();
  EXPECT_TRUE(WaitFor([&] { return api().Rule("all").packets() == sent; }))
      << sent - api().Rule("all").packets() << " of " << sent;
  NowAndAfterRestart([&] {
    EXPECT_EQ(FateOfPort(53), "drop_rule");
    EXPECT_EQ(api().Status().drift_repaired(), 0U);
  });
}

}  // namespace
}  // namespace headgate::testing
