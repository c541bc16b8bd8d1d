// SPDX-License-Identifier: Apache-2.0
#include <absl/strings/str_cat.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <deque>
#include <mutex>
#include <stdexcept>
#include <thread>

#include "agent/api/text.h"
#include "google/rpc/status.pb.h"
#include "headgate/v1/gateway.grpc.pb.h"
#include "tests/harness/agent.h"

namespace headgate::testing {
namespace {

constexpr int kMaxMessage = 256 << 20;
constexpr std::chrono::seconds kDeadline{60};

// A context with a deadline: no test hangs on a call.
class Context : public grpc::ClientContext {
 public:
  Context() { set_deadline(std::chrono::system_clock::now() + kDeadline); }
};

CallStatus Read(const grpc::Status& status) {
  CallStatus result{.code = status.error_code(), .message = status.error_message()};
  google::rpc::Status details;
  if (status.error_details().empty() || !details.ParseFromString(status.error_details())) return result;
  for (const auto& detail : details.details()) {
    google::rpc::BadRequest bad_request;
    if (!detail.UnpackTo(&bad_request)) continue;
    for (const auto& violation : bad_request.field_violations()) {
      result.violations.emplace_back(violation.field(), violation.description());
    }
  }
  return result;
}

void Check(const CallStatus& status, const std::string& what) {
  if (status.ok()) return;
  std::string text = absl::StrCat(what, ": ", status.code, " ", status.message);
  for (const auto& [field, description] : status.violations)
    absl::StrAppend(&text, "\n  ", field, ": ", description);
  throw std::runtime_error(text);
}

template <typename Message>
Message Parse(const std::string& yaml) {
  Message message;
  if (const absl::Status status = ParseYaml(yaml, "test", message); !status.ok()) {
    throw std::runtime_error(std::string(status.message()));
  }
  return message;
}

std::unique_ptr<pb::Gateway::Stub> Stub(const std::shared_ptr<grpc::Channel>& channel) {
  return pb::Gateway::NewStub(channel);
}

class WatcherImpl : public Client::Watcher {
 public:
  WatcherImpl(const std::shared_ptr<grpc::Channel>& channel, const pb::WatchRequest& request)
      : reader_(Stub(channel)->Watch(&context_, request)) {
    // The server sends its metadata once the watch is in place.
    reader_->WaitForInitialMetadata();
    thread_ = std::thread([this] {
      pb::Event event;
      while (reader_->Read(&event)) {
        const std::lock_guard lock(mutex_);
        events_.push_back(event);
      }
    });
  }
  ~WatcherImpl() override {
    context_.TryCancel();
    thread_.join();
    reader_->Finish();
  }
  std::optional<pb::Event> Next(const std::function<bool(const pb::Event&)>& wanted,
                                std::chrono::milliseconds timeout) override {
    std::optional<pb::Event> found;
    WaitFor(
        [&] {
          const std::lock_guard lock(mutex_);
          while (!events_.empty() && !found) {
            if (wanted(events_.front())) found = events_.front();
            events_.pop_front();
          }
          return found.has_value();
        },
        timeout);
    return found;
  }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReader<pb::Event>> reader_;
  std::mutex mutex_;
  std::deque<pb::Event> events_;
  std::thread thread_;
};

class UpdatesImpl : public Client::Updates {
 public:
  explicit UpdatesImpl(const std::shared_ptr<grpc::Channel>& channel)
      : stream_(Stub(channel)->Update(&context_)) {}
  ~UpdatesImpl() override {
    context_.TryCancel();
    stream_->Finish();
  }
  bool Send(const pb::UpdateRequest& request) override { return stream_->Write(request); }
  std::optional<pb::UpdateResponse> Receive() override {
    pb::UpdateResponse response;
    return stream_->Read(&response) ? std::optional(response) : std::nullopt;
  }
  void Finish() override { stream_->WritesDone(); }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<pb::UpdateRequest, pb::UpdateResponse>> stream_;
};

}  // namespace

Client::Client(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxMessage);
  arguments.SetMaxSendMessageSize(kMaxMessage);
  arguments.SetInt(GRPC_ARG_MAX_METADATA_SIZE, 4 << 20);
  // A restarted agent is to be found at once.
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 20);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 20);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 50);
  channel_ = grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

Client::~Client() = default;

CallStatus Client::Apply(const pb::ApplyRequest& request, pb::ApplyResponse* response) {
  Context context;
  pb::ApplyResponse ignored;
  return Read(Stub(channel_)->Apply(&context, request, response != nullptr ? response : &ignored));
}

CallStatus Client::TryYaml(const std::string& yaml, pb::ApplyResponse* response) {
  pb::ApplyRequest request;
  *request.mutable_config() = Parse<pb::GatewayConfig>(yaml);
  request.set_wait_applied(true);
  return Apply(request, response);
}

pb::ApplyResponse Client::ApplyYaml(const std::string& yaml) {
  pb::ApplyResponse response;
  Check(TryYaml(yaml, &response), "Apply");
  return response;
}

pb::ApplyResponse Client::PatchYaml(const std::string& yaml) {
  pb::ApplyRequest request;
  *request.mutable_patch() = Parse<pb::Patch>(yaml);
  request.set_wait_applied(true);
  pb::ApplyResponse response;
  Check(Apply(request, &response), "Apply");
  return response;
}

