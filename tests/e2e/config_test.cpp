// SPDX-License-Identifier: Apache-2.0
//
// The start-up configuration: read at the start and on SIGHUP, refused with positions, and what becomes of it
// beside the durable state.
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include "tests/harness/live_gateway.h"

namespace headgate::testing {
namespace {

constexpr int kExitUsage = 2, kExitConfig = 5;

// As kDocument, but port 21 is dropped and not 9.
constexpr char kFile[] = R"(interfaces: [{name: in, device: g0}, {name: out, device: g1}]
rules:
  - {name: drop-21, priority: 40, match: {protocol: udp, destination_ports: ["21"]}, action: {drop: {}}}
  - {name: wire, priority: 10, match: {interface: in}, action: {redirect: {interface: out}}}
)";

class ConfigTest : public LiveGatewayTest {
 protected:
  ConfigTest() : LiveGatewayTest("config") {}

  std::string Path() { return agent().directory() + "/gateway.yaml"; }
  void Write(const std::string& yaml) { std::ofstream(Path()) << yaml; }
  void RestartWithFile(const std::string& yaml) {
    Write(yaml);
    RestartWith({{"--config", Path()}});
  }
  void ExpectFileInForce() {
    EXPECT_EQ(FateOfPort(21), "drop_rule");
    EXPECT_EQ(FateOfPort(9), "forward_redirect");
    EXPECT_EQ(api().GetAll({pb::KIND_RULE}).size(), 2U);
  }
  // Sends SIGHUP and returns when the log says this once more.
  void Reload(const std::string& says) {
    const auto count = [&] {
      const std::string log = agent().Log();
      size_t found = 0;
      for (size_t at = log.find(says); at != std::string::npos; at = log.find(says, at + 1)) ++found;
      return found;
    };
    const size_t before = count();
    agent().Signal(SIGHUP);
    EXPECT_TRUE(WaitFor([&] { return count() > before; })) << says;
  }
  CommandResult Check(const std::string& yaml) {
    Write(yaml);
    return RunCommand({HG_AGENT, "--check-config", "--config", Path()});
  }
};

TEST_F(ConfigTest, AFileReplacesTheStateWhenItHasChanged) {
  RestartWithFile(kFile);
  ExpectFileInForce();
  // What the API changes stays, over restarts too, while the file is the same.
  api().PatchYaml("delete_rules: [drop-21]");
  NowAndAfterRestart([&] { EXPECT_EQ(FateOfPort(21), "forward_redirect"); });
  // A file that differs, in a comment or not, is the truth again.
  Write(std::string(kFile) + "# changed\n");
  agent().Restart();
  NowAndAfterRestart([&] { ExpectFileInForce(); });
  // Without the option the state stays what it was.
  RestartWith({});
  ExpectFileInForce();
}

TEST_F(ConfigTest, EveryFieldOfTheMessageMayBeInTheFile) {
  const std::string yaml = R"(
interfaces: [{name: in, device: g0, mode: native}, {name: out, device: g1, mode: generic}]
management: {allow: [{source: 192.0.2.0/24, protocol: tcp, destination_ports: ["22"], interface: in}]}
default_action: drop
prefix_sets: [{name: set, prefixes: [10.0.0.0/8, "fc00::/7"]}]
next_hops:
  - {name: hop, interface: out, mac: "02:00:00:00:00:01", source_mac: "02:00:00:00:00:02", vlan: 5, decrement_ttl: true}
steer_targets: [{name: app, fallback: drop}]
rules:
  - {name: a, priority: 5, match: {vlan: 1, inner_vlan: 2, source_set: set, protocol: tcp, source_ports: ["1-5"],
     tcp_flags: "syn,!ack", dscp: 3, fragment: none, packet_length: 40-100},
     action: {steer: {target: app}, count: {counter: c}, sample: {one_in: 9},
              rate_limit: {packets_per_second: 5, burst: 7, per: source}}}
  - {name: b, priority: 6, match: {protocol: icmp, icmp_type: 8, icmp_code: 0}, action: {next_hop: {name: hop}}}
)";
  RestartWithFile(yaml);
  NowAndAfterRestart([&] {
    pb::ApplyRequest same = ConfigRequest(yaml);
    same.set_dry_run(true);
    pb::ApplyResponse response;
    EXPECT_TRUE(api().Apply(same, &response).ok());
    EXPECT_EQ(response.difference_count(), 0U);
  });
}

