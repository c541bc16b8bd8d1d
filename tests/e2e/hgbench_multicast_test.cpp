// SPDX-License-Identifier: Apache-2.0
//
// The multicast benchmark: each relay delivers what it is given, their accounts are checked, and the whole of it.
#include <absl/strings/match.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>

#include "bench/lab.h"
#include "bench/netns.h"
#include "bench/relay_service.h"
#include "bench/sender.h"
#include "bench/service_meter.h"
#include "bench/socket_relay.h"
#include "tests/harness/command.h"
#include "tests/harness/lab.h"
#include "tests/harness/program.h"
#include "tests/harness/wire.h"

namespace headgate::bench {
namespace {

using testing::Bytes;
using testing::Command;
using testing::CommandResult;
using testing::WaitFor;
using testing::Wire;

constexpr char kGeneratorNs[] = "hgbt-gen", kRelayNs[] = "hgbt-gw", kSinkNs[] = "hgbt-sink";
constexpr uint32_t kLegs = 3;
// Beside its own time, that of a benchmark that somebody else runs.
constexpr std::chrono::seconds kTimeout(900);

template <typename T>
T Value(absl::StatusOr<T> value) {
  if (!value.ok()) throw std::runtime_error(value.status().ToString());
  return *std::move(value);
}

// Where scripts/setup unpacks what it does not install.
std::string ToolsPath() {
  const char* path = std::getenv("PATH");
  return absl::StrCat(path == nullptr ? "/usr/sbin:/usr/bin" : path, ":", HG_TOOLS);
}
bool HasSmcroute() {
  return std::system(("PATH=" + ToolsPath() + " command -v smcrouted >/dev/null").c_str()) == 0;
}

class RelayTest : public ::testing::Test {
 protected:
  void SetUp() override {
    HG_REQUIRE_BPF();
    setenv("PATH", ToolsPath().c_str(), 1);
    lab_ = Value(Lab::Create({kGeneratorNs, kRelayNs, kSinkNs}));
    const VethEnd input{kRelayNs, "hgbt-in"};
    Ok(lab_->Connect({kGeneratorNs, "hgbt-gen"}, input));
    Ok(lab_->EnableGro(input));
    Ok(lab_->AddAddress(input, "198.18.0.254/24"));
    for (uint32_t leg = 0; leg < kLegs; ++leg) {
      const VethEnd output{kRelayNs, Output(leg)}, sink{kSinkNs, SinkDevice(leg)};
      Ok(lab_->Connect(output, sink));
      Ok(lab_->EnableGro(sink));
      Ok(lab_->AddAddress(output, absl::StrCat("198.19.", leg, ".1/24")));
      ends_.push_back(sink);
    }
  }

  static void Ok(const absl::Status& status) { ASSERT_TRUE(status.ok()) << status; }
  static std::string Output(uint32_t leg) { return absl::StrCat("hgbt-o", leg); }
  static std::string SinkDevice(uint32_t leg) { return absl::StrCat("hgbt-s", leg); }

  static RelaySite Site() {
    RelaySite site{.netns = kRelayNs,
                   .device = "hgbt-in",
                   .source = "198.18.0.1",
                   .group = "239.1.1.1",
                   .port = 20000,
                   .legs = {},
                   .cpu = 0,
                   .agent = HG_AGENT,
                   .directory = ::testing::TempDir()};
    for (uint32_t leg = 0; leg < kLegs; ++leg) site.legs.push_back({Output(leg), site.group});
    return site;
  }

  static FrameSpec Frames(uint32_t size = 200) {
    return {.source_mac = {2, 0, 0, 0, 0, 2},
            .source = Value(ParseAddress("198.18.0.1")),
            .destination = Value(ParseAddress("239.1.1.1")),
            .destination_port = 20000,
            .size = size,
            .group_macs = true};
  }

