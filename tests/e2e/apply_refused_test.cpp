// SPDX-License-Identifier: Apache-2.0
//
// What Apply refuses: with all that is wrong at once, and without a trace of it in the state or the data path.
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_replace.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <set>

#include "tests/harness/live_gateway.h"
#include "tests/harness/plain_stub.h"

namespace headgate::testing {
namespace {

constexpr int kInvalidArgument = 3, kResourceExhausted = 8;

using Paths = std::multiset<std::string>;

Paths Fields(const CallStatus& status) {
  Paths fields;
  for (const auto& [field, description] : status.violations) {
    fields.insert(field);
    EXPECT_FALSE(description.empty()) << field;
  }
  return fields;
}

Paths Without(const Paths& all, const Paths& some) {
  Paths rest;
  std::set_difference(all.begin(), all.end(), some.begin(), some.end(), std::inserter(rest, rest.end()));
  return rest;
}

class RefusalTest : public LiveGatewayTest {
 protected:
  RefusalTest() : LiveGatewayTest("apply") {}

  pb::ApplyResponse Applied(const pb::ApplyRequest& request) {
    pb::ApplyResponse response;
    const CallStatus status = api().Apply(request, &response);
    EXPECT_TRUE(status.ok()) << status.message;
    return response;
  }
  // Refused by Apply, in earnest and as a dry run, and by the stream; nothing changes, and the message says this.
  void ExpectNoRoom(const pb::ApplyRequest& patch, const std::vector<std::string>& said) {
    const auto expect_said = [&said](const std::string& message) {
      for (const std::string& part : said) EXPECT_TRUE(absl::StrContains(message, part)) << message;
    };
    for (const bool dry_run : {true, false}) {
      SCOPED_TRACE(dry_run ? "dry run" : "in earnest");
      pb::ApplyRequest request = patch;
      request.set_dry_run(dry_run);
      expect_said(ExpectRefused(request, kResourceExhausted).message);
    }
    SCOPED_TRACE("stream");
    const std::string held = Held();
    const auto stream = api().Update();
    pb::UpdateRequest request;
    request.set_id(7);
    *request.mutable_patch() = patch.patch();
    ASSERT_TRUE(stream->Send(request));
    const std::optional<pb::UpdateResponse> response = stream->Receive();
    stream->Finish();
    ASSERT_TRUE(response.has_value());
    EXPECT_EQ(response->id(), 7U);
    EXPECT_EQ(response->code(), kResourceExhausted);
    EXPECT_EQ(response->generation(), 0U);
    expect_said(response->message());
    EXPECT_EQ(Held(), held);
    ExpectDocumentInForce();
  }
};

TEST_F(RefusalTest, EitherAConfigOrAPatchIsNeeded) {
  EXPECT_EQ(Fields(ExpectRefused(pb::ApplyRequest(), kInvalidArgument)), Paths{"change"});
}

// One thing wrong with each rule, and where. All but the last part of the rule, which gives a priority.
const std::pair<const char*, const char*> kWrongRules[] = {
    {"match: {source: 10.0.0.0/33}, action: {drop: {}}", "match.source"},
    {"match: {source: 10.0.0.1/8}, action: {drop: {}}", "match.source"},
    {"match: {source: '::ffff:10.0.0.1'}, action: {drop: {}}", "match.source"},
    {"match: {source: nowhere}, action: {drop: {}}", "match.source"},
    {"match: {source: \"10.0.0.1\\0\"}, action: {drop: {}}", "match.source"},
    {"match: {destination: 'fe80::/129'}, action: {drop: {}}", "match.destination"},
    {"match: {destination: 300.1.1.1}, action: {drop: {}}", "match.destination"},
    {"match: {source: 10.0.0.1, destination: '::1'}, action: {drop: {}}", "match.destination"},
    {"match: {source_set: none}, action: {drop: {}}", "match.source_set"},
    {"match: {destination_set: none}, action: {drop: {}}", "match.destination_set"},
    {"match: {source: 10.0.0.1, source_set: bogons}, action: {drop: {}}", "match.source_set"},
    {"match: {destination: 10.0.0.1, destination_set: bogons}, action: {drop: {}}", "match.destination_set"},
    {"match: {interface: none}, action: {drop: {}}", "match.interface"},
    {"match: {vlan: 4095}, action: {drop: {}}", "match.vlan"},
    {"match: {vlan: 70000}, action: {drop: {}}", "match.vlan"},
    {"match: {inner_vlan: 4095}, action: {drop: {}}", "match.inner_vlan"},
    {"match: {protocol: xyz}, action: {drop: {}}", "match.protocol"},
    {"match: {protocol: '256'}, action: {drop: {}}", "match.protocol"},
    {"match: {protocol: udp, source_ports: ['65536']}, action: {drop: {}}", "match.source_ports[0]"},
    {"match: {protocol: udp, source_ports: ['9-5']}, action: {drop: {}}", "match.source_ports"},
    {"match: {protocol: udp, destination_ports: ['53', 'x']}, action: {drop: {}}", "match.destination_ports[1]"},
    {"match: {protocol: udp, destination_ports: ['']}, action: {drop: {}}", "match.destination_ports[0]"},
    {"match: {protocol: icmp, destination_ports: ['5']}, action: {drop: {}}", "match.destination_ports"},
    {"match: {protocol: gre, source_ports: ['5']}, action: {drop: {}}", "match.source_ports"},
    {"match: {tcp_flags: syn}, action: {drop: {}}", "match.tcp_flags"},
    {"match: {protocol: tcp, tcp_flags: 'syn,sin'}, action: {drop: {}}", "match.tcp_flags"},
    {"match: {protocol: tcp, tcp_flags: 'syn,!syn'}, action: {drop: {}}", "match.tcp_flags"},
    {"match: {protocol: tcp, tcp_flags: syn, fragment: later}, action: {drop: {}}", "match.tcp_flags"},
    {"match: {protocol: udp, source_ports: ['1'], fragment: later}, action: {drop: {}}", "match.source_ports"},
    {"match: {icmp_type: 8}, action: {drop: {}}", "match.icmp_type"},
    {"match: {protocol: icmp, icmp_type: 256}, action: {drop: {}}", "match.icmp_type"},
    {"match: {protocol: icmp, icmp_code: 1}, action: {drop: {}}", "match.icmp_code"},
    {"match: {protocol: icmp, icmp_type: 8, fragment: later}, action: {drop: {}}", "match.icmp_type"},
    {"match: {protocol: icmpv6, source: 10.0.0.1}, action: {drop: {}}", "match.protocol"},
    {"match: {dscp: 64}, action: {drop: {}}", "match.dscp"},
    {"match: {dscp: 300}, action: {drop: {}}", "match.dscp"},
    {"match: {packet_length: 100-50}, action: {drop: {}}", "match.packet_length"},
    {"match: {packet_length: '70000'}, action: {drop: {}}", "match.packet_length"},
    {"action: {}", "action"},
    {"action: {count: {counter: c}}", "action"},
    {"action: {drop: {}, count: {}}", "action.count.counter"},
    {"action: {redirect: {}}", "action.redirect.interface"},
    {"action: {redirect: {interface: none}}", "action.redirect.interface"},
    {"action: {redirect: {interface: out, source_mac: '01:00:5e:00:00:01'}}", "action.redirect.source_mac"},
    {"action: {redirect: {interface: out, destination_mac: '1:2:3'}}", "action.redirect.destination_mac"},
    {"action: {redirect: {interface: out, destination_mac: '-1:00:00:00:0x: 1'}}",
     "action.redirect.destination_mac"},
    {"action: {next_hop: {}}", "action.next_hop.name"},
    {"action: {next_hop: {name: none}}", "action.next_hop.name"},
    {"action: {steer: {}}", "action.steer.target"},
    {"action: {steer: {target: none}}", "action.steer.target"},
    {"action: {pass: {}, rate_limit: {}}", "action.rate_limit"},
    {"action: {pass: {}, rate_limit: {packets_per_second: 5, bits_per_second: 5000}}", "action.rate_limit"},
    {"action: {pass: {}, rate_limit: {bits_per_second: 999}}", "action.rate_limit.bits_per_second"},
    {"action: {pass: {}, rate_limit: {packets_per_second: 1000000001}}", "action.rate_limit.packets_per_second"},
    {"action: {pass: {}, rate_limit: {packets_per_second: 1, burst: 3601}}", "action.rate_limit.burst"},
    {"action: {pass: {}, sample: {one_in: 0}}", "action.sample.one_in"},
};

TEST_F(RefusalTest, AllErrorsAreAnsweredAtOnce) {
  static_assert(std::size(kWrongRules) >= 50);
  std::string yaml = kDocument;
  Paths expected;
  size_t index = 4;  // rules of kDocument
  for (const auto& [rule, field] : kWrongRules) {
    absl::StrAppend(&yaml, "  - {name: wrong-", index, ", priority: ", 1000 + index, ", ", rule, "}\n");
    expected.insert(absl::StrCat("config.rules[", index++, "].", field));
  }
  const pb::ApplyRequest request = ConfigRequest(yaml);
  NowAndAfterRestart([&] {
    const CallStatus status = ExpectRefused(request, kInvalidArgument);
    EXPECT_EQ(Without(expected, Fields(status)), Paths());
    EXPECT_EQ(Without(Fields(status), expected), Paths());

    // And to a client that has not raised any of gRPC's limits.
    grpc::ClientContext context;
    pb::ApplyResponse response;
    const grpc::Status plain = PlainStub(agent().address())->Apply(&context, request, &response);
    EXPECT_EQ(plain.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << plain.error_message();
  });
}

TEST_F(RefusalTest, ErrorsWithoutNumberAreAnsweredToo) {
  std::string yaml = kDocument;
  for (int i = 0; i < 100'000; ++i) absl::StrAppend(&yaml, "  - {name: ", i, ", priority: ", 1000 + i, "}\n");
  const CallStatus status = ExpectRefused(ConfigRequest(yaml), kInvalidArgument);
  EXPECT_GT(status.violations.size(), 1000U);
  EXPECT_TRUE(absl::StrContains(status.message, "100000 violations")) << status.message;

  // A client that has not raised gRPC's limit of 8 KB for trailers gets an error too, and its connection stays.
  const auto stub = PlainStub(agent().address());
  grpc::ClientContext refused, after;
  pb::ApplyResponse response;
  const grpc::Status plain = stub->Apply(&refused, ConfigRequest(yaml), &response);
  EXPECT_FALSE(plain.ok());
  pb::StatusResponse agent_status;
  EXPECT_TRUE(stub->Status(&after, {}, &agent_status).ok());
}

TEST_F(RefusalTest, NoTwoRulesHaveOnePriority) {
  NowAndAfterRestart([&] {
    const auto rules = [](const char* text) {
      return PatchRequest(absl::StrCat("upsert: {rules: [", text, "]}"));
    };
    const CallStatus existing =
        ExpectRefused(rules("{name: new, priority: 20, action: {drop: {}}}"), kInvalidArgument);
    EXPECT_EQ(Fields(existing), Paths{"patch.upsert.rules[0].priority"});
    EXPECT_TRUE(absl::StrContains(existing.violations.at(0).second, "rule \"hop\" has priority 20"));

    const CallStatus within = ExpectRefused(
        rules("{name: a, priority: 21, action: {drop: {}}}, {name: b, priority: 21, action: {drop: {}}}"),
        kInvalidArgument);
    EXPECT_EQ(Fields(within), Paths{"patch.upsert.rules[1].priority"});

    // Two rules may exchange theirs, and one may take that of a deleted one.
    pb::ApplyRequest exchange = PatchRequest(R"(
upsert:
  rules:
    - {name: evil, priority: 40, match: {source_set: bogons}, action: {drop: {}, count: {counter: evil}}}
    - {name: drop-9, priority: 30, match: {protocol: udp, destination_ports: ["9"]}, action: {drop: {}}}
    - {name: new, priority: 20, action: {pass: {}}}
delete_rules: [hop]
)");
    Applied(exchange);
    EXPECT_EQ(FateOfPort(7005), "pass_rule");
    Applied(ConfigRequest(kDocument));
  });
}

TEST_F(RefusalTest, NamesAreUniqueAndWellFormed) {
  const auto fields = [&](const char* patch) {
    return Fields(ExpectRefused(PatchRequest(patch), kInvalidArgument));
  };
  EXPECT_EQ(fields("upsert: {rules: [{name: a, priority: 1, action: {drop: {}}}, {name: a, priority: 2, action: "
                   "{drop: {}}}]}"),
            Paths{"patch.upsert.rules[1].name"});
  EXPECT_EQ(
      fields("upsert: {rules: [{priority: 1, action: {drop: {}}}, {name: a b, priority: 2, action: {drop: {}}}]}"),
      (Paths{"patch.upsert.rules[0].name", "patch.upsert.rules[1].name"}));
  EXPECT_EQ(fields(("upsert: {steer_targets: [{name: " + std::string(64, 'x') + "}]}").c_str()),
            Paths{"patch.upsert.steer_targets[0].name"});
  EXPECT_EQ(fields("upsert: {interfaces: [{name: x, device: a/b}, {name: y, device: g0}]}"),
            (Paths{"patch.upsert.interfaces[0].device", "patch.upsert.interfaces[1].device"}));
  EXPECT_EQ(fields("upsert: {steer_targets: [{name: s}]}\ndelete_steer_targets: [s]"),
            Paths{"patch.upsert.steer_targets[0]"});
}

TEST_F(RefusalTest, WhatIsReferredToMustExistAndStay) {
  Applied(PatchRequest(R"(
upsert:
  management: {allow: [{interface: out, protocol: tcp, destination_ports: ["22"]}]}
  steer_targets: [{name: app}]
  rules: [{name: app, priority: 5, match: {protocol: tcp}, action: {steer: {target: app}}}]
)"));
  NowAndAfterRestart([&] {
    const auto fields = [&](const char* patch) {
      return Fields(ExpectRefused(PatchRequest(patch), kInvalidArgument));
    };
    EXPECT_EQ(fields("delete_interfaces: [in]"), Paths{"rules[\"wire\"].match.interface"});
    EXPECT_EQ(fields("delete_interfaces: [out]"),
              (Paths{"rules[\"wire\"].action.redirect.interface", "next_hops[\"hop\"].interface",
                     "management.allow[0].interface"}));
    EXPECT_EQ(fields("delete_prefix_sets: [bogons]"), Paths{"rules[\"evil\"].match.source_set"});
    EXPECT_EQ(fields("delete_next_hops: [hop]"), Paths{"rules[\"hop\"].action.next_hop.name"});
    EXPECT_EQ(fields("delete_steer_targets: [app]"), Paths{"rules[\"app\"].action.steer.target"});
    EXPECT_EQ(fields("upsert: {next_hops: [{name: x, interface: none, mac: '02:00:00:00:00:01'}]}"),
              Paths{"patch.upsert.next_hops[0].interface"});
    EXPECT_EQ(fields("upsert: {management: {allow: [{interface: none}]}}"),
              Paths{"patch.upsert.management.allow[0].interface"});
    EXPECT_EQ(fields("prefix_set_changes: [{name: none, add: [10.0.0.0/8]}]"),
              Paths{"patch.prefix_set_changes[0].name"});
  });
  // With what refers to it, it may go.
  Applied(PatchRequest("delete_rules: [hop]\ndelete_next_hops: [hop]"));
  EXPECT_EQ(FateOfPort(7005), "forward_redirect");
}

// ---- limits -------------------------------------------------------------------------------------------------

TEST_F(RefusalTest, WhatThereIsNoRoomForIsRefusedWhole) {
  RestartWith({{"--max-rules", "64"}, {"--max-prefixes", "100"}});
  const auto rules = [](int from, int to) {
    std::string patch = "upsert:\n  rules:\n";
    for (int i = from; i < to; ++i) {
      absl::StrAppend(&patch, "    - {name: r", i, ", priority: ", 1000 + i,
                      ", match: {protocol: udp, destination_ports: ['", 20000 + i, "']}, action: {drop: {}}}\n");
    }
    return PatchRequest(patch);
  };
  NowAndAfterRestart([&] {
    // With the 4 of the document.
    ExpectNoRoom(rules(0, 61), {"table hg_rules", "need 65 match entries", "room for 64", "--max-rules"});
    // The same as a whole document.
    pb::ApplyRequest document = ConfigRequest(kDocument);
    document.mutable_config()->MergeFrom(rules(0, 61).patch().upsert());
    EXPECT_TRUE(absl::StrContains(ExpectRefused(document, kResourceExhausted).message, "need 65 match entries"));

    // One rule of many port pairs counts as that many.
    ExpectNoRoom(PatchRequest(R"(
upsert: {rules: [{name: pairs, priority: 99, match: {protocol: udp, source_ports: ["1","2","3","4","5","6","7","8"],
                  destination_ports: ["1","2","3","4","5","6","7","8"]}, action: {drop: {}}}]}
)"),
                 {"table hg_rules", "need 68 match entries", "room for 64", "--max-rules"});

    std::string prefixes = "prefix_set_changes:\n  - name: bogons\n    add:\n";
    for (int i = 0; i < 99; ++i) absl::StrAppend(&prefixes, "      - 203.0.113.", i, "\n");
    ExpectNoRoom(PatchRequest(prefixes),
                 {"table hg_prefixes", "need 101 entries", "room for 100", "--max-prefixes"});
  });
  // As many as there is room for are no trouble, and replacing all of them at once neither.
  Applied(rules(0, 60));
  EXPECT_EQ(FateOfPort(20059), "drop_rule");
  pb::ApplyRequest others = rules(60, 120);
  for (int i = 0; i < 60; ++i) others.mutable_patch()->add_delete_rules(absl::StrCat("r", i));
  Applied(others);
  NowAndAfterRestart([&] {
    EXPECT_EQ(FateOfPort(20059), "forward_redirect");
    EXPECT_EQ(FateOfPort(20119), "drop_rule");
  });
}

TEST_F(RefusalTest, LimitsOfKindsAreRefusedWhole) {
  const struct {
    const char *list, *kind, *fields;
    int count;
  } kinds[] = {{"interfaces", "interface", ", device: DEVICE", 255},
               {"prefix_sets", "prefix set", ", prefixes: [203.0.113.0/24]", 257},
               {"next_hops", "next hop", ", interface: out, mac: '02:00:00:00:0c:02'", 4097},
               {"steer_targets", "steer target", "", 65}};
  for (const auto& kind : kinds) {
    SCOPED_TRACE(kind.kind);
    std::string patch = absl::StrCat("upsert:\n  ", kind.list, ":\n");
    for (int i = 0; i < kind.count; ++i) {
      absl::StrAppend(&patch, "    - {name: more-", i,
                      absl::StrReplaceAll(kind.fields, {{"DEVICE", absl::StrCat("x", i)}}), "}\n");
    }
    ExpectNoRoom(PatchRequest(patch), {absl::StrCat("for ", kind.count, " more"), kind.kind, "a fixed limit"});
  }
}

}  // namespace
}  // namespace headgate::testing