TEST_F(ConfigTest, TheEnvironmentStandsInForOptions) {
  Write(kFile);
  agent().Kill();
  AgentOptions options = Options({});
  options.prefix = absl::StrCat("env HEADGATE_CONFIG=", Path(), " HEADGATE_LOG_FORMAT=json");
  agent().Start(options);
  ExpectFileInForce();
  EXPECT_TRUE(absl::StrContains(agent().Log(), "{\"time\":"));
}

TEST_F(ConfigTest, ABadFileIsRefusedWithPositionsAndChangesNothing) {
  struct Case {
    const char* yaml;
    const char* says;
  };
  const Case cases[] = {
      {"interfaces:\n  - {name: in, device: g0, colour: red}\n", ":2:28: interfaces[0]: unknown key"},
      {"rulez: []\n", ":1:1: unknown key"},
      {"interfaces: [{name: in\n", ""},
      {"rules:\n  - name: a\n    priority: many\n", ":3:15: rules[0].priority"},
      {"default_action: perhaps\n", ":1:17: default_action"},
      {"rules: [{name: a, priority: 1, match: {interface: none}, action: {drop: {}}}]\n",
       ":1:51: rules[0].match.interface: there is no interface"},
      {"interfaces: [{name: a, device: x}, {name: b, device: x}]\n", ":1:54: interfaces[1].device: "},
      {"", "empty"},
  };
  const std::string held = Held();
  for (const Case& bad : cases) {
    SCOPED_TRACE(bad.yaml);
    const CommandResult check = Check(bad.yaml);
    EXPECT_EQ(check.code, kExitConfig);
    EXPECT_TRUE(absl::StrContains(check.err, bad.says)) << check.err;
    EXPECT_EQ(check.out, "");

    agent().Kill();
    const CommandResult start = RunAgent({{"--config", Path()}});
    EXPECT_EQ(start.code, kExitConfig);
    EXPECT_TRUE(absl::StrContains(start.err, bad.says)) << start.err;
    // Packets fare as before, with nobody there.
    const Bytes payload(40, 0x77);
    client().Send(Ethernet{} / Ipv4{} / Udp{.destination_port = 9} / Payload(40));
    client().Send(Ethernet{} / Ipv4{} / Udp{.destination_port = 53} / Payload(payload));
    EXPECT_TRUE(server().Receive(CarriesPayload(payload)).has_value());
    agent().Start();
    EXPECT_EQ(Held(), held);
    ExpectDocumentInForce();
  }
}

