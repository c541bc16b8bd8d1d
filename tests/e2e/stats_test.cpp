// SPDX-License-Identifier: Apache-2.0
//
// Stats: what is counted is what was sent, by interface, reason, rule and named counter, once and as a stream.
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <grpcpp/grpcpp.h>
#include <netinet/in.h>

#include <atomic>
#include <set>
#include <thread>

#include "tests/harness/live_gateway.h"
#include "tests/harness/plain_stub.h"

namespace headgate::testing {
namespace {

using google::protobuf::RepeatedPtrField;

constexpr size_t kHeaders = 14 + 20 + 8;

Bytes UdpFrame(uint16_t port, size_t payload, const std::string& source = "192.0.2.1") {
  return Ethernet{} / Ipv4{.source = source} / Udp{.destination_port = port} / Payload(payload);
}

template <typename Row>
std::vector<std::string> NamesOf(const RepeatedPtrField<Row>& rows) {
  std::vector<std::string> names;
  for (const Row& row : rows) names.push_back(row.name());
  return names;
}
using Names = std::vector<std::string>;

class StatsTest : public LiveGatewayTest {
 protected:
  StatsTest() : LiveGatewayTest("stats") {}

  uint64_t Received() { return api().Interface("in").received_packets(); }
  // Sends this many and returns when they are counted.
  void Send(const Bytes& frame, uint64_t count) {
    const uint64_t before = Received();
    for (uint64_t i = 0; i < count; ++i) client().Send(frame);
    EXPECT_TRUE(WaitFor([&] { return Received() == before + count; })) << Received() - before << " of " << count;
  }
  pb::StatsResponse Ask(const pb::StatsRequest& request) {
    grpc::ClientContext context;
    pb::StatsResponse response;
    const grpc::Status status = PlainStub(agent().address())->Stats(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }
};

TEST_F(StatsTest, WhatIsCountedIsWhatWasSent) {
  uint64_t rounds = 0;
  NowAndAfterRestart([&] {
    Send(UdpFrame(9, 100), 11);
    Send(UdpFrame(53, 200, "198.51.100.7"), 12);
    Send(UdpFrame(7003, 300), 13);
    Send(UdpFrame(53, 400), 14);
    Send(Truncate(UdpFrame(53, 0), 30), 15);  // ends within the IPv4 header
    // What was sent on came out on the other side, all of it.
    const auto udp = [](const Bytes& frame) { return IsIp(frame, IPPROTO_UDP); };
    EXPECT_EQ(server().ReceiveCount(udp, 27), 27U);
    ++rounds;

    const pb::StatsResponse stats = api().Stats();
    const std::map<std::string, std::pair<uint64_t, uint64_t>> expected = {
        {"drop_rule", {23, 11 * (kHeaders + 100) + 12 * (kHeaders + 200)}},
        {"forward_next_hop", {13, 13 * (kHeaders + 300)}},
        {"forward_redirect", {14, 14 * (kHeaders + 400)}},
        {"ipv4_short", {15, 15 * 30}}};
    std::map<std::string, std::pair<uint64_t, uint64_t>> counted;
    const pb::InterfaceStats in = api().Interface("in");
    uint64_t bytes = 0;
    for (const pb::ReasonStats& row : in.reasons()) {
      counted[row.reason()] = {row.packets() / rounds, row.bytes() / rounds};
      EXPECT_EQ(row.packets() % rounds + row.bytes() % rounds, 0U);
      bytes += row.bytes();
      EXPECT_EQ(row.class_(), row.reason() == "drop_rule"    ? "drop"
                              : row.reason() == "ipv4_short" ? "malformed"
                                                             : "forward");
    }
    EXPECT_EQ(counted, expected);
    EXPECT_EQ(in.received_packets(), rounds * 65);
    EXPECT_EQ(in.received_bytes(), bytes);
    EXPECT_EQ(api().Interface("out").transmitted_packets(), rounds * 27);
    EXPECT_EQ(
        api().Interface("out").transmit_dropped_packets() + api().Interface("out").transmit_refused_packets(), 0U);

    for (const auto& [name, packets, length] :
         {std::tuple("drop-9", 11U, kHeaders + 100), std::tuple("evil", 12U, kHeaders + 200),
          std::tuple("hop", 13U, kHeaders + 300), std::tuple("wire", 14U, kHeaders + 400)}) {
      EXPECT_EQ(api().Rule(name).packets(), rounds * packets) << name;
      EXPECT_EQ(api().Rule(name).bytes(), rounds * packets * length) << name;
      EXPECT_EQ(api().Rule(name).limited_packets(), 0U);
    }
    EXPECT_EQ(api().Counter("evil").packets(), rounds * 12);
    EXPECT_EQ(api().Counter("evil").bytes(), rounds * 12 * (kHeaders + 200));
    EXPECT_EQ(stats.unconfigured_packets(), 0U);
  });
}

TEST_F(StatsTest, WhatIsAskedForComesInOrder) {
  Send(UdpFrame(9, 10), 1);
  NowAndAfterRestart([&] {
    const pb::StatsResponse all = Ask({});
    EXPECT_EQ(NamesOf(all.interfaces()), (Names{"in", "out"}));
    EXPECT_EQ(NamesOf(all.rules()), (Names{"drop-9", "evil", "hop", "wire"}));
    EXPECT_EQ(NamesOf(all.counters()), Names{"evil"});
    EXPECT_GT(all.time().seconds(), 1'700'000'000);

    pb::StatsRequest request;
    request.set_nonzero_only(true);
    const pb::StatsResponse nonzero = Ask(request);
    EXPECT_EQ(NamesOf(nonzero.interfaces()), Names{"in"});
    EXPECT_EQ(NamesOf(nonzero.rules()), Names{"drop-9"});
    EXPECT_EQ(nonzero.counters_size(), 0);

    request.Clear();
    request.add_kinds(pb::KIND_RULE);
    EXPECT_EQ(NamesOf(Ask(request).rules()).size(), 4U);
    EXPECT_EQ(Ask(request).interfaces_size() + Ask(request).counters_size(), 0);
    request.add_names("hop");
    request.add_names("in");
    EXPECT_EQ(NamesOf(Ask(request).rules()), Names{"hop"});
    request.clear_kinds();
    EXPECT_EQ(NamesOf(Ask(request).interfaces()), Names{"in"});
  });
}

TEST_F(StatsTest, KindsThatCountNothingAreRefused) {
  for (const int kind : {static_cast<int>(pb::KIND_UNSPECIFIED), static_cast<int>(pb::KIND_SETTINGS),
                         static_cast<int>(pb::KIND_NEXT_HOP), 99, -1}) {
    pb::StatsRequest request;
    request.add_kinds(pb::KIND_RULE);
    request.add_kinds(static_cast<pb::Kind>(kind));
    const auto stub = PlainStub(agent().address());
    grpc::ClientContext once, again;
    pb::StatsResponse response;
    grpc::Status status = stub->Stats(&once, request, &response);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << kind;
    EXPECT_TRUE(absl::StartsWith(status.error_message(), "kinds[1]: ")) << status.error_message();
    EXPECT_TRUE(absl::StrContains(status.error_message(), "KIND_INTERFACE, KIND_RULE, KIND_COUNTER"));
    const auto stream = stub->StreamStats(&again, request);
    EXPECT_FALSE(stream->Read(&response));
    status = stream->Finish();
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << kind;
  }
}

TEST_F(StatsTest, ALimitedRuleCountsWhatItDropped) {
  // Ten at once, then one in twelve seconds.
  api().PatchYaml(R"(
upsert: {rules: [{name: drop-9, priority: 40, match: {protocol: udp, destination_ports: ["9"]},
                  action: {pass: {}, rate_limit: {bits_per_second: 1000, burst: 120000}}}]}
)");
  const Bytes frame = UdpFrame(9, 1500 - kHeaders);  // 12,000 bits
  Send(frame, 10);
  EXPECT_EQ(api().Rule("drop-9").limited_packets(), 0U);
  Send(frame, 100);
  const pb::RuleStats rule = api().Rule("drop-9");
  EXPECT_EQ(rule.packets(), 110U);
  EXPECT_GE(rule.limited_packets(), 90U);  // a slow machine may let some more pass
  const auto reasons = api().Reasons("in");
  EXPECT_EQ(reasons.at("drop_rate_limit"), rule.limited_packets());
  EXPECT_EQ(reasons.at("pass_rule") + reasons.at("drop_rate_limit"), 110U);
}

// A limit that drops all the time must not keep counters from being read, ids from being used again, nor an agent
// from starting.
TEST_F(StatsTest, CountersAreReadWhileALimitDrops) {
  api().PatchYaml(R"(
upsert: {rules: [{name: drop-9, priority: 40, match: {protocol: udp, destination_ports: ["9"]},
                  action: {pass: {}, rate_limit: {packets_per_second: 1, burst: 1}}}]}
)");
  std::atomic<uint64_t> sent = 0;
  const std::jthread flood([&](const std::stop_token& stop) {
    for (const Bytes frame = UdpFrame(9, 10); !stop.stop_requested(); ++sent) client().Send(frame);
  });
  NowAndAfterRestart([&] {
    const uint64_t before = sent;
    for (int i = 0; i < 20; ++i) {
      const pb::RuleStats rule = api().Rule("drop-9");
      EXPECT_GE(rule.packets(), rule.limited_packets());
    }
    EXPECT_TRUE(WaitFor([&] { return api().Rule("drop-9").limited_packets() > 0; }));
    EXPECT_TRUE(WaitFor([&] { return sent > before; }));
  });
}

TEST_F(StatsTest, ACounterSumsOverTheRulesThatNameIt) {
  const auto rules = [](const char* first, const char* second) {
    return absl::StrCat(
        "upsert:\n  rules:\n    - {name: a, priority: 101, match: {protocol: udp, destination_ports: ['101']}, "
        "action: {drop: {}",
        first,
        "}}\n    - {name: b, priority: 102, match: {protocol: udp, destination_ports: ['102']}, action: {pass: {}",
        second, "}}\n");
  };
  api().PatchYaml(rules(", count: {counter: both}", ", count: {counter: both}"));
  Send(UdpFrame(101, 8), 3);
  Send(UdpFrame(102, 8), 4);
  EXPECT_EQ(api().Counter("both").packets(), 7U);
  // One of them still names it: it goes on. The rules' own counters do so whatever their action.
  api().PatchYaml(rules("", ", count: {counter: both}"));
  Send(UdpFrame(101, 8), 3);
  Send(UdpFrame(102, 8), 4);
  NowAndAfterRestart([&] {
    EXPECT_EQ(api().Counter("both").packets(), 11U);
    EXPECT_EQ(api().Rule("a").packets(), 6U);
    EXPECT_EQ(api().Rule("b").packets(), 8U);
  });
  // None: it ends, and one of the same name is another.
  api().PatchYaml(rules("", ""));
  EXPECT_THROW(api().Counter("both"), std::runtime_error);
  api().PatchYaml(rules(", count: {counter: both}", ""));
  EXPECT_EQ(api().Counter("both").packets(), 0U);
}

TEST_F(StatsTest, ADeletedRulesSuccessorBeginsAtZero) {
  Send(UdpFrame(9, 8), 5);
  const std::string again =
      R"(upsert: {rules: [{name: drop-9, priority: 40, match: {protocol: udp, destination_ports: ["9"]},
                           action: {drop: {}}}]})";
  api().PatchYaml("delete_rules: [drop-9]");
  api().PatchYaml(again);
  EXPECT_EQ(api().Rule("drop-9").packets(), 0U);
  Send(UdpFrame(9, 8), 2);
  NowAndAfterRestart([&] { EXPECT_EQ(api().Rule("drop-9").packets(), 2U); });
  // Over and over, so that ids come round.
  RestartWith({{"--max-rules", "64"}});
  for (int i = 0; i < 150; ++i) {
    api().PatchYaml("delete_rules: [drop-9]");
    api().PatchYaml(again);
    ASSERT_EQ(api().Rule("drop-9").packets(), 0U) << i;
    Send(UdpFrame(9, 8), 1);
    ASSERT_EQ(api().Rule("drop-9").packets(), 1U) << i;
  }
}

