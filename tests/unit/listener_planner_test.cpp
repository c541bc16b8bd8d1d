// SPDX-License-Identifier: Apache-2.0
//
// What comes of those who listen, without sockets: entries of the data path, memberships upstream, seeds.
#include "agent/listener_planner.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <arpa/inet.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/harness/model.h"

namespace headgate::testing {
namespace {

IpAddress Ip(const std::string& text) { return *ParseAddress(text); }

constexpr char kInterfaces[] =
    "interfaces: [{name: in, device: eth0}, {name: lan, device: eth1, querier: {interval_seconds: 20}}, "
    "{name: other, device: eth2}]\n";

class ListenerPlanner : public ::testing::Test {
 protected:
  void Use(const std::string& routes) { desired_.Must(Config(kInterfaces + ("multicast_routes:\n" + routes))); }
  // At "lan": "exclude" these sources, or include them alone.
  void Listen(const std::string& group, bool exclude, const std::vector<std::string>& sources = {}) {
    InterfaceListeners& at = listeners_[desired_->interfaces.Get("lan")->id];
    ListenedView view{.group = Ip(group), .exclude = exclude};
    for (const std::string& source : sources) view.sources.push_back(Ip(source));
    (view.group.family == Family::kIpv4 ? at.ip4 : at.ip6).groups.push_back(view);
  }
  std::string Upstream(const std::string& route) {
    std::vector<std::string> words;
    for (const auto& [group, source] : UpstreamOf(*desired_->multicast_routes.Get(route), *desired_, listeners_)) {
      words.push_back(ToString(group) + (source ? "/" + ToString(*source) : ""));
    }
    return absl::StrJoin(words, " ");
  }
  std::vector<std::string> Entries() {
    std::vector<std::string> words;
    for (const auto& [entry, wanted] : EntriesOf(*desired_, listeners_)) {
      words.push_back(absl::StrCat(entry.port, " ", absl::Hex(ntohl(entry.group[0])), " ",
                                   absl::Hex(ntohl(entry.source[0])), " ", wanted ? 1 : 0));
    }
    std::sort(words.begin(), words.end());
    return words;
  }
  using Strings = std::vector<std::string>;

