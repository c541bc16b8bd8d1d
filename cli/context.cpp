// SPDX-License-Identifier: Apache-2.0
#include "cli/context.h"

#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <iterator>

#include "agent/api/text.h"
#include "agent/api/text_values.h"
#include "agent/base/status.h"
#include "cli/file.h"

namespace headgate::cli {

OutputFormat Context::format() const {
  return output == "json" ? OutputFormat::kJson : output == "yaml" ? OutputFormat::kYaml : OutputFormat::kTable;
}

size_t Context::width() const {
  if (isatty(STDOUT_FILENO) == 0) return 0;
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col != 0) return size.ws_col;
  size_t columns = 0;
  const char* given = std::getenv("COLUMNS");
  return given != nullptr && absl::SimpleAtoi(given, &columns) ? columns : 80;
}

absl::StatusOr<Client*> Context::client() {
  if (!client_) {
    HG_ASSIGN_OR_RETURN(client_, Client::Create(endpoint));
  }
  return client_.get();
}

bool Context::Print(const google::protobuf::Message& message) {
  if (format() == OutputFormat::kTable) return false;
  out << (format() == OutputFormat::kJson ? ToJsonText(message) + "\n" : ToYaml(message));
  return true;
}

bool Context::PrintNext(const google::protobuf::Message& message) {
  if (format() == OutputFormat::kTable) return false;
  out << (format() == OutputFormat::kJson ? ToJsonText(message, -1) + "\n" : "---\n" + ToYaml(message))
      << std::flush;
  return true;
}

void AddGlobalOptions(CLI::App& app, Context& context) {
  Endpoint& endpoint = context.endpoint;
  app.add_option("--address", endpoint.address, "The agent: unix:PATH, or HOST:PORT for TCP")
      ->envname("HEADGATE_ADDRESS")
      ->type_name("ADDRESS")
      ->capture_default_str();
  app.add_option("--tls-ca", endpoint.tls_ca, "CA that signed the agent's certificate (PEM)")->type_name("FILE");
  auto* cert = app.add_option("--tls-cert", endpoint.tls_cert, "Certificate to present (PEM)")->type_name("FILE");
  auto* key = app.add_option("--tls-key", endpoint.tls_key, "Its private key (PEM)")->type_name("FILE");
  cert->needs(key);
  key->needs(cert);
  app.add_flag("--insecure", endpoint.insecure, "TCP without TLS");
  AddDuration(app, "--timeout", endpoint.timeout,
              "How long to wait for an answer, or for a stream to begin (60s)");
  app.add_option("-o,--output", context.output, "Output for people or for programs")
      ->type_name("FORMAT")
      ->check(CLI::IsMember({"table", "json", "yaml"}))
      ->capture_default_str();
  app.parse_complete_callback([&endpoint] {
    if (!endpoint.address.empty() && endpoint.address[0] == '/') endpoint.address = "unix:" + endpoint.address;
    if (!endpoint.IsUnix() && !endpoint.insecure && endpoint.tls_cert.empty()) {
      throw CLI::ValidationError("--address",
                                 "TCP needs --tls-cert and --tls-key (and --tls-ca unless the system "
                                 "trusts the agent's), or --insecure");
    }
  });
}

CLI::Option* AddDuration(CLI::App& app, const std::string& names, absl::Duration& value, const std::string& help) {
  return app
      .add_option_function<std::string>(
          names,
          [names, &value](const std::string& text) {
            const absl::StatusOr<absl::Duration> parsed = ParseDurationText(text);
            if (!parsed.ok()) throw CLI::ValidationError(names, std::string(parsed.status().message()));
            if (*parsed <= absl::ZeroDuration()) throw CLI::ValidationError(names, "must be more than nothing");
            value = *parsed;
          },
          help)
      ->type_name("DURATION");
}

absl::StatusOr<std::string> ReadInput(Context& context, const std::string& path) {
  if (path == "-") return std::string(std::istreambuf_iterator<char>(context.in), {});
  return ReadFile(path);
}

}  // namespace headgate::cli
