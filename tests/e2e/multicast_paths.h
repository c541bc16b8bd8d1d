// SPDX-License-Identifier: Apache-2.0
//
// Scenarios that are to hold whether the kernel or workers replicate.
#pragma once

#include <algorithm>
#include <string>

#include "tests/e2e/multicast_traffic.h"

namespace headgate::testing {

enum class Path { kKernel, kWorkers };

// 239.9.9.N, of a leg by out`N` that is there to have another leave by the same device.
inline constexpr uint32_t kExtraGroup = 0xef090900;

class MulticastPathTest : public MulticastTrafficTest, public ::testing::WithParamInterface<Path> {
 protected:
  using MulticastTrafficTest::MulticastTrafficTest;

  static bool ByWorkers() { return GetParam() == Path::kWorkers; }
  // To be put behind a route's legs, of which one leaves by out`i`.
  static std::string Extra(int i) {
    return ByWorkers() ? absl::StrCat(", {name: extra, interface: out", i, ", group: 239.9.9.", i, "}") : "";
  }
  // A rate that neither path loses anything at.
  static uint64_t Modest(uint64_t kernel = 20'000, uint64_t workers = 5'000) {
    return ByWorkers() ? workers : kernel;
  }
  // Of these routes; until all is there that it takes.
  void ApplyRoutes(const std::string& routes, const std::vector<std::string>& inputs = {"in"}) {
    Apply(routes);
    AwaitPath(inputs);
  }
  void AwaitPath(const std::vector<std::string>& inputs = {"in"}) {
    for (const std::string& input : inputs) {
      ASSERT_TRUE(WaitFor([&] { return !ByWorkers() || ReadByWorkers(input); })) << "no worker reads " << input;
    }
    for (const pb::Object& object : api().GetAll({pb::KIND_MULTICAST_ROUTE})) {
      EXPECT_EQ(object.multicast_route_state().path(),
                ByWorkers() ? pb::MulticastRouteState::PATH_USERSPACE : pb::MulticastRouteState::PATH_KERNEL)
          << object.multicast_route().name();
    }
  }
  bool ReadByWorkers(const std::string& interface) {
    const pb::StatsResponse stats = api().Stats();
    return std::any_of(stats.workers().begin(), stats.workers().end(), [&](const pb::WorkerStats& worker) {
      return std::any_of(worker.queues().begin(), worker.queues().end(),
                         [&](const pb::QueueStats& queue) { return queue.interface() == interface; });
    });
  }
  // Once now, and once with the agent started again.
  void NowAndAfterRestart(const std::function<void()>& check, const std::vector<std::string>& inputs = {"in"}) {
    {
      SCOPED_TRACE("before the restart");
      check();
    }
    if (HasFatalFailure()) return;
    agent().Restart();
    AwaitPath(inputs);
    SCOPED_TRACE("after the restart");
    check();
  }

  static bool IsExtra(const hgt_mark& mark) { return (mark.destination & 0xffffff00) == kExtraGroup; }
  // All but copies of extra legs, by source address.
  std::map<uint32_t, uint64_t> DeliveredBySource(int i) const {
    std::map<uint32_t, uint64_t> frames;
    tallies_[static_cast<size_t>(i - 1)]->ForEach([&](const hgt_mark& mark, uint64_t count) {
      if (!IsExtra(mark)) frames[mark.source] += count;
    });
    return frames;
  }
  uint64_t DeliveredFrom(int i, const std::string& source) const {
    const auto frames = DeliveredBySource(i);
    const auto found = frames.find(Value(ParseAddress(source)).words[0]);
    return found == frames.end() ? 0 : found->second;
  }
  static bench::FrameSpec From(const std::string& source, uint32_t size = 1400) {
    bench::FrameSpec frame = Streams(1, size);
    frame.source = Value(ParseAddress(source));
    return frame;
  }
};

inline const auto kBothPaths = ::testing::Values(Path::kKernel, Path::kWorkers);
inline std::string PathName(const ::testing::TestParamInfo<Path>& info) {
  return info.param == Path::kKernel ? "Kernel" : "Workers";
}

}  // namespace headgate::testing
