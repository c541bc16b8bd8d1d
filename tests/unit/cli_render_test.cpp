// SPDX-License-Identifier: Apache-2.0
//
// What people read: tables, numbers, objects, changes, events, traces and the status, to the letter.
#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "agent/api/text.h"
#include "cli/kinds.h"
#include "cli/render_changes.h"
#include "cli/render_event.h"
#include "cli/render_objects.h"
#include "cli/table.h"

namespace headgate::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

template <typename Message>
Message From(const std::string& yaml) {
  Message message;
  const absl::Status status = ParseYaml(yaml, "test", message);
  EXPECT_TRUE(status.ok()) << status;
  return message;
}

std::string Match(const std::string& yaml) { return MatchText(From<v1::Match>(yaml)); }
std::string Action(const std::string& yaml) { return ActionText(From<v1::Action>(yaml)); }

// ---- tables and numbers ----------------------------------------------------------------------------------------

TEST(TableTest, AlignsByTheWidestCell) {
  Table table({{"NAME"}, {"COUNT", Table::Align::kRight}, {"LAST"}});
  table.Add({"a", "1", "x"});
  table.Add({"longer", "1000000", ""});
  EXPECT_EQ(table.Render(0),
            "NAME      COUNT  LAST\n"
            "a             1  x\n"
            "longer  1000000\n");
}

TEST(TableTest, CutsOnlyFlexibleColumnsAndTheWidestFirst) {
  Table table({{"A"}, {"B", Table::Align::kLeft, true}, {"C", Table::Align::kLeft, true}});
  table.Add({"aaaaaaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbbbbbb", "cccccccccccc"});
  const std::string text = table.Render(46);
  EXPECT_THAT(text, HasSubstr("aaaaaaaaaaaaaaaaaaaa  bbbbbbbb...  cccccccc...\n"));
  for (const auto line : absl::StrSplit(text, '\n')) EXPECT_LE(DisplayWidth(line), 46u);
  // What cannot be made to fit is left whole where it must not be cut.
  EXPECT_THAT(table.Render(10), HasSubstr("aaaaaaaaaaaaaaaaaaaa"));
}

TEST(TableTest, CountsCharactersNotBytes) {
  Table table({{"N"}, {"M"}});
  table.Add({"\u00e9\u00e8", "x"});
  table.Add({"ab", "y"});
  EXPECT_EQ(table.Render(0), "N   M\n\u00e9\u00e8  x\nab  y\n");
  EXPECT_EQ(Cut("\u00e9\u00e8\u00ea\u00eb\u00ec", 4), "\u00e9...");
  EXPECT_EQ(Cut("abc", 3), "abc");
  EXPECT_EQ(Cut("abcd", 2), "..");
}