  static std::unique_ptr<Sender> OpenSender(uint64_t count) {
    SendOptions options{.device = "hgbt-gen", .netns = kGeneratorNs};
    options.frame = Frames();
    options.packets_per_second = 5000;
    options.count = count;
    return Value(Sender::Open(options));
  }

  // All legs behind one device, each with a group of its own: 239.2.0.1 and on.
  static RelaySite OneDeviceSite(uint32_t legs) {
    RelaySite site = Site();
    site.userspace = true;
    site.legs.clear();
    for (uint32_t leg = 1; leg <= legs; ++leg) site.legs.push_back({Output(0), absl::StrCat("239.2.0.", leg)});
    return site;
  }

  // At a low rate every copy arrives, one by each leg, and the account holds; of one packet more it does not.
  void ExpectAllDelivered(
      const std::function<absl::StatusOr<std::unique_ptr<Service>>(const RelaySite&, const Sinks&)>& start,
      const RelaySite& site = Site()) {
    constexpr uint64_t kPackets = 3000;
    std::map<std::string, uint64_t> due;
    for (const RelayLeg& leg : site.legs) due[leg.device] += kPackets;
    const std::map<std::string, uint64_t> before = Arrived();
    Sinks sinks(ends_);
    Ok(sinks.Open(false));
    auto service = start(site, sinks);
    ASSERT_TRUE(service.ok()) << service.status();
    Ok((*service)->Begin());
    const auto sender = OpenSender(kPackets);
    Ok(sender->Run());
    ASSERT_EQ(sender->sent(), kPackets);
    EXPECT_TRUE(WaitFor([&] { return Value((*service)->Delivered()) == kPackets * site.legs.size(); }))
        << Value((*service)->Delivered());
    Ok((*service)->Check(kPackets, 0));
    EXPECT_TRUE(absl::IsDataLoss((*service)->Check(kPackets + 1, 0)));
    EXPECT_FALSE((*service)->Threads().empty());
    for (const auto& [device, frames] : Arrived()) EXPECT_EQ(frames - before.at(device), due[device]) << device;
  }

  // One packet comes out once to each leg's group, with the payload it had.
  static void ExpectACopyOfEachGroup(const RelaySite& site) {
    Wire generator(kGeneratorNs, "hgbt-gen"), sink(kSinkNs, SinkDevice(0));
    const FrameSpec spec = Frames(1400);
    const Bytes frame = BuildFrame(spec, Value(BuildTemplate(spec)), 0);
    generator.Send(frame);
    constexpr size_t kTtl = 22, kDestination = 30, kPort = 36, kPayload = 42;
    std::set<int> groups;
    for (size_t i = 0; i < site.legs.size(); ++i) {
      const Bytes copy =
          sink.Receive([](const Bytes& one) { return testing::IsIp(one, IPPROTO_UDP); }).value_or(Bytes{});
      ASSERT_EQ(copy.size(), frame.size());
      EXPECT_EQ(copy[kTtl], SocketRelay::kTtl);
      EXPECT_EQ(Bytes(copy.begin() + kDestination, copy.begin() + kDestination + 3), (Bytes{239, 2, 0}));
      EXPECT_EQ(Bytes(copy.begin(), copy.begin() + 6), (Bytes{1, 0, 0x5e, 2, 0, copy[kDestination + 3]}));
      EXPECT_EQ(Bytes(copy.begin() + kPort, copy.begin() + kPort + 2), (Bytes{20000 >> 8, 20000 & 0xff}));
      EXPECT_TRUE(std::equal(copy.begin() + kPayload, copy.end(), frame.begin() + kPayload));
      groups.insert(copy[kDestination + 3]);
    }
    EXPECT_EQ(groups.size(), site.legs.size());
  }

