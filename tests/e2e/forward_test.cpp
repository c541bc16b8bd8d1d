// SPDX-License-Identifier: Apache-2.0
//
// What rules do with packets, on the wire: redirect, next hop, tx, pass, drop, rate limits, samples. All that is
// sent is delivered or counted, frame for frame, at egress too. (Routes: routing_test.cpp. Every detail of
// rewriting is tested on single program runs in tests/bpf/action_test.cpp.)
#include <absl/strings/str_cat.h>
#include <gtest/gtest.h>

#include "agent/base/address.h"
#include "bench/netns.h"
#include "tests/harness/traffic.h"
#include "tests/harness/wire.h"

namespace headgate::testing {
namespace {

constexpr uint64_t kFrames = 200003;
constexpr std::chrono::seconds kTimeout{30};

// client c0 -- g0 gw g1 -- s1 one
//                    g2 -- s2 two
class ForwardTest : public ::testing::Test {
 protected:
  void SetUp() override {
    HG_REQUIRE_LAB();
    lab_ = std::make_unique<Lab>("forward", std::vector<std::string>{"client", "gw", "one", "two"});
    lab_->Link("client", "c0", "gw", "g0");
    lab_->Link("gw", "g1", "one", "s1");
    lab_->Link("gw", "g2", "two", "s2");
    agent_ = std::make_unique<Agent>(*lab_, "gw");
  }

  void Apply(const std::string& rest) {
    api().ApplyYaml("interfaces: [{name: in, device: g0}, {name: out1, device: g1}, {name: out2, device: g2}]\n" +
                    rest);
    ASSERT_TRUE(WaitFor([&] {
      const auto interfaces = api().GetAll({pb::KIND_INTERFACE});
      return std::all_of(interfaces.begin(), interfaces.end(), [](const pb::Object& interface) {
        return interface.status().state() == pb::ObjectStatus::STATE_APPLIED;
      });
    }));
  }
  Client& api() { return agent_->client(); }
  Wire At(const std::string& ns, const std::string& device) { return Wire(lab_->Name(ns), device); }
  Account Read() { return ReadAccount(api(), {"in"}, {"out1", "out2"}); }
  void NowAndAfterRestart(const std::function<void()>& check) {
    check();
    agent_->Restart();
    SCOPED_TRACE("after the restart");
    check();
  }

  // kFrames of 100 flows at full rate.
  void SendMany() {
    const auto sender = Value(bench::Sender::Open({.device = "c0",
                                                   .netns = lab_->Name("client"),
                                                   .frame = FlowFrames(100),
                                                   .count = kFrames,
                                                   .scheduling = {.cpu = 0}}));
    Ok(sender->Run());
    EXPECT_EQ(sender->sent(), kFrames);
  }
  // The frame's 40 bytes of payload, by which it is known again.
  static Bytes Mark(const Bytes& frame) { return Bytes(frame.end() - 40, frame.end()); }
  static Payload NextMark() { return Payload(Bytes(40, ++mark_)); }

  std::unique_ptr<Lab> lab_;
  std::unique_ptr<Agent> agent_;
  static uint8_t mark_;
};
uint8_t ForwardTest::mark_ = 0;

TEST_F(ForwardTest, RedirectWithAddressesDeliversEveryFrame) {
  Apply(R"(rules: [{name: wire, priority: 10, match: {interface: in}, action: {redirect: {interface: out1,
    source_mac: "02:00:00:00:aa:01", destination_mac: "02:00:00:00:0a:01"}, count: {counter: seen}}}])");
  const Tally tally(*lab_, "one", "s1");
  uint64_t sent = 0;
  NowAndAfterRestart([&] {
    SendMany();
    sent += kFrames;
    ASSERT_TRUE(WaitFor([&] { return tally.Frames() + Read().lost_at_egress() >= sent; }, kTimeout));
    tally.ForEach([&](const hgt_mark& mark, uint64_t frames) {
      EXPECT_EQ(ToString(std::to_array(mark.destination_mac)), "02:00:00:00:0a:01") << frames;
      EXPECT_EQ(ToString(std::to_array(mark.source_mac)), "02:00:00:00:aa:01") << frames;
      EXPECT_EQ(mark.ttl, 64) << frames;
      EXPECT_EQ(mark.tagged, 0) << frames;
    });
    const Account account = Read();
    SCOPED_TRACE(::testing::PrintToString(account));
    EXPECT_EQ(account.received, sent);
    EXPECT_EQ(account.reasons, (std::map<std::string, uint64_t>{{"forward_redirect", sent}}));
    EXPECT_EQ(account.transmitted, sent);
    EXPECT_EQ(tally.Frames(), sent);
    EXPECT_EQ(api().Rule("wire").packets(), sent);
    EXPECT_EQ(api().Counter("seen").packets(), sent);
  });
}

