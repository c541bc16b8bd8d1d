// SPDX-License-Identifier: Apache-2.0
//
// Three relays one behind the other, each an agent in a namespace of its own: what the first accepts comes to the
// end, from each hop's own address, to a group and port of each hop's own.
#include <absl/strings/str_cat.h>

#include <array>
#include <cmath>
#include <cstdlib>
#include <numeric>
#include <tuple>

#include "bench/netns.h"
#include "bench/rate_search.h"
#include "tests/e2e/multicast_fixture.h"
#include "tests/e2e/payload_frames.h"
#include "tests/harness/traffic.h"

namespace headgate::testing {
namespace {

constexpr int kHops = 3;
constexpr size_t kHeaders = 14 + 20 + 8, kFrameBytes = 1400, kPayloads = 512;
constexpr uint8_t kTtl = 64;
constexpr uint32_t kTwinGroup = 0xef090909;  // 239.9.9.9

// How many packets a test of a path that copies some 100,000 a second or more sends.
uint64_t PacketsToSend() {
  if (const char* given = std::getenv("HG_CHAIN_PACKETS"); given != nullptr)
    return std::strtoull(given, nullptr, 0);
  return std::getenv("HG_NIGHTLY") != nullptr ? 10'000'000 : 300'000;
}

constexpr uint64_t kModest = 10'000;  // packets a second

enum class Path { kKernel, kWorkers };

// The counters of one relay.
struct Hop {
  uint64_t packets = 0;        // of the route
  uint64_t offered = 0;        // to the leg
  uint64_t sent = 0;           // by it
  uint64_t transmitted = 0;    // by the leg's device
  uint64_t dropped = 0;        // by that
  uint64_t from_no_route = 0;  // that came in and were no route's

  Hop operator-(const Hop& other) const {
    return {packets - other.packets,         offered - other.offered, sent - other.sent,
            transmitted - other.transmitted, dropped - other.dropped, from_no_route - other.from_no_route};
  }
};

// What became of the packets of one run.
struct Passage {
  uint64_t sent = 0, delivered = 0;
  std::array<Hop, kHops> hops;
  double rate = 0;  // that they were sent at

  uint64_t accepted() const { return hops[0].packets; }
  uint64_t dropped() const {
    return std::accumulate(hops.begin(), hops.end(), uint64_t{0},
                           [](uint64_t sum, const Hop& hop) { return sum + hop.dropped; });
  }
  friend void PrintTo(const Passage& run, std::ostream* out) {
    *out << run.sent << " sent at " << static_cast<uint64_t>(run.rate) << " a second, " << run.accepted()
         << " accepted, " << run.delivered << " delivered, dropped behind relays";
    for (const Hop& hop : run.hops) *out << ' ' << hop.dropped;
  }
};

// What a frame looks like on the link behind a relay.
struct HopMark {
  MacAddress destination_mac{}, source_mac{};
  uint32_t source = 0, destination = 0;
  uint16_t source_port = 0, destination_port = 0;
  uint8_t ttl = 0;
  friend bool operator==(const HopMark&, const HopMark&) = default;
};
HopMark MarkOf(const hgt_mark& mark) {
  HopMark hop{.source = mark.source,
              .destination = mark.destination,
              .source_port = mark.source_port,
              .destination_port = mark.destination_port,
              .ttl = mark.ttl};
  std::copy_n(mark.destination_mac, 6, hop.destination_mac.begin());
  std::copy_n(mark.source_mac, 6, hop.source_mac.begin());
  return hop;
}
void PrintTo(const HopMark& hop, std::ostream* out) {
  *out << ToString(hop.source_mac) << " > " << ToString(hop.destination_mac) << ' ' << std::hex << hop.source
       << ':' << std::dec << hop.source_port << " > " << std::hex << hop.destination << ':' << std::dec
       << hop.destination_port << " ttl " << static_cast<int>(hop.ttl);
}

// client c0 -- g1 gw1 e1 -- g2 gw2 e2 -- g3 gw3 e3 -- d0 r. Relay k has 10.0.k.1 behind it, takes 239.1.1.k port
// 5000 + k from the one before alone, and sends to the group and port after that.
class MulticastChain : public ::testing::Test {
 protected:
  void SetUp() override {
    HG_REQUIRE_LAB();
    lab_ = std::make_unique<Lab>("mcchain", std::vector<std::string>{"client", "gw1", "gw2", "gw3", "r"});
    lab_->Link("client", "c0", "gw1", "g1");
    for (int hop = 1; hop <= kHops; ++hop) {
      const auto [ns, device] = FarEnd(hop);
      lab_->Link(Gw(hop), Egress(hop), ns, device);
      lab_->Ip(Gw(hop), absl::StrCat("addr add 10.0.", hop, ".1/24 dev ", Egress(hop)));
    }
  }
  void TearDown() override {
    tally_.reset();
    for (auto& agent : agents_) {
      if (agent) {
        EXPECT_EQ(agent->Stop(), 0);
      }
    }
    for (auto& agent : agents_) agent.reset();
    lab_.reset();
  }

