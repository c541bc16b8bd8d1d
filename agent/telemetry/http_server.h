// SPDX-License-Identifier: Apache-2.0
//
// /livez, /readyz and /metrics over HTTP.
#pragma once

#include <absl/status/statusor.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>

namespace httplib {
class Server;
}

namespace headgate {

struct HttpHandlers {
  // OK, or why not.
  std::function<absl::Status()> alive;
  std::function<absl::Status()> ready;
  // In Prometheus' text format.
  std::function<std::string()> metrics;
};

class HttpServer {
 public:
  // `listen`: "address:port".
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const std::string& listen,
                                                           const HttpHandlers& handlers);
  ~HttpServer();

 private:
  HttpServer();
  std::unique_ptr<httplib::Server> server_;
  std::atomic<bool> ended_ = false;
  std::jthread thread_;
};

}  // namespace headgate