TEST_F(ForwardTest, RedirectLeavesTheRestOfTheFrameAlone) {
  Apply("rules: [{name: wire, priority: 10, match: {interface: in}, action: {redirect: {interface: out2}}}]");
  Wire client = At("client", "c0"), two = At("two", "s2");
  NowAndAfterRestart([&] {
    for (const Bytes& frame : {Bytes(Ethernet{} / Ipv4{.options = Bytes(8, 1)} / Tcp{} / NextMark()),
                               Bytes(Ethernet{} / Vlan{.id = 7, .priority = 5} / Ipv6{} / Udp{} / NextMark()),
                               Bytes(Ethernet{} / Ipv6{} / Ipv6Extension{} / Udp{} / NextMark()),
                               Bytes(Ethernet{} / Ipv4{.more_fragments = true} / Udp{} / NextMark())}) {
      client.Send(frame);
      EXPECT_EQ(two.Receive(CarriesPayload(Mark(frame))), frame);
    }
  });
}

TEST_F(ForwardTest, NextHopsRewriteAndTag) {
  Apply(R"(
next_hops:
  - {name: plain, interface: out1, mac: "02:00:00:00:0a:01"}
  - {name: tagging, interface: out1, mac: "02:00:00:00:0a:02", source_mac: "02:00:00:00:aa:02", vlan: 300}
  - {name: stripping, interface: out2, mac: "02:00:00:00:0a:03", source_mac: "02:00:00:00:aa:03", vlan: 0, decrement_ttl: true}
rules:
  - {name: r1, priority: 30, match: {protocol: udp, destination_ports: [1]}, action: {next_hop: {name: plain}}}
  - {name: r2, priority: 20, match: {protocol: udp, destination_ports: [2]}, action: {next_hop: {name: tagging}}}
  - {name: r3, priority: 10, match: {protocol: udp, destination_ports: [3]}, action: {next_hop: {name: stripping}}}
)");
  Wire client = At("client", "c0"), one = At("one", "s1"), two = At("two", "s2");
  const std::string own = lab_->Mac("gw", "g1");
  NowAndAfterRestart([&] {
    const auto expect = [&](Wire& wire, const Bytes& frame, const Bytes& wanted) {
      client.Send(frame);
      EXPECT_EQ(wire.Receive(CarriesPayload(Mark(frame))), wanted);
    };
    const Payload mark = NextMark();
    const auto to = [](uint16_t port) { return Udp{.destination_port = port}; };
    const Ethernet plain{.destination = "02:00:00:00:0a:01", .source = own},
        tagging{.destination = "02:00:00:00:0a:02", .source = "02:00:00:00:aa:02"},
        stripping{.destination = "02:00:00:00:0a:03", .source = "02:00:00:00:aa:03"};
    expect(one, Ethernet{} / Ipv4{} / to(1) / mark, plain / Ipv4{} / to(1) / mark);
    expect(one, Ethernet{} / Vlan{.id = 9} / Ipv6{} / to(1) / mark, plain / Vlan{.id = 9} / Ipv6{} / to(1) / mark);
    expect(one, Ethernet{} / Ipv4{} / to(2) / mark, tagging / Vlan{.id = 300} / Ipv4{} / to(2) / mark);
    expect(one, Ethernet{} / Vlan{.id = 9, .priority = 5} / Ipv6{} / to(2) / mark,
           tagging / Vlan{.id = 300, .priority = 5} / Ipv6{} / to(2) / mark);
    expect(two, Ethernet{} / Vlan{.id = 9} / Ipv4{.ttl = 9} / to(3) / mark,
           stripping / Ipv4{.ttl = 8} / to(3) / mark);
    expect(two, Ethernet{} / Ipv6{.hop_limit = 2} / to(3) / mark, stripping / Ipv6{.hop_limit = 1} / to(3) / mark);
    const uint64_t expired = Read().reasons["drop_ttl"];
    client.Send(Ethernet{} / Ipv4{.ttl = 1} / to(3) / mark);
    client.Send(Ethernet{} / Ipv6{.hop_limit = 1} / to(3) / mark);
    EXPECT_TRUE(WaitFor([&] { return Read().reasons["drop_ttl"] == expired + 2; }));
  });
}