  // What has come to each leg's far end, by the device at ours (ip -s link).
  static std::map<std::string, uint64_t> Arrived() {
    std::map<std::string, uint64_t> frames;
    Ok(InNamespace(kSinkNs, [&] {
      std::ifstream file("/proc/thread-self/net/dev");
      for (std::string line; std::getline(file, line);) {
        std::istringstream words(line);
        std::string name;
        uint64_t bytes = 0, packets = 0;
        words >> name >> bytes >> packets;
        for (uint32_t leg = 0; leg < kLegs; ++leg) {
          if (name == SinkDevice(leg) + ":") frames[Output(leg)] = packets;
        }
      }
      return absl::OkStatus();
    }));
    EXPECT_EQ(frames.size(), kLegs);
    return frames;
  }

  std::unique_ptr<Lab> lab_;
  std::vector<VethEnd> ends_;
};

TEST_F(RelayTest, HeadgateDeliversAllInTheKernel) {
  const std::atomic<bool> stop = false;
  ExpectAllDelivered(
      [&](const RelaySite& site, const Sinks& sinks) { return StartHeadgateRelay(site, sinks, stop); });
}

// One leg alone would be the kernel's: the account says that it was a worker's.
TEST_F(RelayTest, HeadgateDeliversAllByWorkers) {
  const std::atomic<bool> stop = false;
  for (const uint32_t legs : {1, 5}) {
    ExpectAllDelivered(
        [&](const RelaySite& site, const Sinks& sinks) { return StartHeadgateRelay(site, sinks, stop); },
        OneDeviceSite(legs));
  }
}

TEST_F(RelayTest, SocketsDeliverAll) { ExpectAllDelivered(StartSocketRelay); }

TEST_F(RelayTest, TheKernelsRoutingDeliversAll) {
  if (!HasSmcroute()) GTEST_SKIP() << "no smcroute: scripts/setup unpacks it";
  ExpectAllDelivered(StartIpMroute);
}

TEST_F(RelayTest, TheKernelsRoutingSaysHowManyLegsAreTooMany) {
  RelaySite site = Site();
  for (uint32_t leg = kLegs; leg < 32; ++leg) site.legs.push_back({Output(leg), site.group});
  const Sinks sinks({});
  const absl::Status status = StartIpMroute(site, sinks).status();
  EXPECT_TRUE(absl::IsOutOfRange(status)) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "32 interfaces")) << status;
}

// A copy a leg is what nothing is lost means.
TEST_F(RelayTest, ARelayThatLeavesOutALegHoldsNoRate) {
  RelaySite site = Site();
  site.legs.pop_back();
  Sinks sinks(ends_);
  Ok(sinks.Open(false));
  const auto service = Value(StartSocketRelay(site, sinks));
  ServicePath path{.netns = kRelayNs,
                   .device = "hgbt-in",
                   .sender_netns = kGeneratorNs,
                   .sender_device = "hgbt-gen",
                   .frame = Frames(),
                   .copies = kLegs,
                   .seconds = 0.05};
  const std::atomic<bool> stop = false;
  const auto lossy = Value(ServiceMeter::Open(path, *service));
  EXPECT_NEAR(Value(lossy->Run(2000)).loss, 1.0 / kLegs, 1e-9);
  EXPECT_EQ(Value(lossy->FindLossless(2000, stop)).rate, 0);
  path.copies = kLegs - 1;
  const auto lossless = Value(ServiceMeter::Open(path, *service));
  const ServiceSample sample = Value(lossless->Run(2000));
  EXPECT_EQ(sample.loss, 0);
  EXPECT_GT(sample.rate, sample.offered);
  EXPECT_EQ(lossless->peak(), sample.rate);
}

TEST_F(RelayTest, SocketsSendWhatCameToEachGroup) {
  const RelaySite site = OneDeviceSite(100);
  std::vector<SocketLeg> legs;
  for (const RelayLeg& leg : site.legs) legs.push_back({.device = leg.device, .group = leg.group});
  const auto relay = Value(SocketRelay::Start(
      {.netns = kRelayNs, .device = site.device, .group = site.group, .port = site.port, .legs = legs}));
  ExpectACopyOfEachGroup(site);
  EXPECT_TRUE(WaitFor([&] { return relay->received() == 1 && relay->sent() == legs.size(); }));
  EXPECT_EQ(relay->refused(), 0U);
}

