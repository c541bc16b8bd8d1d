// SPDX-License-Identifier: Apache-2.0
//
// hgbench: traffic generator, meter and benchmarks.
#include <csignal>
#include <iostream>
#include <nlohmann/json.hpp>

#include "agent/base/log.h"
#include "agent/base/status.h"
#include "bench/options.h"
#include "bench/result.h"
#include "bench/traffic.h"

namespace headgate::bench {
namespace {

std::atomic<bool> stop = false;

void OnSignal(int) { stop.store(true, std::memory_order_relaxed); }

// A first signal asks for the end, with all reports and cleaning up; a second one does not ask.
void CatchSignals() {
  struct sigaction action {};
  action.sa_handler = OnSignal;
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  for (const int signal : {SIGINT, SIGTERM}) sigaction(signal, &action, nullptr);
}

Outcome ToOutcome(const Result& result) { return {.json = ToJson(result), .text = ToTable(result)}; }

class Runner {
 public:
  explicit Runner(bool quiet) : quiet_(quiet) {}

  absl::StatusOr<Outcome> operator()(const SendCommand& command) const { return Send(command, quiet_, stop); }
  absl::StatusOr<Outcome> operator()(const ReceiveCommand& command) const {
    return Receive(command, quiet_, stop);
  }
  absl::StatusOr<Outcome> operator()(const RunCommand& command) const {
    return SendAndReceive(command, quiet_, stop);
  }
  absl::StatusOr<Outcome> operator()(const RedirectOptions& options) const {
    HG_ASSIGN_OR_RETURN(const auto rows,
                        RunRedirect(options, stop, [this](const std::string& line) { Say(line); }));
    return ToOutcome(ToResult(options, rows));
  }
  absl::StatusOr<Outcome> operator()(const FilterOptions& options) const {
    HG_ASSIGN_OR_RETURN(const Result result,
                        RunFilter(options, stop, [this](const std::string& line) { Say(line); }));
    return ToOutcome(result);
  }
  absl::StatusOr<Outcome> operator()(const ControlOptions& options) const {
    HG_ASSIGN_OR_RETURN(const Result result,
                        RunControl(options, stop, [this](const std::string& line) { Say(line); }));
    return ToOutcome(result);
  }
  absl::StatusOr<Outcome> operator()(const ReplaceOptions& options) const {
    HG_ASSIGN_OR_RETURN(const Result result,
                        RunReplace(options, stop, [this](const std::string& line) { Say(line); }));
    return ToOutcome(result);
  }
  absl::StatusOr<Outcome> operator()(const SteerOptions& options) const {
    HG_ASSIGN_OR_RETURN(const Result result,
                        RunSteer(options, stop, [this](const std::string& line) { Say(line); }));
    return ToOutcome(result);
  }
  absl::StatusOr<Outcome> operator()(const MulticastOptions& options) const {
    HG_ASSIGN_OR_RETURN(const Result result,
                        RunMulticast(options, stop, [this](const std::string& line) { Say(line); }));
    return ToOutcome(result);
  }

 private:
  void Say(const std::string& line) const {
    if (!quiet_) std::cerr << line << std::endl;
  }
  bool quiet_;
};

int Fail(const absl::Status& status) {
  std::cerr << "hgbench: " << status.message() << "\n";
  return static_cast<int>(ExitCode::kFailed);
}

int Main(int argc, char** argv) {
  int exit_code = 0;
  const std::optional<Command> command = ParseCommand(argc, argv, std::cout, std::cerr, exit_code);
  if (!command) return exit_code;
  CatchSignals();
  SetLogLevel("warn")
      .IgnoreError();  // of the data plane that this process loads: progress is the scenario's to print
  const absl::StatusOr<Outcome> outcome = std::visit(Runner(command->quiet), command->verb);
  if (!outcome.ok()) return Fail(outcome.status());
  if (command->json != "-") std::cout << outcome->text << std::flush;
  if (!command->json.empty()) {
    if (const absl::Status status = WriteJson(outcome->json, command->json); !status.ok()) return Fail(status);
  }
  return static_cast<int>(outcome->code);
}

}  // namespace
}  // namespace headgate::bench

int main(int argc, char** argv) { return headgate::bench::Main(argc, argv); }
