// SPDX-License-Identifier: Apache-2.0
//
// Configurations replace each other as fast as they can under traffic at full rate. Each gives every packet
// another form; no packet may arrive in a form that is in neither, and none may be lost that neither drops.
#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <tuple>

#include "agent/base/address.h"
#include "tests/harness/traffic.h"

namespace headgate::testing {
namespace {

using std::chrono::seconds;

constexpr seconds kRun{20}, kShortRun{5}, kPatience{120};
constexpr int kUnavailable = 14, kCancelled = 1;
constexpr uint32_t kFirstSource = 0xc0000201;  // 192.0.2.1
constexpr uint32_t kSources = 6, kAllSources = 8;
constexpr uint16_t kFirstPort = 10000;
constexpr uint8_t kTtl = 64;

// What a packet looks like where it arrives, and where that is.
struct Form {
  int out = 0;
  MacAddress destination{}, source{};
  int vlan = -1;  // untagged
  uint8_t ttl = 0;
  friend auto operator<=>(const Form&, const Form&) = default;
};

Form FormOf(int out, const hgt_mark& mark) {
  Form form{.out = out, .vlan = mark.tagged != 0 ? mark.tci & 0xfff : -1, .ttl = mark.ttl};
  std::copy_n(mark.destination_mac, 6, form.destination.begin());
  std::copy_n(mark.source_mac, 6, form.source.begin());
  return form;
}

enum Set { kA, kB, kSets };

// In the form of which of the sets did a packet of this flow arrive; kSets: of neither.
using Judge = std::function<Set(const Form& form, uint32_t source, uint16_t port)>;
using Change = std::function<CallStatus(Client& client, uint64_t turn)>;

// client c0, c1 -- g0, g3 gw g1 -- s1 one
//                            g2 -- s2 two
class AtomicityTest : public ::testing::Test {
 protected:
  void SetUp() override {
    HG_REQUIRE_LAB();
    lab_ = std::make_unique<Lab>("atomicity", std::vector<std::string>{"client", "gw", "one", "two"});
    lab_->Link("client", "c0", "gw", "g0");
    lab_->Link("client", "c1", "gw", "g3");
    lab_->Link("gw", "g1", "one", "s1");
    lab_->Link("gw", "g2", "two", "s2");
    agent_ = std::make_unique<Agent>(*lab_, "gw");
    tallies_[0] = std::make_unique<Tally>(*lab_, "one", "s1");
    tallies_[1] = std::make_unique<Tally>(*lab_, "two", "s2");
  }

  // Frames by set; those of neither are failures.
  std::array<uint64_t, kSets> Arrived(const Judge& judge);

  // Runs `change` over and over in a thread of its own while senders send for `time`
  // (the agent is restarted halfway, if asked), and then checks the account of all there was so far.
  struct Run {
    seconds time;
    bool restart = false;
    bool both_cpus = false;
    uint64_t replacements = 10;  // at least as many; it takes longer where there are fewer by then
  };
  void ReplaceUnderTraffic(const Run& run, uint32_t flows, const Change& change, const Judge& judge);
  void ExpectBalance(const Judge& judge);

