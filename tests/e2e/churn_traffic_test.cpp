// SPDX-License-Identifier: Apache-2.0
//
// 100,000 rules in the kernel's tables, changed one by one through the stream of updates while traffic runs: after
// every change packets of the rule in question, and now and then packets from all over, meet the rule that a
// linear search finds, and no frame of the traffic meets anything else than a rule of its own.
//
// No packet can be made of a rule whose sources may not send (multicast, broadcast): such changes are told apart
// by the rule alone.
#include <absl/strings/str_cat.h>
#include <bpf/bpf.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <net/if.h>

#include <cstdlib>
#include <map>

#include "agent/api/convert.h"
#include "tests/e2e/rule_churn.h"
#include "tests/harness/header_frame.h"
#include "tests/harness/random.h"
#include "tests/harness/traffic.h"

namespace headgate::testing {
namespace {

// As much as leaves the agent a CPU to change its tables by.
constexpr uint64_t kPacketsPerSecond = 200'000;
constexpr int kHeadersPerChange = 2;     // of the rule in question, one of them traced: that tells the rule
constexpr int kBatch = 100;              // changes between comparisons of
constexpr int kHeadersPerBatch = 1'000;  // drawn headers,
constexpr int kTracedOneIn = 10;         // of which some are traced, too

struct Set {
  const char* name;
  int changes;
};
void PrintTo(const Set& set, std::ostream* out) { *out << set.name; }
constexpr size_t kMixedRules = 100'000;

// client c0 -- g0 gw g1 -- s1 server
class ChurnTraffic : public ::testing::TestWithParam<Set> {
 protected:
  void SetUp() override {
    HG_REQUIRE_LAB();
    lab_ = std::make_unique<Lab>("churntraffic", std::vector<std::string>{"client", "gw", "server"});
    lab_->Link("client", "c0", "gw", "g0");
    lab_->Link("gw", "g1", "server", "s1");
    agent_ = std::make_unique<Agent>(
        *lab_, "gw", AgentOptions{.arguments = {"--max-rules", "131072", "--max-prefixes", "1024"}});
    tally_ = std::make_unique<Tally>(*lab_, "server", "s1");
    program_ = Fd(bpf_obj_get((agent_->pins() + "/programs/headgate").c_str()));
    ASSERT_TRUE(program_);
  }

  void ApplyAll();
  // One change, in force when this returns, as a generation of its own.
  void Apply(pb::UpdateRequest request);
  // The agent's word on a packet: the rule, by the tables in force.
  void ExpectTraced(const Header& header);
  // The very program that devices run, on tables and remembered flows as the traffic's.
  void ExpectVerdict(const Header& header);
  void ExpectBatch();
  // What a change did to packets that the rule asks for, or asked for.
  void ExpectChanged(const Rule& affected);
  void ExpectAccount(uint64_t sent);
  void ExpectForms();

  Client& api() { return agent_->client(); }

