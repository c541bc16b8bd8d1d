// SPDX-License-Identifier: Apache-2.0
#include "agent/options.h"

#include <unistd.h>
#include <CLI/CLI.hpp>
#include <map>

namespace headgate {

std::optional<Options> ParseOptions(int argc, char** argv, int& exit_code) {
  Options options;
  double drift_seconds = 30;
  uint32_t busy_poll_us = 0;
  CLI::App app("headgated: the Headgate agent");
  app.set_version_flag("--version", std::string("headgated ") + HG_VERSION);
  const auto add = [&app](const char* flag, auto& value, const char* help, const char* environment) {
    return app.add_option(flag, value, help)->envname(environment)->capture_default_str();
  };
  add("--config", options.config,
      "Start-up configuration (YAML); applied when it has changed since the last start", "HEADGATE_CONFIG");
  add("--state", options.state, "Database of the desired state", "HEADGATE_STATE");
  add("--socket", options.server.unix_socket, "Unix socket of the API; empty for none", "HEADGATE_SOCKET");
  add("--socket-group", options.server.unix_group, "Group whose members may use the socket",
      "HEADGATE_SOCKET_GROUP");
  add("--listen", options.server.tcp, "TCP address of the API, ADDRESS:PORT", "HEADGATE_LISTEN");
  add("--tls-cert", options.server.tls_certificate, "Certificate for --listen (PEM)", "HEADGATE_TLS_CERT");
  add("--tls-key", options.server.tls_key, "Key of the certificate (PEM)", "HEADGATE_TLS_KEY");
  add("--tls-client-ca", options.server.tls_client_ca, "Authority of clients' certificates (PEM)",
      "HEADGATE_TLS_CLIENT_CA");
  app.add_flag("--insecure-loopback", options.server.insecure_loopback,
               "Let --listen go without TLS on a loopback address")
      ->envname("HEADGATE_INSECURE_LOOPBACK");
  add("--http", options.http, "Address of /livez, /readyz and /metrics; empty for none", "HEADGATE_HTTP");
  add("--bpffs", options.load.bpffs, "BPF file system; mounted there when it is not", "HEADGATE_BPFFS");
  add("--bpffs-directory", options.load.directory, "Directory of the pins below it; one for each agent of a host",
      "HEADGATE_BPFFS_DIRECTORY");
  add("--max-rules", options.load.sizes.max_entries,
      "Match entries there is room for: one a rule, more with several port ranges", "HEADGATE_MAX_RULES")
      ->check(CLI::Range(64, 4'000'000));
  add("--max-prefixes", options.load.sizes.max_prefixes, "Prefixes there is room for, over all sets",
      "HEADGATE_MAX_PREFIXES")
      ->check(CLI::Range(64, 16'000'000));
  add("--max-sources", options.load.sizes.max_sources, "Per-source rate limit buckets there is room for",
      "HEADGATE_MAX_SOURCES")
      ->check(CLI::Range(64, 16'000'000));
  app.add_flag("--flow-cache,!--no-flow-cache", options.load.flow_cache,
               "Remember by flow what classification found (default: on)")
      ->envname("HEADGATE_FLOW_CACHE");
  app.add_option("--worker-cpus", options.slow_path.cpus,
                 "CPUs that workers of steer targets are pinned to, in turn: 2,3,4 (default: not pinned)")
      ->envname("HEADGATE_WORKER_CPUS")
      ->delimiter(',')
      ->check(CLI::Range(0L, sysconf(_SC_NPROCESSORS_CONF) - 1));
  add("--worker-busy-poll", busy_poll_us,
      "Microseconds that workers go on looking for packets before they sleep; 0: not at all (default)",
      "HEADGATE_WORKER_BUSY_POLL")
      ->check(CLI::Range(0, 1'000'000));
  add("--app-socket", options.slow_path.app_socket,
      "Unix socket where applications ask for the packets of targets; empty for none", "HEADGATE_APP_SOCKET");
  add("--drift-interval", drift_seconds, "Seconds between comparisons of the kernel's tables with the state",
      "HEADGATE_DRIFT_INTERVAL")
      ->check(CLI::Range(0.05, 86'400.0));
  add("--log-level", options.log_level, "trace, debug, info, warn or error", "HEADGATE_LOG_LEVEL")
      ->check(CLI::IsMember({"trace", "debug", "info", "warn", "error"}));
  static const std::map<std::string, LogFormat> kFormats = {{"text", LogFormat::kText},
                                                            {"json", LogFormat::kJson}};
  app.add_option("--log-format", options.log_format, "text or json")
      ->envname("HEADGATE_LOG_FORMAT")
      ->transform(CLI::CheckedTransformer(kFormats));
  app.add_flag("--keep-privileges", options.keep_privileges, "Do not drop the capabilities that are not needed");
  app.add_flag("--check-config", options.check_config, "Say whether --config is valid, and exit");
  app.add_flag("--detach", options.detach,
               "Take the programs off all devices, remove everything pinned, and exit; the state stays");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    exit_code = app.exit(error) == 0 ? 0 : 2;
    return std::nullopt;
  }
  options.slow_path.busy_poll = std::chrono::microseconds(busy_poll_us);
  options.drift_interval = std::chrono::milliseconds(static_cast<int64_t>(drift_seconds * 1000));
  return options;
}

}  // namespace headgate
