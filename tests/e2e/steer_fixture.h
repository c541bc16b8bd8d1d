// SPDX-License-Identifier: Apache-2.0
//
// A live gateway that steers, and the account that every test of workers ends with: each packet that came in was
// steered or took the fallback, each that was steered reached a worker or a counter of the kernel's, each that
// reached a worker has a fate, and all frames are back.
#pragma once

#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "tests/harness/live_gateway.h"
#include "tests/harness/traffic.h"
#include "tests/harness/workers.h"

namespace headgate::testing {

class SteerFixture : public LiveGatewayTest {
 protected:
  // Descriptors of a socket's fill ring: the frames that it holds when nothing is on its way.
  static constexpr uint64_t kFillRing = 4096;
  // A packet for which the receive ring had no room leaves its frames with the kernel, for the next one: as many
  // as the largest packet has, for each socket.
  static constexpr uint64_t kSpare = 8;

  using LiveGatewayTest::LiveGatewayTest;

  // All UDP to port 9000, and what the traffic tests send.
  void Steer(const std::string& target) {
    api().PatchYaml(
        "upsert:\n  steer_targets: [" + target +
        "]\n  rules:\n"
        "    - {name: app, priority: 100, match: {protocol: udp, destination_ports: ['9000']}, action: "
        "{steer: {target: app}}}\n"
        "    - {name: flood, priority: 101, match: {protocol: udp, destination: 198.51.100.1}, action: "
        "{steer: {target: app}}}\n");
  }
  static Bytes Request(const Bytes& payload) {
    return Ethernet{} / Ipv4{.source = "192.0.2.1", .destination = "198.51.100.7"} /
           Udp{.source_port = 4000, .destination_port = 9000} / Payload(payload);
  }
  uint64_t Reason(const std::string& reason) { return api().Reasons("in")[reason]; }
  bool AwaitFate(const std::string& reason) {
    return WaitFor([&] { return Fate(Request(Bytes(100, 0x33))) == reason; });
  }
  Work Workers() { return SumWorkers(api().Stats()); }

  // Until nothing is on its way any more: but for the fill rings, each frame is free.
  static bool IsQuiet(const Work& work) {
    return FramesAreBack(work) && work.waiting == 0 && work.received == work.settled();
  }
  static bool FramesAreBack(const Work& work) {
    const auto queues = static_cast<uint64_t>(work.queues);
    const uint64_t held = work.frames - work.free_frames;
    return held == work.held_frames && held >= queues * kFillRing && held <= queues * (kFillRing + kSpare);
  }
  Work AwaitQuiet() {
    Work work;
    EXPECT_TRUE(WaitFor([&] { return IsQuiet(work = Workers()); })) << ::testing::PrintToString(work);
    return work;
  }

  // What came in at an interface and became of it, beginning now, while no other interface gets any. Counters of
  // workers begin anew with the agent.
  class Ledger {
   public:
    explicit Ledger(SteerFixture& test, std::string interface = "in")
        : test_(test), interface_(std::move(interface)), begin_(test.api().Stats()) {}

    // All that came in; waits for what is on its way. Without `sent` it may be any number: what a device that goes
    // down has in its own rings is nobody's.
    void ExpectExact(std::optional<uint64_t> sent = std::nullopt) const {
      EXPECT_TRUE(WaitFor([&] { return IsExact(sent, test_.api().Stats()); }));
      const pb::StatsResponse now = test_.api().Stats();
      const Work before = SumWorkers(begin_), after = SumWorkers(now);
      SCOPED_TRACE(absl::StrCat("before: ", ::testing::PrintToString(before),
                                "\nafter: ", ::testing::PrintToString(after)));
      if (sent) {
        EXPECT_EQ(Received(now) - Received(begin_), *sent);
      }
      EXPECT_EQ(Steered(now) + Fallback(now), Received(now) - Received(begin_));
      EXPECT_EQ(after.arrived() - before.arrived(), Steered(now));
      EXPECT_EQ(after.received, after.settled());
      EXPECT_TRUE(FramesAreBack(after));
    }
    // Of the data path alone, whatever workers were killed.
    void ExpectFates(uint64_t sent) const {
      const auto exact = [&](const pb::StatsResponse& now) {
        return Received(now) - Received(begin_) == sent && Steered(now) + Fallback(now) == sent;
      };
      EXPECT_TRUE(WaitFor([&] { return exact(test_.api().Stats()); }));
      const pb::StatsResponse now = test_.api().Stats();
      EXPECT_EQ(Received(now) - Received(begin_), sent);
      EXPECT_EQ(Steered(now) + Fallback(now), sent);
    }
    uint64_t steered() const { return Steered(test_.api().Stats()); }
    uint64_t fallback() const { return Fallback(test_.api().Stats()); }

   private:
    bool IsExact(std::optional<uint64_t> sent, const pb::StatsResponse& now) const {
      const Work before = SumWorkers(begin_), after = SumWorkers(now);
      return (!sent || Received(now) - Received(begin_) == *sent) && IsQuiet(after) &&
             after.arrived() - before.arrived() == Steered(now);
    }
    uint64_t Steered(const pb::StatsResponse& now) const {
      return Reason(now, "forward_steer") - Reason(begin_, "forward_steer");
    }
    uint64_t Fallback(const pb::StatsResponse& now) const {
      return Reason(now, "drop_steer_fallback") - Reason(begin_, "drop_steer_fallback");
    }
    const pb::InterfaceStats* Find(const pb::StatsResponse& stats) const {
      for (const pb::InterfaceStats& interface : stats.interfaces()) {
        if (interface.name() == interface_) return &interface;
      }
      return nullptr;
    }
    uint64_t Received(const pb::StatsResponse& stats) const {
      const pb::InterfaceStats* found = Find(stats);
      return found == nullptr ? 0 : found->received_packets();
    }
    uint64_t Reason(const pb::StatsResponse& stats, const std::string& name) const {
      const pb::InterfaceStats* found = Find(stats);
      if (found == nullptr) return 0;
      for (const auto& reason : found->reasons()) {
        if (reason.reason() == name) return reason.packets();
      }
      return 0;
    }

    SteerFixture& test_;
    const std::string interface_;
    const pb::StatsResponse begin_;
  };

  // From a namespace's device, as fast as it goes.
  std::unique_ptr<bench::Sender> Flood(const std::string& ns, const std::string& device,
                                       const bench::FrameSpec& frame = FlowFrames(1000), int cpu = 0) {
    bench::SendOptions options{.device = device, .netns = lab().Name(ns), .frame = frame};
    options.scheduling.cpu = cpu;
    auto sender = Value(bench::Sender::Open(options));
    sender->Start();
    return sender;
  }
  bool AwaitReceived(uint64_t more) {
    const uint64_t before = Workers().received;
    return WaitFor([&] { return Workers().received >= before + more; });
  }
};

// Long runs, where they are asked for.
inline bool IsNightly() { return std::getenv("HG_NIGHTLY") != nullptr; }

}  // namespace headgate::testing
