// SPDX-License-Identifier: Apache-2.0
#include "cli/client.h"

#include <absl/strings/cord.h>
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/strip.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <mutex>
#include <utility>

#include "agent/api/text_values.h"
#include "agent/base/status.h"
#include "cli/file.h"
#include "google/rpc/status.pb.h"
#include "headgate/v1/gateway.grpc.pb.h"

namespace headgate::cli {
namespace {

constexpr char kBadRequest[] = "type.googleapis.com/google.rpc.BadRequest";
constexpr int kMaxMessageBytes = 256 << 20;
// Violations travel in the trailers.
constexpr int kMaxMetadataBytes = 4 << 20;
constexpr int kMaxRestarts = 10;

absl::StatusOr<std::string> ReadPem(const std::string& path) {
  if (path.empty()) return "";
  HG_ASSIGN_OR_RETURN(std::string text, ReadFile(path));
  if (text.empty()) return absl::InvalidArgumentError(absl::StrCat(path, " is empty: a PEM file is needed"));
  return text;
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> Credentials(const Endpoint& endpoint) {
  if (endpoint.IsUnix() || endpoint.insecure) return grpc::InsecureChannelCredentials();
  grpc::SslCredentialsOptions options;
  HG_ASSIGN_OR_RETURN(options.pem_root_certs, ReadPem(endpoint.tls_ca));
  HG_ASSIGN_OR_RETURN(options.pem_cert_chain, ReadPem(endpoint.tls_cert));
  HG_ASSIGN_OR_RETURN(options.pem_private_key, ReadPem(endpoint.tls_key));
  return grpc::SslCredentials(options);
}

std::chrono::system_clock::time_point Deadline(absl::Duration timeout) {
  return absl::ToChronoTime(absl::Now() + timeout);
}

// gRPC's own words about a connection, without what it says about itself.
absl::string_view ConnectError(absl::string_view message) {
  const size_t last = message.rfind("last error: ");
  if (last != absl::string_view::npos) message = message.substr(last + 12);
  absl::ConsumePrefix(&message, "UNKNOWN: ");
  absl::ConsumePrefix(&message, "UNAVAILABLE: ");
  return message;
}

}  // namespace

struct Client::Impl {
  Endpoint endpoint;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<v1::Gateway::Stub> stub;

  std::mutex mutex;
  grpc::ClientContext* stream = nullptr;  // under mutex
  bool cancelled = false;                 // under mutex

  absl::Status ToStatus(const grpc::Status& status) const {
    const auto code = static_cast<absl::StatusCode>(status.error_code());
    if (code == absl::StatusCode::kUnavailable) {
      return absl::UnavailableError(absl::StrCat(
          "no connection to the agent at ", endpoint.address, ": ", ConnectError(status.error_message()),
          "; is headgated running? Another address is given by --address or HEADGATE_ADDRESS"));
    }
    if (code == absl::StatusCode::kDeadlineExceeded) {
      return absl::DeadlineExceededError(absl::StrCat("no answer from the agent at ", endpoint.address, " within ",
                                                      DurationText(endpoint.timeout),
                                                      "; --timeout gives it longer"));
    }
    absl::Status result(code, status.error_message());
    google::rpc::Status details;
    if (!status.error_details().empty() && details.ParseFromString(status.error_details())) {
      for (const auto& detail : details.details()) {
        if (absl::EndsWith(detail.type_url(), "/google.rpc.BadRequest")) {
          result.SetPayload(kBadRequest, absl::Cord(detail.value()));
        }
      }
    }
    return result;
  }

  template <typename Request, typename Response>
  absl::StatusOr<Response> Call(grpc::Status (v1::Gateway::Stub::*method)(grpc::ClientContext*, const Request&,
                                                                          Response*),
                                const Request& request) {
    grpc::ClientContext context;
    context.set_deadline(Deadline(endpoint.timeout));
    Response response;
    const grpc::Status status = (stub.get()->*method)(&context, request, &response);
    if (!status.ok()) return ToStatus(status);
    return response;
  }

  // A stream has no deadline, so connecting gets one of its own. What fails at once is left to the call to report.
  absl::Status Connect() const {
    const auto deadline = Deadline(endpoint.timeout);
    for (auto state = channel->GetState(true);
         state != GRPC_CHANNEL_READY && state != GRPC_CHANNEL_TRANSIENT_FAILURE; state = channel->GetState(true)) {
      if (!channel->WaitForStateChange(state, deadline)) {
        return ToStatus(grpc::Status(grpc::StatusCode::DEADLINE_EXCEEDED, ""));
      }
    }
    return absl::OkStatus();
  }