  static std::string Gw(int hop) { return absl::StrCat("gw", hop); }
  static std::string Egress(int hop) { return absl::StrCat("e", hop); }
  static std::pair<std::string, std::string> FarEnd(int hop) {
    if (hop == kHops) return {"r", "d0"};
    return {Gw(hop + 1), absl::StrCat("g", hop + 1)};
  }
  Client& api(int hop) { return agents_[static_cast<size_t>(hop - 1)]->client(); }

  // As a relay of the path has them. A second leg by one device, or one to a unicast address, is for workers.
  std::string Legs(int hop, Path path) {
    const std::string on = absl::StrCat("{name: on, interface: out, port: ", 5001 + hop, ", source: egress, ");
    if (path == Path::kWorkers && hop == kHops)
      return absl::StrCat(on, "unicast: 10.0.3.77, mac: \"", lab_->Mac("r", "d0"), "\"}");
    std::string group = absl::StrCat(on, "group: 239.1.1.", hop + 1, "}");
    if (path == Path::kKernel || hop == 1) return group;
    return group + ", {name: twin, interface: out, group: 239.9.9.9, source: egress}";
  }
  HopMark Expected(int hop, Path path) {
    const bool unicast = path == Path::kWorkers && hop == kHops;
    const std::string destination = unicast ? "10.0.3.77" : absl::StrCat("239.1.1.", hop + 1);
    const auto [ns, device] = FarEnd(hop);
    const IpAddress address = Value(ParseAddress(destination));
    return {.destination_mac = unicast ? Value(ParseMac(lab_->Mac(ns, device))) : bench::GroupMac(address),
            .source_mac = Value(ParseMac(lab_->Mac(Gw(hop), Egress(hop)))),
            .source = Value(ParseAddress(absl::StrCat("10.0.", hop, ".1"))).words[0],
            .destination = address.words[0],
            .source_port = 4000,
            .destination_port = static_cast<uint16_t>(5001 + hop),
            .ttl = static_cast<uint8_t>(kTtl - hop)};
  }

  // The relay is started; what leaves it is looked at before the next takes it.
  void Join(int hop, Path path) {
    SCOPED_TRACE(absl::StrCat("relay ", hop));
    tally_.reset();
    agents_[static_cast<size_t>(hop - 1)] = std::make_unique<Agent>(
        *lab_, Gw(hop),
        AgentOptions{.arguments = {"--max-rules", "1024", "--max-prefixes", "1024", "--max-sources", "64"},
                     .name = Gw(hop)});
    const std::string before = hop == 1 ? "172.16.9.9" : absl::StrCat("10.0.", hop - 1, ".1");
    api(hop).ApplyYaml(absl::StrCat(
        "interfaces: [{name: in, device: g", hop, "}, {name: out, device: e", hop,
        "}]\nmulticast_routes:\n  - {name: hop, input: {interfaces: [in], group: 239.1.1.", hop,
        ", port: ", 5000 + hop, ", sources: {include: [", before, "]}}, legs: [", Legs(hop, path), "]}\n"));
    const bool workers = path == Path::kWorkers && hop > 1;
    ASSERT_EQ(api(hop).GetObject(pb::KIND_MULTICAST_ROUTE, "hop").multicast_route_state().path(),
              workers ? pb::MulticastRouteState::PATH_USERSPACE : pb::MulticastRouteState::PATH_KERNEL);
    if (workers) {
      ASSERT_TRUE(AwaitWorker(hop));
    }
    expected_ = Expected(hop, path);
    StartTally(hop);
    const uint64_t sent = Sender(kModest, 4 * kPayloads + 1)->sent();
    EXPECT_TRUE(WaitFor([&] { return Arrived().frames == sent; })) << Arrived().frames << " of " << sent;
    ExpectPayloads(sent, true);
  }

