// SPDX-License-Identifier: Apache-2.0
//
// Legs that send only while somebody asks: kernel receivers behind a bridge with IGMP and MLD snooping.
#include <absl/strings/match.h>
#include <arpa/inet.h>
#include <net/if.h>
#include <sys/socket.h>

#include <algorithm>

#include "agent/base/fd.h"
#include "tests/e2e/listener_host.h"
#include "tests/e2e/multicast_fixture.h"

namespace headgate::testing {
namespace {

// A protocol that hosts speak, and what it is to be called.
struct Speech {
  const char* name;
  bool ipv6;
  const char* setting;  // of the host's device

  friend void PrintTo(const Speech& speech, std::ostream* out) { *out << speech.name; }
};
constexpr Speech kSpeeches[] = {{"Igmp3", false, "ipv4.conf.eth0.force_igmp_version=3"},
                                {"Igmp2", false, "ipv4.conf.eth0.force_igmp_version=2"},
                                {"Mld2", true, "ipv6.conf.eth0.force_mld_version=2"},
                                {"Mld1", true, "ipv6.conf.eth0.force_mld_version=1"}};

// client c0 -- g0 gw e1 -- d1 r1 br0 -- eth0 of hosts h1 and h2.
class ListenerTest : public MulticastTest {
 protected:
  ListenerTest() : MulticastTest("mclisten", 1, true) {}

  void SetUp() override {
    MulticastTest::SetUp();
    if (IsSkipped()) return;
    for (const char* device : {"e1", "g0"}) {
      lab().In("gw", absl::StrCat("sysctl -qw net.ipv6.conf.", device, ".accept_dad=0 net.ipv6.conf.", device,
                                  ".disable_ipv6=1"));
      lab().In("gw", absl::StrCat("sysctl -qw net.ipv6.conf.", device, ".disable_ipv6=0"));
    }
    lab().Ip("gw", "addr add 2001:db8:1::1/64 dev e1 nodad");
    lab().Ip("r1", "link add br0 type bridge forward_delay 0 mcast_snooping 1");
    lab().Ip("r1", "link set d1 master br0");
    lab().Ip("r1", "link set br0 up");
    hosts_ = std::make_unique<Lab>("mclhosts", std::vector<std::string>{"h1", "h2"});
    for (const int i : {1, 2}) {
      const std::string host = absl::StrCat("h", i);
      lab().Ip("r1", absl::StrCat("link add p", i, " type veth peer name eth0 netns ", hosts_->Name(host)));
      lab().Ip("r1", absl::StrCat("link set p", i, " master br0 up"));
      hosts_->In(host,
                 "sysctl -qw net.ipv6.conf.eth0.accept_dad=0 net.ipv6.conf.eth0.disable_ipv6=0 "
                 "net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth0.rp_filter=0");
      hosts_->Ip(host, absl::StrCat("addr add 10.0.1.", 10 + i, "/24 dev eth0"));
      hosts_->Ip(host, "link set eth0 up");
    }
  }
  void TearDown() override {
    hosts_.reset();
    MulticastTest::TearDown();
  }

