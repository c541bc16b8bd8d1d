// SPDX-License-Identifier: Apache-2.0
//
// Multicast in streams, counted at the receivers' devices.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/e2e/multicast_fixture.h"
#include "tests/harness/traffic.h"

namespace headgate::testing {

class MulticastTrafficTest : public MulticastTest {
 protected:
  using MulticastTest::MulticastTest;

  void TearDown() override {
    tallies_.clear();
    MulticastTest::TearDown();
  }

  // Streams to 239.1.1.1 and the groups after it, each with a route of its own name.
  static bench::FrameSpec Streams(uint32_t groups, uint32_t size = 1400) {
    bench::FrameSpec frame = FlowFrames(1);
    frame.destination = Value(ParseAddress("239.1.1.1"));
    frame.groups = groups;
    frame.group_macs = true;
    frame.size = size;
    return frame;
  }
  // `payloads`: marks have them.
  void StartTallies(bool payloads = false) {
    receivers_.clear();
    tallies_.clear();
    for (int i = 1; i <= count_; ++i) StartTally(i, 0, payloads);
  }
  void StartTally(int i, uint32_t delay = 0, bool payloads = false) {
    tallies_.resize(std::max(tallies_.size(), static_cast<size_t>(i)));
    auto& tally = tallies_[static_cast<size_t>(i - 1)];
    tally.reset();
    tally = std::make_unique<Tally>(lab(), absl::StrCat("r", i), absl::StrCat("d", i), delay, payloads);
  }
  uint64_t Delivered(int i) const { return tallies_[static_cast<size_t>(i - 1)]->Frames(); }
  // The receiver's, by what `key` takes of a frame's mark.
  template <typename Key>
  std::map<Key, uint64_t> DeliveredBy(int i, const std::function<Key(const hgt_mark&)>& key) const {
    std::map<Key, uint64_t> frames;
    tallies_[static_cast<size_t>(i - 1)]->ForEach(
        [&](const hgt_mark& mark, uint64_t count) { frames[key(mark)] += count; });
    return frames;
  }

  // From the client's device if not said otherwise, until it is stopped or `count` are sent.
  std::unique_ptr<bench::Sender> Stream(const bench::FrameSpec& frame, uint64_t per_second, uint64_t count = 0,
                                        const std::string& ns = "client", const std::string& device = "c0") {
    bench::SendOptions options{.device = device, .netns = lab().Name(ns), .frame = frame};
    options.packets_per_second = per_second;
    options.count = count;
    options.scheduling.cpu = 0;
    auto sender = Value(bench::Sender::Open(options));
    sender->Start();
    return sender;
  }
  // The gateway's count of packets for a reason.
  uint64_t Reason(const std::string& name, const std::string& interface = "in") {
    const auto reasons = api().Reasons(interface);
    const auto found = reasons.find(name);
    return found == reasons.end() ? 0 : found->second;
  }

  std::vector<std::unique_ptr<Tally>> tallies_;
};

}  // namespace headgate::testing