TEST_F(StatsTest, AStreamTellsAgainAndAgain) {
  NowAndAfterRestart([&] {
    const auto stub = PlainStub(agent().address());
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
    pb::StatsRequest request;
    request.mutable_interval()->set_nanos(100'000'000);
    request.add_kinds(pb::KIND_RULE);
    const auto reader = stub->StreamStats(&context, request);
    pb::StatsResponse response;
    double last = 0;
    uint64_t packets = api().Rule("drop-9").packets(), sent = packets;
    for (int i = 0; i < 10; ++i) {
      ASSERT_TRUE(reader->Read(&response));
      const double time = static_cast<double>(response.time().seconds()) + response.time().nanos() / 1e9;
      EXPECT_GT(time, last);
      last = time;
      ASSERT_EQ(response.rules_size(), 4);
      EXPECT_EQ(response.interfaces_size(), 0);
      EXPECT_GE(response.rules(0).packets(), packets);
      packets = response.rules(0).packets();
      client().Send(UdpFrame(9, 8));
      ++sent;
    }
    // All that was sent shows in the end.
    while (packets != sent) {
      ASSERT_TRUE(reader->Read(&response));
      packets = response.rules(0).packets();
      ASSERT_LE(packets, sent);
    }
    context.TryCancel();
    while (reader->Read(&response)) continue;
    EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  });
}

TEST_F(StatsTest, IntervalsOutOfRangeAreRefused) {
  for (const auto& [seconds, nanos] : std::initializer_list<std::pair<int64_t, int32_t>>{
           {0, 0}, {0, 99'000'000}, {3600, 1'000'000}, {-1, 0}, {1, -1}, {1'844'674'407'370'956, 0}}) {
    const auto stub = PlainStub(agent().address());
    grpc::ClientContext context;
    pb::StatsRequest request;
    request.mutable_interval()->set_seconds(seconds);
    request.mutable_interval()->set_nanos(nanos);
    const auto reader = stub->StreamStats(&context, request);
    pb::StatsResponse response;
    EXPECT_FALSE(reader->Read(&response)) << seconds << " " << nanos;
    EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  }
}

}  // namespace
}  // namespace headgate::testing