  // Hosts answer at once, and who leaves is gone after 400 ms. `more`: of the querier.
  void ApplyListened(const std::string& routes, const std::string& more = "", const std::string& mode = "auto") {
    api().ApplyYaml(
        absl::StrCat("interfaces:\n  - {name: in, device: g0}\n  - {name: out1, device: e1, mode: ", mode,
                     ", querier: {interval_seconds: 4, response_milliseconds: 1000, "
                     "last_listener_milliseconds: 200",
                     more, "}}\nmulticast_routes:\n", routes));
  }
  static Packet Stream(bool ipv6, const std::string& source = "", const std::string& group = "") {
    const Packet udp = Udp{.source_port = 4000, .destination_port = 5001} / Payload(100);
    if (ipv6) {
      return Ethernet{.destination = "33:33:00:01:00:01"} /
             Ipv6{.source = source.empty() ? "2001:db8:9::9" : source,
                  .destination = group.empty() ? "ff3e:1::1:1" : group} /
             udp;
    }
    return Ethernet{.destination = "01:00:5e:01:01:01"} /
           Ipv4{.source = source.empty() ? "172.16.9.9" : source,
                .destination = group.empty() ? "239.1.1.1" : group} /
           udp;
  }
  ListenerHost Host(int i, bool ipv6, const std::string& group = "", const std::string& source = "") {
    return {hosts_->Name(absl::StrCat("h", i)), group.empty() ? ipv6 ? "ff3e:1::1:1" : "239.1.1.1" : group,
            source};
  }
  // Packets are sent until one comes.
  bool Gets(ListenerHost& host, const Bytes& packet) {
    return WaitFor([&] {
      client().Send(packet);
      return host.Received();
    });
  }
  // Packets are sent until one leaves by no leg.
  bool Ends(const Bytes& packet) {
    return WaitFor([&] { return !Leaves(packet); });
  }
  // Whether the leg makes a copy of the packet.
  bool Leaves(const Bytes& packet) {
    const pb::MulticastLegStats before = Leg("feed", "out1");
    client().Send(packet);
    pb::MulticastLegStats after;
    EXPECT_TRUE(WaitFor([&] {
      after = Leg("feed", "out1");
      return after.offered_packets() > before.offered_packets() &&
             after.sent_packets() + after.dropped_no_listener_packets() >
                 before.sent_packets() + before.dropped_no_listener_packets();
    }));
    return after.sent_packets() > before.sent_packets();
  }
  // "exclude", "include SOURCES", or "": nobody listens.
  std::string Listening(const std::string& group) {
    const pb::MulticastRouteState state = State("feed");
    for (const pb::MulticastListener& listener : state.listeners()) {
      if (listener.group() != group || listener.interface() != "out1") continue;
      std::string text = listener.exclude() ? "exclude" : "include";
      for (const std::string& source : listener.sources()) absl::StrAppend(&text, " ", source);
      return text;
    }
    return "";
  }
  std::string Querier(const std::string& group) {
    const pb::MulticastRouteState state = State("feed");
    for (const pb::MulticastListener& listener : state.listeners()) {
      if (listener.group() == group) return listener.querier();
    }
    return "nobody listens";
  }
  Wire& segment() { return *receivers_[1]; }

