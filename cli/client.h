// SPDX-License-Identifier: Apache-2.0
//
// The gateway's service as plain calls. The only place of hgctl that knows gRPC: its headers take longer to
// compile than everything else here together.
#pragma once

#include <absl/functional/function_ref.h>
#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <memory>
#include <string>
#include <vector>

#include "headgate/v1/gateway.pb.h"

namespace headgate::cli {

struct Endpoint {
  // unix:PATH, or HOST:PORT for TCP with TLS.
  std::string address = "unix:/run/headgate/headgated.sock";
  // PEM files. Without a CA the system's are trusted.
  std::string tls_ca, tls_cert, tls_key;
  bool insecure = false;                       // TCP without TLS
  absl::Duration timeout = absl::Seconds(60);  // of a call; of connecting for streams

  bool IsUnix() const { return address.rfind("unix:", 0) == 0; }
};

class Client {
 public:
  // Connects with the first call. An error is about the TLS files.
  static absl::StatusOr<std::unique_ptr<Client>> Create(const Endpoint& endpoint);
  ~Client();

  absl::StatusOr<v1::ApplyResponse> Apply(const v1::ApplyRequest& request);
  absl::StatusOr<v1::ConfirmResponse> Confirm(const v1::ConfirmRequest& request);
  // One page.
  absl::StatusOr<v1::GetResponse> Get(const v1::GetRequest& request);
  absl::StatusOr<v1::StatsResponse> Stats(const v1::StatsRequest& request);
  absl::StatusOr<v1::TraceResponse> Trace(const v1::TraceRequest& request);
  absl::StatusOr<v1::StatusResponse> GetStatus();
  absl::StatusOr<v1::SetLogLevelResponse> SetLogLevel(const v1::SetLogLevelRequest& request);

  // Until the agent ends it (an error), `receive` returns false or another thread calls Cancel (both OK).
  absl::Status Watch(const v1::WatchRequest& request, absl::FunctionRef<bool(const v1::Event&)> receive);
  absl::Status StreamStats(const v1::StatsRequest& request,
                           absl::FunctionRef<bool(const v1::StatsResponse&)> receive);
  void Cancel();

  // Every page. Starts over when the configuration changes meanwhile.
  absl::StatusOr<v1::GetResponse> GetAll(v1::GetRequest request);

 private:
  struct Impl;
  explicit Client(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// The violations that came with an INVALID_ARGUMENT.
std::vector<v1::Violation> ViolationsOf(const absl::Status& status);

}  // namespace headgate::cli
