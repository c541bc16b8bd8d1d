// SPDX-License-Identifier: Apache-2.0
//
// A live gateway that steers, and the account that every test of workers ends with: each packet that came in was
// steered or took the fallback, each that was steered reached a worker or a counter of the kernel's, each that
// reached a worker has a fate, and all frames are back.
#pragma once

#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <string>

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
  static bool IsQuiet(const Work& work) { return FramesAreBack(work) && work.received == work.settled(); }
  static bool FramesAreBack(const Work& work) {
    const auto queues = static_cast<uint64_t>(work.queues);
    const uint64_t held = work.frames - work.free_frames;
    return held >= queues * kFillRing && held <= queues * (kFillRing + kSpare);
  }
  Work AwaitQuiet() {
    Work work;
    EXPECT_TRUE(WaitFor([&] { return IsQuiet(work = Workers()); })) << ::testing::PrintToString(work);
    return work;
  }

  // What came in at "in" and became of it, beginning now. Counters of workers begin anew with the agent.
  class Ledger {
   public:
    explicit Ledger(SteerFixture& test) : test_(test), begin_(test.api().Stats()) {}
    // Of `sent` frames since the beginning. Waits for those on their way.
    void ExpectExact(uint64_t sent) const {
      EXPECT_TRUE(WaitFor([&] { return IsExact(sent, test_.api().Stats()); }));
      const pb::StatsResponse now = test_.api().Stats();
      const Work before = SumWorkers(begin_), after = SumWorkers(now);
      SCOPED_TRACE(absl::StrCat("before: ", ::testing::PrintToString(before),
                                "\nafter: ", ::testing::PrintToString(after)));
      EXPECT_EQ(Received(now) - Received(begin_), sent);
      EXPECT_EQ(Since(now, "forward_steer") + Since(now, "drop_steer_fallback"), sent);
      EXPECT_EQ(after.arrived() - before.arrived(), Since(now, "forward_steer"));
      EXPECT_EQ(after.received, after.settled());
      EXPECT_TRUE(FramesAreBack(after));
    }
    uint64_t Since(const pb::StatsResponse& now, const std::string& reason) const {
      return Reason(now, reason) - Reason(begin_, reason);
    }

   private:
    bool IsExact(uint64_t sent, const pb::StatsResponse& now) const {
      const Work before = SumWorkers(begin_), after = SumWorkers(now);
      return Received(now) - Received(begin_) == sent && IsQuiet(after) &&
             after.arrived() - before.arrived() == Since(now, "forward_steer");
    }
    static const pb::InterfaceStats* In(const pb::StatsResponse& stats) {
      for (const pb::InterfaceStats& interface : stats.interfaces()) {
        if (interface.name() == "in") return &interface;
      }
      return nullptr;
    }
    static uint64_t Received(const pb::StatsResponse& stats) {
      const pb::InterfaceStats* in = In(stats);
      return in == nullptr ? 0 : in->received_packets();
    }
    static uint64_t Reason(const pb::StatsResponse& stats, const std::string& name) {
      const pb::InterfaceStats* in = In(stats);
      if (in == nullptr) return 0;
      for (const auto& reason : in->reasons()) {
        if (reason.reason() == name) return reason.packets();
      }
      return 0;
    }

    SteerFixture& test_;
    const pb::StatsResponse begin_;
  };
};

}  // namespace headgate::testing
