// SPDX-License-Identifier: Apache-2.0
//
// Who listens at an interface, by a clock of the test's own: RFC 3376, sections 6 and 7; RFC 3810, sections 7
// and 8.
#include "agent/listeners/listeners.h"

#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "tests/harness/random.h"

namespace headgate {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

IpAddress Ip(const std::string& text) { return *ParseAddress(text); }

constexpr seconds kMembership{260};
constexpr seconds kLast{2};

// Groups and senders are named by letters; both IP versions are held to the same.
class ListenersTest : public ::testing::TestWithParam<Family> {
 protected:
  ListenersTest() {
    listeners_.SetAddress(Own(), now_);
    Pass(milliseconds(0));
    sent_.clear();
  }
  bool ipv4() const { return GetParam() == Family::kIpv4; }
  IpAddress Own() const { return Ip(ipv4() ? "10.0.0.5" : "fe80::5"); }
  IpAddress Router(int number) const { return Ip(absl::StrCat(ipv4() ? "10.0.0." : "fe80::", number)); }
  IpAddress Group(char name = 'g') const { return Ip(absl::StrCat(ipv4() ? "239.1.1." : "ff3e:1::", int{name})); }
  IpAddress Source(char name) const { return Ip(absl::StrCat(ipv4() ? "10.1.1." : "2001:db8::", int{name})); }
  std::vector<IpAddress> Sources(const std::string& names) const {
    std::vector<IpAddress> sources;
    for (const char name : names) sources.push_back(Source(name));
    return sources;
  }
  void Say(RecordType type, const std::string& sources = "", HostVersion version = HostVersion::kCurrent,
           char group = 'g') {
    Hear(Router(9), Report{version, {{type, Group(group), Sources(sources)}}});
  }
  void Hear(const IpAddress& sender, std::variant<Report, ListenerQuery> message) {
    listeners_.Hear({sender, std::move(message)}, now_);
    Run();
  }
  void Run() {
    for (const ListenerQuery& query : listeners_.Run(now_)) sent_.push_back(query);
  }
  // Whatever is due meanwhile is done when it is due.
  void Pass(milliseconds time) {
    const ListenerTime until = now_ + time;
    while (listeners_.Next() <= until) {
      now_ = std::max(now_, listeners_.Next());
      Run();
      ASSERT_GT(listeners_.Next(), now_) << "goes round in a circle";
    }
    now_ = until;
  }
  // "in ab", "ex ab", "": nobody asks for it.
  std::string State(char group = 'g') const {
    for (const ListenedView& view : listeners_.View(now_)) {
      if (view.group != Group(group)) continue;
      std::string text = view.exclude ? "ex " : "in ";
      for (char name = 'a'; name <= 'z'; ++name) {
        if (std::count(view.sources.begin(), view.sources.end(), Source(name)) != 0) text += name;
      }
      return text;
    }
    return "";
  }
  // Those about groups, as "g", "g ab" or "g ab S", and takes them.
  std::vector<std::string> Asked() {
    std::vector<std::string> asked;
    for (const ListenerQuery& query : sent_) {
      if (!query.group) continue;
      std::string text(1,
                       static_cast<char>(ipv4() ? query.group->words[0] & 0xff : Decimal(query.group->words[3])));
      if (!query.sources.empty()) text += " ";
      for (char name = 'a'; name <= 'z'; ++name) {
        if (std::count(query.sources.begin(), query.sources.end(), Source(name)) != 0) text += name;
      }
      if (query.suppress) text += " S";
      asked.push_back(text);
    }
    sent_.clear();
    return asked;
  }
  // The text of the address has it in decimal digits.
  static uint32_t Decimal(uint32_t word) {
    return static_cast<uint32_t>(std::stoi(absl::StrCat(absl::Hex(word))));
  }
  size_t GeneralQueries() {
    const auto count = static_cast<size_t>(
        std::count_if(sent_.begin(), sent_.end(), [](const ListenerQuery& query) { return !query.group; }));
    sent_.clear();
    return count;
  }
  using Strings = std::vector<std::string>;

