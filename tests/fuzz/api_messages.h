// SPDX-License-Identifier: Apache-2.0
//
// Requests for the API's fuzzer: such as make sense, few names that refer to each other, and mutations of them.
#pragma once

#include <random>
#include <string>
#include <vector>

#include "headgate/v1/gateway.pb.h"

namespace headgate::testing {

namespace pb = ::headgate::v1;

class ApiMessages {
 public:
  ApiMessages(std::mt19937_64& random, std::vector<pb::ApplyRequest> corpus);

  // One that may well be accepted, one with something changed at random, or random throughout.
  pb::ApplyRequest Next();
  // Was accepted: a start for more.
  void Keep(const pb::ApplyRequest& request);
  // Changes a few fields, anywhere.
  void Mutate(google::protobuf::Message& message);
  // Changes a few bytes.
  void Damage(std::string& bytes);
  uint64_t Below(uint64_t bound) { return random_() % bound; }

 private:
  std::string Pick(const std::vector<std::string>& from) { return from[Below(from.size())]; }
  std::string Prefix();
  pb::GatewayConfig Config(uint64_t objects);
  pb::Rule Rule();
  pb::Match Match();
  pb::Action Action();
  pb::ApplyRequest Sensible();

  std::mt19937_64& random_;
  std::vector<pb::ApplyRequest> corpus_;
};

}  // namespace headgate::testing
