// SPDX-License-Identifier: Apache-2.0
//
// What every verb works with: the global options, the streams, the connection.
#pragma once

#include <absl/status/statusor.h>
#include <absl/time/time.h>
#include <CLI/CLI.hpp>

#include <functional>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "cli/client.h"
#include "cli/exit_code.h"

namespace google::protobuf {
class Message;
}  // namespace google::protobuf

namespace headgate::cli {

enum class OutputFormat { kTable, kJson, kYaml };

struct Context {
  Context() : Context(std::cin, std::cout, std::cerr) {}
  Context(std::istream& from, std::ostream& to, std::ostream& errors) : in(from), out(to), err(errors) {}

  Endpoint endpoint;
  std::string output = "table";
  std::istream& in;
  std::ostream& out;
  std::ostream& err;
  // What the verb on the command line does; set while that is parsed.
  std::function<absl::StatusOr<ExitCode>()> run;

  OutputFormat format() const;
  // Columns of the terminal; 0 when the output goes elsewhere and nothing may be cut.
  size_t width() const;
  // Connects when first used.
  absl::StatusOr<Client*> client();
  // In the form asked for, when that is JSON or YAML; true when it was.
  bool Print(const google::protobuf::Message& message);
  // The same in a stream: JSON a line each, YAML a document each.
  bool PrintNext(const google::protobuf::Message& message);

 private:
  std::unique_ptr<Client> client_;
};

// The global options.
void AddGlobalOptions(CLI::App& app, Context& context);

// An option that takes a duration, "1.5s".
CLI::Option* AddDuration(CLI::App& app, const std::string& names, absl::Duration& value, const std::string& help);

// The text of a file, or of standard input for "-".
absl::StatusOr<std::string> ReadInput(Context& context, const std::string& path);

// Each adds its verbs to the command line.
void AddApply(CLI::App& app, Context& context);       // apply, diff
void AddChange(CLI::App& app, Context& context);      // set, delete
void AddGet(CLI::App& app, Context& context);         // get
void AddWatch(CLI::App& app, Context& context);       // watch
void AddStats(CLI::App& app, Context& context);       // stats
void AddTop(CLI::App& app, Context& context);         // top
void AddTrace(CLI::App& app, Context& context);       // trace
void AddAgent(CLI::App& app, Context& context);       // status, confirm, log-level, version
void AddCompletion(CLI::App& app, Context& context);  // completion

// Prints what may come next on a command line, a candidate a line with its help after a tab; ":files" for file
// names.
ExitCode RunComplete(const CLI::App& app, Context& context, const std::vector<std::string>& words);

}  // namespace headgate::cli
