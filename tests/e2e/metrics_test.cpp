// SPDX-License-Identifier: Apache-2.0
//
// /livez, /readyz and /metrics: what they say, that Prometheus takes it, and that it agrees with the API.
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>

#include <fstream>
#include <set>

#include "tests/harness/live_gateway.h"

namespace headgate::testing {
namespace {

class MetricsTest : public LiveGatewayTest {
 protected:
  MetricsTest() : LiveGatewayTest("metrics", {{"--max-rules", "4096"}}) {}

  struct Answer {
    int code = 0;
    std::string headers, body;
  };
  Answer Ask(const std::string& path, const std::string& options = "",
             const std::string& address = "127.0.0.1:9780") {
    const std::string headers = agent().directory() + "/headers", body = agent().directory() + "/body";
    Answer answer;
    answer.code = std::stoi(lab().In("gw", absl::StrCat("curl -s --max-time 10 -w '%{http_code}' -D ", headers,
                                                        " -o ", body, " ", options, " http://", address, path)));
    const auto read = [](const std::string& file) {
      std::ifstream stream(file, std::ios::binary);
      return std::string((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
    };
    answer.headers = read(headers);
    answer.body = read(body);
    return answer;
  }
  // Value by name with labels, as written; each at most once.
  std::map<std::string, double> Metrics() {
    const Answer answer = Ask("/metrics");
    EXPECT_EQ(answer.code, 200);
    std::map<std::string, double> values;
    for (const auto& line : absl::StrSplit(answer.body, '\n', absl::SkipEmpty())) {
      if (line[0] == '#') continue;
      const size_t space = line.rfind(' ');
      const std::string name(line.substr(0, space));
      EXPECT_TRUE(absl::StartsWith(name, "headgate_")) << line;
      EXPECT_TRUE(values.emplace(name, std::stod(std::string(line.substr(space + 1)))).second)
          << "twice: " << line;
    }
    return values;
  }
};

TEST_F(MetricsTest, LivesAndIsReady) {
  NowAndAfterRestart([&] {
    for (const char* path : {"/livez", "/readyz"}) {
      const Answer answer = Ask(path);
      EXPECT_EQ(answer.code, 200);
      EXPECT_EQ(answer.body, "ok\n");
    }
    EXPECT_EQ(Ask("/").code, 404);
    EXPECT_EQ(Ask("/metricsz").code, 404);
    EXPECT_EQ(Ask("/metrics", "-X DELETE").code, 404);
    EXPECT_EQ(Ask("/livez", "-I").code, 200);
  });
}

TEST_F(MetricsTest, IsNotReadyWhileAnInterfaceIsInError) {
  // One that waits for its device is none; one that cannot be attached is.
  api().PatchYaml("upsert: {interfaces: [{name: late, device: hgt-late}]}");
  EXPECT_EQ(Ask("/readyz").code, 200);
  api().PatchYaml("upsert: {interfaces: [{name: lo, device: lo, mode: native}]}");
  NowAndAfterRestart([&] {
    const Answer answer = Ask("/readyz");
    EXPECT_EQ(answer.code, 503);
    EXPECT_TRUE(absl::StrContains(answer.body, "interface lo: ")) << answer.body;
    EXPECT_EQ(Ask("/livez").code, 200);
    EXPECT_EQ(Metrics().at("headgate_interface_attached{interface=\"lo\",mode=\"none\"}"), 0);
  });
  api().PatchYaml("delete_interfaces: [lo]");
  EXPECT_EQ(Ask("/readyz").code, 200);
}

TEST_F(MetricsTest, AgreesWithTheApi) {
  for (int i = 0; i < 3; ++i) EXPECT_EQ(FateOfPort(9), "drop_rule");
  for (int i = 0; i < 4; ++i) EXPECT_EQ(FateOfPort(53, "198.51.100.7"), "drop_rule");
  for (int i = 0; i < 5; ++i) EXPECT_EQ(FateOfPort(7005), "forward_next_hop");
  constexpr double kBytes = 14 + 20 + 8 + 40;
  NowAndAfterRestart([&] {
    const auto metrics = Metrics();
    const auto value = [&](const std::string& name) {
      const auto found = metrics.find(name);
      EXPECT_NE(found, metrics.end()) << name;
      return found == metrics.end() ? -1 : found->second;
    };
    const pb::StatusResponse status = api().Status();
    EXPECT_EQ(value(absl::StrCat("headgate_build_info{version=\"", status.version(), "\"}")), 1);
    EXPECT_EQ(value("headgate_generation_desired"), status.desired_generation());
    EXPECT_EQ(value("headgate_generation_applied"), status.applied_generation());
    EXPECT_EQ(value("headgate_rules"), 4);
    EXPECT_EQ(value("headgate_prefixes"), 2);
    EXPECT_EQ(value("headgate_drift_repaired_total"), 0);
    EXPECT_GE(value("headgate_drift_checks_total"), 0);
    EXPECT_EQ(value("headgate_egress_counted"), 1);
    EXPECT_EQ(value("headgate_interface_up{interface=\"in\"}"), 1);
    EXPECT_EQ(value("headgate_interface_attached{interface=\"in\",mode=\"native\"}"), 1);
    EXPECT_EQ(
        value("headgate_interface_received_packets_total{interface=\"in\",class=\"drop\",reason=\"drop_rule\"}"),
        7);
    EXPECT_EQ(
        value("headgate_interface_received_bytes_total{interface=\"in\",class=\"drop\",reason=\"drop_rule\"}"),
        7 * kBytes);
    EXPECT_EQ(value("headgate_interface_received_packets_total{interface=\"in\",class=\"forward\",reason="
                    "\"forward_next_hop\"}"),
              5);
    EXPECT_EQ(value("headgate_interface_transmitted_packets_total{interface=\"out\"}"), 5);
    EXPECT_EQ(value("headgate_interface_transmit_dropped_packets_total{interface=\"out\"}"), 0);
    EXPECT_EQ(value("headgate_interface_transmit_refused_packets_total{interface=\"out\"}"), 0);
    EXPECT_EQ(value("headgate_rule_packets_total{rule=\"evil\"}"), 4);
    EXPECT_EQ(value("headgate_rule_bytes_total{rule=\"evil\"}"), 4 * kBytes);
    EXPECT_EQ(value("headgate_rule_limited_packets_total{rule=\"evil\"}"), 0);
    EXPECT_EQ(value("headgate_rule_packets_total{rule=\"wire\"}"), 0);
    EXPECT_EQ(value("headgate_count_packets_total{counter=\"evil\"}"), 4);
    EXPECT_EQ(value("headgate_unconfigured_packets_total"), 0);
    EXPECT_EQ(value("headgate_samples_lost_total"), 0);
    EXPECT_GT(value("headgate_agent_resident_bytes"), 1e6);
    for (const auto& table : status.tables()) {
      EXPECT_EQ(value(absl::StrCat("headgate_table_bytes{table=\"", table.name(), "\"}")),
                static_cast<double>(table.bytes()));
    }
    EXPECT_GT(value("headgate_table_used_values{table=\"hg_rules\"}"), 0);
    EXPECT_GT(value("headgate_table_capacity_values{table=\"hg_rules\"}"), 0);
  });
}

TEST_F(MetricsTest, TimesChanges) {
  const double before = Metrics().at("headgate_change_durable_seconds_count");
  for (int i = 0; i < 5; ++i)
    api().PatchYaml(absl::StrCat("upsert: {default_action: ", i % 2 == 0 ? "drop" : "pass", "}"));
  const auto metrics = Metrics();
  for (const char* name : {"headgate_change_durable_seconds", "headgate_change_visible_seconds"}) {
    EXPECT_GE(metrics.at(absl::StrCat(name, "_count")), before + 5) << name;
    EXPECT_GT(metrics.at(absl::StrCat(name, "_sum")), 0) << name;
    EXPECT_EQ(metrics.at(absl::StrCat(name, "_bucket{le=\"+Inf\"}")), metrics.at(absl::StrCat(name, "_count")))
        << name;
  }
}

TEST_F(MetricsTest, ManyRulesMakeNoManySeries) {
  pb::ApplyRequest request = ConfigRequest(kDocument);
  for (int i = 0; i < 1000; ++i) {
    pb::Rule& rule = *request.mutable_config()->add_rules();
    rule.set_name(absl::StrCat("r", i));
    rule.set_priority(static_cast<uint32_t>(1000 + i));
    rule.mutable_match()->set_source(absl::StrCat("100.64.", i / 256, ".", i % 256));
    rule.mutable_action()->mutable_drop();
  }
  ASSERT_TRUE(api().Apply(request).ok());
  NowAndAfterRestart([&] {
    const auto metrics = Metrics();
    EXPECT_EQ(metrics.at("headgate_rules"), 1004);
    EXPECT_EQ(metrics.at("headgate_rules_without_metrics"), 1004);
    EXPECT_EQ(metrics.count("headgate_rule_packets_total{rule=\"r0\"}"), 0U);
    EXPECT_LT(metrics.size(), 300U);
  });
  api().PatchYaml("delete_rules: [r0, r1, r2, r3]");
  const auto metrics = Metrics();
  EXPECT_EQ(metrics.at("headgate_rules_without_metrics"), 0);
  EXPECT_EQ(metrics.count("headgate_rule_packets_total{rule=\"r999\"}"), 1U);
}

TEST_F(MetricsTest, PromtoolTakesThem) {
  const std::string promtool = TryShell("command -v promtool") == 0 ? "promtool" : HG_PROMTOOL;
  if (TryShell(promtool + " --version") != 0) GTEST_SKIP() << "no promtool: scripts/setup unpacks one";
  EXPECT_EQ(FateOfPort(9), "drop_rule");
  NowAndAfterRestart([&] {
    const Answer answer = Ask("/metrics");
    EXPECT_TRUE(absl::StrContains(answer.headers, "Content-Type: text/plain; version=0.0.4")) << answer.headers;
    // Of what is left out of one family, promtool knows nothing: each has its help and type before it.
    std::set<std::string> described;
    for (const auto& line : absl::StrSplit(answer.body, '\n', absl::SkipEmpty())) {
      const std::vector<std::string> words = absl::StrSplit(line, absl::MaxSplits(' ', 3));
      if (words[0] != "#") continue;
      ASSERT_EQ(words.size(), 4U) << line;
      EXPECT_TRUE(described.insert(words[1] + " " + words[2]).second) << line;
    }
    const std::string file = agent().directory() + "/metrics";
    std::ofstream(file) << answer.body;
    EXPECT_EQ(Shell(absl::StrCat(promtool, " check metrics < ", file)), "");
  });
}

TEST_F(MetricsTest, ThePortIsOneAgents) {
  const CommandResult result = RunAgent({{"--state", agent().directory() + "/other.db"},
                                         {"--bpffs-directory", "other"},
                                         {"--socket", agent().directory() + "/other.sock"}});
  EXPECT_EQ(result.code, 1);
  EXPECT_TRUE(absl::StrContains(result.err, "cannot listen for HTTP on 127.0.0.1:9780")) << result.err;
  agent().Kill();
  EXPECT_EQ(RunAgent({{"--http", "nowhere"}}).code, 1);
  agent().Start();
  EXPECT_EQ(Ask("/readyz").code, 200);
}

}  // namespace
}  // namespace headgate::testing
