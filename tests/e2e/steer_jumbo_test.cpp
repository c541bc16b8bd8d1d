// SPDX-License-Identifier: Apache-2.0
//
// Frames that take several of the pool's: each comes back whole, whatever its size, from a link with an MTU of
// 9,000.
#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <map>
#include <memory>
#include <string_view>

#include "tests/harness/agent.h"
#include "tests/harness/lab.h"
#include "tests/harness/random.h"
#include "tests/harness/wire.h"
#include "tests/harness/workers.h"

namespace headgate::testing {
namespace {

constexpr size_t kMtu = 9000;

class SteerJumboTest : public ::testing::Test {
 protected:
  void SetUp() override {
    HG_REQUIRE_LAB();
    lab_ = std::make_unique<Lab>("jumbo", std::vector<std::string>{"client", "gw"});
    lab_->Link("client", "c0", "gw", "g0", kMtu);
    agent_ = std::make_unique<Agent>(
        *lab_, "gw",
        AgentOptions{.arguments = {"--max-rules", "1024", "--max-prefixes", "1024", "--max-sources", "1024"}});
    api().ApplyYaml(R"(
interfaces: [{name: in, device: g0}]
steer_targets: [{name: app, handler: {echo: {}}, fallback: drop}]
rules: [{name: app, priority: 100, match: {protocol: udp, destination_ports: ['9000']}, action: {steer: {target: app}}}]
)");
    wire_ = std::make_unique<Wire>(lab_->Name("client"), "c0");
    ASSERT_TRUE(WaitFor([&] { return SumWorkers(api().Stats()).queues == 1; }));
    if (!api().Stats().workers(0).queues(0).multi_buffer()) {
      GTEST_SKIP() << "this kernel's AF_XDP knows no packets of several frames (6.6 and later do)";
    }
  }
  Client& api() { return agent_->client(); }

  static Packet Headers(int kind) {
    const Ethernet ethernet;
    const Vlan outer{.id = 7, .tpid = 0x88a8}, inner{.id = 42};
    const Ipv4 ipv4{.source = "192.0.2.1", .destination = "198.51.100.7"};
    const Ipv6 ipv6{.source = "2001:db8::1", .destination = "2001:db8::7"};
    switch (kind) {
      case 0:
        return ethernet / ipv4;
      case 1:
        return ethernet / ipv6;
      case 2:
        return ethernet / inner / ipv4;
      default:
        return ethernet / outer / ipv6;
    }
  }
  static constexpr size_t kKinds = 4;
  // What counts for the MTU: IP, UDP, and a second tag.
  static size_t HeaderBytes(int kind) { return (kind % 2 == 0 ? 28 : 48) + (kind == 3 ? 4 : 0); }
  static Bytes Random(std::mt19937_64& random, size_t size) {
    Bytes bytes(size);
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
    return bytes;
  }
  static size_t Hash(const Bytes& frame, size_t payload) {
    return std::hash<std::string_view>{}(
        {reinterpret_cast<const char*>(frame.data() + frame.size() - payload), payload});
  }

  std::unique_ptr<Lab> lab_;
  std::unique_ptr<Agent> agent_;
  std::unique_ptr<Wire> wire_;
};

TEST_F(SteerJumboTest, EveryPayloadComesBackWhole) {
  auto random = MakeRandom();
  const Udp udp{.source_port = 4000, .destination_port = 9000};
  const Work before = SumWorkers(api().Stats());
  uint64_t sent = 0, sent_bytes = 0;
  for (int kind = 0; kind < static_cast<int>(kKinds); ++kind) {
    const size_t largest = kMtu - HeaderBytes(kind);
    // Around where a frame of the pool ends, and around the largest.
    std::vector<size_t> sizes = {1, 1400, largest - 1, largest};
    for (size_t frames = 1; frames <= 4; ++frames) {
      for (size_t near = 0; near < 6; ++near) sizes.push_back(frames * 1792 - 80 + near * 16 + random() % 16);
      for (size_t near = 0; near < 6; ++near) sizes.push_back(frames * 2048 - 80 + near * 16 + random() % 16);
    }
    for (size_t size : sizes) {
      SCOPED_TRACE(absl::StrCat("kind ", kind, ", payload of ", size));
      const Bytes payload = Random(random, std::min(size, largest));
      const Bytes frame = Headers(kind) / udp / Payload(payload);
      wire_->Send(frame);
      ++sent;
      sent_bytes += frame.size();
      const auto answer = wire_->Receive([&](const Bytes& some) {
        return some.size() >= payload.size() && Hash(some, payload.size()) == Hash(frame, payload.size());
      });
      ASSERT_TRUE(answer.has_value());
      EXPECT_EQ(answer->size(), frame.size());
    }
  }
  const Work after = SumWorkers(api().Stats());
  EXPECT_EQ(after.received - before.received, sent);
  EXPECT_EQ(after.received_bytes - before.received_bytes, sent_bytes);
  EXPECT_EQ(after.transmitted - before.transmitted, sent);
}

// More of them at a time than are looked at in a batch, so that packets lie across its end.
TEST_F(SteerJumboTest, BurstsComeBackWhole) {
  auto random = MakeRandom();
  const Udp udp{.source_port = 4000, .destination_port = 9000};
  const Work before = SumWorkers(api().Stats());
  uint64_t sent = 0;
  for (int burst = 0; burst < 20; ++burst) {
    std::map<size_t, int> outstanding;
    for (int i = 0; i < 50; ++i) {
      const int kind = static_cast<int>(random() % kKinds);
      const size_t size = 8000 + random() % (kMtu - HeaderBytes(kind) - 8000 + 1);
      const Bytes frame = Headers(kind) / udp / Payload(Random(random, size));
      ++outstanding[Hash(frame, 8000)];
      wire_->Send(frame);
      ++sent;
    }
    while (!outstanding.empty()) {
      const auto answer = wire_->Receive([](const Bytes& frame) { return frame.size() > 8000; });
      ASSERT_TRUE(answer.has_value()) << "burst " << burst << ": " << outstanding.size() << " did not come back";
      const auto found = outstanding.find(Hash(*answer, 8000));
      ASSERT_NE(found, outstanding.end()) << "a payload that was not sent";
      if (--found->second == 0) outstanding.erase(found);
    }
  }
  const Work after = SumWorkers(api().Stats());
  EXPECT_EQ(after.received - before.received, sent);
  EXPECT_EQ(after.transmitted - before.transmitted, sent);
}

}  // namespace
}  // namespace headgate::testing
