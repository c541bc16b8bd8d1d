// SPDX-License-Identifier: Apache-2.0
//
// Samples: which packets' copies reach user space, what they say, and that those for which there was no room are
// counted.
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <cmath>
#include <ctime>

#include "tests/bpf/gateway.h"

namespace headgate::testing {
namespace {

class Sample : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (WhyNoBpf().empty()) gateway_ = std::make_unique<Gateway>("sample");
  }
  static void TearDownTestSuite() { gateway_.reset(); }
  void SetUp() override {
    HG_REQUIRE_BPF();
    Take();
  }

  // All that have come.
  static std::vector<hg_sample> Take() {
    std::vector<hg_sample> samples;
    size_t before;
    do {
      before = samples.size();
      EXPECT_TRUE(gateway_->program()
                      .dataplane()
                      .PollSamples([&](const hg_sample& sample) { samples.push_back(sample); }, 0)
                      .ok());
    } while (samples.size() != before);
    return samples;
  }
  static uint64_t Lost() {
    return (*gateway_->program().dataplane().ReadCounters(CounterId::kSamplesLost, 0, 1))[0];
  }
  static void Use(const std::string& action) {
    gateway_->Configure("rules: [{name: r, priority: 1, match: {vlan: 7}, action: {" + action + "}}]\n");
  }

  static std::unique_ptr<Gateway> gateway_;
};
std::unique_ptr<Gateway> Sample::gateway_;

const Ethernet kEth;

Bytes Frame(size_t payload) { return kEth / Vlan{.id = 7} / Ipv4{} / Udp{} / Payload(payload); }

uint64_t Now() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

TEST_F(Sample, Contents) {
  Use("pass: {}, sample: {one_in: 1}");
  // Below, at and above what a sample carries; in several buffers; not a multiple of anything.
  for (const size_t payload : {0, 13, 209, 210, 211, 1454, 5000}) {
    SCOPED_TRACE(payload);
    Bytes frame = Frame(payload);
    for (size_t i = 46; i < frame.size(); ++i) frame[i] = static_cast<uint8_t>(i * 7);
    const uint64_t before = Now();
    ASSERT_EQ(gateway_->Run(frame).reason, "pass_rule");
    const uint64_t after = Now();
    const auto samples = Take();
    ASSERT_EQ(samples.size(), 1U) << "one packet, one sample; its trace none";
    const hg_sample& sample = samples[0];
    EXPECT_GE(sample.time, before);
    EXPECT_LE(sample.time, after);
    EXPECT_EQ(sample.rule_id, gateway_->state().rules.Get("r")->id);
    EXPECT_EQ(sample.ifindex, Program::kIngressIfindex);
    EXPECT_EQ(sample.port, gateway_->Port("in"));
    EXPECT_STREQ(ReasonName(sample.reason), "pass_rule");
    EXPECT_EQ(sample.length, frame.size());
    ASSERT_EQ(sample.captured, std::min<size_t>(frame.size(), HG_SAMPLE_BYTES));
    EXPECT_EQ(Bytes(sample.data, sample.data + sample.captured), Truncate(frame, HG_SAMPLE_BYTES));
  }
}

TEST_F(Sample, ShowThePacketAsItCameAndWhatBecomesOfIt) {
  struct {
    const char* action;
    const char* reason;
  } const cases[] = {{"drop: {}", "drop_rule"}, {"tx: {}", "forward_tx"}};
  for (const auto& [action, reason] : cases) {
    SCOPED_TRACE(action);
    Use(std::string(action) + ", sample: {one_in: 1}");
    ASSERT_EQ(gateway_->Run(Frame(20)).reason, reason);
    const auto samples = Take();
    ASSERT_EQ(samples.size(), 1U);
    EXPECT_STREQ(ReasonName(samples[0].reason), reason);
    EXPECT_EQ(Bytes(samples[0].data, samples[0].data + samples[0].captured), Frame(20));
  }
  // A drop that spares the packet.
  ASSERT_EQ(gateway_->Run(kEth / Vlan{.id = 7} / Arp{}).verdict, VerdictOf("forward_tx"));
  Use("drop: {}, sample: {one_in: 1}");
  Take();
  ASSERT_EQ(gateway_->Run(kEth / Vlan{.id = 7} / Arp{}).reason, "pass_essential");
  const auto samples = Take();
  ASSERT_EQ(samples.size(), 1U);
  EXPECT_STREQ(ReasonName(samples[0].reason), "pass_essential");
}

TEST_F(Sample, OnlyWhatTheRuleTakes) {
  Use("rate_limit: {packets_per_second: 1, burst: 3}, pass: {}, sample: {one_in: 1}");
  gateway_->program().Verdict(kEth / Ipv4{} / Udp{}, nullptr, 10);                  // another VLAN
  gateway_->program().Verdict(kEth / Vlan{.id = 7} / Ipv4{.ihl = 2}, nullptr, 10);  // malformed
  EXPECT_EQ(Take().size(), 0U);
  const uint64_t limited = gateway_->RuleCount("r").limited;
  gateway_->program().Verdict(Frame(0), nullptr, 10);
  EXPECT_EQ(Take().size(), 10 - (gateway_->RuleCount("r").limited - limited)) << "not what the rate limit drops";
  Use("pass: {}");
  gateway_->program().Verdict(Frame(0), nullptr, 10);
  EXPECT_EQ(Take().size(), 0U);
}

TEST_F(Sample, OneInMany) {
  for (const int one_in : {2, 10, 100}) {
    SCOPED_TRACE(one_in);
    Use("pass: {}, sample: {one_in: " + std::to_string(one_in) + "}");
    const uint64_t lost = Lost();
    constexpr int kRounds = 20, kPackets = 5000;
    size_t samples = 0;
    for (int i = 0; i < kRounds; ++i) {
      gateway_->program().Verdict(Frame(0), nullptr, kPackets);
      samples += Take().size();
    }
    // Binomial; eight standard deviations are once in 10^15 runs.
    const double expected = static_cast<double>(kRounds) * kPackets / one_in;
    const double deviation = std::sqrt(expected * (1 - 1.0 / one_in));
    EXPECT_NEAR(static_cast<double>(samples), expected, 8 * deviation);
    EXPECT_EQ(Lost(), lost);
  }
}

TEST_F(Sample, LostOnesAreCounted) {
  Use("pass: {}, sample: {one_in: 1}");
  const uint64_t lost = Lost();
  constexpr uint64_t kPackets = 20000;
  gateway_->program().Verdict(Frame(0), nullptr, kPackets);
  EXPECT_GT(Lost(), lost) << "the ring took " << kPackets << " samples: not full";
  EXPECT_EQ(Take().size() + Lost() - lost, kPackets);
  // Room again.
  gateway_->program().Verdict(Frame(0), nullptr, 5);
  EXPECT_EQ(Take().size(), 5U);
}

}  // namespace
}  // namespace headgate::testing
