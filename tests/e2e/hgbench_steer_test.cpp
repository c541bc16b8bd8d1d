// SPDX-License-Identifier: Apache-2.0
//
// The steer benchmark: the server that Headgate is compared with, the account of a run, and the whole of it.
#include <absl/strings/match.h>
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "bench/steer_service.h"
#include "bench/udp_server.h"
#include "tests/e2e/hgbench_lab.h"
#include "tests/harness/command.h"
#include "tests/harness/lab.h"
#include "tests/harness/program.h"

namespace headgate::bench {
namespace {

using testing::Command;
using testing::CommandResult;
using testing::WaitFor;

constexpr char kNetns[] = "hgbt-gw";
// Beside its own time, that of a benchmark that somebody else runs.
constexpr std::chrono::seconds kTimeout(900);

class UdpServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    HG_REQUIRE_BPF();
    lab_ = MakeHgbenchLab();
    const absl::Status opened = InNamespace(kNetns, [this] {
      client_ = Fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
      return client_ ? absl::OkStatus() : ErrnoStatus("open a socket");
    });
    ASSERT_TRUE(opened.ok()) << opened;
  }

  void SendTo(const UdpServer& server, const std::string& datagram) {
    const sockaddr_in address{.sin_family = AF_INET,
                              .sin_port = htons(server.port()),
                              .sin_addr = {htonl(INADDR_LOOPBACK)},
                              .sin_zero = {}};
    ASSERT_EQ(sendto(client_.get(), datagram.data(), datagram.size(), 0,
                     reinterpret_cast<const sockaddr*>(&address), sizeof(address)),
              static_cast<ssize_t>(datagram.size()));
  }

  std::unique_ptr<Lab> lab_;
  Fd client_;
};

TEST_F(UdpServerTest, CountsWhatComesAndAnswersNothing) {
  const auto server = Value(UdpServer::Start({.netns = kNetns}));
  // The kernel doubles it, for its own overhead (socket(7)).
  EXPECT_EQ(server->receive_buffer(), 2 * UdpServer::kReceiveBuffer);
  ASSERT_EQ(server->threads().size(), 1u);
  for (int i = 0; i < 1000; ++i) SendTo(*server, "datagram");
  EXPECT_TRUE(WaitFor([&] { return server->received() == 1000; })) << server->received();
  EXPECT_EQ(server->replied(), 0u);
}