TEST_F(RelayTest, HeadgateSendsWhatCameToEachGroup) {
  const std::atomic<bool> stop = false;
  const RelaySite site = OneDeviceSite(100);
  const Sinks sinks({});
  const auto relay = Value(StartHeadgateRelay(site, sinks, stop));
  ExpectACopyOfEachGroup(site);
}

CommandResult Multicast(std::vector<std::string> words, nlohmann::json& json,
                        const std::string& path = ToolsPath()) {
  const std::string file = ::testing::TempDir() + "hgbench_multicast_test.json";
  const std::vector<std::string> all = {"/usr/bin/env", "PATH=" + path, HG_HGBENCH, "multicast", "--wait",
                                        "--agent",      HG_AGENT,       "--rounds", "1",         "--seconds",
                                        "0.05",         "--sizes",      "64",       "--json",    file};
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
  for (const char* netns : {"hgb-gen", "hgb-gw", "hgb-sink"}) {
    EXPECT_FALSE(std::filesystem::exists(std::string("/run/netns/") + netns)) << netns;
  }
  EXPECT_FALSE(std::filesystem::exists("/run/hgbench"));
}

// Every row has figures of both: what they are worth is not for tests to say.
void ExpectFigures(const nlohmann::json& json, const std::vector<std::string>& names) {
  ASSERT_EQ(json["rows"].size(), names.size()) << json;
  for (size_t i = 0; i < names.size(); ++i) {
    const nlohmann::json& row = json["rows"][i];
    EXPECT_EQ(row["name"].get<std::string>() + " " + row["baseline"].get<std::string>(), names[i]);
    EXPECT_GT(row["headgate"], 0) << row;
    EXPECT_GT(row["baseline_value"], 0) << row;
  }
}

TEST(MulticastScenarioTest, MeasuresTheKernelsPathBesideItsPeersAndDrawsIt) {
  HG_REQUIRE_BPF();
  if (!HasSmcroute()) GTEST_SKIP() << "no smcroute: scripts/setup unpacks it";
  const std::string prefix = ::testing::TempDir() + "hgbench_multicast_test";
  nlohmann::json json;
  const CommandResult result = Multicast({"--paths", "kernel", "--kernel-legs", "2", "--chart", prefix}, json);
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(json["scenario"], "multicast");
  std::vector<std::string> names;
  for (const char* row : {"kernel/2/64", "kernel/2/64/cpu_ns_per_copy", "kernel/2/64/lossfree_pps",
                          "latency/kernel/p50_us", "latency/kernel/p99_us", "latency/kernel/p999_us"}) {
    for (const char* baseline : {" ip_mroute", " socket_relay"}) names.push_back(std::string(row) + baseline);
  }
  ExpectFigures(json, names);
  for (const char* end : {".csv", ".svg"}) {
    std::ifstream file(prefix + end);
    std::stringstream text;
    text << file.rdbuf();
    for (const char* relay : {"headgate", "ip_mroute", "socket_relay"}) {
      EXPECT_TRUE(absl::StrContains(text.str(), relay)) << prefix << end << " has no " << relay;
    }
    std::filesystem::remove(prefix + end);
  }
  ExpectNothingLeft();
}

