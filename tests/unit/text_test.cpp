// SPDX-License-Identifier: Apache-2.0
//
// Messages as YAML and JSON: the document of the design, every class of mistake with its position, and random
// messages there and back.
#include "agent/api/text.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>
#include <google/protobuf/descriptor.pb.h>
#include <google/protobuf/dynamic_message.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "agent/api/text_values.h"
#include "google/rpc/status.pb.h"
#include "headgate/v1/gateway.pb.h"
#include "tests/harness/random.h"
#include "tests/harness/random_message.h"

namespace headgate {
namespace {

using google::protobuf::util::MessageDifferencer;

constexpr char kExample[] = R"(interfaces:
  - {name: uplink, device: eth0, mode: auto}
  - {name: lan1, device: eth1}
management: {allow: [{source: 192.0.2.0/24, protocol: tcp, destination_ports: ["22", "7443"]}]}
default_action: pass
prefix_sets:
  - {name: bogons, prefixes: [10.0.0.0/8, 192.168.0.0/16, "fc00::/7"]}
rules:                                   # highest priority wins
  - {name: drop-bogons, priority: 900, match: {interface: uplink, source_set: bogons}, action: {drop: {}}}
  - {name: dns-limit, priority: 500, match: {protocol: udp, destination_ports: ["53"]},
     action: {rate_limit: {packets_per_second: 20000, burst: 500, per: source}, pass: {}}}
  - {name: to-app, priority: 400, match: {destination: 198.51.100.7/32, protocol: udp, destination_ports: ["9000-9099"]},
     action: {steer: {target: app}}}
  - {name: east, priority: 100, match: {destination: 203.0.113.0/24}, action: {route: {}}}
steer_targets:
  - {name: app, fallback: drop}
)";

v1::GatewayConfig Parsed(absl::string_view yaml) {
  v1::GatewayConfig config;
  const absl::Status status = ParseYaml(yaml, "test.yaml", config);
  EXPECT_TRUE(status.ok()) << status;
  return config;
}

std::vector<std::string> Errors(absl::string_view yaml) {
  v1::GatewayConfig config;
  const absl::Status status = ParseYaml(yaml, "f", config);
  if (status.ok()) return {};
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  return absl::StrSplit(status.message(), '\n');
}

std::string Error(absl::string_view yaml) {
  const std::vector<std::string> errors = Errors(yaml);
  EXPECT_EQ(errors.size(), 1U) << yaml;
  return errors.empty() ? "" : errors.front();
}

TEST(Text, ReadsTheDesignsExample) {
  const v1::GatewayConfig config = Parsed(kExample);
  ASSERT_EQ(config.interfaces_size(), 2);
  EXPECT_EQ(config.interfaces(0).mode(), v1::ATTACH_MODE_AUTO);
  EXPECT_EQ(config.interfaces(1).device(), "eth1");
  EXPECT_EQ(config.interfaces(1).mode(), v1::ATTACH_MODE_UNSPECIFIED);
  EXPECT_EQ(config.management().allow(0).destination_ports(1), "7443");
  EXPECT_EQ(config.default_action(), v1::DEFAULT_ACTION_PASS);
  EXPECT_EQ(config.prefix_sets(0).prefixes(2), "fc00::/7");
  ASSERT_EQ(config.rules_size(), 4);
  EXPECT_TRUE(config.rules(0).action().has_drop());
  EXPECT_EQ(config.rules(1).action().rate_limit().per(), v1::RATE_LIMIT_SCOPE_SOURCE);
  EXPECT_EQ(config.rules(1).action().rate_limit().packets_per_second(), 20000U);
  EXPECT_TRUE(config.rules(1).action().has_pass());
  EXPECT_EQ(config.rules(2).action().steer().target(), "app");
  EXPECT_EQ(config.steer_targets(0).fallback(), v1::FALLBACK_DROP);
}

TEST(Text, WritesItForPeople) {
  EXPECT_EQ(ToYaml(Parsed(kExample)), R"(interfaces:
  - {name: uplink, device: eth0, mode: auto}
  - {name: lan1, device: eth1}
management: {allow: [{source: 192.0.2.0/24, protocol: tcp, destination_ports: ["22", "7443"]}]}
default_action: pass
prefix_sets:
  - {name: bogons, prefixes: [10.0.0.0/8, 192.168.0.0/16, "fc00::/7"]}
rules:
  - name: drop-bogons
    priority: 900
    match: {interface: uplink, source_set: bogons}
    action: {drop: {}}
  - name: dns-limit
    priority: 500
    match: {protocol: udp, destination_ports: ["53"]}
    action: {pass: {}, rate_limit: {packets_per_second: 20000, burst: 500, per: source}}
  - name: to-app
    priority: 400
    match: {destination: 198.51.100.7/32, protocol: udp, destination_ports: ["9000-9099"]}
    action: {steer: {target: app}}
  - {name: east, priority: 100, match: {destination: 203.0.113.0/24}, action: {route: {}}}
steer_targets:
  - {name: app, fallback: drop}
)");
}

TEST(Text, WritesPresenceAndNoDefaults) {
  v1::Match match;
  match.set_vlan(0);
  match.set_source("");
  EXPECT_EQ(ToYaml(match), "vlan: 0\n");
  EXPECT_EQ(ToYaml(v1::Match()), "{}\n");
  EXPECT_EQ(ToJsonText(match, -1), R"({"vlan":0})");
}

TEST(Text, WritesLargeIntegersAsJsonNumbers) {
  v1::InterfaceStats stats;
  stats.set_received_packets(std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(ToJsonText(stats, -1), R"({"received_packets":18446744073709551615})");
}

TEST(Text, EmptyMessagesMayHaveNoValue) {
  EXPECT_TRUE(Parsed("rules: [{name: a, action: {drop: }}]").rules(0).action().has_drop());
  EXPECT_TRUE(Parsed("rules:\n- name: a\n  action:\n    route:\n").rules(0).action().has_route());
  // Leaving out what stood below must not widen a rule.
  EXPECT_EQ(
      Error("rules:\n- name: a\n  match:\n"),
      "f:3:3: rules[0].match: is null, a mapping is needed: write {} for one with nothing given; Keys there: "
      "interface, vlan, inner_vlan, source, destination, source_set, destination_set, protocol, source_ports, "
      "destination_ports, tcp_flags, icmp_type, icmp_code, dscp, fragment, packet_length");
  EXPECT_EQ(Error("rules: [{match: {destination_ports: }}]"),
            "f:1:18: rules[0].match.destination_ports: has no value, a list is needed: write [] for an empty one");
  EXPECT_EQ(Error("rules: [{action: {drop: 1}}]"),
            "f:1:25: rules[0].action.drop: is a single value, {} is needed");
}

TEST(Text, StringsStayWhatTheyAre) {
  const v1::GatewayConfig config = Parsed(
      "next_hops: [{name: no, mac: 02:00:00:00:00:01}, {name: on}, {name: 0123}, {name: 1e3}, {name: 'null'}]\n"
      "rules: [{match: {destination_ports: [53, \"9000-9099\", 60-70], protocol: 17}}]");
  EXPECT_EQ(config.next_hops(0).name(), "no");
  EXPECT_EQ(config.next_hops(0).mac(), "02:00:00:00:00:01");
  EXPECT_EQ(config.next_hops(1).name(), "on");
  EXPECT_EQ(config.next_hops(2).name(), "0123");
  EXPECT_EQ(config.next_hops(3).name(), "1e3");
  EXPECT_EQ(config.next_hops(4).name(), "null");
  EXPECT_EQ(config.rules(0).match().destination_ports(0), "53");
  EXPECT_EQ(config.rules(0).match().destination_ports(2), "60-70");
  EXPECT_EQ(config.rules(0).match().protocol(), "17");
  EXPECT_EQ(Error("next_hops: [{name: null}]"),
            "f:1:14: next_hops[0].name: has no value, text is needed: write it in quotes if \"null\" or \"~\" is "
            "meant");
}

TEST(Text, EscapesAreTheCharactersTheyName) {
  v1::GatewayConfig config;
  const absl::Status status = ParseYaml(R"(prefix_sets: [{name: "\N\_\L\P\u00e9\x85é\N"}])", "f", config);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(config.prefix_sets(0).name(),
            "\xc2\x85\xc2\xa0\xe2\x80\xa8\xe2\x80\xa9\xc3\xa9\xc2\x85\xc3\xa9\xc2\x85");
}

TEST(Text, ListsEveryErrorWithItsPosition) {
  EXPECT_EQ(
      Errors(R"(interfaces:
  - name: uplink
    devise: eth0
    mode: nativ
rules:
  - name: a
    name: b
    priority: -1
    match: {vlan: 5000000000, dscp: "3", source: [x]}
    action: {drop: {}, pass: {}}
  - action: drop
prefix_sets: {name: x}
)"),
      (std::vector<std::string>{
          "f:3:5: interfaces[0]: unknown key \"devise\"; did you mean \"device\"? Keys here: name, device, mode, "
          "querier",
          ("f:4:11: interfaces[0].mode: unknown value \"nativ\"; did you mean \"native\"? Possible are: auto, "
           "native, generic"),
          "f:7:5: rules[0]: duplicate key \"name\": first given at line 6",
          "f:8:15: rules[0].priority: \"-1\" is not a whole number 0 to 4294967295",
          "f:9:19: rules[0].match.vlan: \"5000000000\" is out of range: 0 to 4294967295 are possible",
          "f:9:37: rules[0].match.dscp: \"3\" is text, a number is needed: write it without quotes",
          "f:9:50: rules[0].match.source: is a list, a single value is needed",
          ("f:10:24: rules[0].action: \"pass\" and \"drop\" exclude each other; give one of: pass, drop, tx, "
           "redirect, route, next_hop, steer"),
          ("f:11:13: rules[1].action: is a single value, a mapping is needed: write {drop: ...}; Keys there: "
           "pass, drop, tx, redirect, route, next_hop, steer, count, rate_limit, sample"),
          "f:12:14: prefix_sets: is a mapping, a list is needed",
      }));
}

TEST(Text, ListsManyErrors) {
  std::string yaml = "rules:\n";
  for (int i = 0; i < 50; ++i) absl::StrAppend(&yaml, "  - {name: r", i, ", priority: x", i, "}\n");
  const std::vector<std::string> errors = Errors(yaml);
  ASSERT_EQ(errors.size(), 50U);
  EXPECT_EQ(errors[49], "f:51:27: rules[49].priority: \"x49\" is not a whole number 0 to 4294967295");

  for (int i = 50; i < 3000; ++i) absl::StrAppend(&yaml, "  - {name: r", i, ", priority: x", i, "}\n");
  EXPECT_EQ(Errors(yaml).size(), 1001U);
  EXPECT_EQ(Errors(yaml).back(), "f: and 2000 more errors");
}

TEST(Text, RefusesNumbersThatAreNot) {
  for (const char* number : {"0x10", "1e3", "1_000", "1.0", "+1", "-0", "''", "ten", "\" 1\""}) {
    EXPECT_NE(Error(absl::StrCat("rules: [{priority: ", number, "}]")), "") << number;
  }
  EXPECT_EQ(Error("rules: [{priority: 010}]"),
            "f:1:20: rules[0].priority: \"010\": write the number without leading zeros");
  EXPECT_EQ(Parsed("rules: [{priority: 4294967295}]").rules(0).priority(), 4294967295U);
  EXPECT_EQ(Error("rules: [{action: {rate_limit: {burst: 18446744073709551616}}}]"),
            "f:1:39: rules[0].action.rate_limit.burst: \"18446744073709551616\" is out of range: 0 to "
            "18446744073709551615 are possible");
  EXPECT_EQ(Error("next_hops: [{decrement_ttl: yes}]"),
            "f:1:29: next_hops[0].decrement_ttl: \"yes\" is not true or false");
}

TEST(Text, RefusesWhatIsNoSingleMapping) {
  EXPECT_EQ(Error(""), "f:1:1: the document is empty: write {} when nothing is to be given");
  EXPECT_EQ(Error("# nothing\n"), "f:1:1: the document is empty: write {} when nothing is to be given");
  EXPECT_EQ(Error("rules: []\n---\nrules: []\n"), "f:2:1: a second document: only one is possible");
  EXPECT_EQ(Error("- a\n").substr(0, 41), "f:1:1: is a list, a mapping is needed; Ke");
  EXPECT_EQ(Error("{[a]: b}"), "f:1:2: a key is a list, a name is needed");
  EXPECT_EQ(Error("rules: [\n"), "f:2:1: end of sequence flow not found");
  EXPECT_EQ(Error("rules: !!map {}"), "f:1:8: tag \"tag:yaml.org,2002:map\": of tags only !!str is known");
  EXPECT_EQ(Error(std::string("rules: []\n#\x04\nx: 1", 16)),
            "f:2:2: control character 4: write it as an escape in double quotes");
  EXPECT_EQ(Error("rules: []\n#\xc0\x80"), "f:2:2: not UTF-8: save the file as UTF-8");
  EXPECT_EQ(Error("\xff\xfe r"), "f:1:1: not UTF-8: save the file as UTF-8");
  EXPECT_TRUE(ParseYaml("{}", "f", *std::make_unique<v1::GatewayConfig>()).ok());
  EXPECT_TRUE(ParseYaml("\xef\xbb\xbfrules: []\r\n", "f", *std::make_unique<v1::GatewayConfig>()).ok());
}

TEST(Text, FollowsAliasesAndMergesMappings) {
  const v1::GatewayConfig config = Parsed(R"(
rules:
  - &base {name: a, priority: 1, match: &m {protocol: tcp}, action: {drop: {}, count: {counter: c}}}
  - {<<: *base, name: b, match: *m}
  - {name: c, <<: [{priority: 7}, *base]}
  - name: d
    action: {<<: {drop: {}, sample: {one_in: 2}}, pass: {}}
)");
  ASSERT_EQ(config.rules_size(), 4);
  EXPECT_EQ(config.rules(1).name(), "b");
  EXPECT_EQ(config.rules(1).priority(), 1U);
  EXPECT_EQ(config.rules(1).match().protocol(), "tcp");
  EXPECT_EQ(config.rules(1).action().count().counter(), "c");
  EXPECT_EQ(config.rules(2).priority(), 7U);
  EXPECT_TRUE(config.rules(2).action().has_drop());
  EXPECT_TRUE(config.rules(3).action().has_pass());
  EXPECT_EQ(config.rules(3).action().sample().one_in(), 2U);
  EXPECT_EQ(Error("rules: [{<<: 5}]"), "f:1:14: rules[0]: \"<<\" merges mappings, this is a single value");
  EXPECT_EQ(Error("rules: &r [*r]"), "f:1:12: an alias to something it is part of");
  EXPECT_EQ(Error("rules: [{\"<<\": {}}]").substr(0, 37), "f:1:10: rules[0]: unknown key \"<<\"; K");
}

TEST(Text, BoundsDepthAndExpansion) {
  EXPECT_NE(Error("rules: " + std::string(100'000, '[')).find("nested deeper than 64 levels"), std::string::npos);
  EXPECT_NE(Error(std::string(100'000, '{')), "");
  std::string deep;
  for (int i = 0; i < 100'000; ++i) deep += "- ";
  EXPECT_NE(Error(deep), "");

  // 10^8 entries from 10^4 lines.
  std::string list = "a";
  for (int i = 0; i < 9999; ++i) list += ", a";
  std::string bomb = "prefix_sets:\n  - &s {prefixes: [" + list + "]}\n";
  for (int i = 0; i < 10'000; ++i) bomb += "  - *s\n";
  EXPECT_NE(Error(bomb).find("aliases make this document too large"), std::string::npos);
}

TEST(Text, MapsPathsToPositions) {
  v1::GatewayConfig config;
  SourceMap map;
  EXPECT_FALSE(map.Find("rules").has_value());
  ASSERT_TRUE(ParseYaml(kExample, "f", config, &map).ok());
  EXPECT_EQ(map.Find("rules[2].match.destination"), (TextPosition{12, 56}));
  EXPECT_EQ(map.Find("prefix_sets[0].prefixes[2]"), (TextPosition{7, 59}));
  EXPECT_EQ(map.Find("management.allow[0].destination_ports[1]"), (TextPosition{4, 86}));
  // What is missing is reported where it would have to be.
  EXPECT_EQ(map.Find("rules[0].match.vlan"), (TextPosition{9, 47}));
  EXPECT_EQ(map.Find("rules[77]"), (TextPosition{1, 1}));
  EXPECT_EQ(map.Find(""), (TextPosition{1, 1}));
  EXPECT_EQ(map.Find("rules[[.]x["), (TextPosition{9, 3}));

  ASSERT_TRUE(ParseYaml("rules:\n- &a {name: a, priority: 3}\n- {<<: *a, name: b}\n", "f", config, &map).ok());
  EXPECT_EQ(map.Find("rules[1].priority"), (TextPosition{2, 26}));
}

TEST(Text, DurationsTimesAndBytes) {
  v1::ApplyRequest request;
  const auto duration = [&](absl::string_view text) {
    return ParseYaml(absl::StrCat("confirm_timeout: ", text), "f", request).ok() ? ToYaml(request) : "refused";
  };
  EXPECT_EQ(duration("60s"), "confirm_timeout: 60s\n");
  EXPECT_EQ(duration("1.5s"), "confirm_timeout: 1.5s\n");
  EXPECT_EQ(duration("0.5s"), "confirm_timeout: 500ms\n");
  EXPECT_EQ(duration("2m"), "confirm_timeout: 120s\n");
  EXPECT_EQ(duration("1h30m"), "confirm_timeout: 5400s\n");
  EXPECT_EQ(duration("-1ns"), "confirm_timeout: \"-0.000000001s\"\n");
  EXPECT_EQ(duration("60"), "refused");
  EXPECT_EQ(duration("inf"), "refused");
  EXPECT_EQ(duration("9999999999999s"), "refused");
  EXPECT_EQ(duration("{seconds: 1}"), "refused");

  v1::Event event;
  ASSERT_TRUE(ParseYaml("{time: 2026-02-03T04:05:06.7+02:00, sample: {data: 02 00:ff}}", "f", event).ok());
  EXPECT_EQ(event.sample().data(), std::string("\x02\x00\xff", 3));
  EXPECT_EQ(ToYaml(event), "time: \"2026-02-03T02:05:06.7Z\"\nsample: {data: \"0200ff\"}\n");
  EXPECT_FALSE(ParseYaml("time: infinite-future", "f", event).ok());
  EXPECT_FALSE(ParseYaml("time: 2026-02-30T00:00:00Z", "f", event).ok());
  EXPECT_FALSE(ParseYaml("sample: {data: 123}", "f", event).ok());
}

TEST(Text, SuggestsTheNearest) {
  const std::vector<std::string> keys = {"source_ports", "destination_ports", "name", "tcp_flags"};
  EXPECT_EQ(Nearest("sourcePorts", keys), "source_ports");
  EXPECT_EQ(Nearest("source-ports", keys), "source_ports");
  EXPECT_EQ(Nearest("soruce_ports", keys), "source_ports");
  EXPECT_EQ(Nearest("Name", keys), "name");
  EXPECT_EQ(Nearest("tcpflags", keys), "tcp_flags");
  EXPECT_EQ(Nearest("zzz", keys), "");
  EXPECT_EQ(Nearest("", keys), "");
}

TEST(Text, JsonIsCheckedAsJson) {
  v1::GatewayConfig config;
  EXPECT_TRUE(ParseJson("{\"rules\":\t[{\"name\":\"a\\/\\u00e9\\ud83d\\ude00\"}]}", "f", config).ok());
  EXPECT_EQ(config.rules(0).name(), "a/\xc3\xa9\xf0\x9f\x98\x80");
  const absl::Status yaml = ParseJson("{\n  rules: []}", "f", config);
  EXPECT_EQ(yaml.message().substr(0, 16), "f:2:3: not JSON:");
  EXPECT_FALSE(ParseJson("", "f", config).ok());
  EXPECT_EQ(ParseJson(R"({"rules": [{"priority": 1e999}]})", "f", config).message(),
            "f:1:29: not JSON: number overflow parsing '1e999'");
  EXPECT_FALSE(ParseJson("{} {}", "f", config).ok());
  EXPECT_FALSE(ParseJson(R"({"rules": "\ud83d"})", "f", config).ok());
  EXPECT_EQ(ParseJson(R"({"rules": [{"priority": "1"}]})", "f", config).message(),
            "f:1:25: rules[0].priority: \"1\" is text, a number is needed: write it without quotes");
}

// Also what Python's json.dumps and the like make of it, with everything beyond ASCII as escapes.
void CheckRoundTrip(const google::protobuf::Message& message) {
  const std::unique_ptr<google::protobuf::Message> back(message.New());
  const std::string yaml = ToYaml(message);
  absl::Status status = ParseYaml(yaml, "yaml", *back);
  ASSERT_TRUE(status.ok()) << status << "\n" << yaml;
  ASSERT_TRUE(MessageDifferencer::Equals(message, *back)) << yaml << message.DebugString();

  for (const std::string& json :
       {ToJsonText(message), ToJsonText(message, -1), ToJson(message).dump(1, '\t', true)}) {
    status = ParseJson(json, "json", *back);
    ASSERT_TRUE(status.ok()) << status << "\n" << json;
    ASSERT_TRUE(MessageDifferencer::Equals(message, *back)) << json << message.DebugString();
  }
}

template <typename Message>
void CheckRandom(int count) {
  std::mt19937_64 random = testing::MakeRandom();
  testing::RandomMessage source(random);
  for (int i = 0; i < count && !::testing::Test::HasFatalFailure(); ++i) {
    Message message;
    source.Fill(message);
    CheckRoundTrip(message);
  }
}

TEST(Text, RandomConfigurationsRoundTrip) { CheckRandom<v1::GatewayConfig>(300); }
TEST(Text, RandomPatchesRoundTrip) { CheckRandom<v1::ApplyRequest>(200); }
TEST(Text, RandomObjectsRoundTrip) { CheckRandom<v1::GetResponse>(300); }
TEST(Text, RandomEventsRoundTrip) { CheckRandom<v1::Event>(1000); }
TEST(Text, RandomStatisticsRoundTrip) { CheckRandom<v1::StatsResponse>(300); }
TEST(Text, RandomTracesRoundTrip) { CheckRandom<v1::TraceResponse>(300); }
TEST(Text, RandomStatusesRoundTrip) { CheckRandom<v1::StatusResponse>(300); }

// Types that no message of the API uses today.
TEST(Text, OtherTypesRoundTrip) {
  google::protobuf::FileDescriptorProto file;
  ASSERT_TRUE(ParseYaml(R"(
name: other.proto
syntax: proto3
message_type:
  - name: Other
    field:
      - {name: i32, number: 1, type: int32, label: optional}
      - {name: i64, number: 2, type: sint64, label: repeated}
      - {name: f32, number: 3, type: float, label: optional}
      - {name: f64, number: 4, type: double, label: repeated}
      - {name: flag, number: 5, type: bool, label: repeated}
      - {name: again, number: 6, type: message, type_name: Other, label: repeated}
)",
                        "file", file)
                  .ok());
  google::protobuf::DescriptorPool pool;
  const google::protobuf::FileDescriptor* built = pool.BuildFile(file);
  ASSERT_NE(built, nullptr);
  google::protobuf::DynamicMessageFactory factory(&pool);
  const std::unique_ptr<google::protobuf::Message> message(factory.GetPrototype(built->message_type(0))->New());

  std::mt19937_64 random = testing::MakeRandom();
  testing::RandomMessage source(random);
  for (int i = 0; i < 100 && !HasFatalFailure(); ++i) {
    message->Clear();
    source.Fill(*message, 5);
    CheckRoundTrip(*message);
  }
  ASSERT_TRUE(ParseYaml("{f32: .inf, f64: [-.inf, 1e300, -2]}", "f", *message).ok());
  CheckRoundTrip(*message);
  EXPECT_FALSE(ParseYaml("f32: 0x1p3", "f", *message).ok());
  EXPECT_EQ(ParseYaml("i32: 2147483648", "f", *message).message(),
            "f:1:6: i32: \"2147483648\" is out of range: -2147483648 to 2147483647 are possible");
}

}  // namespace
}  // namespace headgate
