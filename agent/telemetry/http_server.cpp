// SPDX-License-Identifier: Apache-2.0
#include "agent/telemetry/http_server.h"

#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <httplib.h>

namespace headgate {
namespace {

constexpr size_t kThreads = 4;
// Probes come from few places; what is open and silent is closed soon.
constexpr time_t kIdleSeconds = 5;

void Answer(const absl::Status& status, httplib::Response& response) {
  response.status = status.ok() ? 200 : 503;
  response.set_content(status.ok() ? "ok\n" : absl::StrCat(std::string(status.message()), "\n"), "text/plain");
}

}  // namespace

HttpServer::HttpServer() : server_(std::make_unique<httplib::Server>()) {}

HttpServer::~HttpServer() { server_->stop(); }

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const std::string& listen,
                                                              const HttpHandlers& handlers) {
  const size_t colon = listen.rfind(':');
  int port = 0;
  if (colon == std::string::npos || !absl::SimpleAtoi(listen.substr(colon + 1), &port)) {
    return absl::InvalidArgumentError(absl::StrCat("HTTP address \"", listen, "\": write ADDRESS:PORT"));
  }
  std::string host = listen.substr(0, colon);
  if (host.size() > 1 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);

  std::unique_ptr<HttpServer> http(new HttpServer());
  httplib::Server& server = *http->server_;
  server.new_task_queue = [] { return new httplib::ThreadPool(kThreads); };
  server.set_keep_alive_timeout(kIdleSeconds);
  // The default would let two agents share a port, and each answer half of the questions.
  server.set_socket_options([](socket_t socket) {
    const int yes = 1;
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
  });
  server.Get("/livez", [alive = handlers.alive](const httplib::Request&, httplib::Response& response) {
    Answer(alive(), response);
  });
  server.Get("/readyz", [ready = handlers.ready](const httplib::Request&, httplib::Response& response) {
    Answer(ready(), response);
  });
  server.Get("/metrics", [metrics = handlers.metrics](const httplib::Request&, httplib::Response& response) {
    response.set_content(metrics(), "text/plain; version=0.0.4; charset=utf-8");
  });
  if (!server.bind_to_port(host, port)) {
    return absl::UnavailableError(absl::StrCat("cannot listen for HTTP on ", listen, ": is the address in use?"));
  }
  std::atomic<bool>& ended = http->ended_;
  http->thread_ = std::jthread([&server, &ended] {
    server.listen_after_bind();
    ended = true;
  });
  // Told to stop before it runs, it would never.
  while (!server.is_running() && !ended) std::this_thread::yield();
  return http;
}

}  // namespace headgate
