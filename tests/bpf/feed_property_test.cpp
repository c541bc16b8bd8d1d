// SPDX-License-Identifier: Apache-2.0
//
// Sequence numbers as they may come, against what is to become of them in so many words.
#include <linux/bpf.h>

#include <optional>
#include <set>

#include "tests/bpf/feed_gateway.h"
#include "tests/harness/random.h"

namespace headgate::testing {
namespace {

// Numbers are counted on where those on the wire wrap.
class FeedModel {
 public:
  FeedModel(size_t width, int64_t window)
      : half_(width == 8 ? 0 : int64_t{1} << (8 * width - 1)), window_(window) {}

  // Whether it is to be relayed; `quiet`: more than a second after the highest.
  bool Takes(uint64_t on_wire, bool quiet) {
    const int64_t number = Unwrap(on_wire);
    if (came_.empty()) return Begin(number);
    const int64_t highest = *came_.rbegin();
    if (number > highest + 1 + HG_FEED_JUMP) return Begin(number);
    const bool old = number <= highest - window_;
    if (quiet && (old || came_.contains(number))) return Begin(number);
    if (old) return ++stale_, false;
    if (!came_.insert(number).second) return ++duplicates_, false;
    if (number < highest) ++late_;
    return ++packets_, true;
  }

  int64_t highest() const { return came_.empty() ? 0 : *came_.rbegin(); }
  uint64_t packets() const { return packets_; }
  uint64_t duplicates() const { return duplicates_; }
  uint64_t late() const { return late_; }
  uint64_t stale() const { return stale_; }
  uint64_t restarts() const { return restarts_; }
  // What is between the lowest and the highest of each run and did not come.
  uint64_t missing() const {
    if (came_.empty()) return 0;
    return missing_ + static_cast<uint64_t>(*came_.rbegin() - *came_.begin() + 1) - came_.size();
  }

 private:
  int64_t Unwrap(uint64_t on_wire) const {
    const int64_t next = highest() + (came_.empty() ? 0 : 1);
    if (half_ == 0) return static_cast<int64_t>(on_wire);
    int64_t number = next - next % (2 * half_) + static_cast<int64_t>(on_wire);
    while (number - next >= half_) number -= 2 * half_;
    while (number - next < -half_) number += 2 * half_;
    return number;
  }
  bool Begin(int64_t number) {
    if (!came_.empty()) ++restarts_;
    missing_ = missing();
    came_ = {number};
    ++packets_;
    return true;
  }

  const int64_t half_;
  const int64_t window_;
  std::set<int64_t> came_;  // of this run
  uint64_t missing_ = 0;    // of those before
  uint64_t packets_ = 0, duplicates_ = 0, late_ = 0, stale_ = 0, restarts_ = 0;
};

class FeedProperty : public FeedTest {};
INSTANTIATE_TEST_SUITE_P(Ip, FeedProperty, ::testing::ValuesIn(kIpNames), NameOf);

TEST_P(FeedProperty, IsAsTheModel) {
  std::mt19937_64 random = MakeRandom();
  const auto below = [&random](uint64_t bound) { return random() % bound; };
  for (int round = 0; round < 24; ++round) {
    const size_t width = size_t{1} << round % 4;
    const uint64_t most = width == 1 ? 128 : HG_FEED_WINDOW;
    const uint64_t window = below(3) == 0 ? most : 1 + below(most);
    const Numbers numbers{.offset = below(20), .width = width, .little_endian = below(2) == 0};
    SCOPED_TRACE(absl::StrCat(numbers.width, " bytes, window ", window));
    UseNumbers(numbers, absl::StrCat(window));
    FeedModel model(width, static_cast<int64_t>(window));
    // Not too near the ends of 64 bits, which the model does not wrap at.
    int64_t at = static_cast<int64_t>(1'000'000'000'000 + below(1'000'000'000'000));
    for (int step = 0; step < 1500; ++step) {
      const int64_t highest = step == 0 ? at : model.highest();
      switch (below(12)) {
        case 0:
          at = highest + 2 + static_cast<int64_t>(below(below(8) == 0 ? 9000 : 8));
          break;
        case 1:
        case 2:
        case 3:
        case 4:
          at = highest - static_cast<int64_t>(below(20));
          break;
        case 5:
          at = highest - static_cast<int64_t>(below(2 * window));
          break;
        case 6:
          at = highest - static_cast<int64_t>(window) + static_cast<int64_t>(below(3)) - 1;
          break;
        case 7:
          if (below(20) == 0) at = highest + HG_FEED_JUMP + static_cast<int64_t>(below(4)) - 1;
          break;
        default:
          at = highest + 1;
      }
      const bool quiet = step != 0 && below(40) == 0;
      if (step != 0) Age(quiet ? 1'500'000'000 : 0);
      const uint64_t on_wire =
          width == 8 ? static_cast<uint64_t>(at) : static_cast<uint64_t>(at) % (uint64_t{1} << 8 * width);
      const bool taken = program().Verdict(Frame(below(2) == 0 ? kA : kB, PayloadOf(on_wire))) == XDP_REDIRECT;
      ASSERT_EQ(taken, model.Takes(on_wire, quiet))
          << "step " << step << ", number " << at << ", highest " << highest;
    }
    EXPECT_EQ(Counted(), (Counts{.packets = model.packets(),
                                 .duplicates = model.duplicates(),
                                 .missing = model.missing(),
                                 .late = model.late(),
                                 .stale = model.stale(),
                                 .restarts = model.restarts()}));
  }
}

}  // namespace
}  // namespace headgate::testing
