// SPDX-License-Identifier: Apache-2.0
//
// Every kind of violation, with the path of the field that is to blame and what would be right; and what just
// passes.
#include "agent/control/validate.h"

#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "tests/harness/model.h"

namespace headgate::testing {
namespace {

constexpr char kBase[] = R"(
interfaces: [{name: wan, device: eth0}, {name: lan, device: eth1}]
prefix_sets: [{name: bad, prefixes: [10.0.0.0/8]}]
next_hops: [{name: up, interface: wan, mac: 02:00:00:00:00:01}]
steer_targets: [{name: app}]
rules:
  - {name: first, priority: 100, match: {interface: wan, source_set: bad}, action: {drop: {}}}
  - {name: second, priority: 200, match: {destination_set: bad}, action: {next_hop: {name: up}}}
  - {name: third, priority: 300, action: {steer: {target: app}}}
  - {name: fourth, priority: 400, action: {redirect: {interface: lan}}}
management: {allow: [{interface: lan}]}
)";

struct Case {
  const char* name;
  std::string patch;
  // "FIELD: part of the description" of each, in order.
  std::vector<std::pair<std::string, std::string>> expected;
  friend std::ostream& operator<<(std::ostream& out, const Case& one) { return out << one.patch; }
};

std::string RuleWith(const std::string& match, const std::string& action = "pass: {}") {
  return absl::StrCat("upsert: {rules: [{name: x, priority: 1, match: {", match, "}, action: {", action, "}}]}");
}

constexpr char kMatch[] = "patch.upsert.rules[0].match.";
constexpr char kAction[] = "patch.upsert.rules[0].action.";
std::string In(const char* path, const char* field) { return absl::StrCat(path, field); }

std::vector<Case> NameCases() {
  const std::string longest(63, 'n'), longer(64, 'n'), device(127, 'd'), long_device(128, 'd');
  return {
      {"NoName",
       "upsert: {steer_targets: [{fallback: drop}]}",
       {{"patch.upsert.steer_targets[0].name", "needed"}}},
      {"LongestName", "upsert: {steer_targets: [{name: " + longest + "}]}", {}},
      {"LongName",
       "upsert: {prefix_sets: [{name: " + longer + "}]}",
       {{"patch.upsert.prefix_sets[0].name", "1 to 63"}}},
      {"NameWithSpace",
       "upsert: {rules: [{name: a b, priority: 1, action: {pass: {}}}]}",
       {{"patch.upsert.rules[0].name", "A-Z a-z 0-9 _ . -"}}},
      {"NameNotAscii",
       "upsert: {next_hops: [{name: \"\\u00e9\", interface: wan, mac: 02:00:00:00:00:01}]}",
       {{"patch.upsert.next_hops[0].name", "characters of"}}},
      {"TwoOfAName",
       "upsert: {steer_targets: [{name: a}, {name: b}, {name: a}]}",
       {{"patch.upsert.steer_targets[2].name", "another steer target \"a\""}}},
      {"SetAndDeleted",
       "{upsert: {steer_targets: [{name: z}]}, delete_steer_targets: [z]}",
       {{"patch.upsert.steer_targets[0]", "both set and deleted"}}},
      {"CounterName",
       RuleWith("", "pass: {}, count: {counter: \"a b\"}"),
       {{In(kAction, "count.counter"), "1 to 63"}}},
      {"NoCounterName", RuleWith("", "pass: {}, count: {}"), {{In(kAction, "count.counter"), "needed"}}},
      {"LongestDevice", "upsert: {interfaces: [{name: x, device: " + device + "}]}", {}},
      {"LongDevice",
       "upsert: {interfaces: [{name: x, device: " + long_device + "}]}",
       {{"patch.upsert.interfaces[0].device", "cannot be a network device's name"}}},
      {"DeviceWithSlash",
       "upsert: {interfaces: [{name: x, device: a/b}]}",
       {{"patch.upsert.interfaces[0].device", "a/b"}}},
      {"DeviceDotDot",
       "upsert: {interfaces: [{name: x, device: ..}]}",
       {{"patch.upsert.interfaces[0].device", ".."}}},
      {"DeviceOfAnother",
       "upsert: {interfaces: [{name: x, device: eth0}]}",
       {{"patch.upsert.interfaces[0].device", "interface \"wan\" has device \"eth0\" already"}}},
      {"TwoOfADevice",
       "upsert: {interfaces: [{name: x, device: e}, {name: y, device: e}]}",
       {{"patch.upsert.interfaces[0].device", "\"y\""}, {"patch.upsert.interfaces[1].device", "\"x\""}}},
      {"LeastQuerier",
       "upsert: {interfaces: [{name: x, querier: {interval_seconds: 1, response_milliseconds: 100, "
       "last_listener_milliseconds: 100, robustness: 1}}]}",
       {}},
      {"MostQuerier",
       "upsert: {interfaces: [{name: x, querier: {disabled: true, interval_seconds: 31744, response_milliseconds: "
       "3174400, last_listener_milliseconds: 25500, robustness: 7}}]}",
       {}},
      {"Querier",
       "upsert: {interfaces: [{name: x, querier: {interval_seconds: 31745, response_milliseconds: 3174500, "
       "last_listener_milliseconds: 25600, robustness: 8}}]}",
       {{"patch.upsert.interfaces[0].querier.interval_seconds", "1 to 31744"},
        {"patch.upsert.interfaces[0].querier.response_milliseconds", "100 to 3174400"},
        {"patch.upsert.interfaces[0].querier.last_listener_milliseconds", "100 to 25500"},
        {"patch.upsert.interfaces[0].querier.robustness", "1 to 7"}}},
      {"QuerierSteps",
       "upsert: {interfaces: [{name: x, querier: {response_milliseconds: 150, last_listener_milliseconds: 99}}]}",
       {{"patch.upsert.interfaces[0].querier.response_milliseconds", "steps of 100"},
        {"patch.upsert.interfaces[0].querier.last_listener_milliseconds", "steps of 100"}}},
      {"QuerierInterval",
       "upsert: {interfaces: [{name: x, querier: {interval_seconds: 10}}]}",
       {{"patch.upsert.interfaces[0].querier.response_milliseconds", "less than the interval of 10 s"}}},
      {"DevicesSwapped", "upsert: {interfaces: [{name: wan, device: eth1}, {name: lan, device: eth0}]}", {}},
  };
}

std::vector<Case> TextCases() {
  return {
      {"Prefix", RuleWith("source: 10.0.0.300"), {{In(kMatch, "source"), "like 192.0.2.1"}}},
      {"PrefixBits", RuleWith("source: 10.0.0.1/8"), {{In(kMatch, "source"), "did you mean 10.0.0.0/8?"}}},
      {"PrefixLength", RuleWith("destination: 10.0.0.0/33"), {{In(kMatch, "destination"), "0 to 32"}}},
      {"MappedPrefix", RuleWith("destination: \"::ffff:10.0.0.1\""), {{In(kMatch, "destination"), "IPv4-mapped"}}},
      {"Protocol", RuleWith("protocol: tcpp"), {{In(kMatch, "protocol"), "use one of icmp"}}},
      {"ProtocolNumber", RuleWith("protocol: \"256\""), {{In(kMatch, "protocol"), "0 to 255"}}},
      {"Port", RuleWith("source_ports: [\"53\", \"70000\"]"), {{In(kMatch, "source_ports[1]"), "0 to 65535"}}},
      {"PortName", RuleWith("destination_ports: [http]"), {{In(kMatch, "destination_ports[0]"), "53"}}},
      {"TcpFlag", RuleWith("protocol: tcp, tcp_flags: \"syn,nack\""), {{In(kMatch, "tcp_flags"), "\"nack\""}}},
      {"TcpFlagTwice", RuleWith("protocol: tcp, tcp_flags: \"syn,!syn\""), {{In(kMatch, "tcp_flags"), "twice"}}},
      {"PacketLength", RuleWith("packet_length: long"), {{In(kMatch, "packet_length"), "range"}}},
      {"RedirectMac",
       RuleWith("", "redirect: {interface: wan, source_mac: 1}"),
       {{In(kAction, "redirect.source_mac"), "02:00:00:00:00:01"}}},
      {"NextHopMac",
       "upsert: {next_hops: [{name: x, interface: wan}]}",
       {{"patch.upsert.next_hops[0].mac", "Ethernet"}}},
      {"SetPrefix",
       "upsert: {prefix_sets: [{name: x, prefixes: [10.0.0.0/8, y]}]}",
       {{"patch.upsert.prefix_sets[0].prefixes[1]", "\"y\""}}},
      {"EditPrefix",
       "prefix_set_changes: [{name: bad, add: [x], remove: [10.0.0.0/8, 1.2.3.4/5]}]",
       {{"patch.prefix_set_changes[0].add[0]", "\"x\""},
        {"patch.prefix_set_changes[0].remove[1]", "did you mean"}}},
      {"EditOfNothing",
       "prefix_set_changes: [{name: none}]",
       {{"patch.prefix_set_changes[0].name", "no prefix set \"none\""}}},
      {"ManagementText",
       "upsert: {management: {allow: [{source: x}, {protocol: y, destination_ports: [z]}]}}",
       {{"patch.upsert.management.allow[0].source", "\"x\""},
        {"patch.upsert.management.allow[1].protocol", "\"y\""},
        {"patch.upsert.management.allow[1].destination_ports[0]", "\"z\""}}},
      {"SampleZero", RuleWith("", "pass: {}, sample: {}"), {{In(kAction, "sample.one_in"), "1 (every packet)"}}},
  };
}

std::vector<Case> MatchCases() {
  std::string ports32, ports33, ports16;
  for (int i = 0; i < 33; ++i) {
    const std::string next = absl::StrCat(i == 0 ? "" : ",", "\"", i, "\"");
    ports33 += next;
    if (i < 32) ports32 += next;
    if (i < 16) ports16 += next;
  }
  return {
      {"PriorityZero",
       "upsert: {rules: [{name: x, action: {pass: {}}}]}",
       {{"patch.upsert.rules[0].priority", "1 to 2147483647"}}},
      {"PriorityHighest", "upsert: {rules: [{name: x, priority: 2147483647, action: {pass: {}}}]}", {}},
      {"PriorityTooHigh",
       "upsert: {rules: [{name: x, priority: 2147483648, action: {pass: {}}}]}",
       {{"patch.upsert.rules[0].priority", "higher wins"}}},
      {"PriorityTaken",
       "upsert: {rules: [{name: x, priority: 100, action: {pass: {}}}]}",
       {{"patch.upsert.rules[0].priority", "rule \"first\" has priority 100 already"}}},
      {"TwoOfAPriority",
       "upsert: {rules: [{name: x, priority: 1, action: {pass: {}}}, {name: y, priority: 1, action: {pass: {}}}]}",
       {{"patch.upsert.rules[1].priority", "rule \"x\" has priority 1 already"}}},
      {"PrioritiesSwapped",
       "upsert: {rules: [{name: third, priority: 400, action: {pass: {}}}, {name: fourth, priority: 300, action: "
       "{pass: {}}}]}",
       {}},
      {"PriorityOfADeleted",
       "{upsert: {rules: [{name: x, priority: 100, action: {pass: {}}}]}, delete_rules: [first]}",
       {}},
      {"SourceAndSet", RuleWith("source: 10.0.0.0/8, source_set: bad"), {{In(kMatch, "source_set"), "not both"}}},
      {"DestinationAndSet",
       RuleWith("destination: 10.0.0.0/8, destination_set: bad"),
       {{In(kMatch, "destination_set"), "not both"}}},
      {"Families",
       RuleWith("source: 10.0.0.0/8, destination: \"::/0\""),
       {{In(kMatch, "destination"), "different IP versions"}}},
      {"NoInterface", RuleWith("interface: x"), {{In(kMatch, "interface"), "no interface \"x\""}}},
      {"NoSets",
       RuleWith("source_set: x, destination_set: y"),
       {{In(kMatch, "source_set"), "no prefix set \"x\""},
        {In(kMatch, "destination_set"), "no prefix set \"y\""}}},
      {"Vlan",
       RuleWith("vlan: 4095, inner_vlan: 70000"),
       {{In(kMatch, "vlan"), "4095"}, {In(kMatch, "inner_vlan"), "70000"}}},
      {"VlanHighest", RuleWith("vlan: 4094, inner_vlan: 0"), {}},
      {"VlanReserved", RuleWith("vlan: 4095"), {{In(kMatch, "vlan"), "0 to 4094"}}},
      {"InnerVlanReserved", RuleWith("inner_vlan: 4095"), {{In(kMatch, "inner_vlan"), "0 to 4094"}}},
      {"Dscp", RuleWith("dscp: 64"), {{In(kMatch, "dscp"), "0 to 63"}}},
      {"DscpHighest", RuleWith("dscp: 63"), {}},
      {"DscpWide", RuleWith("dscp: 256"), {{In(kMatch, "dscp"), "out of range"}}},
      {"LengthsSwapped", RuleWith("packet_length: 9-8"), {{In(kMatch, "packet_length"), "lower end"}}},
      {"PortsSwapped", RuleWith("destination_ports: [\"9-8\"]"), {{In(kMatch, "destination_ports"), "\"9-8\""}}},
      {"PortsOfIcmp",
       RuleWith("protocol: icmp, source_ports: [\"1\"]"),
       {{In(kMatch, "source_ports"), "no ports"}}},
      {"PortsWithoutProtocol", RuleWith("destination_ports: [\"53\"]"), {}},
      {"ManyPorts", RuleWith("source_ports: [" + ports32 + "]"), {}},
      {"TooManyPorts", RuleWith("source_ports: [" + ports33 + "]"), {{In(kMatch, "source_ports"), "at most 32"}}},
      {"ManyPairs", RuleWith("source_ports: [" + ports16 + "], destination_ports: [" + ports16 + "]"), {}},
      {"TooManyPairs",
       RuleWith("source_ports: [" + ports32 + "], destination_ports: [" + ports16 + "]"),
       {{In(kMatch, "source_ports"), "512 pairs"}}},
      {"FlagsOfUdp", RuleWith("protocol: udp, tcp_flags: syn"), {{In(kMatch, "tcp_flags"), "protocol tcp"}}},
      {"FlagsOfAny", RuleWith("tcp_flags: syn"), {{In(kMatch, "tcp_flags"), "protocol tcp"}}},
      {"PortsOfLaterFragments",
       RuleWith("fragment: later, protocol: udp, destination_ports: [\"53\"]"),
       {{In(kMatch, "destination_ports"), "no packet matches"}}},
      {"FlagsOfLaterFragments",
       RuleWith("fragment: later, protocol: tcp, tcp_flags: syn"),
       {{In(kMatch, "tcp_flags"), "no packet matches"}}},
      {"IcmpOfLaterFragments",
       RuleWith("fragment: later, protocol: icmp, icmp_type: 8"),
       {{In(kMatch, "icmp_type"), "no packet matches"}}},
      {"IcmpTypeOfTcp", RuleWith("protocol: tcp, icmp_type: 8"), {{In(kMatch, "icmp_type"), "icmp or icmpv6"}}},
      {"IcmpCodeAlone",
       RuleWith("protocol: icmp, icmp_code: 1"),
       {{In(kMatch, "icmp_code"), "needs an icmp_type"}}},
      {"IcmpTypeWide", RuleWith("protocol: icmp, icmp_type: 256"), {{In(kMatch, "icmp_type"), "at most 255"}}},
      {"Icmpv6FromIpv4", RuleWith("protocol: icmpv6, source: 10.0.0.0/8"), {{In(kMatch, "protocol"), "use icmp"}}},
      {"Icmpv6ToIpv4",
       RuleWith("protocol: icmpv6, destination: 10.0.0.0/8"),
       {{In(kMatch, "protocol"), "use icmp"}}},
  };
}

std::vector<Case> ActionCases() {
  return {
      {"NoVerdict", RuleWith("", "count: {counter: c}"), {{"patch.upsert.rules[0].action", "one of pass, drop"}}},
      {"RedirectNowhere", RuleWith("", "redirect: {}"), {{In(kAction, "redirect.interface"), "needed"}}},
      {"RedirectToNothing",
       RuleWith("", "redirect: {interface: x}"),
       {{In(kAction, "redirect.interface"), "no interface \"x\""}}},
      {"RedirectFromGroup",
       RuleWith("", "redirect: {interface: wan, source_mac: 01:00:00:00:00:01}"),
       {{In(kAction, "redirect.source_mac"), "not a unicast"}}},
      {"RedirectToGroup", RuleWith("", "redirect: {interface: wan, destination_mac: 01:00:5e:00:00:01}"), {}},
      {"NoNextHop", RuleWith("", "next_hop: {}"), {{In(kAction, "next_hop.name"), "needed"}}},
      {"NextHopMissing",
       RuleWith("", "next_hop: {name: x}"),
       {{In(kAction, "next_hop.name"), "no next hop \"x\""}}},
      {"NoTarget", RuleWith("", "steer: {}"), {{In(kAction, "steer.target"), "needed"}}},
      {"TargetMissing",
       RuleWith("", "steer: {target: x}"),
       {{In(kAction, "steer.target"), "no steer target \"x\""}}},
      {"NoRate", RuleWith("", "pass: {}, rate_limit: {burst: 5}"), {{In(kAction, "rate_limit"), "exactly one"}}},
      {"TwoRates",
       RuleWith("", "pass: {}, rate_limit: {packets_per_second: 5, bits_per_second: 5000}"),
       {{In(kAction, "rate_limit"), "exactly one"}}},
      {"PacketRate",
       RuleWith("", "pass: {}, rate_limit: {packets_per_second: 1000000001}"),
       {{In(kAction, "rate_limit.packets_per_second"), "1 to 1000000000"}}},
      {"BitRateLow",
       RuleWith("", "pass: {}, rate_limit: {bits_per_second: 999}"),
       {{In(kAction, "rate_limit.bits_per_second"), "1000 to"}}},
      {"BitRateHigh",
       RuleWith("", "pass: {}, rate_limit: {bits_per_second: 1000000000001}"),
       {{In(kAction, "rate_limit.bits_per_second"), "to 1000000000000"}}},
      {"BurstOfAnHour", RuleWith("", "pass: {}, rate_limit: {packets_per_second: 10, burst: 36000}"), {}},
      {"BurstAboveAnHour",
       RuleWith("", "pass: {}, rate_limit: {packets_per_second: 10, burst: 36001}"),
       {{In(kAction, "rate_limit.burst"), "in an hour"}}},
      {"NextHopWithoutInterface",
       "upsert: {next_hops: [{name: x, mac: 02:00:00:00:00:01}]}",
       {{"patch.upsert.next_hops[0].interface", "needed"}}},
      {"NextHopInterface",
       "upsert: {next_hops: [{name: x, interface: y, mac: 02:00:00:00:00:01}]}",
       {{"patch.upsert.next_hops[0].interface", "no interface \"y\""}}},
      {"NextHopGroup",
       "upsert: {next_hops: [{name: x, interface: wan, mac: 01:00:00:00:00:01}]}",
       {{"patch.upsert.next_hops[0].mac", "not a unicast"}}},
      {"NextHopZero",
       "upsert: {next_hops: [{name: x, interface: wan, mac: 00:00:00:00:00:00}]}",
       {{"patch.upsert.next_hops[0].mac", "not a unicast"}}},
      {"NextHopSource",
       "upsert: {next_hops: [{name: x, interface: wan, mac: 02:00:00:00:00:01, source_mac: ff:ff:ff:ff:ff:ff}]}",
       {{"patch.upsert.next_hops[0].source_mac", "not a unicast"}}},
      {"NextHopVlan",
       "upsert: {next_hops: [{name: x, interface: wan, mac: 02:00:00:00:00:01, vlan: 4095}]}",
       {{"patch.upsert.next_hops[0].vlan", "0 to 4094"}}},
      {"ManagementOfAll",
       "upsert: {management: {allow: [{}]}}",
       {{"patch.upsert.management.allow[0]", "at least one"}}},
      {"ManagementInterface",
       "upsert: {management: {allow: [{interface: x}]}}",
       {{"patch.upsert.management.allow[0].interface", "no interface \"x\""}}},
      {"ManagementPorts",
       "upsert: {management: {allow: [{protocol: gre, destination_ports: [\"1\"]}]}}",
       {{"patch.upsert.management.allow[0].destination_ports", "no ports"}}},
      {"ManagementPortsSwapped",
       "upsert: {management: {allow: [{destination_ports: [\"2-1\"]}]}}",
       {{"patch.upsert.management.allow[0].destination_ports", "\"2-1\""}}},
  };
}

std::vector<Case> ReferenceCases() {
  return {
      {"InterfaceInUse",
       "delete_interfaces: [wan]",
       {{"rules[\"first\"].match.interface", "interface \"wan\" is deleted by this change but still used here"},
        {"next_hops[\"up\"].interface", "\"wan\" is deleted"}}},
      {"EgressInUse",
       "delete_interfaces: [lan]",
       {{"rules[\"fourth\"].action.redirect.interface", "\"lan\" is deleted"},
        {"management.allow[0].interface", "\"lan\" is deleted"}}},
      {"NextHopInUse",
       "delete_next_hops: [up]",
       {{"rules[\"second\"].action.next_hop.name", "\"up\" is deleted"}}},
      {"TargetInUse",
       "delete_steer_targets: [app]",
       {{"rules[\"third\"].action.steer.target", "\"app\" is deleted"}}},
      {"DeletedWithItsUsers",
       "{delete_interfaces: [wan], delete_next_hops: [up], delete_rules: [first, second]}",
       {}},
      {"DeletedAndUsedAnew",
       "{delete_steer_targets: [app], upsert: {rules: [{name: third, priority: 300, action: {steer: {target: "
       "app}}}]}}",
       {{"patch.upsert.rules[0].action.steer.target", "no steer target \"app\""}}},
      {"DeletedAndUsedNoMore",
       "{delete_steer_targets: [app], upsert: {rules: [{name: third, priority: 300, action: {pass: {}}}]}}",
       {}},
      {"DeletingWhatIsNotThere", "{delete_rules: [x], delete_interfaces: [y], delete_prefix_sets: [z]}", {}},
  };
}

class ValidateTest : public ::testing::TestWithParam<Case> {};

TEST_P(ValidateTest, AnswersWithFieldAndReason) {
  Desired desired;
  desired.Must(Config(kBase));
  const std::string before = Describe(*desired);
  const ChangeResult result = desired.Apply(Patch(GetParam().patch));
  EXPECT_TRUE(result.status.ok()) << result.status;
  EXPECT_EQ(result.state == nullptr, !GetParam().expected.empty());
  ASSERT_EQ(result.violations.size(), GetParam().expected.size()) << Describe(result.violations);
  for (const auto& expected : GetParam().expected) {
    const std::string &field = expected.first, &words = expected.second;
    const auto found = std::find_if(result.violations.begin(), result.violations.end(), [&](const Violation& v) {
      return v.field == field && v.description.find(words) != std::string::npos;
    });
    EXPECT_TRUE(found != result.violations.end()) << field << ": ..." << words << "... is not in\n"
                                                  << Describe(result.violations);
  }
  if (!GetParam().expected.empty()) {
    EXPECT_EQ(Describe(*desired), before);
  }
}

TEST(Validate, ObjectsWithUnreadableTextAreCheckedFurther) {
  Desired desired;
  desired.Must(Config(kBase));
  const ChangeResult result = desired.Apply(Patch(R"(
upsert:
  rules:
    - name: a b
      match: {protocol: tpc, tcp_flags: syn, destination_ports: ["1"], vlan: 4095, interface: nowhere}
      action: {redirect: {interface: lan, source_mac: x}, rate_limit: {}}
    - {name: y, priority: 100, match: {source: z, destination: "::/0", source_set: none}, action: {next_hop: {name: none}}}
  next_hops: [{name: "", mac: x, interface: none, vlan: 4095}]
  management: {allow: [{source: x, interface: none}]}
)"));
  std::set<std::string> fields;
  for (const Violation& violation : result.violations) fields.insert(violation.field);
  // Nothing is reported that only follows: no "exactly one", no "not a unicast address".
  EXPECT_EQ(fields, (std::set<std::string>{
                        "patch.upsert.rules[0].name", "patch.upsert.rules[0].priority",
                        "patch.upsert.rules[0].match.protocol", "patch.upsert.rules[0].match.interface",
                        "patch.upsert.rules[0].match.vlan", "patch.upsert.rules[0].action.redirect.source_mac",
                        "patch.upsert.rules[0].action.rate_limit", "patch.upsert.rules[1].priority",
                        "patch.upsert.rules[1].match.source", "patch.upsert.rules[1].match.source_set",
                        "patch.upsert.rules[1].action.next_hop.name", "patch.upsert.next_hops[0].name",
                        "patch.upsert.next_hops[0].mac", "patch.upsert.next_hops[0].interface",
                        "patch.upsert.next_hops[0].vlan", "patch.upsert.management.allow[0].source",
                        "patch.upsert.management.allow[0].interface"}))
      << Describe(result.violations);
  EXPECT_EQ(result.violations.size(), fields.size()) << Describe(result.violations);
}

// One document with every kind of object wrong in some way: all of it in one answer.
TEST(Validate, FiftyErrorsAreFiftyViolations) {
  std::string yaml = "rules:\n";
  for (int i = 0; i < 25; ++i) {
    absl::StrAppend(&yaml, "  - {name: r", i, ", priority: ", i + 1, ", match: {source: 10.0.0.", 256 + i,
                    "}, action: {pass: {}}}\n");
    absl::StrAppend(&yaml, "  - {name: s", i, ", priority: ", i + 101, ", action: {next_hop: {name: missing-", i,
                    "}}}\n");
  }
  Desired desired;
  const ChangeResult result = desired.Apply(Config(yaml));
  EXPECT_EQ(result.state, nullptr);
  EXPECT_EQ(result.violations.size(), 50u) << Describe(result.violations);
  std::set<std::string> fields;
  for (const Violation& violation : result.violations) fields.insert(violation.field);
  EXPECT_EQ(fields.size(), 50u);
  for (int i = 0; i < 25; ++i) {
    EXPECT_TRUE(fields.contains(absl::StrCat("config.rules[", 2 * i, "].match.source")));
    EXPECT_TRUE(fields.contains(absl::StrCat("config.rules[", 2 * i + 1, "].action.next_hop.name")));
  }
}

std::string NameOf(const ::testing::TestParamInfo<Case>& info) { return info.param.name; }
INSTANTIATE_TEST_SUITE_P(Names, ValidateTest, ::testing::ValuesIn(NameCases()), NameOf);
INSTANTIATE_TEST_SUITE_P(Text, ValidateTest, ::testing::ValuesIn(TextCases()), NameOf);
INSTANTIATE_TEST_SUITE_P(Match, ValidateTest, ::testing::ValuesIn(MatchCases()), NameOf);
INSTANTIATE_TEST_SUITE_P(Action, ValidateTest, ::testing::ValuesIn(ActionCases()), NameOf);
INSTANTIATE_TEST_SUITE_P(References, ValidateTest, ::testing::ValuesIn(ReferenceCases()), NameOf);

TEST(Validate, EveryProtocolKnowsWhetherItHasPorts) {
  std::vector<int> with_ports;
  for (int protocol = 0; protocol < 256; ++protocol) {
    if (HasPorts(static_cast<uint8_t>(protocol))) with_ports.push_back(protocol);
  }
  EXPECT_EQ(with_ports, (std::vector<int>{6, 17, 33, 132, 136}));
}

}  // namespace

}  // namespace headgate::testing