  std::unique_ptr<Lab> lab_;
  std::unique_ptr<Agent> agent_;
  std::unique_ptr<Tally> tallies_[2];
  uint64_t sent_ = 0;
};

std::array<uint64_t, kSets> AtomicityTest::Arrived(const Judge& judge) {
  std::array<uint64_t, kSets> arrived{};
  for (int out = 0; out < 2; ++out) {
    tallies_[out]->ForEach([&](const hgt_mark& mark, uint64_t frames) {
      const Form form = FormOf(out + 1, mark);
      const Set set = judge(form, mark.source, mark.source_port);
      if (set != kSets) {
        arrived[set] += frames;
        return;
      }
      ADD_FAILURE() << frames << " frames of " << ToString(IpAddress{{mark.source}}) << ":" << mark.source_port
                    << " came by out" << out + 1 << " from " << ToString(form.source) << " to "
                    << ToString(form.destination) << " vlan " << form.vlan << " ttl " << int{form.ttl};
    });
  }
  return arrived;
}

void AtomicityTest::ExpectBalance(const Judge& judge) {
  const auto arrived = [this] { return tallies_[0]->Frames() + tallies_[1]->Frames(); };
  Account account;
  WaitFor([&] {
    account = ReadAccount(agent_->client(), {"in", "in2"}, {"out1", "out2"});
    return arrived() + account.reasons["drop_rule"] + account.lost_at_egress() >= sent_;
  });
  SCOPED_TRACE(::testing::PrintToString(account));
  EXPECT_EQ(account.received, sent_);
  EXPECT_EQ(account.forwarded() + account.reasons["drop_rule"], sent_) << "a verdict that is in neither";
  EXPECT_EQ(account.transmitted, arrived());
  EXPECT_EQ(arrived() + account.reasons["drop_rule"] + account.lost_at_egress(), sent_);
  const auto by_set = Arrived(judge);
  EXPECT_EQ(by_set[kA] + by_set[kB], arrived());
  EXPECT_GT(by_set[kA], 0u);
  EXPECT_GT(by_set[kB], 0u);
}

void AtomicityTest::ReplaceUnderTraffic(const Run& run, uint32_t flows, const Change& change, const Judge& judge) {
  std::atomic<bool> ended = false, away = false;
  std::atomic<uint64_t> turns = 0;
  std::thread changer([&] {
    Client client(agent_->address());
    for (uint64_t turn = 0; !ended; ++turn) {
      const bool was_away = away;
      const CallStatus status = change(client, turn);
      if (status.ok()) ++turns;
      const bool excused = (was_away || away) && (status.code == kUnavailable || status.code == kCancelled);
      EXPECT_TRUE(status.ok() || excused) << status.code << ' ' << status.message;
    }
  });
  std::vector<std::unique_ptr<bench::Sender>> senders;
  senders.push_back(OpenSender(*lab_, FlowFrames(flows, 1), 0, "c0"));
  if (run.both_cpus) senders.push_back(OpenSender(*lab_, FlowFrames(flows, 2), 1, "c1"));
  for (const auto& sender : senders) sender->Start();
  const auto begin = std::chrono::steady_clock::now();
  const auto elapsed = [&](auto time) { return std::chrono::steady_clock::now() - begin >= time; };
  const auto working = [&] {
    return std::all_of(senders.begin(), senders.end(), [](auto& s) { return s->running(); });
  };
  if (run.restart) {
    WaitFor([&] { return elapsed(run.time / 2) || !working(); }, run.time);
    away = true;
    agent_->Restart();
    away = false;
  }
  WaitFor([&] { return (elapsed(run.time) && turns > run.replacements) || !working(); }, kPatience);
  for (const auto& sender : senders) {
    Ok(sender->Stop());
    sent_ += sender->sent();
  }
  ended = true;
  changer.join();
  printf("%llu replacements, %llu packets\n", static_cast<unsigned long long>(turns),
         static_cast<unsigned long long>(sent_));
  EXPECT_GT(turns, run.replacements) << "next to no replacements: the test tests nothing";
  ExpectBalance(judge);
}

// ---- a few objects of every kind that differ all at once
// --------------------------------------------------------

// Sources .1 and .3 are in prefix set "s" of A, .2 and .4 in that of B, .7 in both and .8 in neither; who is in
// the set goes to next hop "x", who is not to "y", and both are other hops in A and B. A drops .5 and B drops .6.
// A packet that met rules, sets and next hops of different generations has a form that gives it away.
std::string Document(Set set, size_t more_prefixes) {
  std::string prefixes = set == kA ? "192.0.2.1, 192.0.2.3, 192.0.2.7" : "192.0.2.2, 192.0.2.4, 192.0.2.7";
  for (size_t i = 0; i < more_prefixes; ++i) {
    absl::StrAppendFormat(&prefixes, ", 10.%d.%d.%d", set, i / 256, i % 256);
  }
  const std::string hops = set == kA ? R"(
  - {name: x, interface: out1, mac: "02:00:00:00:0a:01", source_mac: "02:00:00:00:aa:01"}
  - {name: y, interface: out1, mac: "02:00:00:00:0a:02", source_mac: "02:00:00:00:aa:02", vlan: 10}
)"
                                     : R"(
  - {name: x, interface: out2, mac: "02:00:00:00:0b:01", source_mac: "02:00:00:00:bb:01", vlan: 20, decrement_ttl: true}
  - {name: y, interface: out2, mac: "02:00:00:00:0b:02", source_mac: "02:00:00:00:bb:02"}
)";
  return absl::StrCat(R"(
interfaces: [{name: in, device: g0}, {name: in2, device: g3}, {name: out1, device: g1}, {name: out2, device: g2}]
prefix_sets: [{name: s, prefixes: [)",
                      prefixes, R"(]}]
next_hops: )",
                      hops, R"(
rules:
  - {name: fifth, priority: 40, match: {source: 192.0.2.5}, action: {)",
                      set == kA ? "drop: {}" : "next_hop: {name: x}", R"(}}
  - {name: sixth, priority: 30, match: {source: 192.0.2.6}, action: {)",
                      set == kA ? "next_hop: {name: y}" : "drop: {}", R"(}}
  - {name: members, priority: 20, match: {protocol: udp, source_set: s}, action: {next_hop: {name: x}}}
  - {name: others, priority: 10, match: {protocol: udp}, action: {next_hop: {name: y}}}
)");
}

Set JudgeDocument(const Form& form, uint32_t source, uint16_t) {
  static const Form kX[kSets] = {{1, {2, 0, 0, 0, 0x0a, 1}, {2, 0, 0, 0, 0xaa, 1}, -1, kTtl},
                                 {2, {2, 0, 0, 0, 0x0b, 1}, {2, 0, 0, 0, 0xbb, 1}, 20, kTtl - 1}};
  static const Form kY[kSets] = {{1, {2, 0, 0, 0, 0x0a, 2}, {2, 0, 0, 0, 0xaa, 2}, 10, kTtl},
                                 {2, {2, 0, 0, 0, 0x0b, 2}, {2, 0, 0, 0, 0xbb, 2}, -1, kTtl}};
  const uint32_t number = source - kFirstSource + 1;
  if (number == 5) return form == kX[kB] ? kB : kSets;
  if (number == 6) return form == kY[kA] ? kA : kSets;
  const bool in_a = number == 1 || number == 3 || number == 7;
  const bool in_b = number == 2 || number == 4 || number == 7;
  if (form == (in_a ? kX : kY)[kA]) return kA;
  return form == (in_b ? kX : kY)[kB] ? kB : kSets;
}

Change ReplaceBy(const std::string& a, const std::string& b) {
  return [requests = std::array{WholeConfig(a), WholeConfig(b)}](Client& client, uint64_t turn) {
    return client.Apply(requests[turn % kSets]);
  };
}

TEST_F(AtomicityTest, WholeConfigurations) {
  const auto change = ReplaceBy(Document(kA, 0), Document(kB, 0));
  agent_->client().ApplyYaml(Document(kA, 0));
  ReplaceUnderTraffic({.time = kRun}, 256 * kSources, change, JudgeDocument);
  ReplaceUnderTraffic({.time = kShortRun, .restart = true}, 256 * kSources, change, JudgeDocument);
}

TEST_F(AtomicityTest, WholeConfigurationsOnAllCpus) {
  agent_->client().ApplyYaml(Document(kA, 0));
  ReplaceUnderTraffic({.time = kShortRun, .restart = true, .both_cpus = true}, 256 * kSources,
                      ReplaceBy(Document(kA, 0), Document(kB, 0)), JudgeDocument);
}

TEST_F(AtomicityTest, PrefixSetsReplacedWhole) {
  constexpr size_t kPrefixes = 10000;
  agent_->client().ApplyYaml(Document(kA, kPrefixes));
  ReplaceUnderTraffic({.time = kShortRun, .restart = true}, 256 * kSources,
                      ReplaceBy(Document(kA, kPrefixes), Document(kB, kPrefixes)), JudgeDocument);
}

// Half of the million prefixes are in both sets.
pb::ApplyRequest MillionPrefixes(Set set) {
  constexpr uint32_t kPrefixes = 1'000'000, kFirst = 0x0a000000;  // 10.0.0.0
  pb::ApplyRequest request = WholeConfig(Document(set, 0));
  pb::PrefixSet& message = *request.mutable_config()->mutable_prefix_sets(0);
  const uint32_t first = kFirst + (set == kA ? 0 : kPrefixes / 2);
  for (uint32_t i = 0; message.prefixes_size() < static_cast<int>(kPrefixes); ++i) {
    message.add_prefixes(ToString(IpAddress{{first + i}}));
  }
  request.set_wait_applied(true);
  return request;
}

TEST_F(AtomicityTest, AMillionPrefixesReplacedWhole) {
  const std::array requests = {MillionPrefixes(kA), MillionPrefixes(kB)};
  ASSERT_TRUE(agent_->client().Apply(requests[kA]).ok());
  const auto change = [&](Client& client, uint64_t turn) { return client.Apply(requests[(turn + 1) % kSets]); };
  ReplaceUnderTraffic({.time = kShortRun, .replacements = 4}, 256 * kAllSources, change, JudgeDocument);
}

// ---- a thousand rules
// -------------------------------------------------------------------------------------------

constexpr uint32_t kFlows = 1000;

std::string FlowRule(Set set, uint32_t flow) {
  return absl::StrFormat(
      "  - {name: flow-%d, priority: %d, match: {source: 192.0.2.%d, protocol: udp, source_ports: [\"%d\"]}, "
      "action: {redirect: {interface: out%d, destination_mac: \"02:00:00:%02x:%02x:%02x\"}}}\n",
      flow, 10 + flow, 1 + flow / 256, kFirstPort + flow % 256, set + 1, set == kA ? 0x0a : 0x0b, flow / 256,
      flow % 256);
}

std::string FlowDocument(Set set) {
  std::string yaml =
      "interfaces: [{name: in, device: g0}, {name: in2, device: g3}, {name: out1, device: g1}, "
      "{name: out2, device: g2}]\nrules:\n";
  for (uint32_t flow = 0; flow < kFlows; ++flow) absl::StrAppend(&yaml, FlowRule(set, flow));
  return yaml;
}

// A packet that met the rule of another flow, or half of one, has another address.
Set JudgeFlow(const Form& form, uint32_t source, uint16_t port) {
  const uint32_t flow = (source - kFirstSource) * 256 + port - kFirstPort;
  for (const Set set : {kA, kB}) {
    const uint8_t mark = set == kA ? 0x0a : 0x0b;
    const MacAddress address = {2, 0, 0, mark, static_cast<uint8_t>(flow / 256), static_cast<uint8_t>(flow % 256)};
    if (form == Form{set + 1, address, {2, 0, 0, 0, 0, 2}, -1, kTtl}) return set;
  }
  return kSets;
}

TEST_F(AtomicityTest, AThousandRules) {
  agent_->client().ApplyYaml(FlowDocument(kA));
  ReplaceUnderTraffic({.time = kShortRun, .restart = true}, kFlows, ReplaceBy(FlowDocument(kA), FlowDocument(kB)),
                      JudgeFlow);
}

// One rule after the other by the stream of updates, many under way at a time.
TEST_F(AtomicityTest, AThousandRulesByUpdates) {
  constexpr uint32_t kUnderWay = 64;
  agent_->client().ApplyYaml(FlowDocument(kA));
  std::vector<pb::UpdateRequest> requests[kSets];
  for (const Set set : {kA, kB}) {
    const pb::ApplyRequest whole = WholeConfig(FlowDocument(set));
    for (const pb::Rule& rule : whole.config().rules()) {
      *requests[set].emplace_back().mutable_patch()->mutable_upsert()->add_rules() = rule;
    }
  }
  // A turn changes every rule once.
  const auto change = [&](Client& client, uint64_t turn) -> CallStatus {
    const auto stream = client.Update();
    uint64_t sent = 0;
    for (uint64_t answered = 0; answered < kFlows; ++answered) {
      for (; sent < kFlows && sent < answered + kUnderWay; ++sent) {
        pb::UpdateRequest& request = requests[(turn + 1) % kSets][sent];
        request.set_id(sent);
        if (!stream->Send(request)) return {.code = kUnavailable, .message = "the stream ended"};
      }
      const auto response = stream->Receive();
      if (!response) return {.code = kUnavailable, .message = "the stream ended"};
      EXPECT_EQ(response->id(), answered);
      if (response->code() != 0) return {.code = response->code(), .message = response->message()};
    }
    stream->Finish();
    return {};
  };
  ReplaceUnderTraffic({.time = kShortRun, .restart = true}, kFlows, change, JudgeFlow);
}

// Updates that change a prefix set's entries, both next hops and rules in one patch.
TEST_F(AtomicityTest, UpdatesOfSeveralObjects) {
  agent_->client().ApplyYaml(Document(kA, 0));
  std::array<pb::UpdateRequest, kSets> requests;
  for (const Set set : {kA, kB}) {
    const pb::ApplyRequest wanted = WholeConfig(Document(set, 0)),
                           other = WholeConfig(Document(set == kA ? kB : kA, 0));
    pb::Patch& patch = *requests[set].mutable_patch();
    *patch.mutable_upsert()->mutable_next_hops() = wanted.config().next_hops();
    *patch.mutable_upsert()->mutable_rules() = wanted.config().rules();
    pb::PrefixSetChange& members = *patch.add_prefix_set_changes();
    members.set_name("s");
    *members.mutable_add() = wanted.config().prefix_sets(0).prefixes();
    *members.mutable_remove() = other.config().prefix_sets(0).prefixes();
    requests[set].set_wait_applied(true);
  }
  const auto change = [&requests](Client& client, uint64_t turn) -> CallStatus {
    constexpr int kPatches = 32;
    const auto stream = client.Update();
    for (int i = 0; i < kPatches; ++i) {
      if (!stream->Send(requests[(turn + i) % kSets]))
        return {.code = kUnavailable, .message = "the stream ended"};
    }
    for (int i = 0; i < kPatches; ++i) {
      const auto response = stream->Receive();
      if (!response) return {.code = kUnavailable, .message = "the stream ended"};
      if (response->code() != 0) return {.code = response->code(), .message = response->message()};
    }
    stream->Finish();
    return {};
  };
  ReplaceUnderTraffic({.time = kShortRun, .restart = true}, 256 * kSources, change, JudgeDocument);
}

}  // namespace
}  // namespace headgate::testing
