// SPDX-License-Identifier: Apache-2.0
//
// What the tests of the agent's API share: a gateway between a client and a server with one configuration in
// force, and the two questions that tell whether anything changed: what the agent holds, and what becomes of a
// packet.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "headgate/v1/gateway.pb.h"
#include "tests/harness/agent.h"
#include "tests/harness/command.h"
#include "tests/harness/wire.h"

namespace headgate::testing {

// A YAML text as a message; throws when it is not one.
template <typename Message>
Message FromYaml(const std::string& yaml);
extern template pb::GatewayConfig FromYaml(const std::string& yaml);
extern template pb::Patch FromYaml(const std::string& yaml);

pb::ApplyRequest ConfigRequest(const std::string& yaml);
pb::ApplyRequest PatchRequest(const std::string& yaml);

// client c0 -- g0 gw g1 -- s0 server.
class LiveGatewayTest : public ::testing::Test {
 protected:
  // `name`: of the lab. `arguments`: of the agent, beyond sizes that make it start quickly.
  explicit LiveGatewayTest(std::string name, std::map<std::string, std::string> arguments = {});
  // Starts an agent that has never run, with kDocument in force. The lab serves all tests of a suite.
  void SetUp() override;
  void TearDown() override;
  static void TearDownTestSuite();

  // Interfaces "in" (g0) and "out" (g1); drop-9 drops UDP port 9, evil drops the set "bogons", hop sends UDP ports
  // 7000-7009 to the next hop "hop", wire redirects the rest of what comes in.
  static const char kDocument[];

  Lab& lab() { return *lab_; }
  Agent& agent() { return *agent_; }
  Client& api() { return agent_->client(); }
  Wire& client() { return *client_; }
  Wire& server() { return *server_; }

  // The state and the objects with their ids, as text; not what becomes of them.
  std::string Held(bool applied = false);
  // Sends a frame from the client; the reason that the gateway counted it under.
  std::string Fate(const Bytes& frame);
  // The same for a UDP packet to a port.
  std::string FateOfPort(uint16_t port, const std::string& source = "192.0.2.1");
  // What kDocument makes of packets; a test failure when it is otherwise.
  void ExpectDocumentInForce();
  // The request is refused with this code, and neither what is held nor what becomes of packets changes.
  CallStatus ExpectRefused(const pb::ApplyRequest& request, int code);
  // Runs the check, restarts the agent by SIGKILL and runs it again.
  void NowAndAfterRestart(const std::function<void()>& check);
  // Kills the agent and starts it with these arguments ("--flag", "value") on top of, or instead of, its own.
  void RestartWith(const std::map<std::string, std::string>& arguments);
  // Runs headgated where and as the test's agent is run, but for these arguments, until it ends by itself.
  CommandResult RunAgent(const std::map<std::string, std::string>& arguments);
  AgentOptions Options(const std::map<std::string, std::string>& arguments) const;

 private:
  const std::string name_;
  const std::map<std::string, std::string> arguments_;
  static std::unique_ptr<Lab> lab_;
  static std::unique_ptr<Wire> client_, server_;
  std::unique_ptr<Agent> agent_;
};

}  // namespace headgate::testing
