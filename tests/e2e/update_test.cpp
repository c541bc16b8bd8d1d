// SPDX-License-Identifier: Apache-2.0
//
// The stream of updates: an answer to each in order, errors among them, many in flight, streams beside each other,
// and that what was acknowledged outlives a SIGKILL.
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <set>
#include <thread>

#include "tests/harness/live_gateway.h"
#include "tests/harness/plain_stub.h"

namespace headgate::testing {
namespace {

constexpr int kInvalidArgument = 3, kFailedPrecondition = 9;

using Stream = grpc::ClientReaderWriter<pb::UpdateRequest, pb::UpdateResponse>;

// UDP ports from 10,000 up, a rule each.
pb::UpdateRequest Put(uint64_t id, int rule) {
  pb::UpdateRequest request;
  request.set_id(id);
  pb::Rule& to = *request.mutable_patch()->mutable_upsert()->add_rules();
  to.set_name(absl::StrCat("r", rule));
  to.set_priority(static_cast<uint32_t>(1000 + rule));
  to.mutable_match()->set_protocol("udp");
  to.mutable_match()->add_destination_ports(absl::StrCat(10'000 + rule));
  to.mutable_action()->mutable_drop();
  return request;
}

pb::UpdateRequest Delete(uint64_t id, int rule) {
  pb::UpdateRequest request;
  request.set_id(id);
  request.mutable_patch()->add_delete_rules(absl::StrCat("r", rule));
  return request;
}

class UpdateTest : public LiveGatewayTest {
 protected:
  UpdateTest() : LiveGatewayTest("update", {{"--max-rules", "8192"}}) {}

  // A stream to be held with what it needs.
  struct Opened {
    std::unique_ptr<pb::Gateway::Stub> stub;
    grpc::ClientContext context;
    std::unique_ptr<Stream> stream;
  };
  std::unique_ptr<Opened> Open() {
    auto opened = std::make_unique<Opened>();
    opened->context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
    opened->stub = PlainStub(agent().address());
    opened->stream = opened->stub->Update(&opened->context);
    return opened;
  }

  // Sends all as fast as the stream takes them, and returns the answers.
  std::vector<pb::UpdateResponse> Pipeline(const std::vector<pb::UpdateRequest>& requests) {
    const auto opened = Open();
    std::thread writer([&] {
      for (const pb::UpdateRequest& request : requests) opened->stream->Write(request);
      opened->stream->WritesDone();
    });
    std::vector<pb::UpdateResponse> responses;
    for (pb::UpdateResponse response; opened->stream->Read(&response);) responses.push_back(response);
    writer.join();
    const grpc::Status status = opened->stream->Finish();
    EXPECT_TRUE(status.ok()) << status.error_message();
    return responses;
  }

  std::set<std::string> Rules() {
    std::set<std::string> names;
    for (const pb::Object& object : api().GetAll({pb::KIND_RULE})) {
      if (object.rule().priority() >= 1000) names.insert(object.rule().name());
    }
    return names;
  }
  static std::set<std::string> Names(int from, int to) {
    std::set<std::string> names;
    for (int i = from; i < to; ++i) names.insert(absl::StrCat("r", i));
    return names;
  }
  bool AllApplied() {
    return WaitFor([&] {
      const pb::StatusResponse status = api().Status();
      return status.applied_generation() == status.desired_generation();
    });
  }
};

TEST_F(UpdateTest, EachIsAnsweredInOrder) {
  std::vector<pb::UpdateRequest> requests;
  requests.reserve(5000);
  for (int i = 0; i < 5000; ++i) requests.push_back(Put(7'000'000'000 + 3 * static_cast<uint64_t>(i), i));
  const uint64_t before = api().Status().desired_generation();
  const std::vector<pb::UpdateResponse> responses = Pipeline(requests);
  ASSERT_EQ(responses.size(), requests.size());
  for (size_t i = 0; i < responses.size(); ++i) {
    ASSERT_EQ(responses[i].id(), requests[i].id());
    ASSERT_EQ(responses[i].code(), 0) << responses[i].message();
    ASSERT_EQ(responses[i].generation(), before + i + 1);
  }
  NowAndAfterRestart([&] {
    EXPECT_EQ(Rules(), Names(0, 5000));
    EXPECT_TRUE(AllApplied());
    EXPECT_EQ(FateOfPort(10'000), "drop_rule");
    EXPECT_EQ(FateOfPort(14'999), "drop_rule");
    EXPECT_EQ(FateOfPort(15'000), "forward_redirect");
  });
}

TEST_F(UpdateTest, AnErrorIsAnAnswerLikeAnother) {
  std::vector<pb::UpdateRequest> requests;
  for (int i = 0; i < 300; ++i) {
    requests.push_back(Put(static_cast<uint64_t>(i), i));
    if (i % 3 != 1) continue;
    pb::Rule& rule = *requests.back().mutable_patch()->mutable_upsert()->mutable_rules(0);
    rule.mutable_match()->set_source("nowhere");
    rule.set_priority(0);
  }
  requests[2].clear_patch();  // nothing to change is no error
  NowAndAfterRestart([&] {
    const std::vector<pb::UpdateResponse> responses = Pipeline(requests);
    ASSERT_EQ(responses.size(), requests.size());
    for (size_t i = 0; i < responses.size(); ++i) {
      ASSERT_EQ(responses[i].id(), i);
      if (i % 3 != 1) {
        ASSERT_EQ(responses[i].code(), 0) << i << ": " << responses[i].message();
        ASSERT_NE(responses[i].generation(), 0U);
        continue;
      }
      ASSERT_EQ(responses[i].code(), kInvalidArgument);
      ASSERT_EQ(responses[i].generation(), 0U);
      ASSERT_FALSE(responses[i].message().empty());
      std::set<std::string> fields;
      for (const pb::Violation& violation : responses[i].violations()) fields.insert(violation.field());
      ASSERT_EQ(fields,
                (std::set<std::string>{"patch.upsert.rules[0].match.source", "patch.upsert.rules[0].priority"}));
    }
    std::set<std::string> expected;
    for (int i = 0; i < 300; ++i) {
      if (i % 3 != 1 && i != 2) expected.insert(absl::StrCat("r", i));
    }
    EXPECT_EQ(Rules(), expected);
    ExpectDocumentInForce();
  });
}

TEST_F(UpdateTest, AnswersAfterAHalfClose) {
  const auto opened = Open();
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(opened->stream->Write(Put(static_cast<uint64_t>(i), i)));
  ASSERT_TRUE(opened->stream->WritesDone());
  pb::UpdateResponse response;
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(opened->stream->Read(&response));
    EXPECT_EQ(response.id(), static_cast<uint64_t>(i));
  }
  EXPECT_FALSE(opened->stream->Read(&response));
  EXPECT_TRUE(opened->stream->Finish().ok());
  NowAndAfterRestart([&] { EXPECT_EQ(Rules(), Names(0, 100)); });
}

TEST_F(UpdateTest, ManyMoreInFlightThanTheAgentHolds) {
  // The agent reads no more of a stream with 16,384 unanswered.
  std::vector<pb::UpdateRequest> requests;
  requests.reserve(40'000);
  for (int i = 0; i < 40'000; ++i) {
    pb::UpdateRequest& request = requests.emplace_back();
    request.set_id(static_cast<uint64_t>(i));
    pb::PrefixSetChange& change = *request.mutable_patch()->add_prefix_set_changes();
    change.set_name("bogons");
    change.add_add(absl::StrCat("100.64.", i / 256, ".", i % 256));
  }
  const std::vector<pb::UpdateResponse> responses = Pipeline(requests);
  ASSERT_EQ(responses.size(), requests.size());
  for (size_t i = 0; i < responses.size(); ++i) {
    ASSERT_EQ(responses[i].id(), i);
    ASSERT_EQ(responses[i].code(), 0) << responses[i].message();
  }
  NowAndAfterRestart([&] {
    EXPECT_EQ(api().GetObject(pb::KIND_PREFIX_SET, "bogons").prefix_set().prefixes_size(), 40'002);
    EXPECT_TRUE(AllApplied());
    EXPECT_EQ(FateOfPort(53, "100.64.0.0"), "drop_rule");
    EXPECT_EQ(FateOfPort(53, "100.64.156.63"), "drop_rule");
    EXPECT_EQ(FateOfPort(53, "100.64.156.64"), "forward_redirect");
  });
}

TEST_F(UpdateTest, LargeOnesAreReadAsFastAsTheyAreAnswered) {
  // Far more bytes than one stream, and than all of them, may have unanswered; one message more than a stream's
  // alone.
  constexpr int kStreams = 3, kEach = 20;
  pb::UpdateRequest large;
  pb::PrefixSetChange& change = *large.mutable_patch()->add_prefix_set_changes();
  change.set_name("bogons");
  for (int i = 0; i < 400'000; ++i) {
    change.add_remove(absl::StrCat("203.", i % 200, ".", i / 200 % 256, ".", i / 51'200));
  }
  EXPECT_GT(large.ByteSizeLong(), 5U << 20);
  EXPECT_LT(large.ByteSizeLong(), 8U << 20);
  pb::UpdateRequest largest = large;
  largest.mutable_patch()->mutable_prefix_set_changes(0)->mutable_remove()->MergeFrom(change.remove());
  std::vector<std::thread> threads;
  threads.reserve(kStreams);
  for (int s = 0; s < kStreams; ++s) {
    threads.emplace_back([&] {
      std::vector<pb::UpdateRequest> requests(kEach, large);
      requests[kEach / 2] = largest;
      for (size_t i = 0; i < requests.size(); ++i) requests[i].set_id(i);
      const std::vector<pb::UpdateResponse> responses = Pipeline(requests);
      ASSERT_EQ(responses.size(), requests.size());
      for (size_t i = 0; i < responses.size(); ++i) {
        EXPECT_EQ(responses[i].id(), i);
        EXPECT_EQ(responses[i].code(), 0) << responses[i].message();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ExpectDocumentInForce();
}

TEST_F(UpdateTest, AClientThatTakesNoAnswersIsNotReadForEver) {
  // Each answer is a hundred times as large as its request; all of them would take 400 MB of the agent's memory.
  constexpr uint64_t kRequests = 2000;
  pb::UpdateRequest request;
  pb::PrefixSetChange& change = *request.mutable_patch()->add_prefix_set_changes();
  change.set_name("bogons");
  for (int i = 0; i < 1500; ++i) change.add_add("x");
  const auto opened = Open();
  std::atomic<uint64_t> sent = 0;
  std::thread writer([&] {
    for (; sent < kRequests && opened->stream->Write(request); ++sent) request.set_id(sent + 1);
    opened->stream->WritesDone();
  });
  // Until no more is taken; the client's and the agent's windows take some.
  uint64_t last = 0;
  int unchanged = 0;
  WaitFor([&] {
    const uint64_t now = sent;
    unchanged = now == last ? unchanged + 1 : 0;
    last = now;
    return now == kRequests || unchanged == 50;
  });
  EXPECT_LT(sent, kRequests) << "the agent takes whatever comes";
  // Others are served meanwhile.
  EXPECT_EQ(Pipeline({Put(1, 1)}).size(), 1U);
  // And the rest is read once answers are taken.
  pb::UpdateResponse response;
  for (uint64_t i = 0; i < kRequests; ++i) {
    ASSERT_TRUE(opened->stream->Read(&response));
    ASSERT_EQ(response.id(), i);
    ASSERT_EQ(response.code(), kInvalidArgument);
    ASSERT_EQ(response.violations_size(), 1500);
  }
  writer.join();
  EXPECT_FALSE(opened->stream->Read(&response));
  EXPECT_TRUE(opened->stream->Finish().ok());
}

TEST_F(UpdateTest, StreamsBesideEachOther) {
  constexpr int kStreams = 6, kEach = 400;
  std::vector<std::thread> threads;
  threads.reserve(kStreams);
  std::vector<std::vector<pb::UpdateResponse>> responses(kStreams);
  for (int s = 0; s < kStreams; ++s) {
    threads.emplace_back([&, s] {
      std::vector<pb::UpdateRequest> requests;
      requests.reserve(kEach);
      for (int i = 0; i < kEach; ++i) requests.push_back(Put(static_cast<uint64_t>(i), s * kEach + i));
      responses[static_cast<size_t>(s)] = Pipeline(requests);
    });
  }
  // And whoever applies by the side is answered in its turn.
  for (int i = 0; i < 20; ++i) {
    api().PatchYaml(absl::StrCat("upsert: {steer_targets: [{name: t", i, "}]}"));
  }
  for (std::thread& thread : threads) thread.join();
  std::set<uint64_t> generations;
  for (const auto& answers : responses) {
    ASSERT_EQ(answers.size(), static_cast<size_t>(kEach));
    for (size_t i = 0; i < answers.size(); ++i) {
      EXPECT_EQ(answers[i].id(), i);
      EXPECT_EQ(answers[i].code(), 0) << answers[i].message();
      EXPECT_TRUE(generations.insert(answers[i].generation()).second) << "two changes of one generation";
      EXPECT_TRUE(i == 0 || answers[i].generation() > answers[i - 1].generation());
    }
  }
  NowAndAfterRestart([&] {
    EXPECT_EQ(Rules(), Names(0, kStreams * kEach));
    EXPECT_EQ(api().GetAll({pb::KIND_STEER_TARGET}).size(), 20U);
  });
}

TEST_F(UpdateTest, AClientThatGoesAwayLeavesAWholeState) {
  NowAndAfterRestart([&] {
    for (int round = 0; round < 5; ++round) {
      const auto opened = Open();
      for (int i = 0; i < 1000; ++i) opened->stream->Write(Put(static_cast<uint64_t>(i), i));
      pb::UpdateResponse response;
      ASSERT_TRUE(opened->stream->Read(&response));
      opened->context.TryCancel();
      opened->stream->Finish();
      // What was read before the end is a beginning of what was sent.
      EXPECT_EQ(Pipeline({pb::UpdateRequest()}).size(), 1U);
      const auto there = Rules();
      EXPECT_EQ(there, Names(0, static_cast<int>(there.size())));
      EXPECT_GE(there.size(), 1U);
      EXPECT_TRUE(AllApplied());
      ExpectDocumentInForce();
      api().ApplyYaml(kDocument);
    }
  });
}

TEST_F(UpdateTest, WhatIsAcknowledgedOutlivesAKill) {
  for (const int kill_after : {1, 2, 50, 400}) {
    SCOPED_TRACE(kill_after);
    api().ApplyYaml(kDocument);
    const auto opened = Open();
    std::thread writer([&] {
      for (int i = 0; i < 2000; ++i) {
        if (!opened->stream->Write(Put(static_cast<uint64_t>(i), i))) break;
      }
    });
    pb::UpdateResponse response;
    for (int i = 0; i < kill_after; ++i) ASSERT_TRUE(opened->stream->Read(&response));
    agent().Kill();
    opened->context.TryCancel();
    writer.join();
    opened->stream->Finish();
    agent().Start();
    const std::set<std::string> rules = Rules();
    EXPECT_GE(rules.size(), static_cast<size_t>(kill_after));
    EXPECT_EQ(rules, Names(0, static_cast<int>(rules.size())));
    EXPECT_GE(api().Status().desired_generation(), response.generation());
    EXPECT_EQ(FateOfPort(static_cast<uint16_t>(10'000 + kill_after - 1)), "drop_rule");
    EXPECT_EQ(FateOfPort(static_cast<uint16_t>(10'000 + rules.size())), "forward_redirect");
  }
}

TEST_F(UpdateTest, WaitAppliedAnswersWhenPacketsFareThatWay) {
  NowAndAfterRestart([&] {
    const auto opened = Open();
    for (int i = 0; i < 20; ++i) {
      pb::UpdateRequest request =
          i % 2 == 0 ? Put(static_cast<uint64_t>(i), 5) : Delete(static_cast<uint64_t>(i), 5);
      request.set_wait_applied(true);
      ASSERT_TRUE(opened->stream->Write(request));
      pb::UpdateResponse response;
      ASSERT_TRUE(opened->stream->Read(&response));
      EXPECT_EQ(FateOfPort(10'005), i % 2 == 0 ? "drop_rule" : "forward_redirect");
    }
  });
}

TEST_F(UpdateTest, ChurnUsesNothingUp) {
  RestartWith({{"--max-rules", "64"}});
  std::vector<pb::UpdateRequest> requests;
  for (int i = 0; i < 2000; ++i) {
    requests.push_back(Put(static_cast<uint64_t>(requests.size()), 1));
    requests.push_back(Delete(static_cast<uint64_t>(requests.size()), 1));
  }
  NowAndAfterRestart([&] {
    for (const pb::UpdateResponse& response : Pipeline(requests))
      ASSERT_EQ(response.code(), 0) << response.message();
    EXPECT_EQ(Rules(), Names(0, 0));
    // All ids are free again, and none counts what its former rule did.
    std::vector<pb::UpdateRequest> full;
    full.reserve(60);
    for (int i = 0; i < 60; ++i) full.push_back(Put(static_cast<uint64_t>(i), i));
    for (const pb::UpdateResponse& response : Pipeline(full)) ASSERT_EQ(response.code(), 0) << response.message();
    EXPECT_TRUE(AllApplied());
    for (int i = 0; i < 60; ++i) EXPECT_EQ(api().Rule(absl::StrCat("r", i)).packets(), 0U);
    EXPECT_EQ(FateOfPort(10'059), "drop_rule");
    api().ApplyYaml(kDocument);
  });
}

TEST_F(UpdateTest, AChangeThatWaitsForConfirmationRefusesOthers) {
  pb::ApplyRequest request = PatchRequest("delete_rules: [drop-9]");
  request.mutable_confirm_timeout()->set_seconds(60);
  ASSERT_TRUE(api().Apply(request).ok());
  std::vector<pb::UpdateResponse> responses = Pipeline({Put(1, 1)});
  ASSERT_EQ(responses.size(), 1U);
  EXPECT_EQ(responses[0].code(), kFailedPrecondition);
  EXPECT_TRUE(absl::StrContains(responses[0].message(), "waits for confirmation")) << responses[0].message();
  ASSERT_TRUE(api().Confirm(0).ok());
  responses = Pipeline({Put(1, 1)});
  ASSERT_EQ(responses.size(), 1U);
  EXPECT_EQ(responses[0].code(), 0);
}

}  // namespace
}  // namespace headgate::testing
