// SPDX-License-Identifier: Apache-2.0
//
// What is wrong with steer targets, and what just passes.
#include <gtest/gtest.h>

#include <algorithm>

#include "agent/control/validate.h"
#include "tests/harness/model.h"

namespace headgate::testing {
namespace {

constexpr char kBase[] = R"(
interfaces: [{name: wan, device: eth0}]
steer_targets: [{name: taken, handler: {tap: {device: hgtap9, interface: wan}}}]
)";

struct Case {
  const char* name;
  const char* target;
  // Field and part of the description of each violation.
  std::vector<std::pair<std::string, std::string>> expected;
};

std::vector<Case> Cases() {
  return {
      {"None", "fallback: drop", {}},
      {"Count", "handler: {count: {}}, workers: {count: 64}, spread: source, priority: 0", {}},
      {"Echo", "handler: {echo: {}}, spread: round_robin, priority: 7", {}},
      {"App", "handler: {app: {group: users}}, workers: {count: 2}", {}},
      {"Tap", "handler: {tap: {device: hgtap0, kind: tap, interface: wan}}", {}},
      {"Tun", "handler: {tap: {device: hgtap0, kind: tun}}", {}},
      {"EmptyHandler", "handler: {}", {{"handler", "count, echo, tap or app"}}},
      {"NoHandler",
       "workers: {count: 1}, spread: flow, priority: 1",
       {{"workers", "only a target with a handler"},
        {"spread", "only a target with a handler"},
        {"priority", "only a target with a handler"}}},
      {"NoWorkers", "handler: {count: {}}, workers: {count: 0}", {{"workers.count", "1 to 64"}}},
      {"Workers", "handler: {count: {}}, workers: {count: 65}", {{"workers.count", "1 to 64"}}},
      {"Priority", "handler: {count: {}}, priority: 8", {{"priority", "0 to 7"}}},
      {"TapWithoutDevice", "handler: {tap: {}}", {{"handler.tap.device", "cannot be"}}},
      {"TapBadDevice", "handler: {tap: {device: a/b}}", {{"handler.tap.device", "cannot be"}}},
      {"TapLongDevice", "handler: {tap: {device: abcdefghijklmnop}}", {{"handler.tap.device", "15 bytes"}}},
      {"TapDeviceTaken", "handler: {tap: {device: hgtap9}}", {{"handler.tap.device", "target \"taken\""}}},
      {"TapInterface", "handler: {tap: {device: a, interface: lan}}", {{"handler.tap.interface", "lan"}}},
      {"TunInterface",
       "handler: {tap: {device: a, kind: tun, interface: wan}}",
       {{"handler.tap.interface", "leave by where"}}},
      {"TapWorkers", "handler: {tap: {device: a}}, workers: {count: 2}", {{"workers.count", "one worker"}}},
  };
}

class ValidateSteerTest : public ::testing::TestWithParam<Case> {};

TEST_P(ValidateSteerTest, AnswersWithFieldAndReason) {
  Desired desired;
  desired.Must(Config(kBase));
  const ChangeResult result =
      desired.Apply(Patch(std::string("upsert: {steer_targets: [{name: x, ") + GetParam().target + "}]}"));
  ASSERT_EQ(result.violations.size(), GetParam().expected.size()) << Describe(result.violations);
  for (const auto& expected : GetParam().expected) {
    const std::string field = "patch.upsert.steer_targets[0]." + expected.first;
    EXPECT_TRUE(std::any_of(result.violations.begin(), result.violations.end(),
                            [&](const Violation& v) {
                              return v.field == field && v.description.find(expected.second) != std::string::npos;
                            }))
        << field << ": ..." << expected.second << "... is not in\n"
        << Describe(result.violations);
  }
}
INSTANTIATE_TEST_SUITE_P(All, ValidateSteerTest, ::testing::ValuesIn(Cases()),
                         [](const auto& one) { return std::string(one.param.name); });

TEST(ValidateSteer, AnInterfaceThatATapUsesIsNotDeleted) {
  Desired desired;
  desired.Must(Config(kBase));
  const ChangeResult result = desired.Apply(Patch("delete_interfaces: [wan]"));
  ASSERT_EQ(result.violations.size(), 1u) << Describe(result.violations);
  EXPECT_EQ(result.violations[0].field, "steer_targets[\"taken\"].handler.tap.interface");
}

}  // namespace
}  // namespace headgate::testing
