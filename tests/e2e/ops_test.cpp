// SPDX-License-Identifier: Apache-2.0
//
// What an operator relies on: privileges given up, ends that leave the data path in place, logs, health and
// metrics.
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "tests/harness/live_gateway.h"

namespace headgate::testing {
namespace {

constexpr int kInvalidArgument = 3;
constexpr char kHttp[] = "http://127.0.0.1:9780";

class OpsTest : public LiveGatewayTest {
 protected:
  OpsTest() : LiveGatewayTest("ops") {}
  void TearDown() override {
    Shell("chown root " + lab().directory());  // of which a test may have made somebody else the owner
    LiveGatewayTest::TearDown();
  }

  bool Attached() { return absl::StrContains(lab().Ip("gw", "link show g0"), "xdp"); }
  // Whether a packet passes the gateway, agent or not.
  bool Forwards() {
    const Bytes payload(40, ++mark_);
    client().Send(Ethernet{} / Ipv4{} / Udp{.destination_port = 53} / Payload(payload));
    return server().Receive(CarriesPayload(payload)).has_value();
  }
  // Status code and body.
  std::pair<int, std::string> Http(const std::string& path, const std::string& options = "") {
    const std::string answer =
        lab().In("gw", absl::StrCat("curl -s --max-time 10 -w '\\n%{http_code}' ", options, " ", kHttp, path));
    const size_t line = answer.rfind('\n');
    return {std::stoi(answer.substr(line + 1)), answer.substr(0, line)};
  }

