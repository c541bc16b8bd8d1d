// SPDX-License-Identifier: Apache-2.0
//
// The real headgated in a lab's namespace, and a client of its API.
#pragma once

#include <sys/types.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "headgate/v1/gateway.pb.h"
#include "tests/harness/lab.h"

namespace grpc {
class Channel;
}

namespace headgate::testing {

namespace pb = ::headgate::v1;

// A call's outcome: gRPC's code, message, and the violations among the details.
struct CallStatus {
  int code = 0;
  std::string message;
  std::vector<std::pair<std::string, std::string>> violations;  // field, description
  bool ok() const { return code == 0; }
};

// Blocking calls; any thread.
class Client {
 public:
  explicit Client(const std::string& address);
  ~Client();

  CallStatus Apply(const pb::ApplyRequest& request, pb::ApplyResponse* response = nullptr);
  // A whole configuration as YAML; throws when it is not one, or is refused. Returns when it is in force.
  pb::ApplyResponse ApplyYaml(const std::string& yaml);
  // A patch as YAML, likewise.
  pb::ApplyResponse PatchYaml(const std::string& yaml);
  CallStatus TryYaml(const std::string& yaml, pb::ApplyResponse* response = nullptr);
  CallStatus Confirm(uint64_t generation);
  CallStatus Get(const pb::GetRequest& request, pb::GetResponse& response);
  std::vector<pb::Object> GetAll(const std::vector<pb::Kind>& kinds = {}, bool applied = false);
  // Throws when there is none.
  pb::Object GetObject(pb::Kind kind, const std::string& name);
  pb::StatsResponse Stats();
  std::map<std::string, uint64_t> Reasons(const std::string& interface);
  // Among Status' warnings.
  bool Warns(const std::string& text);
  pb::RuleStats Rule(const std::string& name);
  pb::InterfaceStats Interface(const std::string& name);
  pb::CounterStats Counter(const std::string& name);
  pb::StatusResponse Status();
  CallStatus Trace(const pb::TraceRequest& request, pb::TraceResponse& response);
  pb::TraceResponse Trace(const std::string& description);
  CallStatus SetLogLevel(const std::string& level, std::string& previous);
  // Whether the health service says SERVING.
  bool Healthy();

  // Events until destroyed.
  class Watcher;
  std::unique_ptr<Watcher> Watch(const std::vector<pb::EventType>& types = {});

  // The stream of updates.
  class Updates;
  std::unique_ptr<Updates> Update();

 private:
  std::shared_ptr<grpc::Channel> channel_;
};

class Client::Watcher {
 public:
  virtual ~Watcher() = default;
  // The next event for which `wanted` holds.
  virtual std::optional<pb::Event> Next(const std::function<bool(const pb::Event&)>& wanted,
                                        std::chrono::milliseconds timeout = std::chrono::seconds(10)) = 0;
};

class Client::Updates {
 public:
  virtual ~Updates() = default;
  virtual bool Send(const pb::UpdateRequest& request) = 0;
  virtual std::optional<pb::UpdateResponse> Receive() = 0;
  // No more to send; further answers can still be received.
  virtual void Finish() = 0;
};

struct AgentOptions {
  std::vector<std::string> arguments;  // beyond those the harness needs
  std::string binary;                  // empty: the one that was built
  std::string prefix;                  // a command to start it by
  std::string name;                    // one of several in a lab: of its directory within the lab's
};

class Agent {
 public:
  // Starts it in the namespace and returns when it serves; throws with its log when it does not.
  Agent(Lab& lab, const std::string& ns, AgentOptions options = {});
  ~Agent();

  void Kill();  // SIGKILL
  // SIGTERM; its exit code.
  int Stop();
  // Starts it again, with other options where given.
  void Start();
  void Start(AgentOptions options);
  void Restart() {
    Kill();
    Start();
  }
  void Signal(int number) const;
  pid_t pid() const { return pid_; }
  Client& client() { return *client_; }
  std::string address() const { return "unix:" + directory_ + "/headgated.sock"; }
  std::string Log() const;
  const std::string& directory() const { return directory_; }
  std::string pins() const { return directory_ + "/bpf/headgate"; }

 private:
  Lab& lab_;
  std::string ns_;
  AgentOptions options_;
  std::string directory_;
  pid_t pid_ = -1;
  std::unique_ptr<Client> client_;
};

}  // namespace headgate::testing
