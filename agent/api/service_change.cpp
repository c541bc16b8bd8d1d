// SPDX-License-Identifier: Apache-2.0
//
// Apply, Confirm and Update.
#include <absl/strings/str_cat.h>

#include <condition_variable>
#include <deque>
#include <future>
#include <mutex>
#include <thread>
#include <utility>

#include "agent/api/gateway_service.h"
#include "agent/api/status.h"
#include "agent/base/log.h"

namespace headgate::api {
namespace {

constexpr uint64_t kMaxDifferences = 10'000;
constexpr std::chrono::seconds kMinConfirm{1};
constexpr std::chrono::seconds kMaxConfirm{3600};
// Requests of one stream that may wait for their answer, and the bytes of these and of answers that the client has
// not taken; more are not read meanwhile.
constexpr size_t kMaxInFlight = 4096;
constexpr size_t kMaxBytesInFlight = 8 << 20;
// A message keeps the room that its largest content took; from this on it is given back.
constexpr size_t kMaxKept = 1 << 20;

void AddDifferences(const State& before, const State& after, pb::ApplyResponse& response) {
  uint64_t count = 0;
  ForEachDifference(before, after, [&](Kind kind, const std::string& name, const auto* old, const auto* now) {
    // They follow from rules and routes.
    if (kind == Kind::kCounter || kind == Kind::kMulticastLeg || kind == Kind::kMulticastFeed) return;
    if (++count > kMaxDifferences) return;
    pb::Difference* difference = response.add_differences();
    difference->set_kind(ToProto(kind));
    difference->set_name(name);
    difference->set_change(!old  ? pb::Difference::CHANGE_CREATE
                           : now ? pb::Difference::CHANGE_UPDATE
                                 : pb::Difference::CHANGE_DELETE);
  });
  response.set_difference_count(count);
}

template <typename Response>
void AddViolations(const Violations& violations, Response& response) {
  for (const Violation& violation : violations) {
    pb::Violation* message = response.add_violations();
    message->set_field(violation.field);
    message->set_description(violation.description);
  }
}

// Answers of one stream in the order of its requests, whichever is ready first.
class Answers {
 public:
  struct Slot {
    size_t bytes;  // of the request until it is answered, then of the answer
    std::optional<pb::UpdateResponse> response;
  };

  explicit Answers(grpc::ServerReaderWriter<pb::UpdateResponse, pb::UpdateRequest>& stream)
      : stream_(stream), thread_([this](const std::stop_token& stop) { Run(stop); }) {}

  // A place in the order for the answer to a request of so many bytes; waits while there are too many.
  std::shared_ptr<Slot> Reserve(size_t bytes) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] {
      return slots_.size() < kMaxInFlight && (bytes_ == 0 || bytes_ + bytes <= kMaxBytesInFlight);
    });
    bytes_ += bytes;
    return slots_.emplace_back(std::make_shared<Slot>(Slot{.bytes = bytes, .response = std::nullopt}));
  }
  void Fill(Slot& slot, pb::UpdateResponse response) {
    const std::lock_guard lock(mutex_);
    bytes_ -= slot.bytes;
    slot.bytes = response.ByteSizeLong();
    bytes_ += slot.bytes;
    slot.response = std::move(response);
    if (&slot == slots_.front().get()) changed_.notify_all();
  }
  // Returns when all are written, or cannot be any more.
  void Finish() {
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return slots_.empty(); });
    }
    thread_.request_stop();
    changed_.notify_all();
    thread_.join();
  }

 private:
  void Run(const std::stop_token& stop) {
    std::deque<std::shared_ptr<Slot>> ready;
    size_t written = 0;
    while (true) {
      {
        std::unique_lock lock(mutex_);
        bytes_ -= std::exchange(written, 0);
        changed_.notify_all();
        changed_.wait(lock, stop, [this] { return !slots_.empty() && slots_.front()->response.has_value(); });
        while (!slots_.empty() && slots_.front()->response.has_value()) {
          ready.push_back(std::move(slots_.front()));
          slots_.pop_front();
        }
        changed_.notify_all();
      }
      if (ready.empty()) return;
      for (; !ready.empty(); ready.pop_front()) {
        // All but the last of what is ready may share a packet.
        grpc::WriteOptions options;
        if (ready.size() > 1) options.set_buffer_hint();
        stream_.Write(*ready.front()->response, options);
        written += ready.front()->bytes;
      }
    }
  }

  grpc::ServerReaderWriter<pb::UpdateResponse, pb::UpdateRequest>& stream_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<std::shared_ptr<Slot>> slots_;
  size_t bytes_ = 0;  // of the slots, and of what is being written
  std::jthread thread_;
};

