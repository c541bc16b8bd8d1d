// SPDX-License-Identifier: Apache-2.0
//
// A minute (ten by HG_NIGHTLY) of everything at once: sizes, flows, handlers, numbers of workers, links that flap,
// devices that go. Nothing is lost from the account, and the agent does not grow.
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <chrono>
#include <fstream>
#include <vector>

#include "tests/e2e/steer_fixture.h"
#include "tests/harness/random.h"

namespace headgate::testing {
namespace {

using std::chrono::steady_clock;

class SteerSoakTest : public SteerFixture {
 protected:
  SteerSoakTest() : SteerFixture("soak") {}

  void SteerTo(const std::string& handler, uint64_t workers) {
    Steer(absl::StrCat("{name: app, handler: {", handler, ": {}}, workers: {count: ", workers,
                       "}, fallback: drop}"));
  }
  // Kilobytes of the agent's own memory; frames are shared with nobody, and are in it.
  uint64_t Resident() {
    std::ifstream status("/proc/" + std::to_string(agent().pid()) + "/status");
    uint64_t kilobytes = 0;
    for (std::string word; status >> word;) {
      if (word == "RssAnon:") status >> kilobytes;
    }
    return kilobytes;
  }
  // With one worker and nothing to do, as the agent is at the beginning of each round.
  uint64_t RestingResident() {
    SteerTo("count", 1);
    EXPECT_TRUE(WaitFor([&] { return Workers().alive == 1 && Workers().queues == 2; }));
    AwaitQuiet();
    uint64_t least = ~uint64_t{0};
    // What was freed goes back within a second.
    const auto until = steady_clock::now() + std::chrono::milliseconds(1500);
    WaitFor([&] {
      least = std::min(least, Resident());
      return steady_clock::now() > until;
    });
    return least;
  }
  // And until it is so: packets come meanwhile.
  void ChangeTo(const std::string& handler, uint64_t workers) {
    SteerTo(handler, workers);
    const auto done = [&](const Work& work) { return handler == "echo" ? work.transmitted : work.consumed; };
    EXPECT_TRUE(WaitFor([&] { return Workers().alive == static_cast<int>(workers) && Workers().queues == 2; }));
    // What the other handler did not do yet is less than the rings hold.
    const uint64_t before = done(Workers());
    EXPECT_TRUE(WaitFor([&] { return done(Workers()) > before + 20'000; })) << handler;
  }
  // One of each, in an order of its own.
  void Disturb(std::mt19937_64& random) {
    switch (random() % 5) {
      case 0:
        return ChangeTo("echo", 1 + random() % 3);
      case 1:
        return ChangeTo("count", 1 + random() % 3);
      case 2:
        lab().Ip("gw", "link set g0 down");
        lab().Ip("gw", "link set g0 up");
        return;
      case 3:
        lab().Ip("gw", "link del g1");
        lab().Link("gw", "g1", "server", "s0");
        return;
      default:
        lab().Ip("client", "link set c0 down");
        lab().Ip("client", "link set c0 up");
        return;
    }
  }
  void Round(std::mt19937_64& random) {
    RestingResident();
    ASSERT_TRUE(AwaitFate("forward_steer"));
    const Ledger ledger(*this);
    const uint32_t sizes[] = {64, 128, 512, 1400, 1514};
    bench::FrameSpec frame = FlowFrames(1U << (random() % 12));
    frame.size = sizes[random() % std::size(sizes)];
    const auto sender = Flood("client", "c0", frame, static_cast<int>(random() % 2));
    for (int i = 0; i < 4; ++i) {
      Disturb(random);
      EXPECT_TRUE(AwaitReceived(20'000));
    }
    Ok(sender->Stop());
    ledger.ExpectExact();
    sent_ += sender->sent();
  }

  uint64_t sent_ = 0;
};

TEST_F(SteerSoakTest, NothingIsLostAndNothingGrows) {
  auto random = MakeRandom();
  const auto duration = std::chrono::seconds(IsNightly() ? 600 : 60);
  const auto begin = steady_clock::now();
  // What is made once and kept is made by then.
  while (steady_clock::now() < begin + duration / 4) Round(random);
  const uint64_t first = RestingResident();
  int rounds = 0;
  for (; steady_clock::now() < begin + duration; ++rounds) Round(random);
  const uint64_t last = RestingResident();
  printf("%llu packets; %d rounds since the first look at memory: %llu KiB, then %llu KiB\n",
         static_cast<unsigned long long>(sent_), rounds, static_cast<unsigned long long>(first),
         static_cast<unsigned long long>(last));
  EXPECT_GT(rounds, 0);
  EXPECT_LE(last, first + first / 20 + 2048);
}

}  // namespace
}  // namespace headgate::testing
