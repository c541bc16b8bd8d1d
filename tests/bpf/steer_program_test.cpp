// SPDX-License-Identifier: Apache-2.0
//
// Steering in the data path: who takes a packet, who does not, and what a worker is told of it.
#include <bpf/bpf.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <ctime>

#include "tests/bpf/lab_gateway.h"

namespace headgate::testing {
namespace {

const Ethernet kEth = {.destination = "02:00:00:00:00:0b", .source = "02:00:00:00:00:0a"};
const Bytes kFrame = kEth / Ipv4{.source = "192.0.2.10", .destination = "198.51.100.11"} /
                     Udp{.source_port = 1000, .destination_port = 2000};
const Bytes kArp = kEth / Arp{};
constexpr uint32_t kQueue = 1;  // that the tests' worker reads

uint64_t Now() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

// One rule steers every packet to a target; a socket reads one queue.
class SteerProgramTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (WhyNoLab().empty()) lab_ = std::make_unique<LabGateway>("steerprog");
  }
  static void TearDownTestSuite() { lab_.reset(); }
  void SetUp() override {
    HG_REQUIRE_LAB();
    sockets_ = program().OpenMap("hg_xsks");
    queues_ = program().OpenMap("hg_queues");
    states_ = program().OpenMap("hg_target_state");
    socket_ = Fd(::socket(AF_XDP, SOCK_RAW, 0));
    ASSERT_TRUE(socket_);
    Put(sockets_, Key(), socket_.get());
    Show({.beat = Now() + 60 * HG_BEAT_NS});  // another clock may be ahead
    SetQueue(kQueue);
  }
  void TearDown() override {
    if (!socket_) return;
    const uint32_t key = Key();
    bpf_map_delete_elem(sockets_.get(), &key);
    program().SetIngress({.ifindex = LabGateway::Index("in0")});
  }
  Program& program() { return lab_->gateway.program(); }
  uint32_t in() { return lab_->gateway.Port("in"); }
  uint32_t Key() { return in() * HG_QUEUES_PER_PORT + kQueue; }

  template <typename T>
  static void Put(const Fd& map, uint32_t key, const T& value) {
    ASSERT_EQ(bpf_map_update_elem(map.get(), &key, &value, BPF_ANY), 0) << strerror(errno);
  }
  void Show(const hg_queue& queue) { Put(queues_, Key(), queue); }
  void SetQueue(uint32_t queue) { program().SetIngress({.ifindex = LabGateway::Index("in0"), .queue = queue}); }
  void Steer(const std::string& target) {
    lab_->gateway.Configure("steer_targets: [{name: t" + target +
                            "}]\nrules: [{name: r, priority: 1, action: {steer: {target: t}}}]\n");
  }
  void Expect(const Bytes& frame, const std::string& reason) {
    const RunResult result = program().Run(frame, in());
    EXPECT_EQ(result.reason, reason);
    EXPECT_EQ(VerdictName(result.verdict), VerdictName(VerdictOf(reason)));
  }

  static std::unique_ptr<LabGateway> lab_;
  Fd sockets_, queues_, states_, socket_;
};
std::unique_ptr<LabGateway> SteerProgramTest::lab_;

constexpr struct {
  const char* fallback;
  const char* reason;
} kFallbacks[] = {{"", "pass_steer_fallback"},
                  {", fallback: pass", "pass_steer_fallback"},
                  {", fallback: drop", "drop_steer_fallback"}};

TEST_F(SteerProgramTest, WithoutAWorkerTheFallback) {
  for (const auto& [fallback, reason] : kFallbacks) {
    SCOPED_TRACE(fallback);
    Steer(fallback);
    // What the operator's link lives by is not dropped for want of a worker.
    const char* spared = VerdictOf(reason) == XDP_DROP ? "pass_essential" : reason;
    // The worker of one queue takes that queue alone; queues beyond those there is room for have none.
    for (const uint32_t queue : {0U, 2U, 63U, 64U, 65U}) {
      SCOPED_TRACE(queue);
      SetQueue(queue);
      Expect(kFrame, reason);
      Expect(kArp, spared);
    }
    // One that never came round, or not for too long.
    SetQueue(kQueue);
    for (const uint64_t beat : std::initializer_list<uint64_t>{0, Now() - 2 * HG_BEAT_NS}) {
      Show({.beat = beat});
      Expect(kFrame, reason);
    }
    Show({.beat = Now() + 60 * HG_BEAT_NS});
    // One that nobody takes packets of.
    Put(states_, 0, hg_target_state{.absent = 1});
    Expect(kFrame, reason);
    Expect(kArp, spared);
    Put(states_, 0, hg_target_state{.absent = 0});
    Expect(kFrame, "forward_steer");
    Expect(kArp, "forward_steer");
  }
}

TEST_F(SteerProgramTest, WhatTheWorkerIsTold) {
  Steer("");
  const RunResult result = program().Run(kFrame, in());
  EXPECT_EQ(result.reason, "forward_steer");
  hg_steer_meta meta{};
  ASSERT_EQ(result.metadata.size(), sizeof(meta));
  std::memcpy(&meta, result.metadata.data(), sizeof(meta));
  EXPECT_EQ(meta.port, in());
  EXPECT_EQ(meta.target, 0);
  EXPECT_NE(meta.rule_id, 0u);
  EXPECT_EQ(meta.l3, 14);
  EXPECT_EQ(meta.l4, 34);
  EXPECT_EQ(meta.kind, HG_KIND_IPV4 | HG_KIND_IP | HG_KIND_PORTS);
  EXPECT_EQ(result.output, kFrame);

  // Who gets the fallback gets the frame alone.
  SetQueue(0);
  const RunResult fallback = program().Run(kFrame, in());
  EXPECT_EQ(fallback.output, kFrame);
  EXPECT_EQ(fallback.metadata, Bytes{});
}

// From the lowest priority on, the more of the worker's ring waits.
TEST_F(SteerProgramTest, OverloadShedsByPriority) {
  const uint64_t beat = Now() + 60 * HG_BEAT_NS;
  constexpr struct {
    int priority;
    uint32_t shed_at;  // 256ths of the ring; above 256: never
  } kPriorities[] = {{0, 64}, {1, 88}, {6, 208}, {7, 257}};
  for (const auto& [priority, shed_at] : kPriorities) {
    SCOPED_TRACE(priority);
    Steer(", handler: {count: {}}, fallback: pass, priority: " + std::to_string(priority));
    for (const uint32_t waiting : {0U, shed_at - 1, std::min(shed_at, 256U), 256U}) {
      SCOPED_TRACE(waiting);
      const bool shed = waiting >= shed_at;
      const char* expected = shed ? "drop_steer_overload" : "forward_steer";
      const uint64_t packets = waiting * (HG_QUEUE_RING / 256);
      Show({.beat = beat, .looked = packets});
      Expect(kFrame, expected);
      Expect(kArp, "forward_steer");
      // Nobody has looked since they came, and their number goes beyond 32 bits.
      constexpr uint32_t kThen = 0xfffffff0;
      Show({.beat = beat, .looked = uint64_t{kThen} << 32, .given = kThen + static_cast<uint32_t>(packets)});
      Expect(kFrame, expected);
    }
  }
}

}  // namespace
}  // namespace headgate::testing
