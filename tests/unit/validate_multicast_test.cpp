// SPDX-License-Identifier: Apache-2.0
//
// What is wrong with multicast routes, and what just passes.
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>

#include <ostream>

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
  friend void PrintTo(const Case& one, std::ostream* out) { *out << one.name; }
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
      {"OnJoin",
       "input: {interfaces: [wan], group: 239.3.0.0/16}, legs: [{interface: lan1, on_join: true, vlan: 0}]",
       {}},
      {"OnJoinUnicast",
       "input: {interfaces: [wan], group: 239.3.3.3}, legs: [{unicast: 10.0.0.1, on_join: true}]",
       {{"legs[0].on_join", "nobody joins a unicast destination"}}},
      {"OnJoinTagged",
       "input: {interfaces: [wan], group: 239.3.3.3}, legs: [{interface: lan1, on_join: true, vlan: 5}]",
       {{"legs[0].on_join", "heard untagged"}}},
      {"Nothing", "input: {group: 239.3.3.3}", {{"input.interfaces", "1 to 32"}, {"legs", "1 to 1024"}}},
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
        {"legs[1]", "leg \"lan1\" sends to the same destination"}}},
      {"NoSuchVlan",
       "input: {interfaces: [wan], group: 239.3.3.3, vlan: 4095}, legs: [{interface: lan1}]",
       {{"input.vlan", "0 to 4094"}}},
      {"UnicastLegs",
       "input: {interfaces: [wan], group: 239.3.3.3}, legs: [{unicast: 239.4.4.4}, {unicast: \"2001:db8::1\"}, "
       "{unicast: 127.0.0.1}, {unicast: 192.0.2.1, group: 239.4.4.5}, {unicast: 192.0.2.2, mac: "
       "\"02:00:00:00:00:01\"}, {unicast: 192.0.2.3, interface: lan1, mac: \"01:00:00:00:00:01\"}, "
       "{name: m, interface: lan1, mac: \"02:00:00:00:00:01\"}]",
       {{"legs[0].unicast", "is a group"},
        {"legs[1].unicast", "another IP version"},
        {"legs[2].unicast", "no address of a receiver"},
        {"legs[3].unicast", "one destination"},
        {"legs[4].mac", "`unicast` and `interface`"},
        {"legs[5].mac", "not a unicast Ethernet address"},
        {"legs[6].mac", "`unicast` and `interface`"}}},
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

std::string Sources(int included, int excluded) {
  std::string text = "input: {interfaces: [wan], group: 239.3.3.3, sources: {include: [10.0.0.0/8";
  for (int i = 1; i < included; ++i) absl::StrAppend(&text, ", 11.0.", i, ".0/24");
  text += "], exclude: [10.1.0.0/16";
  for (int i = 1; i < excluded; ++i) absl::StrAppend(&text, ", 10.2.", i, ".0/24");
  return text + "]}}, legs: [{interface: lan1}]";
}

