// SPDX-License-Identifier: Apache-2.0
#include "bench/gateway_client.h"

#include <absl/strings/str_cat.h>
#include <grpcpp/grpcpp.h>

#include <chrono>

#include "headgate/v1/gateway.grpc.pb.h"

namespace headgate::bench {
namespace {

constexpr int kMaxMessageBytes = 256 << 20;
constexpr int kReconnectMs = 20;  // an agent that has just been started is to be found at once
constexpr std::chrono::seconds kTimeout(120);

absl::Status ToStatus(const grpc::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

class Stream : public UpdateStream {
 public:
  explicit Stream(v1::Gateway::Stub& stub) : stream_(stub.Update(&context_)) {}
  ~Stream() override {
    context_.TryCancel();
    stream_->Finish();
  }

  absl::Status Send(const v1::UpdateRequest& request, bool more) override {
    grpc::WriteOptions options;
    if (more) options.set_buffer_hint();
    return stream_->Write(request, options) ? absl::OkStatus()
                                            : absl::UnavailableError("the agent has ended the stream");
  }

  absl::StatusOr<v1::UpdateResponse> Receive() override {
    v1::UpdateResponse response;
    if (!stream_->Read(&response)) return absl::UnavailableError("the agent has ended the stream");
    if (response.code() == 0) return response;
    return absl::Status(static_cast<absl::StatusCode>(response.code()),
                        absl::StrCat("change ", response.id(), " was refused: ", response.message()));
  }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::UpdateRequest, v1::UpdateResponse>> stream_;
};

}  // namespace

struct GatewayClient::Impl {
  std::unique_ptr<v1::Gateway::Stub> stub;

  template <typename Request, typename Response>
  absl::StatusOr<Response> Call(grpc::Status (v1::Gateway::Stub::*method)(grpc::ClientContext*, const Request&,
                                                                          Response*),
                                const Request& request) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + kTimeout);
    Response response;
    const grpc::Status status = (stub.get()->*method)(&context, request, &response);
    if (!status.ok()) return ToStatus(status);
    return response;
  }
};

GatewayClient::GatewayClient(const std::string& socket) : impl_(std::make_unique<Impl>()) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  arguments.SetMaxSendMessageSize(kMaxMessageBytes);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, kReconnectMs);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, kReconnectMs);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kReconnectMs);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  impl_->stub = v1::Gateway::NewStub(
      grpc::CreateCustomChannel(absl::StrCat("unix:", socket), grpc::InsecureChannelCredentials(), arguments));
}

GatewayClient::~GatewayClient() = default;

absl::StatusOr<v1::ApplyResponse> GatewayClient::Apply(const v1::ApplyRequest& request) {
  return impl_->Call(&v1::Gateway::Stub::Apply, request);
}

absl::StatusOr<v1::StatusResponse> GatewayClient::GetStatus() {
  return impl_->Call(&v1::Gateway::Stub::Status, v1::StatusRequest());
}

absl::StatusOr<v1::StatsResponse> GatewayClient::GetStats(const v1::StatsRequest& request) {
  return impl_->Call(&v1::Gateway::Stub::Stats, request);
}

std::unique_ptr<UpdateStream> GatewayClient::Update() { return std::make_unique<Stream>(*impl_->stub); }

}  // namespace headgate::bench