  Desired desired_;
  ListenersByPort listeners_;
};

TEST_F(ListenerPlanner, EntriesAreOfWhatLegsMaySend) {
  Use(R"(
  - {name: one, input: {interfaces: [in], group: 239.1.1.1}, legs: [{interface: lan, on_join: true}]}
  - {name: two, input: {interfaces: [in], group: 239.2.2.2}, legs: [{interface: lan, on_join: true, group: 232.1.1.1}]}
  - {name: three, input: {interfaces: [in], group: 239.3.0.0/16}, legs: [{interface: lan}, {interface: other, on_join: true}]}
)");
  const uint32_t lan = desired_->interfaces.Get("lan")->id;
  Listen("239.1.1.1", true, {"10.0.0.1"});
  Listen("232.1.1.1", false, {"10.0.0.2", "10.0.0.3"});
  Listen("239.2.2.2", true);
  Listen("239.3.3.3", true);
  Listen("ff3e::1", true);
  EXPECT_EQ(Entries(), (Strings{absl::StrCat(lan, " e8010101 a000002 1"), absl::StrCat(lan, " e8010101 a000003 1"),
                                absl::StrCat(lan, " ef010101 0 1"), absl::StrCat(lan, " ef010101 a000001 0")}));
  EXPECT_EQ(ListenerViews(*desired_->multicast_routes.Get("two"), *desired_, listeners_).size(), 1U);
  EXPECT_EQ(ListenerViews(*desired_->multicast_routes.Get("three"), *desired_, listeners_).size(), 0U);

  // Told again, it is the same.
  const std::vector<SeedGroup> seeds = SeedsOf(EntriesOf(*desired_, listeners_));
  ASSERT_EQ(seeds.size(), 2U);
  EXPECT_EQ(seeds[0], (SeedGroup{lan, Ip("232.1.1.1"), false, {Ip("10.0.0.2"), Ip("10.0.0.3")}}));
  EXPECT_EQ(seeds[1], (SeedGroup{lan, Ip("239.1.1.1"), true, {Ip("10.0.0.1")}}));
}

TEST_F(ListenerPlanner, SeedsOfIpv6) {
  Use("  - {name: six, input: {interfaces: [in], group: \"ff3e::/32\"}, legs: [{interface: lan, on_join: "
      "true}]}\n");
  const uint32_t lan = desired_->interfaces.Get("lan")->id;
  Listen("ff3e::1:2", false, {"2001:db8::1"});
  Listen("ff3e::1:3", true);
  const std::vector<SeedGroup> seeds = SeedsOf(EntriesOf(*desired_, listeners_));
  ASSERT_EQ(seeds.size(), 2U);
  EXPECT_EQ(seeds[0], (SeedGroup{lan, Ip("ff3e::1:2"), false, {Ip("2001:db8::1")}}));
  EXPECT_EQ(seeds[1], (SeedGroup{lan, Ip("ff3e::1:3"), true, {}}));
}

TEST_F(ListenerPlanner, UpstreamIsWhatIsListenedTo) {
  Use(R"(
  - {name: kept, input: {interfaces: [in], group: 239.1.0.0/16, sources: {exclude: [10.66.0.0/16]}},
     legs: [{interface: lan, on_join: true}]}
  - {name: static, input: {interfaces: [in], group: 239.2.2.2},
     legs: [{interface: lan, on_join: true}, {interface: other}]}
  - {name: written, input: {interfaces: [in], group: 239.3.3.3, sources: {include: [10.0.0.7, 10.0.0.8]}},
     legs: [{interface: lan, on_join: true, group: 232.3.3.3, source: 10.9.9.9}]}
  - {name: egress, input: {interfaces: [in], group: 239.4.4.4},
     legs: [{interface: lan, on_join: true, group: 232.4.4.4, source: egress}]}
  - {name: many, input: {interfaces: [in], group: 239.5.0.0/16},
     legs: [{interface: lan, on_join: true, group: 239.6.6.6}]}
)");
  EXPECT_EQ(Upstream("kept"), "");
  EXPECT_EQ(Upstream("static"), "239.2.2.2");
  EXPECT_EQ(Upstream("written"), "");
  Listen("239.1.1.1", true, {"10.0.0.1"});
  Listen("239.1.1.2", false, {"10.0.0.1", "10.66.0.1"});
  Listen("239.9.1.1", true);
  EXPECT_EQ(Upstream("kept"), "239.1.1.1 239.1.1.2/10.0.0.1");
  // By the sources that copies leave with.
  Listen("232.3.3.3", false, {"10.9.9.8"});
  EXPECT_EQ(Upstream("written"), "");
  listeners_.clear();
  Listen("232.3.3.3", false, {"10.9.9.9"});
  EXPECT_EQ(Upstream("written"), "239.3.3.3/10.0.0.7 239.3.3.3/10.0.0.8");
  listeners_.clear();
  Listen("232.3.3.3", true, {"10.9.9.9"});
  EXPECT_EQ(Upstream("written"), "");
  Listen("232.4.4.4", false, {"10.0.1.1"});
  EXPECT_EQ(Upstream("egress"), "239.4.4.4");
  // A prefix that becomes one group: nobody says which of it.
  Listen("239.6.6.6", true);
  EXPECT_EQ(Upstream("many"), "");
}

TEST_F(ListenerPlanner, InterfacesOfLegsOnJoin) {
  Use(R"(
  - {name: one, input: {interfaces: [in], group: 239.1.1.1}, legs: [{interface: lan, on_join: true}, {interface: other}]}
  - {name: two, input: {interfaces: [in], group: 239.1.1.2}, legs: [{interface: lan, on_join: true}]}
)");
  InterfaceState state;
  state.device =
      Device{.ifindex = 4096, .name = "eth1", .mac = {2, 0, 0, 0, 0, 1}, .up = true, .address4 = Ip("10.0.1.1")};
  std::vector<ListenedInterface> listened = ListenedInterfacesOf(*desired_, {{"lan", state}});
  ASSERT_EQ(listened.size(), 1U);
  EXPECT_EQ(listened[0].port, desired_->interfaces.Get("lan")->id);
  EXPECT_EQ(listened[0].ifindex, 4096U);
  EXPECT_EQ(listened[0].address4, Ip("10.0.1.1"));
  EXPECT_EQ(listened[0].link_local, std::nullopt);
  EXPECT_TRUE(listened[0].up);
  EXPECT_EQ(listened[0].querier, (QuerierSettings{.interval = std::chrono::seconds(20)}));
  listened = ListenedInterfacesOf(*desired_, {});
  ASSERT_EQ(listened.size(), 1U);
  EXPECT_EQ(listened[0].ifindex, 0U) << "without a device what is known of it stays";
}

}  // namespace
}  // namespace headgate::testing