  std::mt19937_64 random_ = MakeRandom();
  std::unique_ptr<Lab> lab_;
  std::unique_ptr<Agent> agent_;
  std::unique_ptr<Tally> tally_;
  std::unique_ptr<RuleChurn> churn_;
  std::unique_ptr<Client::Updates> stream_;
  Fd program_;
  uint64_t generation_ = 0, id_ = 0, traced_ = 0;
  int checked_ = 0, undrawable_ = 0;   // changes
  std::map<uint32_t, uint64_t> runs_;  // of the program by this test, by verdict
  std::map<std::string, uint64_t> runs_by_rule_;
};

void ChurnTraffic::ApplyAll() {
  pb::ApplyRequest request = WholeConfig("interfaces: [{name: in, device: g0}, {name: out, device: g1}]");
  for (const PrefixSet& set : churn_->sets()) api::Write(set, *request.mutable_config()->add_prefix_sets());
  for (const Rule& rule : churn_->All()) api::Write(rule, *request.mutable_config()->add_rules());
  pb::ApplyResponse response;
  const CallStatus status = api().Apply(request, &response);
  ASSERT_TRUE(status.ok()) << status.message;
  generation_ = response.generation();
  const auto applied = [this](const char* interface) {
    return api().GetObject(pb::KIND_INTERFACE, interface).status().state() == pb::ObjectStatus::STATE_APPLIED;
  };
  ASSERT_TRUE(WaitFor([&] { return applied("in") && applied("out"); }));
}

void ChurnTraffic::Apply(pb::UpdateRequest request) {
  request.set_id(++id_);
  request.set_wait_applied(true);
  ASSERT_TRUE(stream_->Send(request));
  const std::optional<pb::UpdateResponse> response = stream_->Receive();
  ASSERT_TRUE(response.has_value());
  ASSERT_EQ(response->code(), 0) << response->message() << request.ShortDebugString();
  ASSERT_EQ(response->id(), id_);
  ASSERT_EQ(response->generation(), ++generation_) << request.ShortDebugString();
}

void ChurnTraffic::ExpectTraced(const Header& header) {
  const Bytes frame = FrameOf(header);
  pb::TraceRequest request;
  request.set_frame(frame.data(), frame.size());
  request.set_interface("in");
  pb::TraceResponse response;
  const CallStatus status = api().Trace(request, response);
  ASSERT_TRUE(status.ok()) << status.message;
  const Rule* expected = churn_->Find(header);
  ASSERT_EQ(response.rule(), expected ? expected->name : "") << "generation " << generation_;
  ASSERT_EQ(response.generation(), generation_);
  ++traced_;
}

void ChurnTraffic::ExpectVerdict(const Header& header) {
  const Rule* expected = churn_->Find(header);
  uint32_t verdict = XDP_PASS;
  if (expected && std::holds_alternative<Drop>(expected->action->verdict)) verdict = XDP_DROP;
  if (expected && std::holds_alternative<Redirect>(expected->action->verdict)) verdict = XDP_REDIRECT;

  const Bytes frame = FrameOf(header);
  xdp_md context{};
  context.data_end = static_cast<uint32_t>(frame.size());
  context.ingress_ifindex = if_nametoindex("g0");
  LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame.data(),
              .data_size_in = static_cast<uint32_t>(frame.size()), .ctx_in = &context,
              .ctx_size_in = sizeof(context), .repeat = 1);
  ASSERT_EQ(bpf_prog_test_run_opts(program_.get(), &options), 0);
  ASSERT_EQ(options.retval, verdict) << "generation " << generation_ << ", rule "
                                     << (expected ? expected->name : "none");
  ++runs_[verdict];
  if (expected) ++runs_by_rule_[expected->name];
}

void ChurnTraffic::ExpectBatch() {
  for (int i = 0; i < kHeadersPerBatch && !HasFatalFailure(); ++i) {
    const Header header = churn_->Draw();
    ExpectVerdict(header);
    if (i % kTracedOneIn == 0) ExpectTraced(header);
  }
}

void ChurnTraffic::ExpectChanged(const Rule& affected) {
  if (IsUndrawable(affected)) {
    ++undrawable_;
    return;
  }
  for (int i = 0; i < kHeadersPerChange && !HasFatalFailure(); ++i) {
    const std::optional<Header> header = churn_->DrawFor(affected);
    ASSERT_TRUE(header.has_value()) << "no packet for " << affected.name;
    ExpectVerdict(*header);
    if (i == 0) ExpectTraced(*header);
  }
  if (!HasFatalFailure()) ++checked_;
}

// Runs that the kernel spared the agent's program, for it ran on the CPU already.
uint64_t RecursionMisses(const Agent& agent, const std::string& name) {
  const Fd program(bpf_obj_get((agent.pins() + "/programs/" + name).c_str()));
  bpf_prog_info info{};
  uint32_t length = sizeof(info);
  if (!program || bpf_obj_get_info_by_fd(program.get(), &info, &length) != 0) {
    throw std::runtime_error("cannot inspect " + name);
  }
  return info.recursion_misses;
}

// Every frame is where the counters say, whichever generation it met.
void ChurnTraffic::ExpectAccount(uint64_t sent) {
  const uint64_t runs = runs_[XDP_PASS] + runs_[XDP_DROP] + runs_[XDP_REDIRECT];
  Account account;
  WaitFor([&] {
    account = ReadAccount(api(), {"in"}, {"out"});
    return account.received >= sent + runs && account.transmitted == tally_->Frames();
  });
  SCOPED_TRACE(::testing::PrintToString(account));
  EXPECT_EQ(account.received, sent + runs);
  const uint64_t forwarded = account.forwarded() - runs_[XDP_REDIRECT];
  EXPECT_EQ(account.reasons["drop_rule"] - runs_[XDP_DROP] + forwarded, sent) << "a verdict that no rule has";
  EXPECT_EQ(account.reasons["pass_rule"] + account.reasons["pass_default"], runs_[XDP_PASS]);
  EXPECT_EQ(tally_->Frames() + account.lost_at_egress(), forwarded);
  // An event of up to 16 frames that the kernel does not run the program for is not counted.
  const uint64_t missed = RecursionMisses(*agent_, "hg_devmap_xmit");
  EXPECT_LE(account.transmitted, tally_->Frames());
  EXPECT_LE(tally_->Frames() - account.transmitted, 16 * missed) << missed << " events missed";
}

// Frames of a flow whose rule stays are marked by that rule, all of them, or dropped, all of them. Others are
// marked by theirs or by the rule for all.
void ChurnTraffic::ExpectForms() {
  std::vector<uint64_t> own(kTrafficFlows), common(kTrafficFlows);
  tally_->ForEach([&](const hgt_mark& mark, uint64_t frames) {
    const uint32_t flow =
        (mark.source - FlowHeader(0).source[0]) * 256 + mark.source_port - FlowHeader(0).source_port;
    ASSERT_LT(flow, kTrafficFlows);
    MacAddress form;
    std::copy_n(mark.destination_mac, form.size(), form.begin());
    if (form == MarkOf(flow)) {
      own[flow] += frames;
    } else if (form == MarkOfAllFlows()) {
      common[flow] += frames;
    } else {
      ADD_FAILURE() << frames << " frames of flow " << flow << " were sent to " << ToString(form);
    }
  });
  const Account account = ReadAccount(api(), {"in"}, {"out"});
  std::map<std::string, uint64_t> counted;
  const pb::StatsResponse stats = api().Stats();
  for (const auto& rule : stats.rules()) counted[rule.name()] = rule.packets();
  uint64_t missing = 0, both = 0;
  for (uint32_t flow = 0; flow < kTrafficFlows; ++flow) {
    SCOPED_TRACE(FlowRuleName(flow));
    if (DropsFlow(flow)) {
      EXPECT_EQ(own[flow], 0u);
    }
    if (!KeepsRule(flow)) {
      both += common[flow] != 0 && (own[flow] != 0 || DropsFlow(flow)) ? 1 : 0;
      continue;
    }
    EXPECT_EQ(common[flow], 0u) << "its rule was there all the time";
    const uint64_t decided = counted[FlowRuleName(flow)] - runs_by_rule_[FlowRuleName(flow)];
    EXPECT_GT(decided, 0u);
    if (!DropsFlow(flow)) missing += decided - own[flow];
  }
  EXPECT_LE(missing, account.lost_at_egress());
  EXPECT_GT(both, 0u) << "no flow met its rule and the one for all: nothing changed under traffic";
}

TEST_P(ChurnTraffic, EveryChangeDecidesAsALinearSearch) {
  const auto [name, changes] = GetParam();
  churn_ = std::make_unique<RuleChurn>(
      std::string(name) == "mixed_100k" ? MakeMixedRules(kMixedRules, random_) : RuleSet{LoadClassBench(name), {}},
      random_);
  ApplyAll();
  ASSERT_FALSE(HasFatalFailure());
  stream_ = api().Update();
  const auto sender = Value(bench::Sender::Open({.device = "c0",
                                                 .netns = lab_->Name("client"),
                                                 .frame = FlowFrames(kTrafficFlows),
                                                 .packets_per_second = kPacketsPerSecond,
                                                 .count = 0,
                                                 .duration = std::nullopt,
                                                 .scheduling = {}}));
  sender->Start();
  const InNetns inside(lab_->Name("gw"));  // where a run's ifindex means the gateway's device
  Rule affected;
  uint64_t traced_of_changes = 0;
  for (int change = 0; change < changes && !HasFatalFailure(); ++change) {
    if (change % kBatch == 0) ExpectBatch();
    Apply(churn_->Change(affected));
    const uint64_t traced = traced_;
    ExpectChanged(affected);
    traced_of_changes += traced_ - traced;
  }
  EXPECT_TRUE(sender->running()) << "without traffic to the end";
  Ok(sender->Stop());
  stream_->Finish();
  ASSERT_FALSE(HasFatalFailure());
  ExpectBatch();
  unsigned long long run = 0;
  for (const auto& [verdict, packets] : runs_) run += packets;
  std::printf(
      "%zu rules inserted, %zu deleted, %zu moved; %d of the changes without a packet; %llu packets "
      "traced, %llu run, %llu sent\n",
      churn_->inserted(), churn_->deleted(), churn_->moved(), undrawable_,
      static_cast<unsigned long long>(traced_), run, static_cast<unsigned long long>(sender->sent()));
  EXPECT_EQ(checked_, changes - undrawable_);
  EXPECT_EQ(traced_of_changes, static_cast<uint64_t>(checked_));
  EXPECT_LT(undrawable_, changes / 10) << "too few changes are checked";
  // A third each, but for the flows' rules, of which there may be none to delete or to insert.
  for (const size_t of_kind : {churn_->inserted(), churn_->deleted(), churn_->moved()})
    EXPECT_GT(of_kind, static_cast<size_t>(changes) / 5);
  ExpectAccount(sender->sent());
  ExpectForms();
}
// A change with its checks takes some 30 ms, so that all of them are for the night.
int Changes(int nightly, int otherwise) { return std::getenv("HG_NIGHTLY") != nullptr ? nightly : otherwise; }
INSTANTIATE_TEST_SUITE_P(Sets, ChurnTraffic,
                         ::testing::Values(Set{"acl1_100k", Changes(10'000, 2'000)},
                                           Set{"fw1_100k", Changes(1'500, 600)},
                                           Set{"ipc1_100k", Changes(1'500, 600)},
                                           Set{"mixed_100k", Changes(3'000, 1'500)}),
                         [](const auto& set) { return std::string(set.param.name); });

}  // namespace
}  // namespace headgate::testing