  std::unique_ptr<Lab> hosts_;
};

constexpr char kFeed4[] =
    "  - {name: feed, input: {interfaces: [in], group: 239.1.1.1}, legs: [{interface: out1, on_join: true}]}\n";
constexpr char kFeed6[] =
    "  - {name: feed, input: {interfaces: [in], group: \"ff3e:1::1:1\"}, legs: [{interface: out1, on_join: "
    "true}]}\n";

class SpokenListenerTest : public ListenerTest, public ::testing::WithParamInterface<Speech> {
 protected:
  void SetUp() override {
    ListenerTest::SetUp();
    if (IsSkipped()) return;
    for (const char* host : {"h1", "h2"}) hosts_->In(host, absl::StrCat("sysctl -qw net.", GetParam().setting));
  }
  bool ipv6() const { return GetParam().ipv6; }
  std::string Group() const { return ipv6() ? "ff3e:1::1:1" : "239.1.1.1"; }
  const char* Feed() const { return ipv6() ? kFeed6 : kFeed4; }
};
INSTANTIATE_TEST_SUITE_P(Of, SpokenListenerTest, ::testing::ValuesIn(kSpeeches),
                         [](const auto& speech) { return std::string(speech.param.name); });

TEST_P(SpokenListenerTest, WhoJoinsGetsItAndWhoLeavesDoesNot) {
  ApplyListened(Feed());
  const Bytes packet = Stream(ipv6());
  NowAndAfterRestart([&] {
    EXPECT_FALSE(Leaves(packet));
    EXPECT_EQ(Listening(Group()), "");
    ListenerHost first = Host(1, ipv6());
    ASSERT_TRUE(Gets(first, packet));
    EXPECT_EQ(Listening(Group()), "exclude");
    {
      ListenerHost second = Host(2, ipv6());
      EXPECT_TRUE(Gets(second, packet));
    }
    // Who is left says so when asked.
    for (int i = 0; i < 20; ++i) EXPECT_TRUE(Gets(first, packet));
    EXPECT_TRUE(Leaves(packet));
    first.Leave();
    EXPECT_TRUE(Ends(packet));
    EXPECT_EQ(Listening(Group()), "");
    ExpectAccount(Leg("feed", "out1"));
  });
}

// The kernel makes copies while the agent is away, and the next agent goes on where that was.
TEST_P(SpokenListenerTest, SurvivesTheAgent) {
  ApplyListened(Feed());
  const Bytes packet = Stream(ipv6());
  ListenerHost host = Host(1, ipv6());
  ASSERT_TRUE(Gets(host, packet));
  agent().Kill();
  host.Drain();
  constexpr size_t kPackets = 100;
  for (size_t i = 0; i < kPackets; ++i) client().Send(packet);
  EXPECT_EQ(host.Count(kPackets), kPackets);
  agent().Start();
  for (size_t i = 0; i < kPackets; ++i) client().Send(packet);
  EXPECT_EQ(host.Count(kPackets), kPackets);
  EXPECT_EQ(Leg("feed", "out1").dropped_no_listener_packets() + Leg("feed", "out1").sent_packets(),
            Leg("feed", "out1").offered_packets());
  EXPECT_TRUE(WaitFor([&] { return Listening(Group()) == "exclude"; }));
  host.Leave();
  EXPECT_TRUE(Ends(packet));
}

// Who leaves while the agent is away is missed when nobody renews it.
TEST_P(SpokenListenerTest, WhoLeftMeanwhileExpires) {
  ApplyListened(Feed());
  const Bytes packet = Stream(ipv6());
  ListenerHost host = Host(1, ipv6());
  ASSERT_TRUE(Gets(host, packet));
  agent().Kill();
  // What it says meanwhile, and says again, is lost.
  lab().Ip("r1", "link set p1 down");
  host.Leave();
  agent().Start();
  EXPECT_TRUE(Leaves(packet));
  EXPECT_TRUE(WaitFor([&] { return !Leaves(packet); }, std::chrono::seconds(15)));
}

// Workers go by the same.
TEST_P(SpokenListenerTest, WorkersToo) {
  ApplyListened(Feed(), "", "generic");
  const Bytes packet = Stream(ipv6());
  ASSERT_TRUE(WaitFor([&] { return Fate(packet) == "forward_multicast_worker"; }));
  EXPECT_EQ(State("feed").path(), pb::MulticastRouteState::PATH_USERSPACE);
  NowAndAfterRestart([&] {
    ASSERT_TRUE(WaitFor([&] { return Fate(packet) == "forward_multicast_worker"; }));
    EXPECT_FALSE(Leaves(packet));
    ListenerHost host = Host(1, ipv6());
    ASSERT_TRUE(Gets(host, packet));
    EXPECT_TRUE(Leaves(packet));
    host.Leave();
    EXPECT_TRUE(Ends(packet));
  });
}

TEST_F(ListenerTest, SourcesAreToldApart) {
  for (const bool ipv6 : {false, true}) {
    SCOPED_TRACE(ipv6);
    const std::string group = ipv6 ? "ff3e:1::1:1" : "239.1.1.1";
    const std::string wanted = ipv6 ? "2001:db8:9::9" : "172.16.9.9",
                      other = ipv6 ? "2001:db8:9::8" : "172.16.9.8";
    ApplyListened(ipv6 ? kFeed6 : kFeed4);
    NowAndAfterRestart([&] {
      ListenerHost host = Host(1, ipv6, "", wanted);
      ASSERT_TRUE(Gets(host, Stream(ipv6, wanted)));
      EXPECT_FALSE(Leaves(Stream(ipv6, other)));
      EXPECT_EQ(Listening(group), "include " + wanted);
      // Of the sender that is asked for, upstream.
      ASSERT_EQ(State("feed").memberships_size(), 1);
      EXPECT_EQ(State("feed").memberships(0).source(), wanted);
      ListenerHost all = Host(2, ipv6);
      EXPECT_TRUE(Gets(all, Stream(ipv6, other)));
      EXPECT_EQ(Listening(group), "exclude");
      all.Leave();
      EXPECT_TRUE(Ends(Stream(ipv6, other)));
      EXPECT_TRUE(Leaves(Stream(ipv6, wanted)));
      host.Leave();
      EXPECT_TRUE(Ends(Stream(ipv6, wanted)));
    });
  }
}

TEST_F(ListenerTest, SendersAreLeftOut) {
  ApplyListened(kFeed4);
  ListenerHost host = Host(1, false);
  ASSERT_TRUE(Gets(host, Stream(false)));
  host.Block("239.1.1.1", "172.16.9.8");
  EXPECT_TRUE(Ends(Stream(false, "172.16.9.8")));
  EXPECT_TRUE(Leaves(Stream(false)));
  EXPECT_EQ(Listening("239.1.1.1"), "exclude 172.16.9.8");
  ListenerHost other = Host(2, false);
  EXPECT_TRUE(Gets(other, Stream(false, "172.16.9.8")));
}

// By group and source as they leave.
TEST_F(ListenerTest, WhatLeavesIsAskedFor) {
  ApplyListened(
      "  - {name: feed, input: {interfaces: [in], group: 239.1.1.1}, legs: [{interface: out1, on_join: true, "
      "group: "
      "232.2.2.2, source: egress}]}\n");
  ListenerHost nobody = Host(1, false, "239.1.1.1");
  ListenerHost another = Host(1, false, "232.2.2.2", "10.0.1.99");
  EXPECT_FALSE(Leaves(Stream(false)));
  ListenerHost host = Host(1, false, "232.2.2.2", "10.0.1.1");
  EXPECT_TRUE(Gets(host, Stream(false)));
  EXPECT_FALSE(another.Received());
  lab().Ip("gw", "addr del 10.0.1.1/24 dev e1");
  lab().Ip("gw", "addr add 10.0.1.2/24 dev e1");
  EXPECT_TRUE(Ends(Stream(false)));
}

// RFC 4605: what is asked for behind it, the gateway asks for. A prefix is joined group by group.
TEST_F(ListenerTest, UpstreamIsAskedForWhatIsListenedTo) {
  const auto memberships = [&] {
    std::string text;
    const pb::MulticastRouteState state = State("feed");
    for (const pb::MulticastMembership& one : state.memberships()) {
      absl::StrAppend(&text, one.group(), one.source().empty() ? "" : "/", one.source(), " ");
    }
    return text;
  };
  const auto reported = [&](const Bytes& address) {
    return client()
        .Receive([&](const Bytes& frame) {
          return IsIp(frame, IPPROTO_IGMP) && frame.size() > 38 && frame[38] == 0x22 &&
                 std::search(frame.begin() + 38, frame.end(), address.begin(), address.end()) != frame.end();
        })
        .has_value();
  };
  ApplyListened(
      "  - {name: feed, input: {interfaces: [in], group: 239.1.0.0/16}, legs: [{interface: out1, on_join: "
      "true}]}\n");
  NowAndAfterRestart([&] {
    EXPECT_TRUE(WaitFor([&] { return memberships().empty(); }));
    ListenerHost first = Host(1, false), second = Host(2, false, "239.1.7.7", "172.16.9.1"),
                 outside = Host(2, false, "239.9.9.9");
    EXPECT_TRUE(WaitFor([&] { return memberships() == "239.1.1.1 239.1.7.7/172.16.9.1 "; })) << memberships();
    EXPECT_TRUE(reported({239, 1, 7, 7}));
    EXPECT_TRUE(Gets(first, Stream(false)));
    EXPECT_TRUE(Gets(second, Stream(false, "172.16.9.1", "239.1.7.7")));
    EXPECT_FALSE(Leaves(Stream(false, "172.16.9.1", "239.1.7.8")));
    first.Leave();
    EXPECT_TRUE(WaitFor([&] { return memberships() == "239.1.7.7/172.16.9.1 "; })) << memberships();
    second.Leave();
    outside.Leave();
    EXPECT_TRUE(WaitFor([&] { return memberships().empty(); })) << memberships();
  });
}

bool IsQuery(const Bytes& frame) { return IsIp(frame, IPPROTO_IGMP) && frame.size() > 38 && frame[38] == 0x11; }

TEST_F(ListenerTest, TheQuerierIsSwitchedOff) {
  ApplyListened(kFeed4);
  const std::optional<Bytes> query = segment().Receive(IsQuery, std::chrono::seconds(5));
  ASSERT_TRUE(query.has_value());
  // To all hosts, from the interface's address, with what was configured.
  EXPECT_EQ(Bytes(query->begin() + 26, query->begin() + 34), (Bytes{10, 0, 1, 1, 224, 0, 0, 1}));
  EXPECT_EQ((*query)[22], 1) << "TTL";
  EXPECT_EQ((*query)[39], 10) << "response in tenths of seconds";
  EXPECT_EQ((*query)[47], 4) << "interval";
  ListenerHost host = Host(1, false);
  ASSERT_TRUE(Gets(host, Stream(false)));
  EXPECT_EQ(Querier("239.1.1.1"), "10.0.1.1");
  ApplyListened(kFeed4, ", disabled: true");
  EXPECT_TRUE(WaitFor([&] { return Querier("239.1.1.1").empty(); }));
  while (segment().Receive(IsQuery, std::chrono::milliseconds(100))) {
  }
  EXPECT_FALSE(segment().Receive(IsQuery, std::chrono::seconds(6)));
  // What hosts say without being asked is heard.
  ListenerHost other = Host(2, false, "239.1.1.1");
  EXPECT_TRUE(Gets(other, Stream(false)));
}

TEST_F(ListenerTest, TheLowerAddressAsks) {
  ApplyListened(kFeed4);
  ListenerHost host = Host(1, false);
  ASSERT_TRUE(Gets(host, Stream(false)));
  // Of IGMPv3, from 10.0.0.9: interval 60 s, robustness 3.
  const Bytes query = {0x01, 0x00, 0x5e, 0x00, 0x00, 0x01, 0x02, 0x00, 0x00, 0x00, 0x00, 0x99, 0x08,
                       0x00, 0x46, 0xc0, 0x00, 0x24, 0x00, 0x00, 0x40, 0x00, 0x01, 0x02, 0xfa, 0x09,
                       10,   0,    0,    9,    224,  0,    0,    1,    0x94, 0x04, 0x00, 0x00, 0x11,
                       0x0a, 0xeb, 0xb9, 0,    0,    0,    0,    0x03, 0x3c, 0,    0};
  segment().Send(query);
  EXPECT_TRUE(WaitFor([&] { return Querier("239.1.1.1") == "10.0.0.9"; })) << Querier("239.1.1.1");
  while (segment().Receive(IsQuery, std::chrono::milliseconds(100))) {
  }
  EXPECT_FALSE(segment().Receive(IsQuery, std::chrono::seconds(6)));
  // Its word on timers: 3 * 60 + 1 s.
  host.Leave();
  EXPECT_TRUE(Leaves(Stream(false)));
}

// By bpftool, as an operator might.
TEST_F(ListenerTest, WhatOthersChangeIsPutRight) {
  ApplyListened(kFeed4);
  ListenerHost host = Host(1, false);
  ASSERT_TRUE(Gets(host, Stream(false)));
  const std::string map = agent().pins() + "/maps/hg_listeners";
  const std::string key = lab().In("gw", "bpftool map getnext pinned " + map + " -j");
  EXPECT_PRED2(Says, key, "next_key");
  std::string bytes = key.substr(key.find("next_key"));
  bytes = bytes.substr(bytes.find('[') + 1);
  bytes.resize(bytes.find(']'));
  std::replace_if(
      bytes.begin(), bytes.end(), [](char c) { return c == '"' || c == ','; }, ' ');
  lab().In("gw", "bpftool map delete pinned " + map + " key " + bytes);
  EXPECT_FALSE(Leaves(Stream(false)));
  EXPECT_TRUE(WaitFor([&] { return Leaves(Stream(false)); }, std::chrono::seconds(40)));
  EXPECT_PRED2(Says, agent().Log(), "hg_listeners was changed by others");
}

// Devices come and go.
TEST_F(ListenerTest, FollowsTheDevice) {
  ApplyListened(kFeed4);
  ListenerHost host = Host(1, false);
  ASSERT_TRUE(Gets(host, Stream(false)));
  lab().Ip("gw", "link set e1 down");
  lab().Ip("gw", "link set e1 up");
  EXPECT_TRUE(Gets(host, Stream(false)));
  lab().Ip("gw", "link del e1");
  lab().Link("gw", "e1", "r1", "d1");
  lab().Ip("gw", "addr add 10.0.1.1/24 dev e1");
  lab().Ip("r1", "link set d1 master br0");
  EXPECT_TRUE(Gets(host, Stream(false)));
  host.Leave();
  EXPECT_TRUE(Ends(Stream(false)));
}

}  // namespace
}  // namespace headgate::testing