TEST_F(UdpServerTest, AnswersEachDatagramWithItself) {
  const auto server = Value(UdpServer::Start({.netns = kNetns, .echo = true}));
  // Several batches of different lengths, fewer than the client's buffer holds.
  std::vector<std::string> sent;
  for (size_t i = 0; i < 150; ++i) sent.push_back(std::string(1 + i % 60, static_cast<char>('a' + i % 26)));
  for (const std::string& datagram : sent) SendTo(*server, datagram);
  ASSERT_TRUE(WaitFor([&] { return server->replied() == sent.size(); })) << server->replied();
  for (const std::string& expected : sent) {
    std::array<char, 2048> bytes{};
    const ssize_t size = recv(client_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    ASSERT_EQ(std::string(bytes.data(), static_cast<size_t>(std::max<ssize_t>(size, 0))), expected);
  }
}

// A service whose count is not what was sent does not pass for one that lost nothing.
TEST_F(UdpServerTest, AnAccountThatDoesNotAddUpIsAnError) {
  const SteerSite site{.netns = kNetns, .device = "hgbt-in", .port = 20000};
  const auto service = Value(StartUdpServer(site));
  ASSERT_TRUE(service->Begin().ok());
  const sockaddr_in address{
      .sin_family = AF_INET, .sin_port = htons(site.port), .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_zero = {}};
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(sendto(client_.get(), "x", 1, 0, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 1);
  }
  EXPECT_TRUE(service->Check(3, 0).ok());
  EXPECT_EQ(Value(service->Delivered()), 3u);
  EXPECT_TRUE(absl::IsDataLoss(service->Check(4, 0)));
}

// It has a process for each flow, each with a socket.
TEST_F(UdpServerTest, SocatAnswersAndLeavesItsPort) {
  const SteerSite site{.netns = kNetns, .device = "hgbt-in", .port = 20000, .echo = true};
  absl::StatusOr<std::unique_ptr<Service>> socat = StartSocat(site);
  if (absl::IsNotFound(socat.status())) GTEST_SKIP() << "socat is not installed (scripts/setup)";
  ASSERT_TRUE(socat.ok()) << socat.status();
  const sockaddr_in address{
      .sin_family = AF_INET, .sin_port = htons(site.port), .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_zero = {}};
  std::vector<Fd> clients(20);
  for (Fd& client : clients) {
    const absl::Status opened = InNamespace(kNetns, [&] {
      client = Fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
      return connect(client.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0
                 ? absl::OkStatus()
                 : ErrnoStatus("connect");
    });
    ASSERT_TRUE(opened.ok()) << opened;
    char answer = 0;
    EXPECT_TRUE(WaitFor([&] {
      // Until its process is there, what is sent may be lost.
      send(client.get(), "x", 1, MSG_DONTWAIT);
      return recv(client.get(), &answer, 1, MSG_DONTWAIT) == 1;
    }));
    EXPECT_EQ(answer, 'x');
  }
  socat->reset();
  const auto server = UdpServer::Start({.netns = kNetns, .port = site.port});
  EXPECT_TRUE(server.ok()) << server.status();
}

CommandResult Steer(std::vector<std::string> words, nlohmann::json& json) {
  const std::string file = ::testing::TempDir() + "hgbench_steer_test.json";
  const std::vector<std::string> all = {HG_HGBENCH, "steer",     "--wait", "--agent", HG_AGENT, "--rounds",
                                        "1",        "--seconds", "0.1",    "--json",  file};
  words.insert(words.begin(), all.begin(), all.end());
  Command command(words);
  CommandResult result = command.Wait(kTimeout);
  std::ifstream stream(file);
  json = stream.is_open() ? nlohmann::json::parse(stream, nullptr, false) : nlohmann::json();
  std::filesystem::remove(file);
  return result;
}

void ExpectNothingLeft() {
  const Fd alone = Value(LockBenchmarks(true));
  for (const char* netns : {"hgb-gen", "hgb-gw"}) {
    EXPECT_FALSE(std::filesystem::exists(std::string("/run/netns/") + netns)) << netns;
  }
  EXPECT_FALSE(std::filesystem::exists("/run/hgbench"));
}

TEST(SteerScenarioTest, MeasuresCountAndEchoBesideAServerOfTheUsualKind) {
  HG_REQUIRE_BPF();
  for (const std::string handler : {"count", "echo"}) {
    nlohmann::json json;
    const CommandResult result = Steer({"--handlers", handler, "--sizes", "64", "--no-socat"}, json);
    ASSERT_EQ(result.code, 0) << result.err;
    EXPECT_EQ(json["scenario"], "steer");
    const std::string name = handler + "/64";
    const std::vector<std::string> names = {name, name + "/per_cpu_s", name + "/loss"};
    ASSERT_EQ(json["rows"].size(), names.size()) << json;
    for (size_t i = 0; i < names.size(); ++i) EXPECT_EQ(json["rows"][i]["name"], names[i]);
    const nlohmann::json& rate = json["rows"][0];
    EXPECT_EQ(rate["baseline"], "recvmmsg");
    EXPECT_GT(rate["overload"], 0) << rate;
    EXPECT_GT(rate["baseline_overload"], 0) << rate;
    EXPECT_GT(rate["overload_per_cpu_s"], 0) << rate;
    EXPECT_GT(rate["overload_napi_ns"], 0) << rate;
    EXPECT_GT(rate["overload_service_ns"], 0) << rate;
    // By what it was chosen for.
    EXPECT_LT(json["rows"][2]["headgate"], 1e-4) << json["rows"][2];
    ExpectNothingLeft();
  }
}

TEST(SteerScenarioTest, SocatIsABaselineWhereItIsInstalled) {
  HG_REQUIRE_BPF();
  if (std::system("command -v socat >/dev/null") != 0) GTEST_SKIP() << "socat is not installed (scripts/setup)";
  nlohmann::json json;
  const CommandResult result = Steer({"--handlers", "count", "--sizes", "64", "--flows", "4"}, json);
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(json["rows"][1]["name"], "count/64");
  EXPECT_EQ(json["rows"][1]["baseline"], "socat");
  EXPECT_GT(json["rows"][1]["baseline_overload"], 0) << json["rows"][1];
}

TEST(SteerScenarioTest, WithoutSocatItSaysSoAndGoesOn) {
  HG_REQUIRE_BPF();
  // Where ip(8) and ethtool(8) are, but no more.
  const std::string directory = ::testing::TempDir() + "hgbench_steer_path";
  std::filesystem::create_directories(directory);
  for (const char* program : {"ip", "ethtool"}) {
    for (const char* where : {"/usr/bin/", "/usr/sbin/", "/bin/", "/sbin/"}) {
      const std::string target = std::string(where) + program, link = directory + "/" + program;
      if (std::filesystem::exists(target) && !std::filesystem::exists(link))
        std::filesystem::create_symlink(target, link);
    }
  }
  Command command({"/usr/bin/env", "PATH=" + directory, HG_HGBENCH, "steer", "--wait", "--agent", HG_AGENT,
                   "--rounds", "1", "--seconds", "0.1", "--handlers", "count", "--sizes", "64"});
  const CommandResult result = command.Wait(kTimeout);
  std::filesystem::remove_all(directory);
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_TRUE(absl::StrContains(result.err, "socat is not installed")) << result.err;
  EXPECT_TRUE(absl::StrContains(result.out, "recvmmsg")) << result.out;
  EXPECT_FALSE(absl::StrContains(result.out, "socat")) << result.out;
}

TEST(SteerScenarioTest, WithoutAnAgentItSaysSo) {
  HG_REQUIRE_BPF();
  Command command({HG_HGBENCH, "steer", "--wait", "--agent", "/nonexistent/headgated"});
  const CommandResult result = command.Wait(kTimeout);
  EXPECT_EQ(result.code, 1);
  EXPECT_TRUE(absl::StrContains(result.err, "--agent")) << result.err;
  ExpectNothingLeft();
}

}  // namespace
}  // namespace headgate::bench
