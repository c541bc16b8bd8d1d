// SPDX-License-Identifier: Apache-2.0
//
// What benchmarks ask of an agent. The one file of hgbench that knows gRPC is its .cpp.
#pragma once

#include <absl/status/statusor.h>

#include <memory>
#include <string>

#include "headgate/v1/gateway.pb.h"

namespace headgate::bench {

// A stream of changes. One thread may send while another receives.
class UpdateStream {
 public:
  virtual ~UpdateStream() = default;
  // With `more`, it may wait to go out together with the next.
  virtual absl::Status Send(const v1::UpdateRequest& request, bool more = false) = 0;
  // The next answer, in the order of the requests; an error when it is a refusal.
  virtual absl::StatusOr<v1::UpdateResponse> Receive() = 0;
};

class GatewayClient {
 public:
  explicit GatewayClient(const std::string& socket);
  ~GatewayClient();

  absl::StatusOr<v1::ApplyResponse> Apply(const v1::ApplyRequest& request);
  // UNAVAILABLE while nobody serves.
  absl::StatusOr<v1::StatusResponse> GetStatus();
  absl::StatusOr<v1::StatsResponse> GetStats(const v1::StatsRequest& request);
  std::unique_ptr<UpdateStream> Update();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace headgate::bench