CallStatus Client::Confirm(uint64_t generation) {
  Context context;
  pb::ConfirmRequest request;
  request.set_generation(generation);
  pb::ConfirmResponse response;
  return Read(Stub(channel_)->Confirm(&context, request, &response));
}

CallStatus Client::Get(const pb::GetRequest& request, pb::GetResponse& response) {
  Context context;
  return Read(Stub(channel_)->Get(&context, request, &response));
}

std::vector<pb::Object> Client::GetAll(const std::vector<pb::Kind>& kinds, bool applied) {
  pb::GetRequest request;
  for (const pb::Kind kind : kinds) request.add_kinds(kind);
  request.set_applied(applied);
  std::vector<pb::Object> objects;
  do {
    pb::GetResponse response;
    Check(Get(request, response), "Get");
    objects.insert(objects.end(), response.objects().begin(), response.objects().end());
    request.set_page_token(response.next_page_token());
  } while (!request.page_token().empty());
  return objects;
}

pb::Object Client::GetObject(pb::Kind kind, const std::string& name) {
  pb::GetRequest request;
  request.add_kinds(kind);
  request.add_names(name);
  pb::GetResponse response;
  Check(Get(request, response), "Get");
  if (response.objects_size() != 1) throw std::runtime_error("there is no object " + name);
  return response.objects(0);
}

pb::StatsResponse Client::Stats() {
  Context context;
  pb::StatsResponse response;
  Check(Read(Stub(channel_)->Stats(&context, {}, &response)), "Stats");
  return response;
}

pb::InterfaceStats Client::Interface(const std::string& name) {
  const pb::StatsResponse stats = Stats();
  for (const auto& interface : stats.interfaces()) {
    if (interface.name() == name) return interface;
  }
  throw std::runtime_error("no counters of interface " + name);
}

std::map<std::string, uint64_t> Client::Reasons(const std::string& interface) {
  const pb::InterfaceStats stats = Interface(interface);
  std::map<std::string, uint64_t> reasons;
  for (const auto& reason : stats.reasons()) reasons[reason.reason()] = reason.packets();
  return reasons;
}

bool Client::Warns(const std::string& text) {
  const pb::StatusResponse status = Status();
  return std::any_of(status.warnings().begin(), status.warnings().end(),
                     [&text](const std::string& warning) { return warning.find(text) != std::string::npos; });
}

pb::RuleStats Client::Rule(const std::string& name) {
  const pb::StatsResponse stats = Stats();
  for (const auto& rule : stats.rules()) {
    if (rule.name() == name) return rule;
  }
  throw std::runtime_error("no counters of rule " + name);
}

pb::CounterStats Client::Counter(const std::string& name) {
  const pb::StatsResponse stats = Stats();
  for (const auto& counter : stats.counters()) {
    if (counter.name() == name) return counter;
  }
  throw std::runtime_error("there is no counter " + name);
}

pb::StatusResponse Client::Status() {
  Context context;
  pb::StatusResponse response;
  Check(Read(Stub(channel_)->Status(&context, {}, &response)), "Status");
  return response;
}

CallStatus Client::Trace(const pb::TraceRequest& request, pb::TraceResponse& response) {
  Context context;
  return Read(Stub(channel_)->Trace(&context, request, &response));
}

pb::TraceResponse Client::Trace(const std::string& description) {
  pb::TraceRequest request;
  request.set_description(description);
  pb::TraceResponse response;
  Check(Trace(request, response), "Trace");
  return response;
}

CallStatus Client::SetLogLevel(const std::string& level, std::string& previous) {
  Context context;
  pb::SetLogLevelRequest request;
  request.set_level(level);
  pb::SetLogLevelResponse response;
  CallStatus status = Read(Stub(channel_)->SetLogLevel(&context, request, &response));
  previous = response.previous_level();
  return status;
}

// Debian has no C++ stub of grpc.health.v1: an empty HealthCheckRequest asks for the whole server, and SERVING is
// field 1 with value 1.
bool Client::Healthy() {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(500));
  context.set_wait_for_ready(true);
  grpc::CompletionQueue queue;
  grpc::GenericStub stub(channel_);
  const grpc::ByteBuffer request(nullptr, 0);
  grpc::ByteBuffer response;
  grpc::Status status;
  auto call = stub.PrepareUnaryCall(&context, "/grpc.health.v1.Health/Check", request, &queue);
  call->StartCall();
  call->Finish(&response, &status, &queue);
  void* tag = nullptr;
  bool ok = false;
  queue.Next(&tag, &ok);
  grpc::Slice slice;
  if (!status.ok() || !response.TrySingleSlice(&slice).ok()) return false;
  return std::string(reinterpret_cast<const char*>(slice.begin()), slice.size()) == "\x08\x01";
}

std::unique_ptr<Client::Watcher> Client::Watch(const std::vector<pb::EventType>& types) {
  pb::WatchRequest request;
  for (const pb::EventType type : types) request.add_types(type);
  return std::make_unique<WatcherImpl>(channel_, request);
}

std::unique_ptr<Client::Updates> Client::Update() { return std::make_unique<UpdatesImpl>(channel_); }

}  // namespace headgate::testing
