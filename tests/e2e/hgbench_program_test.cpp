// SPDX-License-Identifier: Apache-2.0
//
// hgbench as people and scripts run it: what its verbs print, write and end with, and what they leave behind.
#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/syscall.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "bench/bare_redirect.h"
#include "tests/e2e/hgbench_lab.h"
#include "tests/harness/command.h"
#include "tests/harness/lab.h"
#include "tests/harness/program.h"

namespace headgate::bench {
namespace {

using testing::Command;
using testing::CommandResult;

constexpr char kMac[] = "02:00:00:00:00:01";
// Beside its own time, that of a benchmark that somebody else runs.
constexpr std::chrono::seconds kTimeout(900);

CommandResult Hgbench(std::vector<std::string> words) {
  words.insert(words.begin(), HG_HGBENCH);
  Command command(words);
  return command.Wait(kTimeout);
}

// With the JSON that it wrote.
CommandResult Hgbench(std::vector<std::string> words, nlohmann::json& json) {
  const std::string file = ::testing::TempDir() + "hgbench_program_test.json";
  words.insert(words.end(), {"--json", file});
  CommandResult result = Hgbench(std::move(words));
  std::ifstream stream(file);
  json = stream.is_open() ? nlohmann::json::parse(stream, nullptr, false) : nlohmann::json();
  std::filesystem::remove(file);
  return result;
}

std::vector<std::string> RunVerb(uint64_t count) {
  return {"run",        "hgbt-gen",          "hgbt-sink", "--from-netns",        "hgbt-gen",
          "--to-netns", "hgbt-sink",         "--count",   std::to_string(count), "--size",
          "64",         "--destination-mac", kMac};
}

class HgbenchProgramTest : public ::testing::Test {
 protected:
  void SetUp() override {
    HG_REQUIRE_BPF();
    lab_ = MakeHgbenchLab();
  }
  std::unique_ptr<Lab> lab_;
};

TEST_F(HgbenchProgramTest, RunOverAPathWithoutLossIsZero) {
  const auto gateway = Value(BareRedirect::Open("hgbt-gw", "hgbt-in", "hgbt-out"));
  nlohmann::json json;
  std::vector<std::string> words = RunVerb(100000);
  words.insert(words.end(), {"--cpu", "0"});
  const CommandResult result = Hgbench(words, json);
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(json["send"]["sent"], 100000);
  EXPECT_EQ(json["receive"]["packets"], 100000);
  EXPECT_EQ(json["receive"]["latency_ns"]["count"], 100000);
  EXPECT_EQ(json["lost"], 0);
  EXPECT_NE(result.out.find("lost between: 0 of 100000 frames"), std::string::npos) << result.out;
}

TEST_F(HgbenchProgramTest, RunOverALossyPathSaysHowMuchAndIsThree) {
  Impairment gateway;
  ASSERT_TRUE(gateway.Attach(gateway.faulty()).ok());
  nlohmann::json json;
  std::vector<std::string> words = RunVerb(100000);
  words.insert(words.end(), {"--rate", "200000"});
  const CommandResult result = Hgbench(words, json);
  EXPECT_EQ(result.code, 3) << result.err;
  EXPECT_EQ(json["send"]["sent"], 100000);
  // One of ten is dropped and one doubled.
  EXPECT_EQ(json["receive"]["packets"], 100000);
  EXPECT_EQ(json["receive"]["duplicates"], 10000);
  EXPECT_EQ(json["lost"], 10000);
}

TEST_F(HgbenchProgramTest, SignalsEndBothWithTheirReports) {
  Command receive({HG_HGBENCH, "receive", "hgbt-sink", "--netns", "hgbt-sink", "--json", "-"});
  // The receiver's program is what gives the veth its NAPI.
  ASSERT_TRUE(testing::WaitFor(
      [] { return testing::TryShell("ip -n hgbt-sink link show hgbt-sink | grep -q xdp") == 0; }));
  Command send({HG_HGBENCH, "send", "hgbt-out", "--netns", "hgbt-gw", "--destination-mac", kMac, "--json", "-"});
  ASSERT_TRUE(testing::WaitFor([] {
    return testing::TryShell("ip -n hgbt-sink -s -j link show hgbt-sink | grep -q '\"rx\":{\"bytes\":0,'") != 0;
  }));
  send.Signal(SIGINT);
  const CommandResult sent = send.Wait();
  ASSERT_EQ(sent.code, 0) << sent.err;
  receive.Signal(SIGTERM);
  const CommandResult received = receive.Wait();
  ASSERT_EQ(received.code, 0) << received.err;
  const uint64_t frames = nlohmann::json::parse(sent.out)["send"]["sent"];
  EXPECT_GT(frames, 0u);
  const nlohmann::json report = nlohmann::json::parse(received.out)["receive"];
  EXPECT_EQ(report["packets"], frames);
  EXPECT_EQ(report["lost"], 0);
}

TEST_F(HgbenchProgramTest, ReceiveEndsAfterItsCount) {
  Command receive({HG_HGBENCH, "receive", "hgbt-sink", "--netns", "hgbt-sink", "--count", "1000"});
  ASSERT_TRUE(testing::WaitFor(
      [] { return testing::TryShell("ip -n hgbt-sink link show hgbt-sink | grep -q xdp") == 0; }));
  EXPECT_TRUE(receive.Running());
  const CommandResult sent =
      Hgbench({"send", "hgbt-out", "--netns", "hgbt-gw", "--destination-mac", kMac, "--count", "1000"});
  EXPECT_EQ(sent.code, 0) << sent.err;
  const CommandResult received = receive.Wait();
  EXPECT_EQ(received.code, 0) << received.err;
  EXPECT_NE(received.out.find("received 1000 frames, 64000 bytes; 0 lost"), std::string::npos) << received.out;
}

// Lines of one length that end in `end`, as many as there are.
size_t CountLines(const std::string& text, const std::string& start, const std::string& end) {
  size_t lines = 0;
  for (size_t at = text.find(start); at != std::string::npos; at = text.find(start, at + 1)) {
    lines += text.find(end, at) != std::string::npos;
  }
  return lines;
}

TEST_F(HgbenchProgramTest, ALineEachSecondSaysHowFarItIs) {
  Impairment gateway;
  ASSERT_TRUE(gateway.Attach(gateway.faulty()).ok());
  std::vector<std::string> words = RunVerb(0);
  words.insert(words.end(), {"--rate", "50000", "--duration", "3.5"});
  const CommandResult plain = Hgbench(words);
  EXPECT_EQ(plain.code, 3) << plain.err;
  EXPECT_GE(CountLines(plain.err, " s: sent ", "/s, "), 2u) << plain.err;
  EXPECT_NE(plain.err.find(" lost (10 %)\n"), std::string::npos) << plain.err;
  EXPECT_EQ(plain.err.find('\r'), std::string::npos) << plain.err;
  EXPECT_EQ(plain.out.find(" s: sent "), std::string::npos) << plain.out;
  words.push_back("--quiet");
  EXPECT_EQ(Hgbench(words).err, "");
}

TEST_F(HgbenchProgramTest, OnATerminalALineOverwritesTheOneBefore) {
  Command receive({HG_HGBENCH, "receive", "hgbt-sink", "--netns", "hgbt-sink"}, {.terminal = true});
  ASSERT_TRUE(testing::WaitFor([&] { return CountLines(receive.Out(), "\r\x1b[K", " lost") >= 2; }));
  receive.Signal(SIGINT);
  const CommandResult result = receive.Wait();
  EXPECT_EQ(result.code, 0);
  const std::string last = result.out.substr(result.out.rfind("\r\x1b[K"));
  EXPECT_NE(last.find("0 lost (0 %)\r\nreceived 0 frames"), std::string::npos) << result.out;
}

// Of pcap, in this machine's byte order: `frames` of 100 bytes, a second apart.
std::string WritePcap(uint32_t frames) {
  std::string path = ::testing::TempDir() + "hgbench_program_test.pcap";
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  const auto put = [&](std::vector<uint32_t> words) {
    file.write(reinterpret_cast<const char*>(words.data()), static_cast<std::streamsize>(words.size() * 4));
  };
  put({0xa1b2c3d4, 2 | 4 << 16, 0, 0, 65535, 1});
  for (uint32_t i = 0; i < frames; ++i) {
    put({1000 + i, 0, 100, 100});
    file << std::string(100, static_cast<char>(2 + 4 * i));
  }
  return path;
}

TEST_F(HgbenchProgramTest, ACaptureFileIsSentAgain) {
  const std::string path = WritePcap(10);
  for (const char* engine : {"prog", "xdp"}) {
    for (const std::vector<std::string>& pace :
         std::vector<std::vector<std::string>>{{"--pps", "20000", "--loop", "700"}, {"--speed", "100"}}) {
      SCOPED_TRACE(engine + (" " + pace[0]));
      nlohmann::json json;
      std::vector<std::string> words = {"run",     "hgbt-out",   "hgbt-sink", "--from-netns",
                                        "hgbt-gw", "--to-netns", "hgbt-sink", "--pcap",
                                        path,      "--engine",   engine};
      words.insert(words.end(), pace.begin(), pace.end());
      const CommandResult result = Hgbench(words, json);
      EXPECT_EQ(result.code, 0) << result.err;
      const uint64_t frames = pace[0] == "--pps" ? 7000 : 10;
      EXPECT_EQ(json["send"]["sent"], frames);
      EXPECT_EQ(json["send"]["engine"], engine);
      EXPECT_EQ(json["send"].contains("zero_copy"), engine == std::string("xdp"));
      EXPECT_EQ(json["receive"]["packets"], frames);
      EXPECT_EQ(json["receive"]["bytes"], frames * 100);
      EXPECT_EQ(json["lost"], 0);
    }
  }
  const CommandResult missing = Hgbench({"send", "hgbt-out", "--netns", "hgbt-gw", "--pcap", path + ".none"});
  EXPECT_EQ(missing.code, 1);
  EXPECT_NE(missing.err.find(path + ".none"), std::string::npos) << missing.err;
  std::filesystem::remove(path);
}

TEST_F(HgbenchProgramTest, WhatCannotBeDoneIsOneAndSaysWhy) {
  const CommandResult device = Hgbench({"send", "nosuch0", "--netns", "hgbt-gw", "--destination-mac", kMac});
  EXPECT_EQ(device.code, 1);
  EXPECT_NE(device.err.find("nosuch0"), std::string::npos) << device.err;
  const CommandResult netns = Hgbench({"receive", "eth0", "--netns", "hgbt-nowhere"});
  EXPECT_EQ(netns.code, 1);
  EXPECT_NE(netns.err.find("hgbt-nowhere"), std::string::npos) << netns.err;
  const CommandResult size =
      Hgbench({"send", "hgbt-out", "--netns", "hgbt-gw", "--destination-mac", kMac, "--size", "10"});
  EXPECT_EQ(size.code, 1);
  EXPECT_NE(size.err.find("10 bytes"), std::string::npos) << size.err;
}

// Nobody benchmarks while it is held; waits for whoever does.
Fd Alone() { return Value(LockBenchmarks(true)); }

void ExpectNothingLeft() {
  const Fd alone = Alone();
  for (const char* netns : {"hgb-gen", "hgb-gw", "hgb-sink", "hgb-ctl"}) {
    EXPECT_FALSE(std::filesystem::exists(std::string("/run/netns/") + netns)) << netns;
  }
  EXPECT_FALSE(std::filesystem::exists("/run/hgbench"));
}

std::vector<std::string> Names(const nlohmann::json& json) {
  std::vector<std::string> names;
  for (const nlohmann::json& row : json["rows"]) names.push_back(row["name"]);
  return names;
}

TEST(HgbenchScenarioTest, RedirectMeasuresAndAccountsForEveryFrame) {
  HG_REQUIRE_BPF();
  nlohmann::json json;
  const CommandResult result = Hgbench({"redirect", "--wait", "--rounds", "2", "--seconds", "0.1"}, json);
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(json["scenario"], "redirect");
  EXPECT_EQ(Names(json), (std::vector<std::string>{"redirect/64", "redirect/1400"}));
  for (const nlohmann::json& row : json["rows"]) {
    EXPECT_EQ(row["unit"], "packets/s");
    EXPECT_EQ(row["baseline"], "bare_redirect");
    EXPECT_GT(row["headgate"], 0);
    EXPECT_GT(row["baseline_value"], 0);
    EXPECT_GT(row["ratio"], 0);
    EXPECT_LE(row["spread"][0], row["ratio"]);
    EXPECT_GE(row["spread"][1], row["ratio"]);
  }
  EXPECT_NE(result.out.find("redirect/1400"), std::string::npos);
  ExpectNothingLeft();
}

TEST(HgbenchScenarioTest, RedirectWithTheGatewayOnACpuOfItsOwn) {
  HG_REQUIRE_BPF();
  if (std::thread::hardware_concurrency() < 2) GTEST_SKIP() << "one CPU";
  nlohmann::json json;
  const CommandResult result = Hgbench(
      {"redirect", "--wait", "--rounds", "1", "--seconds", "0.1", "--sizes", "64", "--placement", "split"}, json);
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(json["settings"]["placement"], "split");
  EXPECT_EQ(Names(json), (std::vector<std::string>{"redirect/64"}));
  ExpectNothingLeft();
}

TEST(HgbenchScenarioTest, ControlMeasuresARealAgent) {
  HG_REQUIRE_BPF();
  nlohmann::json json;
  const CommandResult result =
      Hgbench({"control", "--wait", "--agent", HG_AGENT, "--rules", "acl1_1k", "--rounds", "1", "--changes", "20",
               "--updates", "5000", "--prefixes", "2000", "--directory", ::testing::TempDir()},
              json);
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(json["scenario"], "control");
  EXPECT_EQ(Names(json), (std::vector<std::string>{"load_s",
                                                   "apply_1k_s",
                                                   "visible_p50_ms",
                                                   "visible_p99_ms",
                                                   "sent_to_visible_p50_ms",
                                                   "sent_to_visible_p99_ms",
                                                   "durable_p99_ms",
                                                   "updates_per_s",
                                                   "update_cpu_us",
                                                   "set_2k_load_s",
                                                   "set_2k_replace_s",
                                                   "set_2k_replace_verdicts",
                                                   "rss_mb",
                                                   "rss_applied_mb",
                                                   "rss_updated_mb",
                                                   "rss_settled_mb",
                                                   "rss_peak_mb",
                                                   "rss_updates_peak_mb",
                                                   "rss_max_mb",
                                                   "set_2k_rss_max_mb",
                                                   "map_mb"}));
  for (const nlohmann::json& row : json["rows"]) {
    EXPECT_EQ(row["baseline"], "") << row;
    EXPECT_TRUE(row["ratio"].is_null()) << row;
    // The answer may be slower than the tables.
    if (row["name"].get<std::string>().rfind("visible", 0) != 0) {
      EXPECT_GT(row["headgate"], 0) << row;
    }
  }
  const nlohmann::json& maps = json["rows"].back();
  EXPECT_GT(maps["hg_nodes_mb"], 0) << maps;
  EXPECT_GT(maps["headgate"], maps["hg_nodes_mb"]) << maps;
  EXPECT_TRUE(json["settings"].contains("seed"));
  ExpectNothingLeft();
}

TEST(HgbenchScenarioTest, FilterMeasuresBesideItsPeers) {
  HG_REQUIRE_BPF();
  nlohmann::json json;
  const CommandResult result =
      Hgbench({"filter", "--wait", "--rounds", "2", "--seconds", "0.1", "--headers", "20000", "--sets", "acl1,fw1",
               "--sizes", "100,1k", "--rate-sizes", "1k", "--churn", "2000"},
              json);
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(json["scenario"], "filter");
  // scripts/setup installs both peers; without one, its rows are left out and that is said.
  std::vector<std::string> names;
  for (const auto& row : json["rows"])
    names.push_back(absl::StrCat(row["name"].get<std::string>(), " ", row["baseline"].get<std::string>()));
  EXPECT_EQ(names,
            (std::vector<std::string>{"acl1/100 rte_acl_scalar", "acl1/100 rte_acl_vector",
                                      "acl1/1k rte_acl_scalar", "acl1/1k rte_acl_vector", "acl1/1k/churned fresh",
                                      "fw1/100 rte_acl_scalar", "fw1/100 rte_acl_vector", "fw1/1k rte_acl_scalar",
                                      "fw1/1k rte_acl_vector", "acl1/1k/pps nftables", "fw1/1k/pps nftables"}));
  for (const auto& row : json["rows"]) {
    // A difference of two times, which noise may turn round.
    EXPECT_TRUE(row["headgate"].is_number()) << row;
    EXPECT_TRUE(row["baseline_value"].is_number()) << row;
    const std::string name = row["name"];
    EXPECT_EQ(row.contains("of_100_max"), name == "acl1/1k" || name == "fw1/1k") << row;
    if (name.find("/pps") == std::string::npos) continue;
    EXPECT_GT(row["per_cpu_s"], 0) << row;
    EXPECT_GT(row["baseline_per_cpu_s"], 0) << row;
    EXPECT_GT(row["bare_drop_per_cpu_s"], 0) << row;
    EXPECT_GT(row["per_cpu_ratio"], 0) << row;
  }
  // Nothing but progress goes to standard error.
  EXPECT_EQ(result.err.find("programs and tables loaded"), std::string::npos) << result.err;
  ExpectNothingLeft();
}

// Sizes other than a hundred are compared with it even when it is not asked for.
TEST(HgbenchScenarioTest, FilterComparesWithAHundredRules) {
  HG_REQUIRE_BPF();
  nlohmann::json json;
  const CommandResult result =
      Hgbench({"filter", "--wait", "--rounds", "1", "--headers", "1000", "--no-flow-cache", "--sets", "ipc1",
               "--sizes", "1k", "--rate-sizes", "none", "--churn", "0"},
              json);
  ASSERT_EQ(result.code, 0) << result.err;
  for (const auto& row : json["rows"]) {
    EXPECT_EQ(row["name"], "ipc1/1k");
    EXPECT_TRUE(row["of_100"].is_number()) << row;
  }
  EXPECT_EQ(json["settings"]["flow_cache"], "no");
  ExpectNothingLeft();
}

TEST(HgbenchScenarioTest, ReplaceMeasuresPacketsWhileARealAgentReplacesItsRules) {
  HG_REQUIRE_BPF();
  nlohmann::json json;
  // A set of which one rule would match the frames.
  const CommandResult result =
      Hgbench({"replace", "--wait", "--agent", HG_AGENT, "--rules", "ipc1_1k", "--rounds", "2", "--seconds", "0.2",
               "--rate", "20000", "--directory", ::testing::TempDir()},
              json);
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(json["scenario"], "replace");
  EXPECT_EQ(Names(json), (std::vector<std::string>{"replace/p50", "replace/p99", "replace/p999"}));
  double lower = 0, baseline_lower = 0;
  for (const nlohmann::json& row : json["rows"]) {
    EXPECT_EQ(row["unit"], "us");
    EXPECT_EQ(row["baseline"], "quiet");
    EXPECT_GE(row["headgate"], lower) << row;
    EXPECT_GE(row["baseline_value"], baseline_lower) << row;
    EXPECT_EQ(row["rounds"], 2);
    lower = row["headgate"];
    baseline_lower = row["baseline_value"];
  }
  // Medians of the rounds; the largest of them all.
  const nlohmann::json& first = json["rows"][0];
  EXPECT_GT(first["headgate"], 0) << first;
  EXPECT_GT(first["baseline_value"], 0) << first;
  EXPECT_GE(first["replacements"], 2) << first;
  EXPECT_GT(first["sent"], 0) << first;
  EXPECT_GE(first["max_us"], lower) << first;
  EXPECT_GT(first["late_max_us"], 0) << first;
  for (const std::string turn : {"idle", "busy"}) {
    EXPECT_GT(first[turn + "_sent"], 0) << first;
    EXPECT_GE(first[turn + "_max_us"], baseline_lower) << first;
    EXPECT_GT(first[turn + "_late_max_us"], 0) << first;
    EXPECT_GE(first[turn + "_us"], 0) << first;
  }
  EXPECT_EQ(json["settings"]["flow_cache"], "no");
  ExpectNothingLeft();
}

TEST(HgbenchScenarioTest, OneBenchmarkAtATime) {
  HG_REQUIRE_BPF();
  const Fd alone = Alone();
  for (const std::vector<std::string>& verb : std::vector<std::vector<std::string>>{
           {"control", "--agent", HG_AGENT}, {"redirect"}, {"filter"}, {"replace", "--agent", HG_AGENT}}) {
    const CommandResult result = Hgbench(verb);
    EXPECT_EQ(result.code, 1);
    EXPECT_NE(result.err.find("another benchmark"), std::string::npos) << result.err;
    EXPECT_EQ(result.out, "");
  }
}

// Whether a process sleeps in flock(2).
bool WaitsForALock(pid_t pid) {
  std::ifstream stream("/proc/" + std::to_string(pid) + "/syscall");
  long number = -1;
  return stream >> number && number == SYS_flock;
}

TEST(HgbenchScenarioTest, TheNextOneWaitsForItsTurn) {
  HG_REQUIRE_BPF();
  Fd alone = Alone();
  Command next({HG_HGBENCH, "redirect", "--wait", "--rounds", "1", "--seconds", "0.1", "--sizes", "64"});
  ASSERT_TRUE(testing::WaitFor([&] { return WaitsForALock(next.pid()); }));
  Command interrupted({HG_HGBENCH, "redirect", "--wait"});
  ASSERT_TRUE(testing::WaitFor([&] { return WaitsForALock(interrupted.pid()); }));
  interrupted.Signal(SIGINT);
  const CommandResult result = interrupted.Wait();
  EXPECT_EQ(result.code, 1);
  EXPECT_NE(result.err.find("interrupted"), std::string::npos) << result.err;
  EXPECT_TRUE(next.Running());
  alone = Fd();
  EXPECT_EQ(next.Wait(kTimeout).code, 0);
  ExpectNothingLeft();
}

TEST(HgbenchScenarioTest, ControlWithoutAnAgentSaysSo) {
  HG_REQUIRE_BPF();
  const CommandResult result =
      Hgbench({"control", "--wait", "--agent", "/nonexistent/headgated", "--rules", "acl1_1k", "--changes", "1"});
  EXPECT_EQ(result.code, 1);
  EXPECT_NE(result.err.find("--agent"), std::string::npos) << result.err;
  ExpectNothingLeft();
}

}  // namespace
}  // namespace headgate::bench
