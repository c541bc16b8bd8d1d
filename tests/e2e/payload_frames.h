// SPDX-License-Identifier: Apache-2.0
//
// Frames of random payloads, which are told from one another wherever they arrive and whatever their headers have
// become by then.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <vector>

#include "bench/sender.h"
#include "tests/harness/packet.h"
#include "tests/harness/random.h"
#include "tests/harness/traffic.h"

namespace headgate::testing {

class PayloadFrames {
 public:
  // `count` of `bytes` of payload each, behind these headers.
  PayloadFrames(const Packet& headers, size_t count, size_t bytes) {
    std::mt19937_64 random = MakeRandom();
    for (size_t i = 0; i < count; ++i) {
      Bytes payload(bytes);
      for (uint8_t& byte : payload) byte = static_cast<uint8_t>(random());
      hashes_.push_back(PayloadHash(payload));
      frames_.push_back({.bytes = headers / Payload(std::move(payload))});
    }
  }

  // What a sender sends in turn, over and over.
  const std::vector<bench::CapturedFrame>& frames() const { return frames_; }
  // That of these, counted by the hash of their payload, each is there as often as it was among the first `sent`.
  void ExpectAll(std::map<uint64_t, uint64_t> arrived, uint64_t sent) const {
    ExpectCounts(arrived, sent, [](uint64_t came, uint64_t left) { return came == left; });
  }
  // The same where some were lost: none that was not sent, none more often.
  void ExpectSome(std::map<uint64_t, uint64_t> arrived, uint64_t sent) const {
    ExpectCounts(arrived, sent, [](uint64_t came, uint64_t left) { return came <= left; });
  }

 private:
  template <typename Right>
  void ExpectCounts(std::map<uint64_t, uint64_t>& arrived, uint64_t sent, const Right& is_right) const {
    size_t wrong = 0;
    for (size_t i = 0; i < hashes_.size(); ++i) {
      const uint64_t of_this = sent / hashes_.size() + (i < sent % hashes_.size() ? 1 : 0);
      if (!is_right(arrived[hashes_[i]], of_this)) ++wrong;
      arrived.erase(hashes_[i]);
    }
    EXPECT_EQ(wrong, 0U) << "payloads that did not come as often as they were sent, of " << hashes_.size();
    uint64_t foreign = 0;
    for (const auto& [hash, frames] : arrived) foreign += frames;
    EXPECT_EQ(foreign, 0U) << "frames whose payload nobody sent, or with a wrong checksum";
  }

  std::vector<bench::CapturedFrame> frames_;
  std::vector<uint64_t> hashes_;
};

}  // namespace headgate::testing
