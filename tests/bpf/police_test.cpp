// SPDX-License-Identifier: Apache-2.0
//
// Rate limits: the burst passes exactly, what is above it is dropped and counted. Rates are so low that the bucket
// gains nothing worth a packet while a test runs; a machine that stalls for seconds gets what the rate gives in
// that time, and not a packet more.
#include <bpf/bpf.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <chrono>
#include <thread>

#include "tests/bpf/gateway.h"

namespace headgate::testing {
namespace {

constexpr uint32_t kSources = 4096;

class Police : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (!WhyNoBpf().empty()) return;
    gateway_ =
        std::make_unique<Gateway>("police", std::vector<std::string>{"in", "out"},
                                  TableSizes{.max_entries = 1024, .max_prefixes = 1024, .max_sources = kSources});
  }
  static void TearDownTestSuite() { gateway_.reset(); }
  void SetUp() override {
    HG_REQUIRE_BPF();
    gateway_->Configure("");
  }

  using Clock = std::chrono::steady_clock;
  // What `burst` and `rate` (a second) allow up to now, in units of `cost`, when the bucket was full at `since`.
  static uint64_t Allowed(uint64_t burst, uint64_t rate, Clock::time_point since, uint64_t cost = 1) {
    const double seconds = std::chrono::duration<double>(Clock::now() - since).count();
    return static_cast<uint64_t>((static_cast<double>(burst) + seconds * static_cast<double>(rate)) /
                                 static_cast<double>(cost));
  }
  static uint64_t Reason(const std::string& reason) {
    const auto reasons = gateway_->Reasons();
    const auto found = reasons.find(reason);
    return found == reasons.end() ? 0 : found->second.packets;
  }
  // Sends the frame `count` times; how many were not dropped. All of them are counted, and as what they were.
  static uint64_t Send(const Bytes& frame, int count, const std::string& rule = "r",
                       const std::string& reason = "pass_rule") {
    const uint64_t passed = Reason(reason), dropped = Reason("drop_rate_limit");
    const hg_rule_count before = gateway_->RuleCount(rule);
    gateway_->program().Verdict(frame, nullptr, count);
    const hg_rule_count after = gateway_->RuleCount(rule);
    const uint64_t now_passed = Reason(reason) - passed, now_dropped = Reason("drop_rate_limit") - dropped;
    EXPECT_EQ(now_passed + now_dropped, static_cast<uint64_t>(count));
    EXPECT_EQ(after.packets - before.packets, static_cast<uint64_t>(count));
    EXPECT_EQ(after.bytes - before.bytes, frame.size() * static_cast<uint64_t>(count));
    EXPECT_EQ(after.limited - before.limited, now_dropped);
    return now_passed;
  }
  static void ExpectPassed(uint64_t passed, uint64_t at_least, uint64_t at_most) {
    EXPECT_GE(passed, at_least);
    EXPECT_LE(passed, at_most);
  }
  static void Use(const std::string& limit, const std::string& rest = "pass: {}") {
    gateway_->Configure("rules: [{name: r, priority: 1, action: {rate_limit: {" + limit + "}, " + rest + "}}]\n");
  }

  static std::unique_ptr<Gateway> gateway_;
};
std::unique_ptr<Gateway> Police::gateway_;

const Ethernet kEth;
// With Ethernet, IP and UDP headers of 42 bytes.
Bytes Frame(size_t size) { return kEth / Ipv4{} / Udp{} / Payload(size - 42); }
Bytes From(const std::string& source) {
  if (source.find(':') == std::string::npos) return kEth / Ipv4{.source = source} / Udp{};
  return kEth / Ipv6{.source = source} / Udp{};
}

TEST_F(Police, PacketsBurst) {
  for (const uint64_t burst : {1, 5, 1000, 3600}) {
    SCOPED_TRACE(burst);
    const auto since = Clock::now();
    Use("packets_per_second: 1, burst: " + std::to_string(burst));
    ExpectPassed(Send(Frame(60), 10000), burst, Allowed(burst, 1, since));
    ExpectPassed(Send(Frame(1500), 10000), 0, Allowed(0, 1, since));
    gateway_->Configure("");  // the next one is another rule, with a bucket of its own
  }
}

TEST_F(Police, PacketsDefaultBurst) {
  // A tenth of a second's worth, at least one.
  const auto since = Clock::now();
  Use("packets_per_second: 5");
  ExpectPassed(Send(Frame(60), 100), 1, Allowed(1, 5, since));
}