  // Behind a relay.
  void StartTally(int hop, uint32_t delay = 0) {
    const auto [ns, device] = FarEnd(hop);
    tally_.reset();
    tally_ = std::make_unique<Tally>(*lab_, ns, device, delay, true);
    payloads_before_.clear();
  }
  bool AwaitWorker(int hop) {
    return WaitFor([&] {
      const pb::StatsResponse stats = api(hop).Stats();
      return stats.workers_size() != 0 && stats.workers(0).queues_size() != 0;
    });
  }
  // That has sent them.
  std::unique_ptr<bench::Sender> Sender(uint64_t per_second, uint64_t count) {
    bench::SendOptions options{.device = "c0", .netns = lab_->Name("client"), .captured = frames_.frames()};
    options.packets_per_second = per_second;
    options.count = count;
    options.scheduling.cpu = 0;
    auto sender = Value(bench::Sender::Open(options));
    Ok(sender->Run());
    return sender;
  }
  // Through all three, until each packet is accounted for.
  Passage Through(uint64_t per_second, uint64_t count) {
    const Passage before = Read();
    const auto sender = Sender(per_second, count);
    Passage run;
    WaitFor([&] {
      run = Read();
      run.delivered -= before.delivered;
      for (size_t i = 0; i < kHops; ++i) run.hops[i] = run.hops[i] - before.hops[i];
      run.sent = sender->sent();
      return run.accepted() == run.sent && run.delivered + run.dropped() == run.sent;
    });
    run.rate = static_cast<double>(run.sent) / sender->Report().seconds;
    EXPECT_EQ(run.accepted(), run.sent) << ::testing::PrintToString(run);
    EXPECT_EQ(run.delivered + run.dropped(), run.sent) << ::testing::PrintToString(run);
    ExpectPayloads(run.sent, run.delivered == run.sent);
    return run;
  }
  Passage Read() {
    Passage run{.delivered = Arrived().frames};
    for (int hop = 1; hop <= kHops; ++hop) {
      Hop& counts = run.hops[static_cast<size_t>(hop - 1)];
      const pb::StatsResponse stats = api(hop).Stats();
      counts.packets = stats.multicast_routes(0).packets();
      counts.offered = stats.multicast_routes(0).legs(0).offered_packets();
      counts.sent = stats.multicast_routes(0).legs(0).sent_packets();
      for (const pb::InterfaceStats& interface : stats.interfaces()) {
        if (interface.name() == "out") {
          counts.transmitted = interface.transmitted_packets();
          counts.dropped = interface.transmit_dropped_packets();
          continue;
        }
        for (const pb::ReasonStats& reason : interface.reasons()) {
          if (reason.reason() == "pass_default") counts.from_no_route = reason.packets();
        }
      }
    }
    return run;
  }
  // On the kernel's path: from counter to counter, hop by hop.
  static void ExpectAccount(const Passage& run) {
    SCOPED_TRACE(::testing::PrintToString(run));
    uint64_t came = run.sent;
    for (const Hop& hop : run.hops) {
      EXPECT_EQ(hop.packets, came);
      EXPECT_EQ(hop.offered, came);
      EXPECT_EQ(hop.sent, came);
      EXPECT_EQ(hop.transmitted + hop.dropped, came);
      came = hop.transmitted;
    }
    EXPECT_EQ(run.delivered, came);
  }
  // The highest rate at which a short run loses nothing, from `start` on.
  uint64_t LossFreeRate(double start) {
    constexpr uint64_t kTrial = 50'000;
    constexpr double kAsAsked = 0.95;
    bench::RateSearch search(static_cast<uint64_t>(start));
    while (const auto rate = search.Next()) {
      const Passage run = Through(*rate, kTrial);
      if (run.dropped() != 0)
        search.Failed();
      else if (run.rate < kAsAsked * static_cast<double>(*rate))
        search.HeldAtTheMost();
      else
        search.Held();
    }
    return search.best();
  }