TEST_F(ForwardTest, TxReflects) {
  Apply(R"(rules: [{name: echo, priority: 10, match: {protocol: udp, destination_ports: ["9000-9099"]},
                    action: {tx: {swap: ports}}}])");
  // veth hands on what a program reflects only to a peer that has a program itself.
  const auto program = Value(bench::Receiver::Open({.device = "c0", .netns = lab_->Name("client"), .pass = true}));
  Wire client = At("client", "c0");
  NowAndAfterRestart([&] {
    Account before = Read();
    const uint64_t back = api().Interface("in").transmitted_packets();
    const Payload mark = NextMark();
    client.Send(Ethernet{} / Ipv4{} / Udp{.source_port = 5, .destination_port = 9001} / mark);
    const Bytes wanted = Ethernet{.destination = "02:00:00:00:00:02", .source = "02:00:00:00:00:01"} /
                         Ipv4{.source = "192.0.2.2", .destination = "192.0.2.1"} /
                         Udp{.source_port = 9001, .destination_port = 5} / mark;
    EXPECT_EQ(client.Receive(CarriesPayload(mark.bytes)), wanted);
    EXPECT_EQ(Read().reasons["forward_tx"], before.reasons["forward_tx"] + 1);
    EXPECT_TRUE(WaitFor([&] { return api().Interface("in").transmitted_packets() == back + 1; }));
  });
}

TEST_F(ForwardTest, TxAtFullRateIsCountedExactly) {
  Apply("rules: [{name: echo, priority: 10, match: {interface: in, protocol: udp}, action: {tx: {swap: ports}}}]");
  const auto receiver = OpenReceiver(*lab_, "client", "c0");
  uint64_t sent = 0;
  NowAndAfterRestart([&] {
    SendMany();
    sent += kFrames;
    pb::InterfaceStats in;
    EXPECT_TRUE(WaitFor(
        [&] {
          in = api().Interface("in");
          return Value(receiver->Frames()) + in.transmit_dropped_packets() >= sent;
        },
        kTimeout));
    EXPECT_EQ(Read().reasons, (std::map<std::string, uint64_t>{{"forward_tx", sent}}));
    EXPECT_EQ(Value(receiver->Frames()), in.transmitted_packets());
    EXPECT_EQ(in.transmitted_packets() + in.transmit_dropped_packets(), sent);
  });
}

TEST_F(ForwardTest, PassGoesToTheStackAndDropDoesNot) {
  Apply(R"(
default_action: drop
rules:
  - {name: no, priority: 20, match: {protocol: udp, destination_ports: [9]}, action: {drop: {}}}
  - {name: yes, priority: 10, match: {protocol: udp, destination_ports: [7]}, action: {pass: {}}}
)");
  Wire client = At("client", "c0"), stack = At("gw", "g0");
  uint64_t rounds = 0;
  NowAndAfterRestart([&] {
    ++rounds;
    const auto send = [&](uint16_t port) {
      const Payload mark = NextMark();
      client.Send(Ethernet{} / Ipv4{} / Udp{.destination_port = port} / mark);
      return mark.bytes;
    };
    const Bytes dropped = send(9), unmatched = send(8), passed = send(7);
    const auto arrived = stack.Receive([](const Bytes& frame) { return IsIp(frame, 17); });
    ASSERT_TRUE(arrived.has_value());
    EXPECT_TRUE(CarriesPayload(passed)(*arrived));
    EXPECT_EQ(Read().reasons, (std::map<std::string, uint64_t>{
                                  {"drop_rule", rounds}, {"drop_default", rounds}, {"pass_rule", rounds}}));
  });
}