 private:
  uint8_t mark_ = 0;
};

// ---- privileges ---------------------------------------------------------------------------------------------

// CAP_NET_ADMIN 12, CAP_NET_RAW 13, CAP_IPC_LOCK 14, CAP_PERFMON 38, CAP_BPF 39.
constexpr uint64_t kNeeded = 1ULL << 12 | 1ULL << 13 | 1ULL << 14 | 1ULL << 38 | 1ULL << 39;

std::map<std::string, std::string> StatusOf(const std::string& task) {
  std::ifstream file(task + "/status");
  std::map<std::string, std::string> fields;
  for (std::string line; std::getline(file, line);) {
    const std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(":\t", 1));
    if (parts.size() == 2) fields[parts[0]] = parts[1];
  }
  return fields;
}

void ExpectOnlyNeeded(pid_t pid) {
  size_t threads = 0;
  for (const auto& task : std::filesystem::directory_iterator(absl::StrCat("/proc/", pid, "/task"))) {
    ++threads;
    auto status = StatusOf(task.path());
    for (const char* set : {"CapEff", "CapPrm", "CapBnd"}) {
      EXPECT_EQ(std::stoull(status[set], nullptr, 16), kNeeded) << set << " of " << status["Name"];
    }
    for (const char* set : {"CapInh", "CapAmb"}) EXPECT_EQ(std::stoull(status[set], nullptr, 16), 0U) << set;
    EXPECT_EQ(status["NoNewPrivs"], "1");
  }
  EXPECT_GT(threads, 3U);
}

TEST_F(OpsTest, EveryThreadHasTheNeededCapabilitiesAndNoMore) {
  NowAndAfterRestart([&] {
    ExpectDocumentInForce();
    ExpectOnlyNeeded(agent().pid());
  });
  RestartWith({{"--keep-privileges", ""}});
  const auto status = StatusOf(absl::StrCat("/proc/", agent().pid()));
  EXPECT_NE(std::stoull(status.at("CapEff"), nullptr, 16), kNeeded);
  ExpectDocumentInForce();
}

TEST_F(OpsTest, AnUnprivilegedUserWithTheNeededIsEnough) {
  // As a service manager does with User= and AmbientCapabilities=; the BPF file system is there and the user's.
  agent().Kill();
  Shell("chown -R nobody " + agent().directory());
  AgentOptions options = Options({});
  options.prefix =
      "setpriv --reuid nobody --regid nogroup --clear-groups --no-new-privs --inh-caps "
      "-all,+bpf,+perfmon,+net_admin,+net_raw,+ipc_lock "
      "--ambient-caps -all,+bpf,+perfmon,+net_admin,+net_raw,+ipc_lock --bounding-set "
      "-all,+bpf,+perfmon,+net_admin,+net_raw,+ipc_lock";
  agent().Start(options);
  NowAndAfterRestart([&] {
    ExpectOnlyNeeded(agent().pid());
    EXPECT_NE(absl::StrSplit(StatusOf(absl::StrCat("/proc/", agent().pid()))["Uid"], '\t').begin()->substr(0, 2),
              "0");
    ExpectDocumentInForce();
    EXPECT_TRUE(Forwards());
    EXPECT_EQ(api().Trace("udp 192.0.2.1 > 192.0.2.2:9 in in").rule(), "drop-9");
    api().PatchYaml("delete_rules: [drop-9]");
    EXPECT_EQ(FateOfPort(9), "forward_redirect");
    api().ApplyYaml(kDocument);
  });
}

// ---- ends ---------------------------------------------------------------------------------------------------

TEST_F(OpsTest, EndsOnSignalsAndLeavesTheDataPath) {
  for (const int signal : {SIGTERM, SIGINT}) {
    agent().Signal(signal);
    EXPECT_EQ(agent().Stop(), 0);  // which sends SIGTERM, to one that is on its way out
    EXPECT_TRUE(absl::StrContains(agent().Log(), "the data path stays in place"));
    EXPECT_TRUE(Attached());
    EXPECT_TRUE(Forwards());
    agent().Start();
    ExpectDocumentInForce();
  }
}

TEST_F(OpsTest, DetachTakesItOffAndTheStateStays) {
  // Not from under an agent.
  const CommandResult early = RunAgent({{"--detach", ""}});
  EXPECT_EQ(early.code, 1);
  EXPECT_TRUE(absl::StrContains(early.err, "another headgated uses")) << early.err;
  NowAndAfterRestart([&] { ExpectDocumentInForce(); });

  const std::string held = Held();
  EXPECT_EQ(agent().Stop(), 0);
  EXPECT_EQ(RunAgent({{"--detach", ""}}).code, 0);
  EXPECT_TRUE(WaitFor([&] { return !Attached(); }));
  EXPECT_FALSE(std::filesystem::exists(agent().pins()));
  EXPECT_EQ(RunAgent({{"--detach", ""}}).code, 0);  // there is nothing left to do
  agent().Start();
  NowAndAfterRestart([&] {
    EXPECT_EQ(Held(), held);
    ExpectDocumentInForce();
  });
}

// ---- logs ---------------------------------------------------------------------------------------------------

TEST_F(OpsTest, TheLogLevelChangesAtRunTime) {
  std::string previous;
  EXPECT_EQ(api().Status().log_level(), "info");
  ASSERT_TRUE(api().SetLogLevel("error", previous).ok());
  EXPECT_EQ(previous, "info");
  EXPECT_EQ(api().Status().log_level(), "error");
  const std::string quiet = agent().Log();
  api().PatchYaml("delete_rules: [drop-9]");
  EXPECT_EQ(agent().Log(), quiet);
  ASSERT_TRUE(api().SetLogLevel("debug", previous).ok());
  EXPECT_EQ(previous, "error");
  api().ApplyYaml(kDocument);
  EXPECT_TRUE(WaitFor([&] {
    return absl::StrContains(agent().Log().substr(quiet.size()), "configuration changed generation=3");
  }));

  for (const char* wrong : {"", "loud", "INFO", "off"}) {
    const CallStatus status = api().SetLogLevel(wrong, previous);
    EXPECT_EQ(status.code, kInvalidArgument);
    ASSERT_EQ(status.violations.size(), 1U);
    EXPECT_EQ(status.violations[0].first, "level");
  }
  EXPECT_EQ(api().Status().log_level(), "debug");
  agent().Restart();
  EXPECT_EQ(api().Status().log_level(), "info");
}

// Every line, whoever wrote it.
void ExpectJson(const std::string& log) {
  size_t lines = 0;
  for (const auto& line : absl::StrSplit(log, '\n', absl::SkipEmpty())) {
    ++lines;
    const auto json = nlohmann::json::parse(line, nullptr, false);
    ASSERT_TRUE(json.is_object()) << line;
    EXPECT_TRUE(json.contains("time") && json.contains("level") && json.contains("message")) << line;
    static const std::set<std::string> kLevels = {"trace", "debug", "info", "warn", "error"};
    EXPECT_TRUE(kLevels.contains(json.value("level", ""))) << line;
    EXPECT_EQ(json.value("time", "").size(), std::string("2026-01-01T00:00:00.000Z").size()) << line;
  }
  EXPECT_GT(lines, 0U);
}

TEST_F(OpsTest, JsonLogsAreOneObjectALine) {
  const size_t text = agent().Log().size();
  const std::string yaml = agent().directory() + "/gateway.yaml", garbage = agent().directory() + "/garbage.pem";
  std::ofstream(yaml) << "interfaces: [{name: in, device: g0}, {name: lo, device: lo, mode: native}]\n";
  std::ofstream(garbage) << "garbage";
  const std::map<std::string, std::string> arguments = {{"--log-format", "json"},
                                                        {"--log-level", "debug"},
                                                        {"--config", yaml},
                                                        // So that gRPC has something to say, too.
                                                        {"--listen", "127.0.0.1:7443"},
                                                        {"--tls-cert", garbage},
                                                        {"--tls-key", garbage},
                                                        {"--tls-client-ca", garbage}};
  RestartWith(arguments);
  TryShell(absl::StrCat("nsenter --net=/run/netns/", lab().Name("gw"),
                        " curl -k --max-time 2 https://127.0.0.1:7443/"));
  api().PatchYaml("upsert: {interfaces: [{name: late, device: hgt-late}]}");
  EXPECT_FALSE(api().TryYaml("rules: [{name: 'a \"b\" \\ \u00e9 \n', priority: 1}]").ok());
  std::ofstream(yaml) << "rules: [{name: \"a\nb\", pri\u00e9: 1}]\n";
  agent().Signal(SIGHUP);
  EXPECT_TRUE(WaitFor([&] { return absl::StrContains(agent().Log(), "reload failed"); }));
  EXPECT_TRUE(absl::StrContains(agent().Log(), "\"grpc\""));
  ExpectJson(agent().Log().substr(text));

  auto other = arguments;
  other["--http"] = "127.0.0.1:9781";
  const CommandResult refused = RunAgent(other);
  EXPECT_EQ(refused.code, 1);
  ExpectJson(refused.err);
  EXPECT_EQ(refused.out, "");
  EXPECT_EQ(agent().Stop(), 0);
  ExpectJson(agent().Log().substr(text));
  agent().Start(Options({}));
}

}  // namespace
}  // namespace headgate::testing
