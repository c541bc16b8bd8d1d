// SPDX-License-Identifier: Apache-2.0
//
// What a bpftool user finds: every pinned map under a documented name, readable by the fields' names, with what
// the API says in it.
#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>

#include "bpf/hg_abi.h"
#include "tests/harness/live_gateway.h"

namespace headgate::testing {
namespace {

using nlohmann::json;

// Maps whose values are the kernel's own and have no BTF.
const std::set<std::string> kKernelTypes = {"devmap", "xskmap", "ringbuf", "array_of_maps"};

class BpftoolTest : public LiveGatewayTest {
 protected:
  BpftoolTest()
      : LiveGatewayTest("bpftool", {{"--max-rules", "64"}, {"--max-prefixes", "64"}, {"--max-sources", "64"}}) {}

  static constexpr char kMore[] = R"(
upsert:
  steer_targets: [{name: app, fallback: drop}]
  rules:
    - {name: limited, priority: 50, match: {protocol: udp, destination_ports: ["106"]},
       action: {pass: {}, rate_limit: {packets_per_second: 1000, per: source}, sample: {one_in: 1}}}
)";

  json Run(const std::string& command, const std::string& map) {
    return json::parse(
        Shell(absl::StrCat("bpftool map ", command, " pinned ", agent().pins(), "/maps/", map, " -j")));
  }
  // The formatted entries of a map.
  std::vector<json> Dump(const std::string& map) {
    std::vector<json> entries;
    for (const json& entry : Run("dump", map)) entries.push_back(entry.at("formatted"));
    return entries;
  }
  json At(const std::string& map, uint32_t key) {
    for (const json& entry : Dump(map)) {
      if (entry.at("key") == key) return entry.contains("value") ? entry.at("value") : entry.at("values");
    }
    ADD_FAILURE() << "no entry " << key << " of " << map;
    return {};
  }
  // A field of a value by CPU, over all of them.
  static uint64_t Sum(const json& values, const std::string& field) {
    uint64_t sum = 0;
    for (const json& cpu : values) sum += cpu.at("value").at(field).get<uint64_t>();
    return sum;
  }
  std::set<std::string> Pinned() {
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(agent().pins() + "/maps"))
      names.insert(entry.path().filename());
    return names;
  }
};

TEST_F(BpftoolTest, NamesAreThoseOfTheManual) {
  std::ifstream file(HG_DOCS "/operations.md");
  std::set<std::string> documented;
  const std::regex name("`(hg_[a-z0-9_]+)`");
  for (std::string line; std::getline(file, line);) {
    // The first column of the table of maps.
    if (line.rfind("| `hg_", 0) != 0) continue;
    const std::string cell = line.substr(0, line.find('|', 1));
    for (std::sregex_iterator it(cell.begin(), cell.end(), name), end; it != end; ++it)
      documented.insert((*it)[1]);
  }
  NowAndAfterRestart([&] {
    EXPECT_EQ(Pinned(), documented);
    for (const std::string& map : Pinned()) {
      EXPECT_LE(map.size(), 15U) << map;  // what the kernel keeps of a name
      EXPECT_EQ(Run("show", map).at("name"), map);
    }
  });
}

TEST_F(BpftoolTest, EveryMapDumpsByFieldNames) {
  api().PatchYaml(kMore);
  EXPECT_EQ(FateOfPort(106), "pass_rule");
  api().PatchYaml(R"(
upsert:
  rules: [{name: group, priority: 60, match: {destination: 239.1.1.1}, action: {pass: {}}}]
  multicast_routes: [{name: feed, input: {interfaces: [in], group: 239.1.1.1}, legs: [{interface: out}], deduplicate: {}}]
)");
  EXPECT_EQ(
      Fate(Ethernet{.destination = "01:00:5e:01:01:01"} / Ipv4{.destination = "239.1.1.1"} / Udp{} / Payload(50)),
      "forward_multicast");
  NowAndAfterRestart([&] {
    for (const std::string& map : Pinned()) {
      SCOPED_TRACE(map);
      if (kKernelTypes.contains(Run("show", map).at("type"))) continue;
      const json entries = Run("dump", map);
      // Nobody does here.
      if (map == "hg_listeners") continue;
      ASSERT_FALSE(entries.empty());
      for (const json& entry : entries) {
        ASSERT_TRUE(entry.contains("formatted")) << entry;
        const json& formatted = entry.at("formatted");
        const json& value =
            formatted.contains("value") ? formatted.at("value") : formatted.at("values").at(0).at("value");
        // A struct, with a name for each field; single numbers are numbers.
        ASSERT_TRUE(value.is_number() || (value.is_object() && !value.empty())) << value;
        if (value.is_object()) {
          for (const auto& [field, content] : value.items())
            ASSERT_TRUE(std::regex_match(field, std::regex("[a-z][a-z0-9_]*"))) << field;
        }
      }
    }
  });
}