// As fast as they come more are lost on the way to the worker than are copied: these the account has, too.
TEST(MulticastScenarioTest, MeasuresWorkersBesideTheSocketRelay) {
  HG_REQUIRE_BPF();
  const std::string prefix = ::testing::TempDir() + "hgbench_multicast_workers_test";
  nlohmann::json json;
  const CommandResult result =
      Multicast({"--paths", "userspace", "--userspace-legs", "1,30", "--chart", prefix}, json);
  ASSERT_EQ(result.code, 0) << result.err;
  ExpectFigures(json, {"userspace/1/64 socket_relay", "userspace/1/64/cpu_ns_per_copy socket_relay",
                       "userspace/1/64/lossfree_pps socket_relay", "userspace/30/64 socket_relay",
                       "userspace/30/64/cpu_ns_per_copy socket_relay", "userspace/30/64/lossfree_pps socket_relay",
                       "latency/userspace/p50_us socket_relay", "latency/userspace/p99_us socket_relay",
                       "latency/userspace/p999_us socket_relay"});
  EXPECT_GT(json["rows"][3]["overload_loss"], 0.1) << "this was no overload";
  std::ifstream chart(prefix + ".svg");
  std::stringstream text;
  text << chart.rdbuf();
  EXPECT_TRUE(absl::StrContains(text.str(), "userspace path, 64 bytes"));
  for (const char* end : {".csv", ".svg"}) std::filesystem::remove(prefix + end);
  ExpectNothingLeft();
}

TEST(MulticastScenarioTest, WhatTheKernelsRoutingCannotIsSaidInsteadOfItsFigure) {
  HG_REQUIRE_BPF();
  nlohmann::json json;
  const CommandResult result =
      Multicast({"--paths", "kernel", "--kernel-legs", "32", "--baselines", "ip_mroute", "--no-latency"}, json);
  ASSERT_EQ(result.code, 0) << result.err;
  ASSERT_EQ(json["rows"].size(), 3U) << json;
  EXPECT_GT(json["rows"][0]["headgate"], 0);
  EXPECT_EQ(json["rows"][0]["baseline"], "ip_mroute");
  EXPECT_TRUE(json["rows"][0]["baseline_value"].is_null());
  EXPECT_TRUE(absl::StrContains(json["rows"][0]["note"].get<std::string>(), "32 interfaces")) << json;
  EXPECT_TRUE(absl::StrContains(result.err, "kernel/32/64 ip_mroute is left out")) << result.err;
}

TEST(MulticastScenarioTest, WithoutSmcrouteItSaysSoAndGoesOn) {
  HG_REQUIRE_BPF();
  // Where ip(8) and ethtool(8) are, but no more.
  const std::string directory = ::testing::TempDir() + "hgbench_multicast_path";
  std::filesystem::create_directories(directory);
  for (const char* program : {"ip", "ethtool"}) {
    for (const char* where : {"/usr/bin/", "/usr/sbin/", "/bin/", "/sbin/"}) {
      const std::string target = std::string(where) + program, link = directory + "/" + program;
      if (std::filesystem::exists(target) && !std::filesystem::exists(link))
        std::filesystem::create_symlink(target, link);
    }
  }
  nlohmann::json json;
  const CommandResult result =
      Multicast({"--paths", "kernel", "--kernel-legs", "1", "--no-latency"}, json, directory);
  std::filesystem::remove_all(directory);
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_TRUE(absl::StrContains(result.err, "ip_mroute is left out: no smcrouted")) << result.err;
  ExpectFigures(json, {"kernel/1/64 socket_relay", "kernel/1/64/cpu_ns_per_copy socket_relay",
                       "kernel/1/64/lossfree_pps socket_relay"});
}

TEST(MulticastScenarioTest, WithoutAnAgentItSaysSo) {
  HG_REQUIRE_BPF();
  Command command({HG_HGBENCH, "multicast", "--wait", "--kernel-legs", "1", "--agent", "/nonexistent/headgated"});
  const CommandResult result = command.Wait(kTimeout);
  EXPECT_EQ(result.code, 1);
  EXPECT_TRUE(absl::StrContains(result.err, "--agent")) << result.err;
  ExpectNothingLeft();
}

}  // namespace
}  // namespace headgate::bench