  // What came to the tally, in the form that it is to have.
  struct Arrival {
    uint64_t frames = 0, twins = 0;
    std::map<uint64_t, uint64_t> payloads;
  };
  Arrival Arrived() {
    Arrival arrival;
    tally_->ForEach([&](const hgt_mark& mark, uint64_t frames) {
      if (mark.destination == kTwinGroup) {
        arrival.twins += frames;
        return;
      }
      EXPECT_EQ(MarkOf(mark), expected_) << frames << " frames";
      arrival.frames += frames;
      arrival.payloads[mark.payload] += frames;
    });
    return arrival;
  }
  // Since the last time.
  void ExpectPayloads(uint64_t sent, bool all) {
    const Arrival now = Arrived();
    std::map<uint64_t, uint64_t> fresh = now.payloads;
    for (const auto& [hash, frames] : payloads_before_) fresh[hash] -= frames;
    payloads_before_ = now.payloads;
    all ? frames_.ExpectAll(std::move(fresh), sent) : frames_.ExpectSome(std::move(fresh), sent);
  }

  const PayloadFrames frames_{Ethernet{.destination = "01:00:5e:01:01:01"} /
                                  Ipv4{.source = "172.16.9.9", .destination = "239.1.1.1", .ttl = kTtl} /
                                  Udp{.source_port = 4000, .destination_port = 5001},
                              kPayloads, kFrameBytes - kHeaders};
  std::unique_ptr<Lab> lab_;
  std::array<std::unique_ptr<Agent>, kHops> agents_;
  std::unique_ptr<Tally> tally_;
  HopMark expected_;
  std::map<uint64_t, uint64_t> payloads_before_;
};

TEST_F(MulticastChain, WhatTheFirstAcceptsComesToTheEnd) {
  for (int hop = 1; hop <= kHops; ++hop) ASSERT_NO_FATAL_FAILURE(Join(hop, Path::kKernel));
  const uint64_t packets = PacketsToSend();

  const Passage flood = Through(0, packets);
  std::printf("as fast as they come: %s\n", ::testing::PrintToString(flood).c_str());
  ExpectAccount(flood);
  EXPECT_EQ(flood.delivered, flood.accepted());

  const uint64_t rate = LossFreeRate(flood.rate);
  ASSERT_GT(rate, 0U);
  const Passage steady = Through(rate, packets);
  std::printf("at %llu a second: %s\n", static_cast<unsigned long long>(rate),
              ::testing::PrintToString(steady).c_str());
  ExpectAccount(steady);
  EXPECT_EQ(steady.delivered, steady.accepted());
}

// Where each relay receives by a thread of its own, as one in a machine of its own would, nothing holds the
// sender back when a ring is full: what is lost then is lost in front of a relay, and is in the counter of the one
// before. The end is slow enough for that.
TEST_F(MulticastChain, WhatIsLostBetweenRelaysIsCounted) {
  constexpr uint32_t kDelay = 2000;
  for (int hop = 1; hop <= kHops; ++hop) ASSERT_NO_FATAL_FAILURE(Join(hop, Path::kKernel));
  StartTally(kHops, kDelay);
  for (int hop = 1; hop <= kHops; ++hop) {
    const auto [ns, device] = FarEnd(hop);
    Ok(bench::RunNapiInThreads(lab_->Name(ns), device, {}));
  }
  const Passage flood = Through(0, PacketsToSend());
  std::printf("to a slow end: %s\n", ::testing::PrintToString(flood).c_str());
  ExpectAccount(flood);
  EXPECT_GT(flood.delivered, 0U);
  EXPECT_GT(flood.dropped(), 0U) << "nothing was dropped: the test tests nothing";
}

// Relays that have a second leg by one device, and one to a unicast address.
TEST_F(MulticastChain, WorkersBehindTheFirst) {
  constexpr uint64_t kFraction = 10;  // of what the kernel's path is sent
  for (int hop = 1; hop <= kHops; ++hop) ASSERT_NO_FATAL_FAILURE(Join(hop, Path::kWorkers));
  for (const char* when : {"before the restart", "after the restart"}) {
    SCOPED_TRACE(when);
    const Passage run = Through(kModest, PacketsToSend() / kFraction);
    std::printf("%s: %s\n", when, ::testing::PrintToString(run).c_str());
    EXPECT_EQ(run.delivered, run.accepted());
    for (const Hop& hop : run.hops) {
      EXPECT_EQ(hop.packets, run.sent);
      EXPECT_EQ(hop.offered, run.sent);
      EXPECT_EQ(hop.sent, run.sent);
    }
    EXPECT_EQ(run.hops[2].from_no_route, run.sent) << "the second relay's other leg";
    for (const auto& agent : agents_) agent->Restart();
    for (const int hop : {2, 3}) ASSERT_TRUE(AwaitWorker(hop));
  }
}

}  // namespace
}  // namespace headgate::testing
