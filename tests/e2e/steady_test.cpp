// SPDX-License-Identifier: Apache-2.0
//
// The promise about a worker's steady state: no memory asked for or given back, no lock taken, and no system call
// but those that wake the kernel up or wait for it. Counted by the kernel in the agent that is shipped, over a
// million packets that workers dealt with.
#include <gtest/gtest.h>
#include <sys/syscall.h>

#include <algorithm>
#include <utility>

#include "tests/e2e/steer_fixture.h"
#include "tests/e2e/worker_call_count.h"

namespace headgate::testing {
namespace {

constexpr uint64_t kPackets = 1'000'000;

class SteadyTest : public SteerFixture {
 protected:
  SteadyTest() : SteerFixture("steady") {}

  // A kick, of the kernel or of a worker that sleeps, or a wait for something to do.
  bool IsAllowed(const WorkerCallCount::SystemCall& call) const {
    if (call.number == SYS_sendto || call.number == SYS_recvfrom) return call.on_xdp_socket;
    if (call.number == SYS_read || call.number == SYS_write) return call.on_eventfd && workers_ > 1;
#ifdef SYS_poll
    if (call.number == SYS_poll) return true;
#endif
    return call.number == SYS_ppoll;
  }
  // Counts under load until workers have surely received kPackets meanwhile. Asking them makes them take locks, so
  // that they are asked only while nothing is counted: what was sent then may be among what they received.
  void CountUnderLoad(WorkerCallCount& count, uint64_t packets_per_second) {
    bench::SendOptions options{.device = "c0", .netns = lab().Name("client"), .frame = FlowFrames(1000)};
    options.packets_per_second = packets_per_second;
    options.scheduling.cpu = 0;
    const auto sender = Value(bench::Sender::Open(options));
    sender->Start();
    ASSERT_TRUE(WaitFor([&] { return sender->sent() > 100'000; }));
    uint64_t received = 0;
    const auto window = [&] {
      const uint64_t outside = sender->sent(), before = Workers().received;
      count.Start();
      const uint64_t begin = sender->sent();
      EXPECT_TRUE(WaitFor([&] { return sender->sent() > begin + 300'000; }));
      const uint64_t end = sender->sent();
      count.Stop();
      const uint64_t more = Workers().received - before, unsure = sender->sent() - end + begin - outside;
      // Rings hold some from before, too.
      received += more - std::min(more, unsure + 2 * 4096);
      return received >= kPackets;
    };
    EXPECT_TRUE(WaitFor(window, std::chrono::seconds(40))) << received;
    Ok(sender->Stop());
    printf("%llu packets received meanwhile\n", static_cast<unsigned long long>(received));
  }
  void ExpectNothingButKicks(const WorkerCallCount& count) const {
    for (const auto& [function, calls] : count.LibraryCalls()) ADD_FAILURE() << calls << " calls of " << function;
    uint64_t waits = 0;
    for (const WorkerCallCount::SystemCall& call : count.SystemCalls()) {
      EXPECT_TRUE(IsAllowed(call)) << call.calls << " system calls of number " << call.number;
      waits += call.calls;
      printf("system call %u%s: %llu\n", call.number, call.on_xdp_socket ? " (AF_XDP)" : "",
             static_cast<unsigned long long>(call.calls));
    }
    EXPECT_GT(waits, 0U) << "nothing was counted";
  }
  // What a worker does out of its steady state is seen: to tell its counters it takes a lock and asks for memory.
  void ExpectToBeSeen(WorkerCallCount& count) {
    count.Start();
    api().Stats();
    count.Stop();
    std::map<std::string, uint64_t> calls = count.LibraryCalls();
    EXPECT_GT(calls["pthread_mutex_lock"], 0U);
    EXPECT_GT(calls["malloc"] + calls["_Znwm"], 0U);
    uint64_t others = 0;
    for (const WorkerCallCount::SystemCall& call : count.SystemCalls()) others += IsAllowed(call) ? 0 : 1;
    EXPECT_GT(others, 0U);
  }

  int workers_ = 0;
};

TEST_F(SteadyTest, NoHeapNoLocksNoSystemCallsButKicks) {
  // As much as comes, and about what an echo keeps up with.
  // The devices have one queue each: two workers share what comes by it.
  const struct {
    const char* handler;
    int workers;
    uint64_t packets_per_second;
  } loads[] = {{"count", 1, 0}, {"echo", 1, 300'000}, {"count", 2, 0}};
  for (const auto& [handler, workers, packets_per_second] : loads) {
    SCOPED_TRACE(absl::StrCat(handler, " by ", workers));
    workers_ = workers;
    Steer(absl::StrCat("{name: app, handler: {", handler, ": {}}, workers: {count: ", workers,
                       "}, fallback: drop}"));
    ASSERT_TRUE(AwaitFate("forward_steer"));
    WorkerCallCount count(agent().pid());
    ExpectToBeSeen(count);
    count.Clear();
    CountUnderLoad(count, packets_per_second);
    ExpectNothingButKicks(count);
  }
}

}  // namespace
}  // namespace headgate::testing
