// SPDX-License-Identifier: Apache-2.0
//
// Random and mutated changes against a real agent, by Apply and by the stream of updates: it never crashes, what
// it refuses changes nothing, what it accepts reads back as it was meant, and a restart finds the same state in
// the kernel's tables. Runs for HG_FUZZ_SECONDS (default 20).
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/time/clock.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "agent/api/text.h"
#include "tests/fuzz/api_messages.h"
#include "tests/fuzz/api_model.h"
#include "tests/harness/live_gateway.h"
#include "tests/harness/random.h"

namespace headgate::testing {
namespace {

constexpr int kOk = 0, kInvalidArgument = 3, kResourceExhausted = 8, kFailedPrecondition = 9, kInternal = 13;

std::vector<pb::ApplyRequest> LoadCorpus() {
  std::vector<pb::ApplyRequest> corpus;
  for (const auto& entry : std::filesystem::directory_iterator(HG_FUZZ_CORPUS)) {
    std::ifstream file(entry.path());
    const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    const absl::Status status = ParseYaml(text, entry.path().string(), corpus.emplace_back());
    EXPECT_TRUE(status.ok()) << status;
  }
  EXPECT_FALSE(corpus.empty());
  return corpus;
}

class ApiFuzz : public LiveGatewayTest {
 protected:
  // Room for so little that it runs out.
  ApiFuzz()
      : LiveGatewayTest("apifuzz", {{"--max-rules", "64"}, {"--max-prefixes", "64"}, {"--log-level", "error"}}) {}

  // What came of a change, by whichever way it went.
  struct Answer {
    int code = 0;
    std::string message;
    std::vector<std::string> fields;
    uint64_t generation = 0;
    uint64_t differences = 0;
    bool violations_in_body = false;
  };

  Answer Send(const pb::ApplyRequest& request) {
    pb::ApplyResponse response;
    const CallStatus status = api().Apply(request, &response);
    Answer answer{status.code,
                  status.message,
                  {},
                  response.generation(),
                  response.difference_count(),
                  response.violations_size() != 0};
    for (const auto& [field, description] : status.violations) answer.fields.push_back(field);
    return answer;
  }
  // A patch without options may go this way, too.
  Answer SendAsUpdate(const pb::ApplyRequest& request) {
    pb::UpdateRequest update;
    update.set_id(++updates_);
    *update.mutable_patch() = request.patch();
    update.set_wait_applied(request.wait_applied());
    if (!stream_) stream_ = api().Update();
    std::optional<pb::UpdateResponse> response;
    if (stream_->Send(update)) response = stream_->Receive();
    if (!response || response->id() != updates_) {
      stream_.reset();
      return {.code = -1, .message = "no answer to the update"};
    }
    Answer answer{response->code(), response->message(), {}, response->generation()};
    for (const pb::Violation& violation : response->violations()) answer.fields.push_back(violation.field());
    return answer;
  }

  // One change; true when it changed the model.
  void Step(const pb::ApplyRequest& request);
  void CheckRefusal(const Answer& answer, const pb::ApplyRequest& request);
  void ConfirmOrNot();
  void Raw(ApiMessages& messages);
  std::string Now() { return ApiModel::TextOf(api().GetAll()); }

