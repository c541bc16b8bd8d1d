// SPDX-License-Identifier: Apache-2.0
//
// The Gateway service: messages in, the controller asked, messages out. Holds no configuration of its own.
// Handlers run on gRPC's threads.
#pragma once

#include <atomic>
#include <map>

#include "agent/api/byte_budget.h"
#include "agent/api/convert.h"
#include "agent/control/controller.h"
#include "agent/control/events.h"
#include "agent/control/multicast_path.h"
#include "agent/slowpath/worker_status.h"
#include "headgate/v1/gateway.grpc.pb.h"

namespace headgate::api {

// What the agent as a whole knows, beyond the controller.
struct AgentFacts {
  std::chrono::system_clock::time_point started = std::chrono::system_clock::now();
  // Every map of the object, for Status; empty on a fake data plane.
  std::function<std::vector<TableInfo>()> maps = [] { return std::vector<TableInfo>(); };
  // For Stats; none without a slow path.
  std::function<std::vector<WorkerStatus>()> workers = [] { return std::vector<WorkerStatus>(); };
  // For Get.
  std::function<MulticastView(const MulticastRoute&)> multicast = [](const MulticastRoute&) {
    return MulticastView();
  };
  // For Status.
  std::function<std::vector<std::string>()> membership_troubles = [] { return std::vector<std::string>(); };
  std::function<SlowPathTroubles()> slow_path_troubles = [] { return SlowPathTroubles(); };
};

class GatewayService final : public pb::Gateway::Service {
 public:
  GatewayService(Controller& controller, EventBus& events, ActionPool& actions, AgentFacts facts)
      : controller_(controller), events_(events), actions_(actions), facts_(std::move(facts)) {}

  // Lets streams end, so that the server can.
  void Stop() { stopping_ = true; }

  grpc::Status Apply(grpc::ServerContext* context, const pb::ApplyRequest* request,
                     pb::ApplyResponse* response) override;
  grpc::Status Confirm(grpc::ServerContext* context, const pb::ConfirmRequest* request,
                       pb::ConfirmResponse* response) override;
  grpc::Status Update(grpc::ServerContext* context,
                      grpc::ServerReaderWriter<pb::UpdateResponse, pb::UpdateRequest>* stream) override;
  grpc::Status Get(grpc::ServerContext* context, const pb::GetRequest* request,
                   pb::GetResponse* response) override;
  grpc::Status Watch(grpc::ServerContext* context, const pb::WatchRequest* request,
                     grpc::ServerWriter<pb::Event>* writer) override;
  grpc::Status Stats(grpc::ServerContext* context, const pb::StatsRequest* request,
                     pb::StatsResponse* response) override;
  grpc::Status StreamStats(grpc::ServerContext* context, const pb::StatsRequest* request,
                           grpc::ServerWriter<pb::StatsResponse>* writer) override;
  grpc::Status Trace(grpc::ServerContext* context, const pb::TraceRequest* request,
                     pb::TraceResponse* response) override;
  grpc::Status Status(grpc::ServerContext* context, const pb::StatusRequest* request,
                      pb::StatusResponse* response) override;
  grpc::Status SetLogLevel(grpc::ServerContext* context, const pb::SetLogLevelRequest* request,
                           pb::SetLogLevelResponse* response) override;

 private:
  static constexpr size_t kMaxUpdateBytes = 64 << 20;

  Controller& controller_;
  EventBus& events_;
  ActionPool& actions_;
  const AgentFacts facts_;
  std::atomic<bool> stopping_ = false;
  // Requests of all Update streams that are not answered yet.
  ByteBudget update_bytes_{kMaxUpdateBytes};
};

}  // namespace headgate::api
