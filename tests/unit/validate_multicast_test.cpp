// SPDX-License-Identifier: Apache-2.0
//
// What is wrong with multicast routes, and what just passes.
#include <absl/strings/match.h>
#include <gtest/gtest.h>

#include "agent/control/validate.h"
#include "tests/harness/model.h"

namespace headgate::testing {
namespace {

// b brings to lan2 what it hears on lan1, c to lan3 what it hears on lan2.
constexpr char kBase[] = R"(
interfaces: [{name: wan, device: eth0}, {name: lan1, device: eth1}, {name: lan2, device: eth2}, {name: lan3, device: eth3}]
multicast_routes:
  - {name: b, input: {interfaces: [lan1], group: 239.1.1.1}, legs: [{interface: lan2}]}
  - {name: c, input: {interfaces: [lan2], group: 239.1.0.0/16}, legs: [{name: x, interface: lan3}]}
  - {name: d, input: {interfaces: [wan], group: 239.9.9.9, sources: {include: [10.0.0.0/8]}}, legs: [{interface: lan1}]}
)";

struct Case {
  const char* name;
  const char* route;
  // Field and part of the description of each violation.
  std::vector<std::pair<std::string, std::string>> expected;
};

std::vector<Case> Cases() {
  return {
      {"Least", "input: {interfaces: [wan], group: 239.3.3.3}, legs: [{interface: lan1}]", {}},
      {"Most",
       "input: {interfaces: [wan, lan3], group: 239.3.0.0/16, sources: {include: [10.0.0.0/8], exclude: "
       "[10.1.0.0/16]}, "
       "port: 65535}, legs: [{name: a, interface: lan1, group: 239.4.4.4, port: 1, source: egress, source_port: "
       "2, ttl: "
       "{set: 255}, dscp: 63, vlan: 4094, rate_limit: {packets_per_second: 5}}, {name: b, interface: lan2, "
       "source: "
       "10.9.9.9, ttl: {threshold: 255}}]",
       {}},
      {"Ipv6",
       "input: {interfaces: [wan], group: \"ff3e::1\"}, legs: [{interface: lan1, group: \"ff0e::1\"}]",
       {}},
      {"Esp",
       "input: {interfaces: [wan], group: 239.3.3.3, protocol: esp}, legs: [{interface: lan1, source: egress}]",
       {}},
      {"Nothing", "input: {group: 239.3.3.3}", {{"input.interfaces", "1 to 32"}, {"legs", "1 to 255"}}},
      {"NoGroup",
       "input: {interfaces: [wan], group: 10.0.0.1}, legs: [{interface: lan1}]",
       {{"input.group", "is no group"}}},
      {"AllGroups",
       "input: {interfaces: [wan], group: 224.0.0.0/3}, legs: [{interface: lan1}]",
       {{"input.group", "is no group"}}},
      {"LinkLocal",
       "input: {interfaces: [wan], group: 224.0.0.5}, legs: [{interface: lan1}]",
       {{"input.group", "link-local"}}},
      {"LinkLocalWithin",
       "input: {interfaces: [wan], group: 224.0.0.0/16}, legs: [{interface: lan1}]",
       {{"input.group", "link-local"}}},
      {"LinkLocalIpv6",
       "input: {interfaces: [wan], group: \"ff32::1\"}, legs: [{interface: lan1}]",
       {{"input.group", "link-local"}}},
      {"LegToLinkLocal",
       "input: {interfaces: [wan], group: 239.3.3.3}, legs: [{interface: lan1, group: 224.0.0.251}]",
       {{"legs[0].group", "link-local"}}},
      {"LegToHost",
       "input: {interfaces: [wan], group: 239.3.3.3}, legs: [{interface: lan1, group: 10.0.0.1}]",
       {{"legs[0].group", "is no group"}}},
      {"OtherFamily",
       "input: {interfaces: [wan], group: 239.3.3.3, sources: {include: [\"fc00::/7\"]}}, legs: [{interface: "
       "lan1, "
       "group: \"ff0e::1\"}, {interface: lan2, source: \"fc00::1\"}]",
       {{"input.sources.include[0]", "another IP version"},
        {"legs[0].group", "another IP version"},
        {"legs[1].source", "another IP version"}}},
      {"GroupAsSource",
       "input: {interfaces: [wan], group: 239.3.3.3, sources: {exclude: [239.1.1.1]}}, legs: [{interface: lan1, "
       "source: "
       "239.1.1.1}, {interface: lan2, source: 0.0.0.0}]",
       {{"input.sources.exclude[0]", "is a group"},
        {"legs[0].source", "cannot be a source"},
        {"legs[1].source", "cannot be a source"}}},
      {"ExcludedInclude",
       "input: {interfaces: [wan], group: 239.3.3.3, sources: {include: [10.1.0.0/24], exclude: [10.1.0.0/16]}}, "
       "legs: "
       "[{interface: lan1}]",
       {{"input.sources.exclude[0]", "covers 10.1.0.0/24"}}},
      {"NoSuchInterface",
       "input: {interfaces: [x], group: 239.3.3.3}, legs: [{interface: y}, {}]",
       {{"input.interfaces[0]", "\"x\""},
        {"legs[0].interface", "\"y\""},
        {"legs[1].name", "a name is needed"},
        {"legs[1].interface", "an interface is needed"}}},
      {"TwiceTheInterface",
       "input: {interfaces: [wan, wan], group: 239.3.3.3}, legs: [{interface: lan1}, {name: b, interface: lan1}]",
       {{"input.interfaces[0]", "twice"},
        {"input.interfaces[1]", "twice"},
        {"legs[1].interface", "one leg an interface"}}},
      {"TwiceTheName",
       "input: {interfaces: [wan], group: 239.3.3.3}, legs: [{interface: lan1}, {name: lan1, interface: lan2}]",
       {{"legs[1].name", "another leg"}}},
      {"PortsOfEsp",
       "input: {interfaces: [wan], group: 239.3.3.3, protocol: esp, port: 5}, legs: [{interface: lan1, port: 6}]",
       {{"input.port", "has no ports"}, {"legs[0].port", "only UDP"}}},
      {"AddressesOfTcp",
       "input: {interfaces: [wan], group: 239.3.3.3, protocol: tcp}, legs: [{interface: lan1, source: egress}]",
       {{"legs[0].group", "checksum"}}},
      {"Ttl",
       "input: {interfaces: [wan], group: 239.3.3.3}, legs: [{interface: lan1, ttl: {set: 5, threshold: 3}}]",
       {{"legs[0].ttl.threshold", "not compared"}}},
      {"Numbers",
       "input: {interfaces: [wan], group: 239.3.3.3, port: 65536}, legs: [{interface: lan1, dscp: 64, vlan: 4095, "
       "ttl: "
       "{set: 256}}]",
       {{"input.port", "at most 65535"},
        {"legs[0].ttl.set", "at most 255"},
        {"legs[0].dscp", "0 to 63"},
        {"legs[0].vlan", "0 to 4094"}}},
      {"RateLimit",
       "input: {interfaces: [wan], group: 239.3.3.3}, legs: [{interface: lan1, rate_limit: {per: source}}]",
       {{"legs[0].rate_limit.per", "one bucket"}, {"legs[0].rate_limit", "exactly one"}}},
      {"Contender",
       "input: {interfaces: [wan, lan1], group: 239.1.1.1}, legs: [{interface: lan3}]",
       {{"input", "route \"b\" takes packets"}}},
      {"OtherSource",
       "input: {interfaces: [wan], group: 239.9.9.9, sources: {include: [10.0.0.0/9]}}, legs: [{interface: lan3}]",
       {}},
      {"SameSource",
       "input: {interfaces: [wan], group: 239.9.9.9, sources: {include: [11.0.0.0/8, 10.0.0.0/8]}}, legs: "
       "[{interface: "
       "lan3}]",
       {{"input", "route \"d\" takes packets"}}},
      {"OtherPort", "input: {interfaces: [lan1], group: 239.1.1.1, port: 5}, legs: [{interface: wan}]", {}},
      {"SelfLoop",
       "input: {interfaces: [wan], group: 239.3.3.3}, legs: [{interface: wan}]",
       {{"legs", "\"new\" by leg \"wan\" on \"wan\" to \"new\""}}},
      {"OntoItsOwnInterface",
       "input: {interfaces: [wan], group: 239.3.3.3}, legs: [{interface: wan, group: 239.3.3.4}]",
       {}},
      {"LoopOfThree",
       "input: {interfaces: [lan3], group: 239.1.1.1}, legs: [{interface: lan1}]",
       {{"legs",
         "\"new\" by leg \"lan1\" on \"lan1\" to \"b\", \"b\" by leg \"lan2\" on \"lan2\" to \"c\", \"c\" by leg "
         "\"x\" on "
         "\"lan3\" to \"new\""}}},
      {"LoopBrokenByGroup",
       "input: {interfaces: [lan3], group: 239.1.1.1}, legs: [{interface: lan1, group: 239.1.1.2}]",
       {}},
      {"LoopThroughRoutesOfAllSources",
       "input: {interfaces: [lan3], group: 239.1.1.1, sources: {exclude: [10.0.0.1]}}, legs: [{interface: lan1, "
       "source: "
       "10.0.0.1}]",
       {{"legs", "packets would go round"}}},
  };
}

class ValidateMulticastTest : public ::testing::TestWithParam<Case> {};

TEST_P(ValidateMulticastTest, AnswersWithFieldAndReason) {
  Desired desired;
  desired.Must(Config(kBase));
  const ChangeResult result =
      desired.Apply(Patch(std::string("upsert: {multicast_routes: [{name: new, ") + GetParam().route + "}]}"));
  ASSERT_EQ(result.violations.size(), GetParam().expected.size()) << Describe(result.violations);
  for (size_t i = 0; i < result.violations.size(); ++i) {
    const auto& [field, part] = GetParam().expected[i];
    EXPECT_TRUE(absl::EndsWith(result.violations[i].field, "multicast_routes[0]." + field))
        << result.violations[i].field;
    EXPECT_TRUE(absl::StrContains(result.violations[i].description, part)) << result.violations[i].description;
  }
}

INSTANTIATE_TEST_SUITE_P(All, ValidateMulticastTest, ::testing::ValuesIn(Cases()),
                         [](const auto& one) { return std::string(one.param.name); });

TEST(MulticastReferences, InterfacesInUseStay) {
  Desired desired;
  desired.Must(Config(kBase));
  const ChangeResult result = desired.Apply(Patch("delete_interfaces: [lan3]"));
  ASSERT_EQ(result.violations.size(), 1U) << Describe(result.violations);
  EXPECT_EQ(result.violations[0].field, "multicast_routes[\"c\"].legs[0].interface");
}

// A leg keeps its id as long as its route has one of that name.
TEST(MulticastLegs, KeepTheirIds) {
  Desired desired;
  desired.Must(Config(kBase));
  const uint32_t id = desired->multicast_legs.Get("c/x")->id;
  EXPECT_NE(id, 0U);
  desired.Must(
      Patch("upsert: {multicast_routes: [{name: c, input: {interfaces: [lan2], group: 239.1.0.0/16}, legs: "
            "[{interface: wan}, {name: x, interface: lan3, dscp: 1}]}]}"));
  EXPECT_EQ(desired->multicast_legs.Get("c/x")->id, id);
  EXPECT_NE(desired->multicast_legs.Get("c/wan"), nullptr);
  desired.Must(Patch("delete_multicast_routes: [c]"));
  EXPECT_EQ(desired->multicast_legs.Get("c/x"), nullptr);
  EXPECT_EQ(desired->multicast_legs.Get("c/wan"), nullptr);
}

}  // namespace
}  // namespace headgate::testing
