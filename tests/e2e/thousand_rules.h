// SPDX-License-Identifier: Apache-2.0
//
// A gateway with 1,000 rules that redirects traffic at full rate, while things happen to its agent.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/harness/traffic.h"

namespace headgate::testing {

// client c0 -- g0 gw g1 -- s1 server; interfaces "in" and "out", rule "wire" redirects everything that comes in.
class ThousandRulesTest : public ::testing::Test {
 protected:
  static constexpr uint64_t kFrames = 300000;  // enough that what happens meanwhile happens under traffic

  explicit ThousandRulesTest(std::string name) : name_(std::move(name)) {}
  // The lab, and an agent that has the rules in force.
  void SetUp() override;

  // To be called in this order.
  void StartTraffic();
  // Until kFrames more have arrived.
  void AwaitTraffic();
  // Ends the traffic. All that was sent arrived, once and in order, and every counter says so.
  void ExpectNothingLost();

  // Starts the agent again and again, one of these binaries at random each time ("": the usual one), and kills it
  // at any moment of its start.
  void KillDuringStarts(const std::vector<std::string>& binaries);

  // What the agent held when SetUp was over, it holds now, in force, and nothing had to be repaired.
  void ExpectNothingChanged();
  // Of what AwaitTraffic waited for so far, all is counted.
  void ExpectCountersContinue();

  Lab& lab() { return *lab_; }
  Agent& agent() { return *agent_; }
  Client& api() { return agent_->client(); }

 private:
  const std::string name_;
  std::unique_ptr<Lab> lab_;
  std::unique_ptr<Agent> agent_;
  std::unique_ptr<bench::Receiver> receiver_;
  std::unique_ptr<bench::Sender> sender_;
  std::string held_;
  uint64_t arrived_ = 0;
};

}  // namespace headgate::testing