  ListenerTime now_{std::chrono::hours(1000)};
  Listeners listeners_{GetParam(), {}};
  std::vector<ListenerQuery> sent_;
};
INSTANTIATE_TEST_SUITE_P(Ip, ListenersTest, ::testing::Values(Family::kIpv4, Family::kIpv6),
                         [](const auto& family) { return family.param == Family::kIpv4 ? "Ipv4" : "Ipv6"; });

// RFC 3376, section 6.4.1 and 6.4.2: each row, from each state.
TEST_P(ListenersTest, Records) {
  struct Row {
    const char* before;  // said in this order: "x" TO_EX, "i" IS_IN
    RecordType type;
    const char* sources;
    const char* after;
    Strings asked;
  };
  const Row rows[] = {
      {"i ab", RecordType::kIsInclude, "bc", "in abc", {}},
      {"i ab", RecordType::kAllow, "bc", "in abc", {}},
      {"i ab", RecordType::kIsExclude, "bc", "ex c", {}},
      {"i ab", RecordType::kBlock, "bc", "in ab", {"g b"}},
      {"i ab", RecordType::kToExclude, "bc", "ex c", {"g b"}},
      {"i ab", RecordType::kToInclude, "bc", "in abc", {"g a"}},
      {"x ab", RecordType::kIsInclude, "bc", "ex a", {}},
      {"x ab", RecordType::kAllow, "bc", "ex a", {}},
      {"x ab", RecordType::kIsExclude, "bc", "ex b", {}},
      {"x ab", RecordType::kBlock, "bc", "ex ab", {"g c"}},
      {"x ab", RecordType::kToExclude, "bc", "ex b", {"g c"}},
      {"x ab", RecordType::kToInclude, "bc", "ex a", {"g"}},
      {"x ", RecordType::kToInclude, "", "ex ", {"g"}},
      {"i ", RecordType::kIsExclude, "", "ex ", {}},
  };
  char group = 'a';
  for (const Row& row : rows) {
    SCOPED_TRACE(absl::StrCat(row.before, " then ", static_cast<int>(row.type), " ", row.sources));
    Say(row.before[0] == 'i' ? RecordType::kIsInclude : RecordType::kToExclude, row.before + 2,
        HostVersion::kCurrent, group);
    sent_.clear();
    Say(row.type, row.sources, HostVersion::kCurrent, group);
    EXPECT_EQ(State(group), row.after);
    Strings asked = row.asked;
    for (std::string& text : asked) text[0] = group;
    EXPECT_EQ(Asked(), asked);
    ++group;
  }
}

TEST_P(ListenersTest, WhatNobodyRenewsEnds) {
  Say(RecordType::kIsInclude, "ab");
  EXPECT_TRUE(listeners_.TakeChanged());
  Pass(kMembership - seconds(1));
  Say(RecordType::kIsInclude, "b");
  EXPECT_FALSE(listeners_.TakeChanged()) << "renewed";
  EXPECT_EQ(State(), "in ab");
  Pass(seconds(1));
  EXPECT_EQ(State(), "in b");
  EXPECT_TRUE(listeners_.TakeChanged());
  Pass(kMembership);
  EXPECT_EQ(State(), "");
  EXPECT_TRUE(listeners_.TakeChanged());

  Say(RecordType::kIsExclude, "a");
  Say(RecordType::kAllow, "b");
  Pass(seconds(100));
  Say(RecordType::kAllow, "c");
  EXPECT_EQ(State(), "ex a");
  Pass(kMembership - seconds(100));
  EXPECT_EQ(State(), "in c") << "who excludes is gone, others stay";
  Pass(seconds(100));
  EXPECT_EQ(State(), "");
}

// Of EXCLUDE: one that was asked for by name, and is not any more, is excluded again.
TEST_P(ListenersTest, SourcesThatEndAreExcluded) {
  Say(RecordType::kIsExclude, "a");
  Say(RecordType::kAllow, "a");
  EXPECT_EQ(State(), "ex ");
  Pass(seconds(200));
  Say(RecordType::kToExclude, "a");
  listeners_.TakeChanged();
  Pass(kLast);
  EXPECT_EQ(State(), "ex a");
  EXPECT_TRUE(listeners_.TakeChanged());
}

// What is newly left out of a group that all is wanted of lasts no longer than that did (TO_EX: the group's
// timer).
TEST_P(ListenersTest, WhatIsLeftOutLastsAsTheGroupDid) {
  Hear(Router(3), ListenerQuery{.response = seconds(10)});
  Say(RecordType::kIsExclude);
  Pass(seconds(100));
  Say(RecordType::kToExclude, "a");
  EXPECT_EQ(State(), "ex ");
  Pass(kMembership - seconds(101));
  EXPECT_EQ(State(), "ex ");
  Pass(seconds(1));
  EXPECT_EQ(State(), "ex a");
}

// A question about the group is one about its sources, too, once those are known to be wanted.
TEST_P(ListenersTest, SourcesAreNotAskedAboutTwice) {
  Say(RecordType::kIsExclude, "b");
  Say(RecordType::kAllow, "a");
  Say(RecordType::kToInclude);
  EXPECT_EQ(Asked(), (Strings{"g", "g a"}));
  Say(RecordType::kAllow, "a");
  Pass(seconds(1));
  EXPECT_EQ(Asked(), (Strings{"g"}));
  Pass(seconds(1));
  EXPECT_EQ(State(), "in a");
}

TEST_P(ListenersTest, ALeaveIsAskedAbout) {
  Say(RecordType::kIsExclude, "", HostVersion::kOlder);
  Say(RecordType::kToInclude, "", HostVersion::kOlder);
  EXPECT_EQ(Asked(), (Strings{"g"}));
  Pass(milliseconds(999));
  EXPECT_EQ(Asked(), Strings{});
  Say(RecordType::kToInclude, "", HostVersion::kOlder);
  EXPECT_EQ(Asked(), Strings{}) << "that is being asked";
  Pass(milliseconds(1));
  EXPECT_EQ(Asked(), (Strings{"g"}));
  Pass(milliseconds(999));
  EXPECT_EQ(State(), "ex ");
  Pass(milliseconds(1));
  EXPECT_EQ(State(), "");
  EXPECT_EQ(Asked(), Strings{});
}

TEST_P(ListenersTest, SomebodyIsLeft) {
  Say(RecordType::kIsExclude);
  Say(RecordType::kToInclude);
  EXPECT_EQ(Asked(), (Strings{"g"}));
  Pass(milliseconds(500));
  Say(RecordType::kIsExclude);
  Pass(seconds(10));
  EXPECT_EQ(Asked(), (Strings{"g S"})) << "other routers have heard it";
  EXPECT_EQ(State(), "ex ");
  Pass(kMembership - seconds(11));
  EXPECT_EQ(State(), "ex ");

  Say(RecordType::kAllow, "ab", HostVersion::kCurrent, 's');
  sent_.clear();
  Say(RecordType::kBlock, "ab", HostVersion::kCurrent, 's');
  Say(RecordType::kIsInclude, "b", HostVersion::kCurrent, 's');
  EXPECT_EQ(Asked(), (Strings{"s ab"}));
  Pass(seconds(1));
  EXPECT_EQ(Asked(), (Strings{"s b S", "s a"}));
  Pass(seconds(1));
  EXPECT_EQ(State('s'), "in b");
}

// RFC 3376, section 7.3.2.
TEST_P(ListenersTest, OlderHostsAreNotOverruled) {
  Say(RecordType::kIsExclude, "", HostVersion::kOlder);
  Say(RecordType::kBlock, "a");
  EXPECT_EQ(State(), "ex ");
  EXPECT_EQ(Asked(), Strings{});
  Say(RecordType::kToExclude, "a");
  EXPECT_EQ(State(), "ex ");
  Pass(kMembership - seconds(1));
  Say(RecordType::kIsExclude);
  Pass(seconds(1));
  sent_.clear();
  Say(RecordType::kBlock, "a");
  EXPECT_EQ(Asked(), (Strings{"g a"})) << "they are gone";

  Say(RecordType::kIsExclude, "", HostVersion::kOldest, 'o');
  Say(RecordType::kToInclude, "", HostVersion::kOlder, 'o');
  Say(RecordType::kToInclude, "", HostVersion::kCurrent, 'o');
  EXPECT_EQ(Asked(), Strings{}) << "the oldest cannot leave";
  Pass(kMembership);
  EXPECT_EQ(State('o'), "");
}

TEST_P(ListenersTest, GeneralQueries) {
  listeners_.Begin(now_);
  Pass(milliseconds(0));
  EXPECT_EQ(GeneralQueries(), 1U);
  Pass(milliseconds(31250));
  EXPECT_EQ(GeneralQueries(), 1U);
  Pass(milliseconds(124999));
  EXPECT_EQ(GeneralQueries(), 0U);
  Pass(milliseconds(1));
  ASSERT_EQ(sent_.size(), 1U);
  EXPECT_EQ(sent_[0], (ListenerQuery{.response = seconds(10), .robustness = 2, .interval_seconds = 125}));
  sent_.clear();
  Pass(seconds(1250));
  EXPECT_EQ(GeneralQueries(), 10U);
}

TEST_P(ListenersTest, SettingsAreUsed) {
  listeners_.Configure(
      {.interval = seconds(20), .response = seconds(4), .last_listener = milliseconds(300), .robustness = 3},
      now_);
  sent_.clear();
  Pass(seconds(10));
  EXPECT_EQ(GeneralQueries(), 3U) << "at once, after 5 and 10 seconds";
  Say(RecordType::kIsExclude);
  Pass(milliseconds(63999));
  EXPECT_EQ(State(), "ex ");
  Pass(milliseconds(1));
  EXPECT_EQ(State(), "");
  Say(RecordType::kIsExclude);
  sent_.clear();
  Say(RecordType::kToInclude);
  ASSERT_EQ(sent_.size(), 1U);
  EXPECT_EQ(sent_[0].response, milliseconds(300));
  Pass(milliseconds(899));
  EXPECT_EQ(Asked().size(), 3U);
  EXPECT_EQ(State(), "ex ");
  Pass(milliseconds(1));
  EXPECT_EQ(State(), "");

  listeners_.Configure({.asks = false}, now_);
  Run();
  Say(RecordType::kIsExclude);
  sent_.clear();
  Say(RecordType::kToInclude);
  Pass(seconds(200));
  EXPECT_EQ(sent_.size(), 0U);
  EXPECT_EQ(listeners_.querier(), std::nullopt);
  EXPECT_EQ(State(), "ex ") << "nobody was asked";
}

TEST_P(ListenersTest, TheLowestAsks) {
  EXPECT_EQ(listeners_.querier(), Own());
  Hear(Router(7), ListenerQuery{.response = seconds(10)});
  EXPECT_EQ(listeners_.querier(), Own());
  Hear(Router(3), ListenerQuery{.response = seconds(8), .robustness = 3, .interval_seconds = 40});
  EXPECT_EQ(listeners_.querier(), Router(3));
  Hear(Router(4), ListenerQuery{.response = seconds(10), .robustness = 7, .interval_seconds = 4000});
  EXPECT_EQ(listeners_.querier(), Router(3)) << "a higher one is nobody's";
  sent_.clear();
  // Its word on timers holds: 3 * 40 + 8.
  Say(RecordType::kIsExclude);
  Say(RecordType::kToInclude);
  Pass(seconds(100));
  Hear(Router(3), ListenerQuery{.response = seconds(8), .robustness = 3, .interval_seconds = 40});
  Pass(milliseconds(27999));
  EXPECT_EQ(State(), "ex ");
  Pass(milliseconds(1));
  EXPECT_EQ(State(), "");
  EXPECT_EQ(sent_.size(), 0U) << "silent all the time";
  // 3 * 40 + 4 after its last.
  Pass(milliseconds(95999));
  EXPECT_EQ(sent_.size(), 0U);
  Pass(milliseconds(1));
  EXPECT_EQ(GeneralQueries(), 1U);
  EXPECT_EQ(listeners_.querier(), Own());
  // A lower address of our own.
  Hear(Router(3), ListenerQuery{.response = seconds(10)});
  listeners_.SetAddress(Router(1), now_);
  EXPECT_EQ(listeners_.querier(), Router(1));
}

TEST_P(ListenersTest, ASwitchThatAsksIsNoRouter) {
  Hear(IpAddress{.family = GetParam()}, ListenerQuery{.response = seconds(10)});
  EXPECT_EQ(listeners_.querier(), Own());
}

// As when the querier asks who is left.
TEST_P(ListenersTest, AnothersQuestionLowersTimers) {
  Hear(Router(3), ListenerQuery{.response = seconds(10)});
  Say(RecordType::kIsExclude);
  Say(RecordType::kAllow, "ab", HostVersion::kCurrent, 's');
  const auto ask = [&](char group, const std::string& sources, bool suppress) {
    Hear(Router(3), ListenerQuery{.group = Group(group),
                                  .sources = Sources(sources),
                                  .response = milliseconds(500),
                                  .suppress = suppress});
  };
  ask('g', "", true);
  ask('s', "a", true);
  Pass(seconds(5));
  EXPECT_EQ(State(), "ex ");
  EXPECT_EQ(State('s'), "in ab");
  ask('g', "", false);
  ask('s', "a", false);
  Pass(milliseconds(999));
  EXPECT_EQ(State(), "ex ");
  EXPECT_EQ(State('s'), "in ab");
  Pass(milliseconds(1));
  EXPECT_EQ(State(), "");
  EXPECT_EQ(State('s'), "in b");
}

TEST_P(ListenersTest, WithoutAnAddressNobodyAsks) {
  listeners_.SetAddress(std::nullopt, now_);
  EXPECT_EQ(listeners_.querier(), std::nullopt);
  Pass(seconds(300));
  EXPECT_EQ(sent_.size(), 0U);
  listeners_.SetAddress(Own(), now_);
  Pass(milliseconds(0));
  EXPECT_EQ(GeneralQueries(), 1U);
  // What this host itself says is nothing.
  Hear(Own(), Report{HostVersion::kCurrent, {{RecordType::kIsExclude, Group(), {}}}});
  EXPECT_EQ(State(), "");
  Hear(Router(9), ListenerQuery{.response = seconds(1)});
  EXPECT_EQ(listeners_.querier(), Own());
  // An address after none, of IPv4: all is asked again, another address after one is not.
  listeners_.SetAddress(IpAddress{.family = GetParam()}, now_);
  Run();
  sent_.clear();
  listeners_.SetAddress(Own(), now_);
  Run();
  EXPECT_EQ(GeneralQueries(), 1U);
  listeners_.SetAddress(Router(4), now_);
  Run();
  EXPECT_EQ(GeneralQueries(), 0U);
}

TEST_P(ListenersTest, SeedsLiveAsIfAskedFor) {
  listeners_.Seed(Group(), true, Sources("a"), now_);
  listeners_.Seed(Group('s'), false, Sources("b"), now_);
  EXPECT_EQ(State(), "ex a");
  EXPECT_EQ(State('s'), "in b");
  EXPECT_EQ(listeners_.View(now_)[0].expires_in, kMembership);
  Pass(kMembership);
  EXPECT_TRUE(listeners_.View(now_).empty());
}

TEST_P(ListenersTest, ThereIsRoomForSoMany) {
  const auto group = [&](uint32_t number) {
    IpAddress address = Group();
    address.words[ipv4() ? 0 : 3] += number;
    return address;
  };
  const auto say = [&](uint32_t number, const std::string& sources) {
    Hear(Router(9), Report{HostVersion::kCurrent, {{RecordType::kAllow, group(number), Sources(sources)}}});
  };
  for (uint32_t i = 0; i < Listeners::kMaxEntries / 4; ++i) say(i, "abc");
  EXPECT_EQ(listeners_.refused(), 0U);
  say(0, "d");
  say(5000, "a");
  EXPECT_EQ(listeners_.refused(), 2U);
  EXPECT_EQ(listeners_.View(now_).size(), Listeners::kMaxEntries / 4);
  Pass(seconds(100));
  say(0, "abc");
  Pass(kMembership - seconds(100));
  EXPECT_EQ(listeners_.View(now_).size(), 1U);
  for (uint32_t i = 1; i < Listeners::kMaxEntries / 4; ++i) say(i, "abc");
  EXPECT_EQ(listeners_.refused(), 2U) << "there is room again for all that ended";
  say(0, "d");
  EXPECT_EQ(listeners_.refused(), 3U);
}

// Whatever was said before: the last word of who asks holds, and in the end nothing is left.
TEST_P(ListenersTest, AnythingMayBeSaid) {
  std::mt19937_64 random = testing::MakeRandom();
  const auto pick = [&random](int below) { return std::uniform_int_distribution<int>(0, below - 1)(random); };
  for (int step = 0; step < 20000; ++step) {
    std::string sources;
    for (char name = 'a'; name < 'f'; ++name) {
      if (pick(2) != 0) sources += name;
    }
    const auto type = static_cast<RecordType>(1 + pick(6));
    const char group = static_cast<char>('g' + pick(3));
    Say(type, sources, static_cast<HostVersion>(pick(20) == 0 ? pick(3) : 2), group);
    const std::string state = State(group);
    // Whoever has just asked gets it.
    const bool includes =
        type == RecordType::kIsInclude || type == RecordType::kAllow || type == RecordType::kToInclude;
    for (const char name : sources) {
      if (!includes) break;
      const bool listed = state.find(name, 3) != std::string::npos;
      ASSERT_TRUE(!state.empty() && (state[0] == 'i') == listed)
          << state << " after " << sources << ", step " << step;
    }
    if (type == RecordType::kIsExclude || type == RecordType::kToExclude) {
      ASSERT_EQ(state.substr(0, 2), "ex") << "step " << step;
      for (const char name : state.substr(3)) {
        ASSERT_NE(sources.find(name), std::string::npos) << "excluded against the last word, step " << step;
      }
    }
    if (pick(3) == 0) Pass(milliseconds(pick(4000)));
    if (pick(500) == 0) Pass(seconds(pick(300)));
    if (HasFatalFailure()) return;
  }
  Pass(kMembership);
  EXPECT_TRUE(listeners_.View(now_).empty()) << "all ends";
  sent_.clear();
  Pass(seconds(250));
  EXPECT_EQ(Asked(), Strings{});
}

}  // namespace
}  // namespace headgate