  template <typename Request, typename Response>
  absl::Status Stream(std::unique_ptr<grpc::ClientReader<Response>> (v1::Gateway::Stub::*method)(
                          grpc::ClientContext*, const Request&),
                      const Request& request, absl::FunctionRef<bool(const Response&)> receive) {
    HG_RETURN_IF_ERROR(Connect());
    grpc::ClientContext context;
    {
      const std::lock_guard lock(mutex);
      if (cancelled) return absl::OkStatus();
      stream = &context;
    }
    const auto reader = (stub.get()->*method)(&context, request);
    Response response;
    bool wanted = true;
    while (wanted && reader->Read(&response)) wanted = receive(response);
    if (!wanted) context.TryCancel();
    const grpc::Status status = reader->Finish();
    const std::lock_guard lock(mutex);
    stream = nullptr;
    if (!wanted || cancelled) return absl::OkStatus();
    return status.ok()
               ? absl::UnavailableError(absl::StrCat("the agent at ", endpoint.address, " ended the stream"))
               : ToStatus(status);
  }
};

Client::Client(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Client::~Client() = default;

absl::StatusOr<std::unique_ptr<Client>> Client::Create(const Endpoint& endpoint) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  arguments.SetMaxSendMessageSize(kMaxMessageBytes);
  arguments.SetInt(GRPC_ARG_MAX_METADATA_SIZE, kMaxMetadataBytes);
  // A gateway is reached directly, whatever the environment's proxies are for.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);

  auto impl = std::make_unique<Impl>();
  impl->endpoint = endpoint;
  HG_ASSIGN_OR_RETURN(const auto credentials, Credentials(endpoint));
  impl->channel = grpc::CreateCustomChannel(endpoint.address, credentials, arguments);
  impl->stub = v1::Gateway::NewStub(impl->channel);
  return std::unique_ptr<Client>(new Client(std::move(impl)));
}

absl::StatusOr<v1::ApplyResponse> Client::Apply(const v1::ApplyRequest& request) {
  return impl_->Call(&v1::Gateway::Stub::Apply, request);
}

absl::StatusOr<v1::ConfirmResponse> Client::Confirm(const v1::ConfirmRequest& request) {
  return impl_->Call(&v1::Gateway::Stub::Confirm, request);
}

absl::StatusOr<v1::GetResponse> Client::Get(const v1::GetRequest& request) {
  return impl_->Call(&v1::Gateway::Stub::Get, request);
}

absl::StatusOr<v1::StatsResponse> Client::Stats(const v1::StatsRequest& request) {
  return impl_->Call(&v1::Gateway::Stub::Stats, request);
}

absl::StatusOr<v1::TraceResponse> Client::Trace(const v1::TraceRequest& request) {
  return impl_->Call(&v1::Gateway::Stub::Trace, request);
}

absl::StatusOr<v1::StatusResponse> Client::GetStatus() {
  return impl_->Call(&v1::Gateway::Stub::Status, v1::StatusRequest());
}

absl::StatusOr<v1::SetLogLevelResponse> Client::SetLogLevel(const v1::SetLogLevelRequest& request) {
  return impl_->Call(&v1::Gateway::Stub::SetLogLevel, request);
}

absl::Status Client::Watch(const v1::WatchRequest& request, absl::FunctionRef<bool(const v1::Event&)> receive) {
  return impl_->Stream(&v1::Gateway::Stub::Watch, request, receive);
}

absl::Status Client::StreamStats(const v1::StatsRequest& request,
                                 absl::FunctionRef<bool(const v1::StatsResponse&)> receive) {
  return impl_->Stream(&v1::Gateway::Stub::StreamStats, request, receive);
}

void Client::Cancel() {
  const std::lock_guard lock(impl_->mutex);
  impl_->cancelled = true;
  if (impl_->stream != nullptr) impl_->stream->TryCancel();
}

absl::StatusOr<v1::GetResponse> Client::GetAll(v1::GetRequest request) {
  for (int restart = 0;; ++restart) {
    v1::GetResponse all;
    request.clear_page_token();
    absl::Status status;
    do {
      absl::StatusOr<v1::GetResponse> page = Get(request);
      status = page.status();
      if (!status.ok()) break;
      all.set_generation(page->generation());
      // Moved, not copied: a prefix set may have a million entries.
      for (v1::Object& object : *page->mutable_objects()) *all.add_objects() = std::move(object);
      request.set_page_token(page->next_page_token());
    } while (!request.page_token().empty());
    if (status.ok()) return all;
    if (!absl::IsAborted(status) || restart >= kMaxRestarts) return status;
  }
}

std::vector<v1::Violation> ViolationsOf(const absl::Status& status) {
  std::vector<v1::Violation> violations;
  google::rpc::BadRequest request;
  const absl::optional<absl::Cord> payload = status.GetPayload(kBadRequest);
  if (!payload || !request.ParseFromString(std::string(*payload))) return violations;
  for (const auto& violation : request.field_violations()) {
    v1::Violation& copy = violations.emplace_back();
    copy.set_field(violation.field());
    copy.set_description(violation.description());
  }
  return violations;
}

}  // namespace headgate::cli
