// SPDX-License-Identifier: Apache-2.0
#include "agent/api/server.h"

#include <absl/strings/str_cat.h>
#include <google/protobuf/stubs/logging.h>
#include <grp.h>
#include <grpc/grpc.h>
#include <grpc/support/log.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>

#include "agent/api/gateway_service.h"
#include "agent/base/address.h"
#include "agent/base/fd.h"
#include "agent/base/log.h"
#include "agent/base/status.h"

namespace headgate::api {
namespace {

// A document of 100,000 rules is about 20 MB, a set of a million prefixes the same.
constexpr int kMaxMessage = 256 << 20;
// Violations travel in trailers.
constexpr int kMaxMetadata = 4 << 20;
constexpr unsigned kTlsReloadSeconds = 5;
constexpr mode_t kSocketMode = 0660;
constexpr std::chrono::seconds kShutdownGrace{2};

bool IsLoopback(const std::string& host) {
  if (host == "localhost") return true;
  const absl::StatusOr<IpAddress> address = ParseAddress(host);
  if (!address.ok()) return false;
  if (address->family == Family::kIpv4) return address->words[0] >> 24 == 127;
  return address->words == std::array<uint32_t, 4>{0, 0, 0, 1};
}

// "address:port" or "[address]:port".
absl::StatusOr<std::string> HostOf(const std::string& listen) {
  const size_t colon = listen.rfind(':');
  if (colon == std::string::npos || colon + 1 == listen.size()) {
    return absl::InvalidArgumentError(absl::StrCat("listen address \"", listen, "\": write ADDRESS:PORT"));
  }
  std::string host = listen.substr(0, colon);
  if (host.size() > 1 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  return host;
}

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> TcpCredentials(const ServerOptions& options) {
  HG_ASSIGN_OR_RETURN(const std::string host, HostOf(options.tcp));
  const bool tls = !options.tls_certificate.empty() || !options.tls_key.empty() || !options.tls_client_ca.empty();
  if (!tls) {
    if (options.insecure_loopback && IsLoopback(host)) return grpc::InsecureServerCredentials();
    return absl::FailedPreconditionError(absl::StrCat(
        "listening on ", options.tcp, " needs mutual TLS (--tls-cert, --tls-key, --tls-client-ca), or ",
        "--insecure-loopback and a loopback address"));
  }
  for (const std::string& file : {options.tls_certificate, options.tls_key, options.tls_client_ca}) {
    if (file.empty() || access(file.c_str(), R_OK) != 0) {
      return absl::FailedPreconditionError(
          absl::StrCat("TLS needs all of --tls-cert, --tls-key and --tls-client-ca: cannot read \"", file, "\""));
    }
  }
  auto provider = std::make_shared<grpc::experimental::FileWatcherCertificateProvider>(
      options.tls_key, options.tls_certificate, options.tls_client_ca, kTlsReloadSeconds);
  grpc::experimental::TlsServerCredentialsOptions credentials(provider);
  credentials.set_cert_request_type(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  credentials.watch_root_certs();
  credentials.watch_identity_key_cert_pairs();
  return grpc::experimental::TlsServerCredentials(credentials);
}

// gRPC would take the socket's place from whoever listens there.
bool SomebodyListens(const std::string& path) {
  sockaddr_un address{.sun_family = AF_UNIX};
  if (path.size() >= sizeof(address.sun_path)) return false;
  path.copy(address.sun_path, path.size());
  const Fd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  return fd && connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
}

absl::Status SetSocketOwner(const ServerOptions& options) {
  const char* path = options.unix_socket.c_str();
  if (!options.unix_group.empty()) {
    const group* entry = getgrnam(options.unix_group.c_str());
    if (entry == nullptr) {
      return absl::NotFoundError(absl::StrCat("there is no group \"", options.unix_group, "\" to own ", path));
    }
    if (chown(path, static_cast<uid_t>(-1), entry->gr_gid) != 0) {
      return ErrnoStatus("give ", path, " to group ", options.unix_group);
    }
  }
  if (chmod(path, kSocketMode) != 0) return ErrnoStatus("set the mode of ", path);
  return absl::OkStatus();
}

}  // namespace

ApiServer::ApiServer() = default;

ApiServer::~ApiServer() {
  if (!server_) return;
  service_->Stop();
  if (auto* health = server_->GetHealthCheckService()) health->SetServingStatus(false);
  server_->Shutdown(std::chrono::system_clock::now() + kShutdownGrace);
  server_->Wait();
}

absl::StatusOr<std::unique_ptr<ApiServer>> ApiServer::Start(const ServerOptions& options, Controller& controller,
                                                            EventBus& events, ActionPool& actions,
                                                            AgentFacts facts) {
  // Held to the end of the process: undoing it waits up to 10 s when a long answer was sent lately.
  grpc_init();
  // What gRPC has to say goes where everything goes.
  gpr_set_log_function([](gpr_log_func_args* line) {
    Log(line->severity == GPR_LOG_SEVERITY_ERROR ? spdlog::level::warn : spdlog::level::debug, "grpc",
        {{"text", absl::string_view(line->message)}});
  });
  google::protobuf::SetLogHandler([](google::protobuf::LogLevel, const char*, int, const std::string& message) {
    Log(spdlog::level::debug, "protobuf", {{"text", message}});
  });
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  std::unique_ptr<ApiServer> api(new ApiServer());
  api->service_ = std::make_unique<GatewayService>(controller, events, actions, std::move(facts));
  grpc::ServerBuilder builder;
  builder.RegisterService(api->service_.get());
  builder.SetMaxReceiveMessageSize(kMaxMessage);
  builder.SetMaxSendMessageSize(kMaxMessage);
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kMaxMetadata);
  // The default would let two agents share a port, and each answer half of the calls.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  int tcp_port = -1;
  if (!options.unix_socket.empty()) {
    if (SomebodyListens(options.unix_socket)) {
      return absl::FailedPreconditionError(absl::StrCat("another process listens on ", options.unix_socket,
                                                        ": stop it, or choose another --socket"));
    }
    std::error_code error;
    std::filesystem::create_directories(std::filesystem::path(options.unix_socket).parent_path(), error);
    builder.AddListeningPort(absl::StrCat("unix:", options.unix_socket), grpc::InsecureServerCredentials());
  }
  if (!options.tcp.empty()) {
    HG_ASSIGN_OR_RETURN(const auto credentials, TcpCredentials(options));
    builder.AddListeningPort(options.tcp, credentials, &tcp_port);
  }
  // Nobody but the owner between the socket's creation and the change of its group and mode.
  const mode_t mask = umask(0177);
  api->server_ = builder.BuildAndStart();
  umask(mask);
  if (!api->server_ || tcp_port == 0) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen on ", options.unix_socket, " ", options.tcp,
                     ": is the address in use, the directory writable, the certificate valid?"));
  }
  if (!options.unix_socket.empty()) HG_RETURN_IF_ERROR(SetSocketOwner(options));
  api->server_->GetHealthCheckService()->SetServingStatus(true);
  api->server_->GetHealthCheckService()->SetServingStatus(pb::Gateway::service_full_name(), true);
  Log(spdlog::level::info, "listening", {{"unix", options.unix_socket}, {"tcp", options.tcp}});
  return api;
}

}  // namespace headgate::api