// What groups, senders and protocols may be, up to where they may no more.
std::vector<Case> Edges() {
  static const std::string most = Sources(32, 32), more = Sources(32, 33);
  return {
      {"BeyondGroups",
       "input: {interfaces: [wan], group: 240.0.0.1}, legs: [{interface: lan1, group: 240.0.0.1}]",
       {{"input.group", "is no group"}, {"legs[0].group", "is no group"}}},
      {"BelowGroupsIpv6",
       "input: {interfaces: [wan], group: \"fe80::1\"}, legs: [{interface: lan1}]",
       {{"input.group", "is no group"}}},
      {"ScopesIpv6", "input: {interfaces: [wan], group: \"ff3e::/16\"}, legs: [{interface: lan1}]", {}},
      {"SeveralScopesIpv6",
       "input: {interfaces: [wan], group: \"ff3e::/15\"}, legs: [{interface: lan1}]",
       {{"input.group", "is no group"}}},
      {"InterfaceLocalIpv6",
       "input: {interfaces: [wan], group: \"ff11::1\"}, legs: [{interface: lan1}]",
       {{"input.group", "link-local"}}},
      {"AfterLinkLocal", "input: {interfaces: [wan], group: 224.0.1.0/24}, legs: [{interface: lan1}]", {}},
      {"LastLinkLocal",
       "input: {interfaces: [wan], group: 224.0.0.255}, legs: [{interface: lan1}]",
       {{"input.group", "link-local"}}},
      {"NamelessInput",
       "input: {interfaces: [\"\"], group: 239.3.3.3}, legs: [{interface: lan1}]",
       {{"input.interfaces[0]", "an interface is needed"}}},
      {"MostSources", most.c_str(), {}},
      {"MoreSources", more.c_str(), {{"input.sources", "65 prefixes: at most 64"}}},
      {"TwiceTheSource",
       "input: {interfaces: [wan], group: 239.3.3.3, sources: {include: [10.0.0.0/8, 10.0.0.0/8]}}, legs: "
       "[{interface: lan1}]",
       {{"input.sources.include[0]", "twice"}, {"input.sources.include[1]", "twice"}}},
      {"ExcludedAsIncluded",
       "input: {interfaces: [wan], group: 239.3.3.3, sources: {include: [10.1.0.0/16], exclude: [10.1.0.0/16]}}, "
       "legs: [{interface: lan1}]",
       {{"input.sources.exclude[0]", "covers 10.1.0.0/16"}}},
      {"ExcludedAll",
       "input: {interfaces: [wan], group: 239.3.3.3, sources: {exclude: [0.0.0.0/0]}}, legs: [{interface: lan1}]",
       {{"input.sources.exclude[0]", "leaves no sender"}}},
      {"ExcludedHalf",
       "input: {interfaces: [wan], group: 239.3.3.3, sources: {exclude: [0.0.0.0/1]}}, legs: [{interface: lan1}]",
       {}},
      {"ExcludedElsewhere",
       "input: {interfaces: [wan], group: 239.3.3.3, sources: {include: [10.1.0.0/24], exclude: [11.0.0.0/8]}}, "
       "legs: [{interface: lan1}]",
       {}},
      {"SourcePortOfEsp",
       "input: {interfaces: [wan], group: 239.3.3.3, protocol: esp}, legs: [{interface: lan1, source_port: 6}]",
       {{"legs[0].source_port", "only UDP"}}},
      {"PortsOfSctp",
       "input: {interfaces: [wan], group: 239.3.3.3, protocol: sctp, port: 5}, legs: [{interface: lan1, port: 6}]",
       {{"legs[0].port", "only UDP"}}},
      {"GroupOfTcp",
       "input: {interfaces: [wan], group: 239.3.3.3, protocol: tcp}, legs: [{interface: lan1, group: 239.4.4.4}]",
       {{"legs[0].group", "checksum"}}},
      {"GroupOfDccp",
       "input: {interfaces: [wan], group: 239.3.3.3, protocol: dccp}, legs: [{interface: lan1, group: 239.4.4.4}]",
       {{"legs[0].group", "checksum"}}},
      {"GroupOfIcmpv6",
       "input: {interfaces: [wan], group: \"ff3e::1\", protocol: icmpv6}, legs: [{interface: lan1, group: "
       "\"ff3e::2\"}]",
       {{"legs[0].group", "checksum"}}},
      {"TcpAsItIs", "input: {interfaces: [wan], group: 239.3.3.3, protocol: tcp}, legs: [{interface: lan1}]", {}},
  };
}

