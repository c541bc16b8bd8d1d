// SPDX-License-Identifier: Apache-2.0
//
// An AF_XDP socket alone, on a veth: when what is queued leaves.
#include <gtest/gtest.h>
#include <net/if.h>
#include <netinet/in.h>

#include <stdexcept>

#include "agent/slowpath/xsk_socket.h"
#include "tests/harness/lab.h"
#include "tests/harness/wire.h"

namespace headgate::testing {
namespace {

constexpr uint32_t kBatch = 32;  // that the kernel sends at a call

template <typename T>
T Value(absl::StatusOr<T> value) {
  if (!value.ok()) throw std::runtime_error(value.status().ToString());
  return *std::move(value);
}

class XskSocketTest : public ::testing::Test {
 protected:
  void SetUp() override {
    HG_REQUIRE_LAB();
    lab_ = std::make_unique<Lab>("xsksock", std::vector<std::string>{"a", "b"});
    lab_->Link("a", "a0", "b", "b0");
    wire_ = std::make_unique<Wire>(lab_->Name("b"), "b0");
    pool_ = Value(FramePool::Create(4 * kBatch));
    const InNetns inside(lab_->Name("a"));
    socket_ = Value(XskSocket::Open(*pool_, if_nametoindex("a0"), 0, {.fill = 0}));
  }

  void Queue(uint32_t frames) {
    const Bytes bytes = Ethernet{} / Ipv4{} / Udp{} / Payload(Bytes(40, 0x5a));
    for (uint32_t i = 0; i < frames; ++i) {
      Segment segment;
      ASSERT_TRUE(pool_->Take(segment.address));
      std::copy(bytes.begin(), bytes.end(), pool_->Data(segment.address));
      segment.length = static_cast<uint32_t>(bytes.size());
      ASSERT_TRUE(socket_->Transmit(absl::MakeConstSpan(&segment, 1)));
    }
  }
  size_t Arrived(size_t count, std::chrono::milliseconds timeout = std::chrono::seconds(3)) {
    return wire_->ReceiveCount([](const Bytes& one) { return IsIp(one, IPPROTO_UDP); }, count, timeout);
  }

  std::unique_ptr<Lab> lab_;
  std::unique_ptr<Wire> wire_;
  std::unique_ptr<FramePool> pool_;
  std::unique_ptr<XskSocket> socket_;
};

TEST_F(XskSocketTest, AFullBatchLeavesAtOnceAndItsFramesAreFreeAgain) {
  Queue(kBatch - 1);
  EXPECT_TRUE(socket_->KickFullBatch());
  EXPECT_EQ(socket_->in_flight(), kBatch - 1) << "less than a batch was sent";
  Queue(1);
  EXPECT_TRUE(socket_->KickFullBatch());
  EXPECT_EQ(Arrived(kBatch), kBatch);
  // What its receiver has had is handed back.
  EXPECT_TRUE(WaitFor([&] {
    socket_->Kick();
    return socket_->in_flight() == 0;
  }));
  EXPECT_EQ(pool_->free(), pool_->total());
}

TEST_F(XskSocketTest, ADeviceThatTakesNothingIsToldAndKeepsItsTurn) {
  lab_->Ip("a", "link set a0 down");
  Queue(kBatch);
  EXPECT_FALSE(socket_->KickFullBatch());
  EXPECT_EQ(socket_->in_flight(), kBatch);
  lab_->Ip("a", "link set a0 up");
  EXPECT_TRUE(WaitFor([&] {
    socket_->Kick();
    return socket_->in_flight() == 0;
  }));
  EXPECT_EQ(Arrived(kBatch), kBatch);
}

}  // namespace
}  // namespace headgate::testing