pb::UpdateResponse AnswerTo(uint64_t id, const ChangeOutcome& outcome) {
  pb::UpdateResponse response;
  response.set_id(id);
  response.set_code(static_cast<int>(outcome.status.code()));
  response.set_message(std::string(outcome.status.message()));
  response.set_generation(outcome.generation);
  AddViolations(outcome.violations, response);
  return response;
}

}  // namespace

grpc::Status GatewayService::Apply(grpc::ServerContext*, const pb::ApplyRequest* request,
                                   pb::ApplyResponse* response) {
  ChangeOptions options{.expected_generation = request->expected_generation(),
                        .dry_run = request->dry_run(),
                        .wait_applied = request->wait_applied(),
                        .want_states = true};
  if (request->has_confirm_timeout()) {
    options.confirm_timeout = DurationWithin(request->confirm_timeout(), kMinConfirm, kMaxConfirm);
    if (!options.confirm_timeout) {
      const Violations violations = {{"confirm_timeout", "must be 1 s to 1 h"}};
      return ToGrpc(absl::InvalidArgumentError(absl::StrCat("confirm_timeout ", violations[0].description)),
                    violations);
    }
  }
  Change change;
  switch (request->change_case()) {
    case pb::ApplyRequest::kConfig:
      change = ReadConfig(request->config(), "config", actions_);
      break;
    case pb::ApplyRequest::kPatch:
      change = ReadPatch(request->patch(), "patch", actions_);
      break;
    case pb::ApplyRequest::CHANGE_NOT_SET:
      return ToGrpc(absl::InvalidArgumentError("one of config and patch is needed"),
                    {{"change", "one of config and patch is needed"}});
  }
  std::promise<ChangeOutcome> promise;
  controller_.Submit(std::move(change), options,
                     [&promise](ChangeOutcome outcome) { promise.set_value(std::move(outcome)); });
  const ChangeOutcome outcome = promise.get_future().get();
  if (options.dry_run && !outcome.violations.empty()) {
    AddViolations(outcome.violations, *response);
    return grpc::Status::OK;
  }
  if (!outcome.status.ok()) return ToGrpc(outcome.status, outcome.violations);
  response->set_generation(outcome.generation);
  if (const Snapshot applied = controller_.applied()) response->set_applied_generation(applied->generation);
  AddDifferences(*outcome.before, *outcome.after, *response);
  if (!options.dry_run) {
    Log(spdlog::level::info, "configuration changed",
        {{"generation", outcome.generation}, {"differences", response->difference_count()}});
  }
  return grpc::Status::OK;
}

grpc::Status GatewayService::Confirm(grpc::ServerContext*, const pb::ConfirmRequest* request,
                                     pb::ConfirmResponse* response) {
  std::promise<absl::StatusOr<uint64_t>> promise;
  controller_.Confirm(request->generation(),
                      [&promise](absl::StatusOr<uint64_t> outcome) { promise.set_value(std::move(outcome)); });
  const absl::StatusOr<uint64_t> outcome = promise.get_future().get();
  if (!outcome.ok()) return ToGrpc(outcome.status());
  response->set_generation(*outcome);
  return grpc::Status::OK;
}

grpc::Status GatewayService::Update(grpc::ServerContext*,
                                    grpc::ServerReaderWriter<pb::UpdateResponse, pb::UpdateRequest>* stream) {
  // Beforehand: together with a message that may be held back it would wait, and the message for it.
  stream->SendInitialMetadata();
  Answers answers(*stream);
  pb::UpdateRequest request;
  while (!stopping_ && stream->Read(&request)) {
    const size_t bytes = request.ByteSizeLong();
    const auto slot = answers.Reserve(bytes);
    update_bytes_.Take(bytes);
    controller_.Submit(ReadPatch(request.patch(), "patch", actions_), {.wait_applied = request.wait_applied()},
                       [this, &answers, slot, bytes, id = request.id()](const ChangeOutcome& outcome) {
                         update_bytes_.Give(bytes);
                         answers.Fill(*slot, AnswerTo(id, outcome));
                       });
    if (bytes > kMaxKept) pb::UpdateRequest().Swap(&request);
  }
  answers.Finish();
  return grpc::Status::OK;
}

}  // namespace headgate::api