// Buckets that refill in hours: what is let through is what they hold.
TEST_F(ForwardTest, RateLimitsLetThroughWhatTheySayAndCountTheRest) {
  constexpr uint64_t kBurst = 500, kSources = 4, kBitsBurst = 64 * 8 * 300;
  const Tally tally(*lab_, "one", "s1");
  const auto limited = [&](const std::string& limit) {
    return absl::StrCat("rules: [{name: limited, priority: 10, match: {interface: in}, action: {rate_limit: {",
                        limit, "}, redirect: {interface: out1}}}]");
  };
  struct Case {
    std::string limit;
    uint64_t passes;
  };
  for (const Case& c :
       {Case{absl::StrCat("packets_per_second: 1, burst: ", kBurst), kBurst},
        Case{absl::StrCat("packets_per_second: 1, burst: ", kBurst, ", per: source"), kSources * kBurst},
        Case{absl::StrCat("bits_per_second: 1000, burst: ", kBitsBurst), 300}}) {
    SCOPED_TRACE(c.limit);
    api().ApplyYaml("{}");  // buckets and counters are those of a new rule
    Apply(limited(c.limit));
    const uint64_t before = tally.Frames();
    const uint64_t dropped_before = Read().reasons["drop_rate_limit"];
    const auto begin = std::chrono::steady_clock::now();
    const auto sender = Value(bench::Sender::Open({.device = "c0",
                                                   .netns = lab_->Name("client"),
                                                   .frame = FlowFrames(256 * kSources),
                                                   .count = kFrames,
                                                   .scheduling = {.cpu = 0}}));
    Ok(sender->Run());
    ASSERT_TRUE(WaitFor([&] { return api().Rule("limited").packets() == kFrames; }, kTimeout));
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
    const pb::RuleStats rule = api().Rule("limited");
    ASSERT_TRUE(WaitFor([&] { return tally.Frames() - before + rule.limited_packets() >= kFrames; }, kTimeout));
    const uint64_t passed = tally.Frames() - before;
    EXPECT_EQ(passed + rule.limited_packets(), kFrames);
    EXPECT_EQ(Read().reasons["drop_rate_limit"] - dropped_before, rule.limited_packets());
    // One more a second (and bucket), at the most two of 64 bytes.
    EXPECT_GE(passed, c.passes);
    EXPECT_LE(passed, c.passes + static_cast<uint64_t>((elapsed.count() + 1) * 2 * kSources));
  }
  // An empty bucket is empty after a restart, too.
  Apply(limited("packets_per_second: 1, burst: 3600"));
  SendMany();
  ASSERT_TRUE(WaitFor([&] { return Read().reasons["drop_rate_limit"] > 0; }));
  const auto begin = std::chrono::steady_clock::now();
  agent_->Restart();
  const uint64_t before = api().Rule("limited").packets() - api().Rule("limited").limited_packets();
  SendMany();
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begin;
  EXPECT_LE(api().Rule("limited").packets() - api().Rule("limited").limited_packets(),
            before + static_cast<uint64_t>(elapsed.count()) + 1);
}

TEST_F(ForwardTest, SamplesShowThePacketAsItCame) {
  Apply(R"(rules:
  - {name: all, priority: 20, match: {protocol: udp, destination_ports: [1]}, action: {sample: {one_in: 1}, redirect:
      {interface: out1, destination_mac: "02:00:00:00:0a:01"}}}
  - {name: some, priority: 10, match: {protocol: udp, destination_ports: [20000]}, action: {sample: {one_in: 1000}, drop: {}}}
)");
  Wire client = At("client", "c0");
  NowAndAfterRestart([&] {
    const auto watcher = api().Watch({pb::EVENT_TYPE_SAMPLE});
    for (const size_t size : {size_t{40}, size_t{1000}}) {
      const Bytes frame = Ethernet{} / Ipv4{} / Udp{.destination_port = 1} / Payload(size);
      client.Send(frame);
      const auto event = watcher->Next([](const pb::Event&) { return true; });
      ASSERT_TRUE(event.has_value());
      EXPECT_EQ(event->sample().rule(), "all");
      EXPECT_EQ(event->sample().interface(), "in");
      EXPECT_EQ(event->sample().reason(), "forward_redirect");
      EXPECT_EQ(event->sample().length(), frame.size());
      EXPECT_EQ(event->sample().data(),
                std::string(frame.begin(), frame.begin() + std::min<ptrdiff_t>(256, std::ssize(frame))));
    }
    // About 200 of 200,000, and never so few or many (one run in 10^20).
    SendMany();
    uint64_t samples = 0;
    watcher->Next([&](const pb::Event& event) {
      samples += 1 + event.missed();
      EXPECT_EQ(event.sample().rule(), "some");
      return samples + api().Stats().samples_lost() >= 70;
    });
    EXPECT_GE(samples + api().Stats().samples_lost(), 70u);
    watcher->Next(
        [&](const pb::Event& event) {
          samples += 1 + event.missed();
          return false;
        },
        std::chrono::milliseconds(300));
    EXPECT_LE(samples, 400u);
  });
}

