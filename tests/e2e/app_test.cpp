// SPDX-License-Identifier: Apache-2.0
//
// A user's process without privilege has a steer target's packets: the example of libheadgate-app answers them,
// and what becomes of them when it is killed, hangs, may not, or the agent goes and comes back.
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <csignal>
#include <map>

#include "tests/harness/command.h"
#include "tests/harness/live_gateway.h"
#include "tests/harness/random.h"
#include "tests/harness/traffic.h"
#include "tests/harness/workers.h"

namespace headgate::testing {
namespace {

// Nobody and a group of nobody's: numbers that need no entry anywhere.
constexpr char kUser[] = "65534", kGroup[] = "64321", kOtherGroup[] = "64322";

class AppTest : public LiveGatewayTest {
 protected:
  explicit AppTest(const std::string& name = "app")
      : LiveGatewayTest(name, {{"--app-socket", SocketOf(name)}}), socket_(SocketOf(name)) {}
  static std::string SocketOf(const std::string& name) {
    return absl::StrCat("/run/headgate-test/", name, "/app.sock");
  }

  void Steer(const std::string& options = "") {
    api().PatchYaml(absl::StrCat("upsert:\n  steer_targets: [{name: app, handler: {app: {group: '", kGroup,
                                 "'}}, fallback: drop", options,
                                 "}]\n  rules:\n"
                                 "    - {name: app, priority: 100, match: {protocol: udp, destination_ports: "
                                 "['9000']}, action: {steer: {target: app}}}\n"));
    ASSERT_TRUE(WaitFor([&] { return absl::StrContains(agent().Log(), "applications may ask"); }));
  }
  std::unique_ptr<Command> Echo(const std::string& group = kGroup) {
    return std::make_unique<Command>(
        std::vector<std::string>{"setpriv", "--reuid", kUser, "--regid", group, "--clear-groups", "--no-new-privs",
                                 "--bounding-set", "-all", HG_ECHO, "app", socket_},
        CommandOptions{.netns = lab().Name("gw")});
  }
  static Bytes Request(const Bytes& payload, uint16_t source_port = 4000) {
    return Ethernet{} / Ipv4{.source = "192.0.2.1", .destination = "198.51.100.7"} /
           Udp{.source_port = source_port, .destination_port = 9000} / Payload(payload);
  }
  static Bytes Answer(const Bytes& payload, uint16_t source_port = 4000) {
    return Ethernet{.destination = "02:00:00:00:00:02", .source = "02:00:00:00:00:01"} /
           Ipv4{.source = "198.51.100.7", .destination = "192.0.2.1"} /
           Udp{.source_port = 9000, .destination_port = source_port} / Payload(payload);
  }
  bool AwaitFate(const std::string& reason) {
    return WaitFor([&] { return Fate(Request(Bytes(100, 0x33))) == reason; });
  }
  // Frames before it that were answered late are not it.
  void ExpectAnswered(const Bytes& payload, uint16_t source_port = 4000) {
    client().Send(Request(payload, source_port));
    EXPECT_TRUE(
        client().Receive([&](const Bytes& frame) { return frame == Answer(payload, source_port); }).has_value());
  }
  uint64_t Reason(const std::string& reason) { return api().Reasons("in")[reason]; }
  Work Workers() { return SumWorkers(api().Stats()); }
  bool IsMissed() { return api().Warns("steer target app take the fallback: no application asks"); }

