// SPDX-License-Identifier: Apache-2.0
//
// Get: what is asked for and no more, in order, in pages that fit together, each object with its status.
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>

#include <set>

#include "tests/harness/live_gateway.h"

namespace headgate::testing {
namespace {

constexpr int kInvalidArgument = 3, kAborted = 10;

std::string NameOf(const pb::Object& object) {
  switch (object.object_case()) {
    case pb::Object::kInterface:
      return "interface " + object.interface().name();
    case pb::Object::kPrefixSet:
      return "prefix_set " + object.prefix_set().name();
    case pb::Object::kRule:
      return "rule " + object.rule().name();
    case pb::Object::kNextHop:
      return "next_hop " + object.next_hop().name();
    case pb::Object::kSteerTarget:
      return "steer_target " + object.steer_target().name();
    case pb::Object::kMulticastRoute:
      return "multicast_route " + object.multicast_route().name();
    case pb::Object::kSettings:
      return "settings";
    case pb::Object::OBJECT_NOT_SET:
      break;
  }
  return "nothing";
}

class GetTest : public LiveGatewayTest {
 protected:
  GetTest() : LiveGatewayTest("get", {{"--max-rules", "16384"}}) {}

  pb::GetResponse Page(const pb::GetRequest& request) {
    pb::GetResponse response;
    const CallStatus status = api().Get(request, response);
    EXPECT_TRUE(status.ok()) << status.message;
    return response;
  }
  std::vector<std::string> NamesOf(const pb::GetRequest& request) {
    std::vector<std::string> names;
    const pb::GetResponse page = Page(request);
    for (const pb::Object& object : page.objects()) names.push_back(NameOf(object));
    return names;
  }
  void ApplyRules(int count) {
    pb::ApplyRequest request = ConfigRequest(kDocument);
    for (int i = 0; i < count; ++i) {
      pb::Rule& rule = *request.mutable_config()->add_rules();
      rule.set_name(absl::StrCat("r", i));
      rule.set_priority(static_cast<uint32_t>(1000 + i));
      rule.mutable_match()->set_source(absl::StrCat("100.64.", i / 256, ".", i % 256));
      rule.mutable_action()->mutable_drop();
    }
    const CallStatus status = api().Apply(request);
    ASSERT_TRUE(status.ok()) << status.message;
  }
};

using Names = std::vector<std::string>;

TEST_F(GetTest, AnswersWhatIsAskedForInOrder) {
  api().PatchYaml("upsert: {steer_targets: [{name: z}, {name: a}], default_action: drop}");
  NowAndAfterRestart([&] {
    pb::GetRequest request;
    const auto all = {"settings",     "interface in",   "interface out",  "prefix_set bogons",
                      "next_hop hop", "steer_target a", "steer_target z", "rule drop-9",
                      "rule evil",    "rule hop",       "rule wire"};
    EXPECT_EQ(NamesOf(request), Names(all.begin(), all.end()));
    request.set_applied(true);
    EXPECT_EQ(NamesOf(request), Names(all.begin(), all.end()));
    request.add_kinds(pb::KIND_RULE);
    request.add_kinds(pb::KIND_INTERFACE);
    EXPECT_EQ(NamesOf(request),
              (Names{"interface in", "interface out", "rule drop-9", "rule evil", "rule hop", "rule wire"}));
    request.add_names("hop");
    request.add_names("out");
    request.add_names("none");
    EXPECT_EQ(NamesOf(request), (Names{"interface out", "rule hop"}));
    request.clear_kinds();
    EXPECT_EQ(NamesOf(request), (Names{"interface out", "next_hop hop", "rule hop"}));
  });
}

TEST_F(GetTest, PagesFitTogether) {
  ApplyRules(3000);
  NowAndAfterRestart([&] {
    for (const uint32_t size : {1000U, 7U, 3008U, 3009U}) {
      pb::GetRequest request;
      request.set_page_size(size);
      std::set<std::string> seen;
      uint32_t last_priority = 0xffffffff;
      do {
        const pb::GetResponse page = Page(request);
        EXPECT_LE(page.objects_size(), static_cast<int>(size));
        EXPECT_TRUE(page.objects_size() == static_cast<int>(size) || page.next_page_token().empty());
        for (const pb::Object& object : page.objects()) {
          EXPECT_TRUE(seen.insert(NameOf(object)).second) << NameOf(object) << " twice";
          if (!object.has_rule()) continue;
          EXPECT_LT(object.rule().priority(), last_priority);
          last_priority = object.rule().priority();
        }
        request.set_page_token(page.next_page_token());
      } while (!request.page_token().empty());
      EXPECT_EQ(seen.size(), 3009U);  // the document's nine among them
    }
  });
}

TEST_F(GetTest, APageHasTenThousandObjectsAtMost) {
  ApplyRules(10'500);
  pb::GetRequest request;
  for (const uint32_t size : {0U, 50'000U}) {
    request.set_page_size(size);
    const pb::GetResponse page = Page(request);
    EXPECT_EQ(page.objects_size(), 10'000);
    EXPECT_FALSE(page.next_page_token().empty());
  }
  EXPECT_EQ(api().GetAll().size(), 10'509U);
}

TEST_F(GetTest, ATokenEndsWithItsGeneration) {
  ApplyRules(100);
  pb::GetRequest request;
  request.set_page_size(10);
  request.set_page_token(Page(request).next_page_token());
  // A restart changes nothing about what is to be read.
  agent().Restart();
  EXPECT_EQ(Page(request).objects_size(), 10);

  api().PatchYaml("delete_rules: [r5]");
  pb::GetResponse response;
  const CallStatus status = api().Get(request, response);
  EXPECT_EQ(status.code, kAborted) << status.message;
  EXPECT_TRUE(absl::StrContains(status.message, "begin again")) << status.message;
}

TEST_F(GetTest, TokensThatGetHasNotGivenAreRefused) {
  const uint64_t generation = api().Status().desired_generation();
  for (const std::string& token :
       {std::string("x"), std::string("1"), std::string("1.2.3"), std::string("."),
        absl::StrCat(generation, ".-1"), absl::StrCat(generation, ".18446744073709551615"),
        absl::StrCat(generation, ".1000")}) {
    pb::GetRequest request;
    request.set_page_token(token);
    pb::GetResponse response;
    EXPECT_EQ(api().Get(request, response).code, kInvalidArgument) << token;
  }
}

TEST_F(GetTest, UnknownKindsAreRefusedByTheirPlace) {
  for (const int kind : {static_cast<int>(pb::KIND_UNSPECIFIED), static_cast<int>(pb::KIND_COUNTER), 99, -1}) {
    pb::GetRequest request;
    request.add_kinds(pb::KIND_RULE);
    request.add_kinds(static_cast<pb::Kind>(kind));
    request.add_kinds(static_cast<pb::Kind>(100));
    pb::GetResponse response;
    const CallStatus status = api().Get(request, response);
    EXPECT_EQ(status.code, kInvalidArgument);
    ASSERT_EQ(status.violations.size(), 2U) << kind;
    EXPECT_EQ(status.violations[0].first, "kinds[1]");
    EXPECT_EQ(status.violations[1],
              std::pair(std::string("kinds[2]"),
                        std::string(
                            "is value 100, which is unknown; here are: KIND_INTERFACE, KIND_PREFIX_SET, "
                            "KIND_RULE, KIND_NEXT_HOP, KIND_STEER_TARGET, KIND_SETTINGS, KIND_MULTICAST_ROUTE")));
  }
}

TEST_F(GetTest, ALargePrefixSetIsOneObject) {
  pb::ApplyRequest request = ConfigRequest(kDocument);
  std::vector<std::string> sorted;
  for (int set = 0; set < 4; ++set) {
    pb::PrefixSet& to = *request.mutable_config()->add_prefix_sets();
    to.set_name(absl::StrCat("large", set));
    for (int i = 14'999; i >= 0; --i)
      to.add_prefixes(absl::StrCat("2001:db8:", absl::Hex(set), ":", absl::Hex(i), "::/64"));
  }
  ASSERT_TRUE(api().Apply(request).ok());
  NowAndAfterRestart([&] {
    pb::GetRequest get;
    get.add_kinds(pb::KIND_PREFIX_SET);
    get.set_page_size(1);
    for (int set = -1; set < 4; ++set) {
      const pb::GetResponse page = Page(get);
      ASSERT_EQ(page.objects_size(), 1);
      const pb::PrefixSet& got = page.objects(0).prefix_set();
      EXPECT_EQ(got.name(), set < 0 ? "bogons" : absl::StrCat("large", set));
      if (set < 0) {
        EXPECT_EQ(got.prefixes_size(), 2);
      } else {
        ASSERT_EQ(got.prefixes_size(), 15'000);
        // In the order of addresses, each in its shortest form.
        for (int i : {1, 2, 255, 9'999, 14'999}) {
          const std::string third = set == 0 ? "0" : absl::StrCat(absl::Hex(set));
          EXPECT_EQ(got.prefixes(i), absl::StrCat("2001:db8:", third, ":", absl::Hex(i), "::/64"));
        }
      }
      get.set_page_token(page.next_page_token());
    }
    EXPECT_TRUE(get.page_token().empty());
  });
}

TEST_F(GetTest, WhatIsReadCanBeApplied) {
  api().PatchYaml(R"(
upsert:
  default_action: drop
  management: {allow: [{source: 192.0.2.0/24, protocol: tcp, destination_ports: ["22", "7000-7010"], interface: in}]}
  steer_targets: [{name: app, fallback: drop}]
  next_hops:
    - {name: tagged, interface: out, mac: "02:00:00:00:0c:02", source_mac: "02:00:00:00:0c:03", vlan: 0,
       decrement_ttl: true}
  rules:
    - {name: a, priority: 101, match: {vlan: 0, inner_vlan: 5, source: 10.0.0.0/8, destination: 10.1.0.0/16,
       protocol: tcp, source_ports: ["1-5"], destination_ports: ["80", "443"], tcp_flags: "syn,!ack",
       dscp: 0, fragment: none,
       packet_length: 64-128}, action: {steer: {target: app}, count: {counter: c}, sample: {one_in: 100},
       rate_limit: {bits_per_second: 5000, burst: 20000, per: source}}}
    - {name: b, priority: 102, match: {protocol: icmp, icmp_type: 0, icmp_code: 0}, action: {tx: {swap: ports}}}
    - {name: c, priority: 103, match: {protocol: "99", destination_set: bogons, fragment: later}, action: {route: {}}}
    - {name: d, priority: 104, action: {redirect: {interface: out, source_mac: "02:00:00:00:0c:04",
       destination_mac: "ff:ff:ff:ff:ff:ff"}}}
  multicast_routes:
    - {name: m, input: {interfaces: [in], group: 239.1.1.1}, legs: [{interface: out}]}
    - name: n
      input: {interfaces: [in], group: "ff3e:1::/32", sources: {include: ["2001:db8::1"], exclude: ["2001:db8:1::/48"]},
              port: 5001}
      legs: [{name: leg, interface: out, group: "ff3e::1", port: 1, source: "2001:db8::2", source_port: 2, ttl: {set: 3},
              dscp: 0, vlan: 0, rate_limit: {bits_per_second: 5000, burst: 20000}}]
    - {name: o, input: {interfaces: [in], group: 239.0.0.0/9, protocol: esp},
       legs: [{interface: out, source: egress, ttl: {threshold: 9}}]}
)");
  NowAndAfterRestart([&] {
    pb::ApplyRequest again;
    pb::GatewayConfig& config = *again.mutable_config();
    for (const pb::Object& object : api().GetAll()) {
      switch (object.object_case()) {
        case pb::Object::kInterface:
          *config.add_interfaces() = object.interface();
          break;
        case pb::Object::kPrefixSet:
          *config.add_prefix_sets() = object.prefix_set();
          break;
        case pb::Object::kRule:
          *config.add_rules() = object.rule();
          break;
        case pb::Object::kNextHop:
          *config.add_next_hops() = object.next_hop();
          break;
        case pb::Object::kSteerTarget:
          *config.add_steer_targets() = object.steer_target();
          break;
        case pb::Object::kMulticastRoute:
          *config.add_multicast_routes() = object.multicast_route();
          break;
        case pb::Object::kSettings:
          config.set_default_action(object.settings().default_action());
          *config.mutable_management() = object.settings().management();
          break;
        case pb::Object::OBJECT_NOT_SET:
          FAIL() << "an object that is none";
      }
    }
    pb::ApplyResponse response;
    const CallStatus status = api().Apply(again, &response);
    EXPECT_TRUE(status.ok()) << status.message;
    EXPECT_EQ(response.difference_count(), 0U) << response.ShortDebugString();
  });
}

TEST_F(GetTest, EachObjectHasItsStatus) {
  api().PatchYaml(R"(
upsert:
  interfaces: [{name: late, device: hgt-late}, {name: lo, device: lo, mode: native}]
  next_hops: [{name: far, interface: late, mac: "02:00:00:00:0c:02"}]
  rules:
    - {name: from-late, priority: 101, match: {interface: late}, action: {pass: {}}}
    - {name: to-late, priority: 102, match: {protocol: tcp}, action: {redirect: {interface: late}}}
    - {name: hop-late, priority: 103, match: {protocol: icmp}, action: {next_hop: {name: far}}}
)");
  NowAndAfterRestart([&] {
    for (const pb::Object& object : api().GetAll()) {
      SCOPED_TRACE(NameOf(object));
      const std::string name = NameOf(object);
      const std::string& reason = object.status().reason();
      if (absl::StrContains(name, "late") || name == "next_hop far") {
        EXPECT_EQ(object.status().state(), pb::ObjectStatus::STATE_PENDING);
        EXPECT_TRUE(absl::StrContains(reason, "hgt-late does not exist")) << reason;
      } else if (name == "interface lo") {
        EXPECT_EQ(object.status().state(), pb::ObjectStatus::STATE_ERROR);
        EXPECT_TRUE(absl::StrContains(reason, "lo")) << reason;
      } else {
        EXPECT_EQ(object.status().state(), pb::ObjectStatus::STATE_APPLIED);
        EXPECT_EQ(reason, "");
      }
    }
    const pb::Object in = api().GetObject(pb::KIND_INTERFACE, "in");
    EXPECT_EQ(in.interface_state().mac(), lab().Mac("gw", "g0"));
    EXPECT_EQ(in.interface_state().mode(), pb::ATTACH_MODE_NATIVE);
    EXPECT_EQ(in.interface_state().mtu(), 1500U);
    EXPECT_TRUE(in.interface_state().up());
    EXPECT_TRUE(absl::StrContains(lab().Ip("gw", "-o link show g0"),
                                  absl::StrCat(in.interface_state().ifindex(), ": g0@")));
    ExpectDocumentInForce();
  });
}

}  // namespace
}  // namespace headgate::testing