// Who may be beside b, c and d.
std::vector<Case> Neighbours() {
  const auto loop = [](const char* name, const char* route) { return Case{name, route, {{"legs", "go round"}}}; };
  return {
      {"OtherGroup", "input: {interfaces: [lan1], group: 239.1.1.9}, legs: [{interface: wan}]", {}},
      {"OtherProtocol",
       "input: {interfaces: [lan1], group: 239.1.1.1, protocol: esp}, legs: [{interface: wan}]",
       {}},
      {"OtherInterface", "input: {interfaces: [wan], group: 239.1.1.1}, legs: [{interface: lan3}]", {}},
      {"SourceBesideAll",
       "input: {interfaces: [lan1], group: 239.1.1.1, sources: {include: [10.0.0.0/8]}}, legs: [{interface: wan}]",
       {}},
      {"AllBesideSource", "input: {interfaces: [wan], group: 239.9.9.9}, legs: [{interface: lan3}]", {}},
      {"LoopBrokenByProtocol",
       "input: {interfaces: [lan3], group: 239.1.1.1, protocol: esp}, legs: [{interface: lan1}]",
       {}},
      {"LoopBrokenByPort",
       "input: {interfaces: [wan], group: 239.3.3.3, port: 5}, legs: [{interface: wan, port: 6}]",
       {}},
      loop("LoopByPort",
           "input: {interfaces: [wan], group: 239.3.3.3, port: 5}, legs: [{interface: wan, port: 5}]"),
      loop("LoopByAnyPort", "input: {interfaces: [wan], group: 239.3.3.3}, legs: [{interface: wan, port: 6}]"),
      loop("LoopOfAnyPortThroughOne",
           "input: {interfaces: [lan3], group: 239.1.1.1, port: 5}, legs: [{interface: lan1}]"),
      {"LoopBrokenBySource",
       "input: {interfaces: [wan], group: 239.3.3.3, sources: {include: [10.0.0.0/8]}}, legs: [{interface: wan, "
       "source: 11.0.0.1}]",
       {}},
      {"LoopBrokenByExclusion",
       "input: {interfaces: [wan], group: 239.3.3.3, sources: {exclude: [11.0.0.0/8]}}, legs: [{interface: wan, "
       "source: 11.0.0.1}]",
       {}},
      loop("LoopBySource",
           "input: {interfaces: [wan], group: 239.3.3.3, sources: {include: [10.0.0.0/8]}}, legs: [{interface: "
           "wan, "
           "source: 10.0.0.1}]"),
      {"EgressBesideSources",
       "input: {interfaces: [wan], group: 239.3.3.3, sources: {include: [10.0.0.0/8]}}, legs: [{interface: wan, "
       "source: egress}]",
       {}},
      loop("LoopByEgress",
           "input: {interfaces: [wan], group: 239.3.3.3}, legs: [{interface: wan, source: egress}]"),
      {"LoopBrokenByItsSenders",
       "input: {interfaces: [lan1], group: 239.9.9.9, sources: {include: [11.0.0.0/8]}}, legs: [{interface: wan}]",
       {}},
      loop("LoopOfSomeSenders",
           "input: {interfaces: [lan1], group: 239.9.9.9, sources: {include: [10.1.0.0/16]}}, legs: [{interface: "
           "wan}]"),
      loop("LoopOfSendersNotLeftOut",
           "input: {interfaces: [lan1], group: 239.9.9.9, sources: {exclude: [10.0.0.0/16]}}, legs: [{interface: "
           "wan}]"),
      {"WrongByItself",
       "input: {interfaces: [lan1], group: 239.1.1.1}, legs: [{interface: lan1, dscp: 64}]",
       {{"legs[0].dscp", "0 to 63"}}},
      {"OtherIpVersion", "input: {interfaces: [lan3], group: \"ff3e::1\"}, legs: [{interface: lan1}]", {}},
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
INSTANTIATE_TEST_SUITE_P(Edges, ValidateMulticastTest, ::testing::ValuesIn(Edges()),
                         [](const auto& one) { return std::string(one.param.name); });
INSTANTIATE_TEST_SUITE_P(Neighbours, ValidateMulticastTest, ::testing::ValuesIn(Neighbours()),
                         [](const auto& one) { return std::string(one.param.name); });

// Routes that lead into a loop of others are not to blame for it, and the search for their own ends.
TEST(MulticastLoops, OfOthers) {
  Desired desired;
  desired.Must(Config(kBase));
  const ChangeResult result = desired.Apply(Patch(
      "upsert: {multicast_routes: [{name: x, input: {interfaces: [lan3], group: 239.5.5.5}, legs: [{interface: "
      "lan1}]}, {name: y, input: {interfaces: [lan1], group: 239.5.5.5}, legs: [{interface: lan3}]}, {name: z, "
      "input: {interfaces: [wan], group: 239.5.5.5}, legs: [{interface: lan3}]}]}"));
  ASSERT_EQ(result.violations.size(), 2U) << Describe(result.violations);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_TRUE(absl::EndsWith(result.violations[i].field, absl::StrCat("multicast_routes[", i, "].legs")))
        << result.violations[i].field;
  }
}

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