// Frames that are lost after the program let them go, each in the counter of its kind.
TEST_F(ForwardTest, LossAtEgressIsCounted) {
  Apply("rules: [{name: wire, priority: 10, match: {interface: in}, action: {redirect: {interface: out1}}}]");
  Wire client = At("client", "c0");
  // Sends a frame that gets lost: how many frames more were dropped by the driver and refused by the kernel.
  using Loss = std::pair<uint64_t, uint64_t>;
  const auto lost = [&](const Bytes& frame) {
    const pb::InterfaceStats before = api().Interface("out1");
    const uint64_t forwarded = Read().forwarded();
    client.Send(frame);
    pb::InterfaceStats after;
    Loss loss;
    EXPECT_TRUE(WaitFor([&] {
      after = api().Interface("out1");
      loss = {after.transmit_dropped_packets() - before.transmit_dropped_packets(),
              after.transmit_refused_packets() - before.transmit_refused_packets()};
      return loss != Loss{};
    }));
    EXPECT_EQ(after.transmitted_packets(), before.transmitted_packets());
    EXPECT_EQ(Read().forwarded(), forwarded + 1);
    return loss;
  };
  const Bytes frame = Ethernet{} / Ipv4{} / Udp{} / NextMark();
  NowAndAfterRestart([&] {
    lab_->Ip("gw", "link set g1 mtu 1000");
    EXPECT_EQ(lost(Ethernet{} / Ipv4{} / Udp{} / Payload(1200)), Loss(0, 1)) << "longer than the device's MTU";
    lab_->Ip("gw", "link set g1 mtu 1500");
    lab_->Ip("gw", "link set g1 down");
    EXPECT_EQ(lost(frame), Loss(0, 1)) << "the device is down";
    lab_->Ip("gw", "link set g1 up");
    // Which of the two these are is the kernel's to say.
    lab_->Ip("one", "link set s1 down");
    const Loss peer_down = lost(frame);
    EXPECT_EQ(peer_down.first + peer_down.second, 1u);
    lab_->Ip("one", "link set s1 up");
    lab_->In("one", "ethtool -K s1 gro off");
    const Loss no_napi = lost(frame);
    EXPECT_EQ(no_napi.first + no_napi.second, 1u);
    lab_->In("one", "ethtool -K s1 gro on");
    Wire one = At("one", "s1");
    client.Send(frame);
    EXPECT_TRUE(one.Receive(CarriesPayload(Mark(frame))).has_value());
  });
}

// A receiver that is too slow: its ring is full most of the time.
TEST_F(ForwardTest, FullRingsAreCountedExactly) {
  Apply("rules: [{name: wire, priority: 10, match: {interface: in}, action: {redirect: {interface: out1}}}]");
  const Tally tally(*lab_, "one", "s1", 2000);
  Ok(bench::RunNapiInThreads(lab_->Name("one"), "s1", {}));
  uint64_t sent = 0;
  NowAndAfterRestart([&] {
    SendMany();
    sent += kFrames;
    EXPECT_TRUE(WaitFor([&] { return tally.Frames() + Read().lost_at_egress() >= sent; }, kTimeout));
    const Account account = Read();
    SCOPED_TRACE(::testing::PrintToString(account));
    EXPECT_EQ(account.received, sent);
    EXPECT_EQ(account.reasons, (std::map<std::string, uint64_t>{{"forward_redirect", sent}}));
    EXPECT_GT(account.dropped, 0u) << "nothing was dropped: the test tests nothing";
    EXPECT_EQ(tally.Frames(), account.transmitted);
    EXPECT_EQ(tally.Frames() + account.dropped + account.refused, sent);
  });
}

}  // namespace
}  // namespace headgate::testing