TEST_F(BpftoolTest, MapsSayWhatTheApiSays) {
  api().PatchYaml(kMore);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(FateOfPort(9), "drop_rule");
  for (int i = 0; i < 4; ++i) EXPECT_EQ(FateOfPort(53, "198.51.100.7"), "drop_rule");
  for (int i = 0; i < 5; ++i) EXPECT_EQ(FateOfPort(7005), "forward_next_hop");
  EXPECT_EQ(FateOfPort(106), "pass_rule");
  NowAndAfterRestart([&] {
    const pb::Object in = api().GetObject(pb::KIND_INTERFACE, "in"),
                     out = api().GetObject(pb::KIND_INTERFACE, "out");
    const auto rule_id = [&](const char* name) { return api().GetObject(pb::KIND_RULE, name).id(); };

    // Counters.
    const auto rule_sum = [&](const char* name, const char* field) {
      const uint32_t id = rule_id(name);
      uint64_t sum = At("hg_rule_base", id).at(field);
      for (const json& cpu : At("hg_rule_stats", id / HG_RULE_COUNTS_PER_PAGE)) {
        sum += cpu.at("value").at("rule").at(id % HG_RULE_COUNTS_PER_PAGE).at(field).get<uint64_t>();
      }
      for (const json& cpu : At("hg_rule_recent", id / HG_RULE_COUNTS_PER_PAGE)) {
        const uint64_t word = cpu.at("value").at("rule").at(id % HG_RULE_COUNTS_PER_PAGE);
        if (field == std::string("packets")) sum += word & HG_RECENT_PACKETS;
        if (field == std::string("bytes")) sum += word >> HG_RECENT_PACKET_BITS;
      }
      return sum;
    };
    EXPECT_EQ(rule_sum("drop-9", "packets"), 3U);
    EXPECT_EQ(rule_sum("evil", "packets"), 4U);
    EXPECT_EQ(rule_sum("evil", "bytes"), api().Rule("evil").bytes());
    EXPECT_EQ(rule_sum("limited", "limited"), 0U);
    uint64_t received = 0, counted = 0;
    for (const json& entry : Dump("hg_port_stats")) {
      if (entry.at("key").get<uint32_t>() / 128 == in.id()) received += Sum(entry.at("values"), "packets");
    }
    EXPECT_EQ(received, api().Interface("in").received_packets());
    for (const json& entry : Dump("hg_counters")) counted += Sum(entry.at("values"), "packets");
    EXPECT_EQ(counted, 4U);
    EXPECT_EQ(Sum(At("hg_egress_stats", out.id()), "sent"), 5U);

    // The generation in force, and the way to a rule, an action, a prefix and a next hop.
    const json root = At("hg_roots", At("hg_active", 0).at("root"));
    EXPECT_EQ(root.at("generation"), api().Status().applied_generation());
    const auto find = [&](const char* map, const char* field, const auto& wanted) {
      for (const json& entry : Dump(map)) {
        if (entry.at("value").at(field) == wanted) return entry.at("value");
      }
      ADD_FAILURE() << "nothing in " << map << " has " << field << " " << json(wanted);
      return json();
    };
    json rule;
    for (const json& page : Dump("hg_rules")) {
      for (const json& entry : page.at("value").at("rule")) {
        if (entry.at("prio") == 40) rule = entry;
      }
    }
    EXPECT_EQ(rule.at("id"), rule_id("drop-9"));
    EXPECT_EQ(rule.at("dport_min"), 9);
    EXPECT_EQ(rule.at("dport_max"), 9);
    EXPECT_TRUE(At("hg_actions", rule.at("action")).contains("verdict"));
    EXPECT_NE(json(Dump("hg_prefixes")).dump().find(absl::StrCat(198U << 24 | 51U << 16 | 100U << 8)),
              std::string::npos);
    EXPECT_NE(json(Dump("hg_next_hops")).dump().find("\"dmac\":[2,0,0,0,12,1]"), std::string::npos);
    EXPECT_TRUE(At("hg_targets", 1).at("target").at(0).contains("fallback"));

    // Ports and what they are tied to.
    const json port = At("hg_ports", in.id());
    EXPECT_EQ(port.at("ifindex"), in.interface_state().ifindex());
    EXPECT_EQ(port.at("mtu"), 1500);
    EXPECT_EQ(find("hg_ifindexes", "ifindex", out.interface_state().ifindex()).at("port"), out.id());

    // Per-source limits, and the last trace.
    const std::vector<json> sources = Dump("hg_sources");
    ASSERT_EQ(sources.size(), 1U);
    EXPECT_EQ(sources[0].at("key").at("rule_id"), rule_id("limited"));
    EXPECT_EQ(sources[0].at("key").at("addr").at(0), 192U << 24 | 2U << 8 | 1);
    api().Trace("udp 192.0.2.1 > 192.0.2.2:9 in in");
    EXPECT_EQ(At("hg_traces", 0).at("rule_id"), rule_id("drop-9"));
  });
}

}  // namespace
}  // namespace headgate::testing