TEST_F(ConfigTest, CheckingNeedsNoPrivilegesAndTouchesNothing) {
  const std::string held = Held();
  const CommandResult good = Check(kFile);
  EXPECT_EQ(good.code, 0);
  EXPECT_EQ(good.out, Path() + ": valid\n");
  EXPECT_EQ(good.err, "");
  // All that is wrong at once.
  std::string wrong = "rules:\n";
  for (int i = 0; i < 30; ++i) absl::StrAppend(&wrong, "  - {name: r", i, ", priority: 5, action: {}}\n");
  const CommandResult all = Check(wrong);
  EXPECT_EQ(all.code, kExitConfig);
  for (int i = 0; i < 30; ++i) EXPECT_TRUE(absl::StrContains(all.err, absl::StrCat("rules[", i, "].action")));
  EXPECT_EQ(RunCommand({HG_AGENT, "--check-config", "--config", "/none"}).code, kExitConfig);
  EXPECT_NE(RunCommand({HG_AGENT, "--check-config"}).code, 0);
  EXPECT_EQ(RunCommand({HG_AGENT, "--no-such-option"}).code, kExitUsage);
  // Limits count as they would in an agent of these.
  std::string many = "rules:\n";
  for (int i = 1; i <= 65; ++i)
    absl::StrAppend(&many, "  - {name: r", i, ", priority: ", i, ", action: {drop: {}}}\n");
  Write(many);
  EXPECT_EQ(RunCommand({HG_AGENT, "--check-config", "--config", Path()}).code, 0);
  const CommandResult full = RunCommand({HG_AGENT, "--check-config", "--config", Path(), "--max-rules", "64"});
  EXPECT_EQ(full.code, kExitConfig);
  EXPECT_TRUE(absl::StrContains(full.err, "hg_rules")) << full.err;

  Shell("cp " + Path() + " /tmp/hgt-config.yaml; chmod 644 /tmp/hgt-config.yaml");
  EXPECT_EQ(RunCommand({"setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", HG_AGENT,
                        "--check-config", "--config", "/tmp/hgt-config.yaml"})
                .code,
            0);
  std::filesystem::remove("/tmp/hgt-config.yaml");
  EXPECT_EQ(Held(), held);
  ExpectDocumentInForce();
}

TEST_F(ConfigTest, SighupReadsTheFileAgain) {
  RestartWithFile(kFile);
  // In any case, also when the file is the same and the API has changed things since.
  api().PatchYaml("delete_rules: [drop-21]");
  Reload("start-up configuration applied");
  ExpectFileInForce();

  Write("rules:\n  - {name: a, priority: 1, acton: {drop: {}}}\n");
  Reload("reload failed, the configuration stays");
  EXPECT_TRUE(absl::StrContains(agent().Log(), "gateway.yaml:2:28: rules[0]: unknown key")) << agent().Log();
  ExpectFileInForce();
  Write("rules: [{name: a, priority: 1, match: {interface: none}, action: {drop: {}}}]\n");
  Reload("reload failed, the configuration stays");
  EXPECT_TRUE(absl::StrContains(agent().Log(), "gateway.yaml:1:51: rules[0].match.interface"));
  std::filesystem::remove(Path());
  Reload("reload failed, the configuration stays");
  ExpectFileInForce();

  Write("interfaces: [{name: in, device: g0}]\ndefault_action: drop\n");
  Reload("start-up configuration applied");
  NowAndAfterRestart([&] { EXPECT_EQ(FateOfPort(53), "drop_default"); });
}

TEST_F(ConfigTest, SighupWithoutAFileDoesNothing) {
  const std::string held = Held();
  for (int i = 0; i < 5; ++i) agent().Signal(SIGHUP);
  EXPECT_EQ(agent().Stop(), 0);  // the signals came before
  agent().Start();
  EXPECT_EQ(Held(), held);
  ExpectDocumentInForce();
}

TEST_F(ConfigTest, AChangeThatWaitsForConfirmationComesFirst) {
  RestartWithFile(kFile);
  pb::ApplyRequest request = PatchRequest("upsert: {rules: [{name: wire, priority: 10, action: {pass: {}}}]}");
  request.mutable_confirm_timeout()->set_seconds(600);
  ASSERT_TRUE(api().Apply(request).ok());
  Reload("reload failed, the configuration stays");
  EXPECT_EQ(FateOfPort(53), "pass_rule");
  // The agent starts all the same, and says what it has not done.
  Write("interfaces: [{name: in, device: g0}]\ndefault_action: drop\n");
  agent().Restart();
  EXPECT_TRUE(absl::StrContains(agent().Log(), "start-up configuration not applied"));
  EXPECT_EQ(FateOfPort(53), "pass_rule");
  ASSERT_TRUE(api().Confirm(0).ok());
  Reload("start-up configuration applied");
  NowAndAfterRestart([&] { EXPECT_EQ(FateOfPort(53), "drop_default"); });
}

}  // namespace
}  // namespace headgate::testing