  const std::string socket_;
};

// "answered 5 ignored 0 unsent 0"
std::map<std::string, uint64_t> Said(const std::string& output) {
  std::map<std::string, uint64_t> said;
  std::string last;
  for (const auto& line : absl::StrSplit(output, '\n', absl::SkipEmpty())) last = std::string(line);
  const std::vector<std::string> words = absl::StrSplit(last, ' ');
  for (size_t i = 0; i + 1 < words.size(); i += 2) said[words[i]] = std::stoull(words[i + 1]);
  return said;
}

TEST_F(AppTest, AnUnprivilegedProcessAnswersDatagrams) {
  Steer();
  // Nobody is there yet.
  ASSERT_TRUE(AwaitFate("drop_steer_fallback"));
  const auto echo = Echo();
  ASSERT_TRUE(AwaitFate("forward_steer"));
  ExpectAnswered(Bytes(100, 0x44));

  const Work before = Workers();
  const uint64_t steered = Reason("forward_steer");
  const size_t count = 2000;
  for (size_t i = 0; i < count; ++i) client().Send(Request(Bytes(100, static_cast<uint8_t>(i))));
  EXPECT_TRUE(WaitFor([&] { return Workers().transmitted == before.transmitted + count; }));
  const Work work = Workers();
  EXPECT_EQ(Reason("forward_steer") - steered, count);
  EXPECT_EQ(work.received - before.received, count);
  EXPECT_EQ(work.consumed - before.consumed, count);
  EXPECT_EQ(work.dropped, before.dropped);

  const uint64_t all = Reason("forward_steer");
  echo->Signal(SIGTERM);
  const CommandResult result = echo->Wait();
  EXPECT_EQ(result.code, 0) << result.err;
  std::map<std::string, uint64_t> said = Said(result.out);
  EXPECT_EQ(said["answered"], all) << result.out;
  EXPECT_EQ(said["ignored"] + said["unsent"], 0U) << result.out;
  EXPECT_TRUE(AwaitFate("drop_steer_fallback"));
}

TEST_F(AppTest, DeathIsNoticedAndTheNextProcessServes) {
  Steer();
  for (int i = 0; i < 3; ++i) {
    const auto echo = Echo();
    ASSERT_TRUE(AwaitFate("forward_steer"));
    EXPECT_FALSE(IsMissed());
    ExpectAnswered(Bytes(100, static_cast<uint8_t>(0x50 + i)));
    echo->Signal(SIGKILL);
    EXPECT_TRUE(AwaitFate("drop_steer_fallback"));
    EXPECT_TRUE(WaitFor([&] { return IsMissed(); }));
  }
}

// Twice the time that a process may be silent, and what a busy machine adds.
TEST_F(AppTest, AHungProcessLosesItsPacketsUntilItGoesOn) {
  Steer();
  const auto echo = Echo();
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(AwaitFate("forward_steer"));
    echo->Signal(SIGSTOP);
    const uint64_t before = Reason("drop_steer_fallback");
    EXPECT_TRUE(WaitFor(
        [&] {
          client().Send(Request(Bytes(100, 0x55)));
          return Reason("drop_steer_fallback") != before;
        },
        std::chrono::seconds(4)));
    EXPECT_TRUE(absl::StrContains(agent().Log(), "it hangs"));
    EXPECT_TRUE(echo->Running());
    echo->Signal(SIGCONT);
  }
  ASSERT_TRUE(AwaitFate("forward_steer"));
  ExpectAnswered(Bytes(100, 0x56));
}

TEST_F(AppTest, TheProcessOutlivesTheAgent) {
  Steer();
  const auto echo = Echo();
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(AwaitFate("forward_steer"));
    ExpectAnswered(Bytes(100, static_cast<uint8_t>(0x60 + i)));
    agent().Restart();
  }
  ASSERT_TRUE(AwaitFate("forward_steer"));
  ExpectAnswered(Bytes(100, 0x62));
  // Likewise when the target is gone for a while.
  api().PatchYaml("delete_rules: [app]\ndelete_steer_targets: [app]\n");
  ASSERT_TRUE(AwaitFate("forward_redirect"));
  Steer();
  ASSERT_TRUE(AwaitFate("forward_steer"));
  ExpectAnswered(Bytes(100, 0x63));
  EXPECT_TRUE(echo->Running());
}

TEST_F(AppTest, OthersAreRefused) {
  Steer();
  ASSERT_TRUE(AwaitFate("drop_steer_fallback"));
  const CommandResult stranger = Echo(kOtherGroup)->Wait();
  EXPECT_EQ(stranger.code, 1);
  EXPECT_TRUE(absl::StrContains(stranger.err, "Permission denied")) << stranger.err;
  EXPECT_EQ(Fate(Request(Bytes(100, 0x33))), "drop_steer_fallback");

  const auto echo = Echo();
  ASSERT_TRUE(AwaitFate("forward_steer"));
  const CommandResult second = Echo()->Wait();
  EXPECT_EQ(second.code, 1);
  EXPECT_TRUE(absl::StrContains(second.err, "busy")) << second.err;
  ExpectAnswered(Bytes(100, 0x45));

  const CommandResult lost = RunCommand({HG_ECHO, "other", socket_}, {.netns = lab().Name("gw")});
  EXPECT_TRUE(absl::StrContains(lost.err, "No such process")) << lost.err;
}

TEST_F(AppTest, EachWorkerHasAChannel) {
  Steer(", workers: {count: 2}, spread: flow");
  const auto echo = Echo();
  ASSERT_TRUE(AwaitFate("forward_steer"));
  for (uint16_t port = 5000; port < 5032; ++port) ExpectAnswered(Bytes(100, 0x46), port);
  const pb::StatsResponse stats = api().Stats();
  ASSERT_EQ(stats.workers_size(), 2);
  // Either has handled packets: what one received, the other has consumed.
  const uint64_t processed = Workers().consumed;
  EXPECT_GE(processed, 32U);
  // Another number of workers is another session, and its channels are served without a word to the process.
  Steer(", workers: {count: 3}, spread: flow");
  EXPECT_TRUE(WaitFor([&] { return api().Stats().workers_size() == 3; }));
  ASSERT_TRUE(AwaitFate("forward_steer"));
  for (uint16_t port = 5000; port < 5032; ++port) ExpectAnswered(Bytes(100, 0x47), port);
}

class JumboAppTest : public AppTest {
 protected:
  JumboAppTest() : AppTest("appjumbo") {}
};

TEST_F(JumboAppTest, LargeFramesKeepEveryByte) {
  lab().Ip("client", "link set c0 mtu 9000");
  lab().Ip("gw", "link set g0 mtu 9000");
  agent().Restart();
  Steer();
  const auto echo = Echo();
  ASSERT_TRUE(AwaitFate("forward_steer"));
  std::mt19937_64 random = MakeRandom();
  for (const size_t size : {1, 1472, 2000, 4000, 8958, 8972}) {
    for (int i = 0; i < 100; ++i) {
      Bytes payload(size);
      for (uint8_t& byte : payload) byte = static_cast<uint8_t>(random());
      SCOPED_TRACE(size);
      ExpectAnswered(payload);
    }
  }
}

}  // namespace
}  // namespace headgate::testing