  ApiModel model_;
  std::unique_ptr<Client::Updates> stream_;
  uint64_t updates_ = 0, accepted_ = 0, refused_ = 0, changed_ = 0;
};

void ApiFuzz::CheckRefusal(const Answer& answer, const pb::ApplyRequest& request) {
  ++refused_;
  switch (answer.code) {
    case kInvalidArgument:
      ASSERT_FALSE(answer.fields.empty()) << answer.message;
      break;
    case kFailedPrecondition:
      ASSERT_NE(request.expected_generation(), 0U) << answer.message;
      break;
    case kResourceExhausted:
      ASSERT_FALSE(answer.message.empty());
      break;
    default:
      FAIL() << "code " << answer.code << ": " << answer.message;
  }
}

void ApiFuzz::ConfirmOrNot() {
  const pb::StatusResponse status = api().Status();
  if (status.unconfirmed_generation() == 0) return;
  ASSERT_EQ(api().Apply(PatchRequest("delete_rules: [r0]")).code, kFailedPrecondition);
  ASSERT_EQ(api().Confirm(0).code, kOk);
}

void ApiFuzz::Step(const pb::ApplyRequest& request) {
  const uint64_t before = api().Status().desired_generation();
  const bool plain = request.has_patch() && !request.dry_run() && !request.has_confirm_timeout() &&
                     request.expected_generation() == 0;
  const Answer answer = plain && updates_ % 3 != 1 ? SendAsUpdate(request) : Send(request);
  if (plain && updates_ % 3 == 1) ++updates_;
  if (answer.code != kOk) {
    CheckRefusal(answer, request);
  } else if (!request.dry_run()) {
    ++accepted_;
    const std::string was = model_.Text();
    model_.Apply(request);
    const bool changed = model_.Text() != was;
    changed_ += changed ? 1 : 0;
    // A change makes a generation; none, none.
    ASSERT_EQ(answer.generation, before + (changed ? 1 : 0)) << was << "\n---- now ----\n" << model_.Text();
    ConfirmOrNot();
  }
  ASSERT_EQ(Now(), model_.Text());
}

// Bytes that may be no message at all.
void ApiFuzz::Raw(ApiMessages& messages) {
  std::string bytes = messages.Next().SerializeAsString();
  messages.Damage(bytes);
  pb::ApplyRequest request;
  if (request.ParseFromString(bytes)) {
    // Fields of another version of the API say nothing to this one.
    request.DiscardUnknownFields();
    Step(request);
    return;
  }
  grpc::GenericStub stub(grpc::CreateChannel(agent().address(), grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
  grpc::CompletionQueue queue;
  const grpc::Slice slice(bytes);
  const auto call =
      stub.PrepareUnaryCall(&context, "/headgate.v1.Gateway/Apply", grpc::ByteBuffer(&slice, 1), &queue);
  call->StartCall();
  grpc::ByteBuffer response;
  grpc::Status status;
  call->Finish(&response, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  ASSERT_TRUE(queue.Next(&tag, &ok));
  ASSERT_EQ(status.error_code(), kInternal) << status.error_message();
  ASSERT_EQ(Now(), model_.Text());
}

TEST_F(ApiFuzz, ChangesOfAllSorts) {
  std::mt19937_64 random = MakeRandom();
  ApiMessages messages(random, LoadCorpus());
  int seconds = 20;
  const char* given = std::getenv("HG_FUZZ_SECONDS");
  ASSERT_TRUE(given == nullptr || absl::SimpleAtoi(given, &seconds));
  model_.Apply(ConfigRequest(kDocument));

  const absl::Time end = absl::Now() + absl::Seconds(seconds);
  uint64_t steps = 0;
  for (; absl::Now() < end && !HasFatalFailure(); ++steps) {
    if (messages.Below(10) == 0) {
      Raw(messages);
      continue;
    }
    const pb::ApplyRequest request = messages.Next();
    const uint64_t changed = changed_;
    SCOPED_TRACE(absl::StrCat("step ", steps, ": ", request.ShortDebugString()));
    Step(request);
    if (changed_ > changed) messages.Keep(request);
    if (steps % 16 != 0) continue;
    // Whatever the tables say now, the program finds its way through them.
    pb::TraceRequest trace;
    trace.set_description("udp 10.0.0.1 > 10.1.2.3:53 in in");
    pb::TraceResponse traced;
    if (!api().Trace(trace, traced).ok()) continue;
    EXPECT_NE(traced.verdict(), "aborted");
    EXPECT_NE(traced.reason(), "drop_internal");
  }
  std::printf("%llu steps: %llu accepted (%llu changes), %llu refused\n", static_cast<unsigned long long>(steps),
              static_cast<unsigned long long>(accepted_), static_cast<unsigned long long>(changed_),
              static_cast<unsigned long long>(refused_));
  ASSERT_FALSE(HasFatalFailure());
  EXPECT_GT(changed_, steps / 20) << "most of what is tried is refused: the generator is of little use";

  // The same agent all the time; and another finds the same, in the database and in the kernel's tables.
  stream_.reset();
  EXPECT_TRUE(WaitFor([&] { return api().Status().applied_generation() == api().Status().desired_generation(); }));
  const std::string held = Held();
  EXPECT_EQ(Held(true), held);
  agent().Restart();
  EXPECT_EQ(Held(), held);
  EXPECT_EQ(Now(), model_.Text());
  EXPECT_EQ(api().Status().drift_repaired(), 0U);
  EXPECT_EQ(api().Status().applied_generation(), api().Status().desired_generation());
}

}  // namespace
}  // namespace headgate::testing