TEST_F(Police, BitsBurst) {
  const auto since = Clock::now();
  Use("bits_per_second: 1000, burst: 10000");
  EXPECT_EQ(Send(Frame(1500), 100), 0U) << "larger than the bucket: never passes, and takes nothing";
  ExpectPassed(Send(Frame(100), 100), 12, Allowed(10000, 1000, since, 800));
  ExpectPassed(Send(Frame(100), 100), 0, Allowed(400, 1000, since, 800));
}

TEST_F(Police, BitsOfDifferentFrames) {
  const auto since = Clock::now();
  Use("bits_per_second: 1000, burst: 24000");
  EXPECT_EQ(Send(Frame(1500), 1), 1U);
  ExpectPassed(Send(Frame(1000), 2), 1, Allowed(12000, 1000, since, 8000));
  ExpectPassed(Send(Frame(100), 10), 5, Allowed(4000, 1000, since, 800));
}

TEST_F(Police, BitsDefaultBurst) {
  // The largest untagged frame without FCS and a tag of slack: 1518 bytes.
  const auto since = Clock::now();
  Use("bits_per_second: 1000");
  EXPECT_EQ(Send(Frame(1519), 1), 0U);
  ExpectPassed(Send(Frame(1518), 3), 1, Allowed(12144, 1000, since, 12144));
}

TEST_F(Police, LimitComesBeforeTheVerdict) {
  const auto since = Clock::now();
  Use("packets_per_second: 1, burst: 3", "tx: {swap: ethernet}, count: {counter: c}");
  ExpectPassed(Send(Frame(60), 100, "r", "forward_tx"), 3, Allowed(3, 1, since));
  EXPECT_EQ(gateway_->NamedCount("c").packets, 100U) << "a named counter counts what matched";
  Use("packets_per_second: 1, burst: 100", "drop: {}");
  EXPECT_EQ(gateway_->Run(Frame(60)).reason, "drop_rule");
}

TEST_F(Police, RulesHaveBucketsOfTheirOwn) {
  const auto since = Clock::now();
  gateway_->Configure(R"(
rules:
  - {name: a, priority: 2, match: {vlan: 1}, action: {rate_limit: {packets_per_second: 1, burst: 4}, pass: {}}}
  - {name: b, priority: 1, match: {vlan: 2}, action: {rate_limit: {packets_per_second: 1, burst: 4}, pass: {}}}
)");
  ExpectPassed(Send(kEth / Vlan{.id = 1} / Ipv4{} / Udp{}, 100, "a"), 4, Allowed(4, 1, since));
  ExpectPassed(Send(kEth / Vlan{.id = 2} / Ipv4{} / Udp{}, 100, "b"), 4, Allowed(4, 1, since));
}

TEST_F(Police, GlobalBucketIsSharedBySources) {
  const auto since = Clock::now();
  Use("packets_per_second: 1, burst: 10");
  uint64_t passed = 0;
  for (int i = 0; i < 50; ++i) passed += Send(From("10.0.0." + std::to_string(i)), 1);
  passed += Send(From("2001:db8::1"), 1);
  ExpectPassed(passed, 10, Allowed(10, 1, since));
}

TEST_F(Police, PerSource) {
  const auto since = Clock::now();
  Use("packets_per_second: 1, burst: 3, per: source");
  // Neighbours in each word of the address.
  for (const char* source : {"192.0.2.1", "192.0.2.2", "64.0.2.1", "2001:db8::1", "2001:db8::2", "2001:db8::1:0:1",
                             "2001:db8:0:1::1", "2001:db9::1", "::"}) {
    SCOPED_TRACE(source);
    ExpectPassed(Send(From(source), 100), 3, Allowed(3, 1, since));
  }
  for (const char* source : {"192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"}) {
    ExpectPassed(Send(From(source), 100), 0, Allowed(0, 1, since));
  }
  // Not by destination, ports or protocol.
  const Bytes other = kEth / Ipv4{.source = "192.0.2.1", .destination = "203.0.113.1"} / Tcp{.source_port = 9};
  ExpectPassed(Send(other, 100), 0, Allowed(0, 1, since));
}

TEST_F(Police, PerSourceAndRule) {
  const auto since = Clock::now();
  gateway_->Configure(R"(
rules:
  - name: a
    priority: 2
    match: {vlan: 1}
    action: {rate_limit: {packets_per_second: 1, burst: 4, per: source}, pass: {}}
  - name: b
    priority: 1
    match: {vlan: 2}
    action: {rate_limit: {packets_per_second: 1, burst: 4, per: source}, pass: {}}
)");
  const auto frame = [](int vlan) -> Bytes {
    return kEth / Vlan{.id = static_cast<uint16_t>(vlan)} / Ipv4{.source = "172.16.0.1"} / Udp{};
  };
  ExpectPassed(Send(frame(1), 100, "a"), 4, Allowed(4, 1, since));
  ExpectPassed(Send(frame(2), 100, "b"), 4, Allowed(4, 1, since));
}

