// SPDX-License-Identifier: Apache-2.0
//
// Where the API listens: a unix socket by default, TCP when configured, with health and reflection.
#pragma once

#include <absl/status/statusor.h>

#include <memory>
#include <string>

#include "agent/api/convert.h"
#include "agent/control/controller.h"

namespace grpc {
class Server;
}

namespace headgate::api {

class GatewayService;

struct ServerOptions {
  std::string unix_socket = "/run/headgate/headgated.sock";  // empty: none
  std::string unix_group;  // whose members may use the socket; empty: the process's
  std::string tcp;         // "address:port"; empty: none
  // Mutual TLS for TCP: certificate, key, and the authority that clients' certificates must come from (PEM).
  // Reread when the files change.
  std::string tls_certificate, tls_key, tls_client_ca;
  // TCP without TLS, on a loopback address only.
  bool insecure_loopback = false;
};

struct AgentFacts;

class ApiServer {
 public:
  static absl::StatusOr<std::unique_ptr<ApiServer>> Start(const ServerOptions& options, Controller& controller,
                                                          EventBus& events, ActionPool& actions, AgentFacts facts);
  ~ApiServer();

 private:
  ApiServer();
  std::unique_ptr<GatewayService> service_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace headgate::api