TEST(TableTest, NumbersAreShortAndKeepThreeDigits) {
  const std::pair<double, const char*> numbers[] = {
      {0, "0"},        {1, "1"},        {0.5, "0.5"},     {999, "999"},      {999.96, "1.00k"}, {1000, "1.00k"},
      {1234, "1.23k"}, {99950, "100k"}, {999499, "999k"}, {999500, "1.00M"}, {12.3e9, "12.3G"}};
  for (const auto& [number, text] : numbers) EXPECT_EQ(Brief(number), text) << number;
  EXPECT_EQ(BriefTime(absl::Milliseconds(59'999)), "59s");
  EXPECT_EQ(BriefTime(absl::Seconds(60)), "1m 0s");
  EXPECT_EQ(BriefTime(absl::Seconds(2 * 3600 + 5 * 60 + 9)), "2h 5m");
  EXPECT_EQ(BriefTime(absl::Hours(49)), "2d 1h 0m");
  EXPECT_EQ(BriefBytes(0), "0 B");
  EXPECT_EQ(BriefBytes(1023), "1023 B");
  EXPECT_EQ(BriefBytes(1536), "1.5 KiB");
  EXPECT_EQ(BriefBytes(uint64_t{3} << 30), "3.0 GiB");
}

// ---- objects ---------------------------------------------------------------------------------------------------

TEST(ObjectsTest, MatchesReadAsTracesAreWritten) {
  EXPECT_EQ(Match("{}"), "any");
  EXPECT_EQ(Match("{interface: uplink}"), "in uplink");
  EXPECT_EQ(Match("{protocol: udp, destination_ports: [53, 5353]}"), "udp * > *:53,5353");
  EXPECT_EQ(Match("{source_set: bogons, destination: 10.0.0.0/8}"), "@bogons > 10.0.0.0/8");
  EXPECT_EQ(Match("{protocol: tcp, source: 'fc00::/7', source_ports: [1-2], tcp_flags: 'syn,!ack', vlan: 0}"),
            "tcp [fc00::/7]:1-2 > * vlan 0 flags syn,!ack");
  EXPECT_EQ(
      Match("{protocol: icmp, icmp_type: 3, icmp_code: 0, dscp: 46, fragment: later, packet_length: 64-128}"),
      "icmp type 3 code 0 dscp 46 fragment later len 64-128");
}

TEST(ObjectsTest, ActionsReadInTheOrderTheyHappen) {
  EXPECT_EQ(Action("{drop: {}}"), "drop");
  EXPECT_EQ(Action("{pass: {}, rate_limit: {packets_per_second: 20000, burst: 500, per: source}}"),
            "limit 20000 pps burst 500 per source, pass");
  EXPECT_EQ(
      Action("{route: {}, rate_limit: {bits_per_second: 1000000}, count: {counter: c}, sample: {one_in: 10}}"),
      "limit 1000000 bit/s, route, count c, sample 1/10");
  EXPECT_EQ(
      Action("{redirect: {interface: b, source_mac: '02:00:00:00:00:01', destination_mac: '02:00:00:00:00:02'}}"),
      "redirect b from 02:00:00:00:00:01 to 02:00:00:00:00:02");
  EXPECT_EQ(Action("{tx: {swap: ports}}"), "tx ports");
  EXPECT_EQ(Action("{next_hop: {name: n}}"), "next-hop n");
  EXPECT_EQ(Action("{steer: {target: t}}"), "steer t");
  EXPECT_EQ(RuleText(From<v1::Rule>("{name: r, priority: 7, match: {vlan: 5}, action: {pass: {}}}")),
            "priority 7: vlan 5: pass");
}

TEST(ObjectsTest, InterfaceTableSaysWhatIsAndWhatIsWanted) {
  const auto response = From<v1::GetResponse>(R"(
objects:
  - interface: {name: up, device: eth0}
    status: {state: applied}
    interface_state: {ifindex: 4, up: true, mtu: 1500, mac: "02:00:00:00:00:01", mode: native, warnings: [beware]}
  - interface: {name: later, mode: generic}
    status: {state: pending, reason: no device later}
)");
  EXPECT_EQ(InterfaceTable(response, 0),
            "INTERFACE  DEVICE  MODE       LINK  INDEX   MTU  MAC                STATUS\n"
            "up         eth0    native     up        4  1500  02:00:00:00:00:01  applied\n"
            "later      later   (generic)  -         -     -  -                  pending: no device later\n"
            "warning: up: beware\n");
}

TEST(ObjectsTest, EveryKindHasATableAndIsInTheDocument) {
  const auto response = From<v1::GetResponse>(R"(
objects:
  - settings: {default_action: drop, management: {allow: [{source: 192.0.2.1, protocol: tcp, destination_ports: [22]}]}}
  - interface: {name: i}
  - rule: {name: r, priority: 1, action: {drop: {}}}
  - prefix_set: {name: s, prefixes: [10.0.0.0/8, 11.0.0.0/8, 12.0.0.0/8, 13.0.0.0/8, 14.0.0.0/8]}
  - next_hop: {name: n, interface: i, mac: "02:00:00:00:00:02", vlan: 0}
  - steer_target: {name: t, fallback: drop}
)");
  EXPECT_EQ(ObjectTable(v1::KIND_SETTINGS, response, 0),
            "SETTING           VALUE\n"
            "default action    drop\n"
            "management allow  tcp 192.0.2.1 > *:22\n");
  EXPECT_THAT(ObjectTable(v1::KIND_PREFIX_SET, response, 0),
              HasSubstr("10.0.0.0/8 11.0.0.0/8 12.0.0.0/8 13.0.0.0/8 ..."));
  EXPECT_THAT(ObjectTable(v1::KIND_NEXT_HOP, response, 0), HasSubstr("device's    strip  keep"));
  for (const v1::Kind kind : ConfigurationKinds()) EXPECT_THAT(ObjectTable(kind, response, 0), HasSubstr("\n"));
  const v1::GatewayConfig config = ToConfig(response);
  EXPECT_EQ(config.interfaces_size() + config.rules_size() + config.prefix_sets_size() + config.next_hops_size() +
                config.steer_targets_size(),
            5);
  EXPECT_EQ(config.default_action(), v1::DEFAULT_ACTION_DROP);
  EXPECT_EQ(config.management().allow_size(), 1);
}

// What people copy from the table into a document has to be what a document takes.
TEST(ObjectTest, MulticastLegsSayWhetherAnybodyListens) {
  const std::string table = MulticastRouteTable(From<v1::GetResponse>(R"(
objects:
  - multicast_route:
      name: feed
      input: {interfaces: [in], group: 239.1.0.0/16}
      legs:
        - {name: one, interface: lan, on_join: true}
        - {name: two, interface: lan, group: 239.2.2.2, on_join: true}
        - {name: three, interface: other, on_join: true}
        - {name: four, interface: other}
    multicast_route_state:
      listeners:
        - {interface: lan, group: 239.1.1.1, exclude: true}
        - {interface: lan, group: 239.2.2.2, sources: [10.0.0.1]}
)"),
                                                0);
  EXPECT_THAT(table, HasSubstr("two=lan 239.2.2.2 on join: 1 group"));
  EXPECT_THAT(table, HasSubstr("one=lan on join: 2 groups"));
  EXPECT_THAT(table, HasSubstr("three=other on join: nobody"));
  EXPECT_THAT(table, Not(HasSubstr("four=other on join")));
}

TEST(ObjectsTest, ASpreadThatIsNotGivenIsNotNamed) {
  EXPECT_EQ(SteerTargetTable(From<v1::GetResponse>(R"(
objects:
  - steer_target: {name: a, handler: {echo: {}}, workers: {count: 2}}
  - steer_target: {name: b, handler: {echo: {}}, spread: flow_symmetric, priority: 3, fallback: drop}
)"),
                             0),
            "STEER TARGET  HANDLER  WORKERS  SPREAD          PRIORITY  FALLBACK  STATUS\n"
            "a             echo     2        -               7         pass      -\n"
            "b             echo     1        flow_symmetric  3         drop      -\n");
}

TEST(ObjectsTest, WhatIsCountedHasNamesToo) {
  for (const char* text : {"workers", "worker", "Workers"}) EXPECT_EQ(ParseCounted(text), v1::KIND_STEER_TARGET);
  for (const char* text : {"mroute", "multicast-route", "multicast_routes"})
    EXPECT_EQ(ParseCounted(text), v1::KIND_MULTICAST_ROUTE);
  for (const char* text : {"steer-targets", "st", "next-hops", "settings", "prefix-sets", "all", ""})
    EXPECT_EQ(ParseCounted(text), std::nullopt) << text;
  for (const v1::Kind kind : CountedKinds()) EXPECT_EQ(ParseCounted(CountedName(kind, 2)), kind);
}

TEST(ObjectsTest, KindsHaveSingularPluralAndShortNames) {
  for (const char* text : {"rule", "rules", "r", "RULES"}) EXPECT_EQ(ParseKind(text), v1::KIND_RULE) << text;
  for (const char* text : {"prefix-set", "prefix_sets", "ps"})
    EXPECT_EQ(ParseKind(text), v1::KIND_PREFIX_SET) << text;
  EXPECT_EQ(ParseKind("rulez"), std::nullopt);
  EXPECT_EQ(KindName(v1::KIND_NEXT_HOP), "next-hop");
  EXPECT_EQ(KindName(v1::KIND_NEXT_HOP, 2), "next-hops");
}

// ---- changes ---------------------------------------------------------------------------------------------------

TEST(ChangesTest, FieldsThatDifferHaveALineEach) {
  const auto before = From<v1::Rule>("{name: r, priority: 1, match: {source: 10.0.0.0/8}, action: {route: {}}}");
  const auto after = From<v1::Rule>("{name: r, priority: 2, match: {source: 10.1.0.0/16}, action: {drop: {}}}");
  EXPECT_THAT(FieldChanges(before, after),
              ElementsAre("priority: 1 -> 2", "match.source: 10.0.0.0/8 -> 10.1.0.0/16",
                          "action.route: {} -> (none)", "action.drop: (none) -> {}"));
  EXPECT_THAT(FieldChanges(before, before), IsEmpty());
}

TEST(ChangesTest, WhatWasNotThereIsComparedFieldByField) {
  const auto bare = From<v1::Rule>("{name: r, priority: 1}");
  const auto full = From<v1::Rule>("{name: r, priority: 1, match: {protocol: tcp}}");
  EXPECT_THAT(FieldChanges(bare, full), ElementsAre("match.protocol: (none) -> tcp"));
  EXPECT_THAT(FieldChanges(full, bare), ElementsAre("match.protocol: tcp -> (none)"));
}

TEST(ChangesTest, ListsSayWhatWasAddedAndRemoved) {
  const auto before = From<v1::PrefixSet>("{name: s, prefixes: [1.0.0.0/8, 2.0.0.0/8]}");
  auto after = From<v1::PrefixSet>("{name: s, prefixes: [2.0.0.0/8, 3.0.0.0/8]}");
  EXPECT_THAT(FieldChanges(before, after), ElementsAre("prefixes: +1 (3.0.0.0/8) -1 (1.0.0.0/8)"));
  after.clear_prefixes();
  for (const char* prefix : {"2.0.0.0/8", "1.0.0.0/8"}) after.add_prefixes(prefix);
  EXPECT_THAT(FieldChanges(before, after), ElementsAre("prefixes: another order"));
  for (int i = 10; i < 30; ++i) after.add_prefixes(absl::StrCat(i, ".0.0.0/8"));
  EXPECT_THAT(absl::StrJoin(FieldChanges(before, after), "\n"),
              AllOf(HasSubstr("prefixes: +20 (10.0.0.0/8, "), HasSubstr(", ...)")));
}

TEST(ChangesTest, SummariesCountByKindOfChange) {
  auto response = From<v1::ApplyResponse>(R"(
differences:
  - {kind: rule, name: a, change: create}
  - {kind: rule, name: b, change: update}
  - {kind: settings, change: update}
difference_count: 3
)");
  EXPECT_EQ(ChangeSummary(response), "1 created, 2 updated");
  response.set_difference_count(10003);
  EXPECT_EQ(ChangeSummary(response), "1 created, 2 updated, 10000 more changed");
  EXPECT_EQ(ChangeSummary(v1::ApplyResponse()), "no changes");
  EXPECT_EQ(DifferenceLine(response.differences(0)), "+ rule a");
  EXPECT_EQ(DifferenceLine(response.differences(2)), "~ settings");
}

// ---- events, traces, the agent
// -----------------------------------------------------------------------------------

TEST(EventTest, EveryTypeIsOneLine) {
  const auto text = [](const std::string& yaml) {
    return EventText(From<v1::Event>("{time: '2026-01-02T03:04:05.678Z', " + yaml + "}"), absl::UTCTimeZone(),
                     false);
  };
  const std::string at = "2026-01-02 03:04:05.678  ";
  EXPECT_EQ(text("type: generation_applied, generation: 7"), at + "generation 7 applied\n");
  EXPECT_EQ(text("type: object_status, kind: interface, name: a, status: {state: pending, reason: no device}"),
            at + "interface a pending: no device\n");
  EXPECT_EQ(text("type: interface_change, kind: interface, name: a, message: device eth0 is gone, "
                 "status: {state: pending, reason: device eth0 does not exist}"),
            at + "interface a: device eth0 is gone\n");
  EXPECT_EQ(text("type: drift_repaired, message: 3 entries"), at + "drift repaired: 3 entries\n");
  EXPECT_EQ(text("type: rolled_back, generation: 9, message: generation 8 was not confirmed in time"),
            at + "rolled back, now generation 9: generation 8 was not confirmed in time\n");
  EXPECT_EQ(text("type: generation_applied, generation: 7, missed: 3"),
            at + "(3 events missed before)  generation 7 applied\n");
}

TEST(EventTest, SamplesShowThePacket) {
  const auto event = From<v1::Event>(R"(
time: '2026-01-02T03:04:05Z'
type: sample
sample:
  rule: r
  interface: uplink
  reason: forward_route
  length: 1500
  data: 0200000000010200000000020800450000240000000040116ec20a0000010a00000204d20035001000006162636465666768
)");
  EXPECT_EQ(EventText(event, absl::UTCTimeZone(), false),
            "2026-01-02 03:04:05.000  sample in uplink by r: forward_route, 1500 bytes: udp 10.0.0.1:1234 > "
            "10.0.0.2:53 ttl 64\n");
  const std::string verbose = EventText(event, absl::UTCTimeZone(), true);
  EXPECT_THAT(verbose, HasSubstr("\n    ethernet 02:00:00:00:00:02 > 02:00:00:00:00:01 type 0x0800\n"));
  EXPECT_THAT(verbose, HasSubstr("abcdef\n"));
}

constexpr char kTrace[] = R"(
frame: "02000000000102000000000208004500001c0000000040116ec90a0000010a00000204d200350008e3e0"
stages: [parse, classify, forward]
rule: east
verdict: redirect
reason: forward_route
egress_interface: lan
output: "02000000000302000000000408004500001c000000003f116fc90a0000010a00000204d200350008e3e0"
generation: 12
steps: 4
)";

TEST(TraceTest, SaysStagesRuleVerdictReasonAndWhatLeaves) {
  EXPECT_EQ(TraceText(From<v1::TraceResponse>(kTrace)),
            "packet       udp 10.0.0.1:1234 > 10.0.0.2:53 ttl 64, 42 bytes\n"
            "stages       parse > classify > forward\n"
            "rule         east\n"
            "verdict      redirect\n"
            "reason       forward_route: forwarded by the kernel's routes and neighbours\n"
            "egress       lan\n"
            "generation   12\n"
            "steps        4 tree nodes\n"
            "\n"
            "leaves, 42 bytes:\n"
            "  ethernet 02:00:00:00:00:04 > 02:00:00:00:00:03 type 0x0800\n"
            "  ipv4 10.0.0.1 > 10.0.0.2 udp ttl 63 dscp 0 id 0 length 28 checksum 0x6fc9\n"
            "  udp 1234 > 53 length 8 checksum 0xe3e0\n"
            "  0000  02 00 00 00 00 03 02 00  00 00 00 04 08 00 45 00  ..............E.\n"
            "  0010  00 1c 00 00 00 00 3f 11  6f c9 0a 00 00 01 0a 00  ......?.o.......\n"
            "  0020  00 02 04 d2 00 35 00 08  e3 e0                    .....5....\n");
}

TEST(TraceTest, DropsHaveNothingThatLeaves) {
  v1::TraceResponse trace = From<v1::TraceResponse>(kTrace);
  trace.set_verdict("drop");
  trace.set_reason("ipv4_short");
  trace.clear_rule();
  trace.clear_stages();
  trace.clear_egress_interface();
  const std::string text = TraceText(trace);
  EXPECT_THAT(text, AllOf(HasSubstr("stages       none\n"), HasSubstr("rule         none matched\n"),
                          HasSubstr("reason       ipv4_short: ends within the IPv4 header\n")));
  EXPECT_THAT(text, AllOf(Not(HasSubstr("leaves")), Not(HasSubstr("egress"))));
  // A reason this program does not know is shown as it is.
  trace.set_reason("of_the_future");
  EXPECT_THAT(TraceText(trace), HasSubstr("reason       of_the_future\n"));
}

TEST(StatusTest, SaysWhatIsInForceAndWhatWaits) {
  const auto status = From<v1::StatusResponse>(R"(
version: 1.2.3
started: '2026-01-02T03:04:05Z'
desired_generation: 8
applied_generation: 7
apply_error: the map is full
unconfirmed_generation: 8
confirm_deadline: '2026-01-03T04:05:36Z'
drift_repaired: 2
last_drift_check: '2026-01-03T04:05:00Z'
resident_bytes: 31457280
log_level: info
warnings: [egress is not counted]
tables: [{name: hg_rules, used: 50, capacity: 200, bytes: 2048}]
)");
  absl::Time now;
  ASSERT_TRUE(absl::ParseTime(absl::RFC3339_full, "2026-01-03T04:05:06Z", &now, nullptr));
  EXPECT_EQ(AgentStatusText(status, now, absl::UTCTimeZone(), 0),
            "version      1.2.3\n"
            "started      2026-01-02 03:04:05 (1d 1h 1m ago)\n"
            "generation   8, 7 is in use\n"
            "error        the map is full\n"
            "unconfirmed  generation 8 rolls back at 2026-01-03 04:05:36 (in 30s) unless confirmed\n"
            "drift        2 repaired, last checked 2026-01-03 04:05:00\n"
            "memory       30.0 MiB\n"
            "log level    info\n"
            "warning      egress is not counted\n"
            "\n"
            "TABLE     USED  CAPACITY  FULL   MEMORY\n"
            "hg_rules    50       200   25%  2.0 KiB\n");
}

}  // namespace
}  // namespace headgate::cli