TEST_F(Police, PerSourceBits) {
  const auto since = Clock::now();
  Use("bits_per_second: 1000, burst: 3000, per: source");
  for (const char* source : {"172.16.1.1", "172.16.1.2"}) {
    const Bytes frame = kEth / Ipv4{.source = source} / Udp{} / Payload(58);
    ExpectPassed(Send(frame, 100), 3, Allowed(3000, 1000, since, 800));
  }
}

TEST_F(Police, MoreSourcesThanRoom) {
  Use("packets_per_second: 1, burst: 1, per: source");
  const uint64_t passed = Reason("pass_rule"), dropped = Reason("drop_rate_limit");
  Bytes frame = From("10.0.0.0");
  constexpr int kMany = 10 * static_cast<int>(kSources);
  for (int i = 0; i < kMany; ++i) {
    frame[27] = static_cast<uint8_t>(128 + (i >> 16));
    frame[28] = static_cast<uint8_t>(i >> 8);
    frame[29] = static_cast<uint8_t>(i);
    gateway_->program().Verdict(frame);
  }
  // The least recently used make room: nobody is refused for want of it, and who has just sent is remembered.
  EXPECT_EQ(Reason("pass_rule") - passed, static_cast<uint64_t>(kMany));
  EXPECT_EQ(Reason("drop_rate_limit"), dropped);
  const auto since = Clock::now();
  const Bytes fresh = From("172.16.2.1");
  ExpectPassed(Send(fresh, 100), 1, Allowed(1, 1, since));
}

TEST_F(Police, ChangesElsewhereRefillNothing) {
  const auto since = Clock::now();
  Use("packets_per_second: 1, burst: 5");
  ExpectPassed(Send(Frame(60), 100), 5, Allowed(5, 1, since));
  gateway_->Configure(R"(
rules:
  - {name: r, priority: 7, action: {rate_limit: {packets_per_second: 1, burst: 5}, pass: {}, count: {counter: c}}}
  - {name: other, priority: 1, match: {vlan: 9}, action: {drop: {}}}
)");
  ExpectPassed(Send(Frame(60), 100), 0, Allowed(0, 1, since));
  // A deeper bucket has what it is deeper by.
  Use("packets_per_second: 1, burst: 8");
  ExpectPassed(Send(Frame(60), 100), 3, Allowed(3, 1, since));
}

TEST_F(Police, TracesTakeNothing) {
  for (const char* per : {"global", "source"}) {
    SCOPED_TRACE(per);
    const auto since = Clock::now();
    Use(std::string("packets_per_second: 1, burst: 5, per: ") + per);
    const Bytes frame = From("172.16.3.1");
    for (int i = 0; i < 20; ++i) gateway_->Key(frame);
    ExpectPassed(Send(frame, 100), 5, Allowed(5, 1, since));
    // And say what would become of the packet.
    EXPECT_EQ(gateway_->Run(frame).reason, "drop_rate_limit");
  }
}

TEST_F(Police, ExactOverCpus) {
  const auto since = Clock::now();
  Use("packets_per_second: 1, burst: 2000");
  const uint64_t passed = Reason("pass_rule");
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) threads.emplace_back([] { gateway_->program().Verdict(Frame(60), nullptr, 5000); });
  for (std::thread& thread : threads) thread.join();
  ExpectPassed(Reason("pass_rule") - passed, 2000, Allowed(2000, 1, since));
  EXPECT_EQ(gateway_->RuleCount("r").packets, 20000U);
}

// CPUs that race for a bucket at its limit: one that comes late with an early time must not find it full again.
TEST_F(Police, RaceAtTheLimitDoesNotRefill) {
  constexpr uint64_t kRate = 3'000'000, kBurst = 3;
  const auto since = Clock::now();
  Use("packets_per_second: 3000000, burst: 3");
  const uint64_t passed = Reason("pass_rule");
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([] { gateway_->program().Verdict(Frame(60), nullptr, 2'000'000); });
  for (std::thread& thread : threads) thread.join();
  const double seconds = std::chrono::duration<double>(Clock::now() - since).count();
  EXPECT_LE(Reason("pass_rule") - passed, kBurst + static_cast<uint64_t>(seconds * kRate) + 1);
  EXPECT_EQ(gateway_->RuleCount("r").packets, 8'000'000U);
}

}  // namespace
}  // namespace headgate::testing
