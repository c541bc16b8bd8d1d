// SPDX-License-Identifier: Apache-2.0
//
// Between the API's messages and the model: text is parsed and printed here, and nowhere else.
#pragma once

#include <absl/container/flat_hash_map.h>

#include <memory>
#include <mutex>
#include <string>

#include "agent/control/change.h"
#include "agent/control/store.h"
#include "headgate/v1/config.pb.h"
#include "headgate/v1/gateway.pb.h"

namespace headgate::api {

namespace pb = ::headgate::v1;

// Equal actions become one object. Any thread.
class ActionPool {
 public:
  std::shared_ptr<const Action> Intern(Action action, const pb::Action& message);

 private:
  std::mutex mutex_;
  absl::flat_hash_map<std::string, std::weak_ptr<const Action>> actions_;
  size_t sweep_at_ = 1024;
};

// What was wrong with the text goes to the change's violations, with paths below `path`.
Change ReadConfig(const pb::GatewayConfig& config, const std::string& path, ActionPool& actions);
Change ReadPatch(const pb::Patch& patch, const std::string& path, ActionPool& actions);

void Write(const Interface& from, pb::Interface& to);
void Write(const PrefixSet& from, pb::PrefixSet& to);
void Write(const NextHop& from, pb::NextHop& to);
void Write(const SteerTarget& from, pb::SteerTarget& to);
void Write(const MulticastRoute& from, pb::MulticastRoute& to);
void Write(const RateLimit& from, pb::RateLimit& to);
void Write(const Querier& from, pb::Querier& to);
void Write(const Rule& from, pb::Rule& to);
void Write(const Settings& from, pb::Settings& to);

pb::Kind ToProto(Kind kind);
std::optional<Kind> FromProto(pb::Kind kind);

// Objects as serialised messages.
class ProtoCodec : public ObjectCodec {
 public:
  explicit ProtoCodec(ActionPool& actions) : actions_(actions) {}
  std::string Encode(const Settings& settings) const override;
  std::string Encode(const Interface& interface) const override;
  std::string Encode(const PrefixSet& set) const override;
  std::string Encode(const NextHop& hop) const override;
  std::string Encode(const SteerTarget& target) const override;
  std::string Encode(const MulticastRoute& route) const override;
  std::string Encode(const Rule& rule) const override;
  absl::StatusOr<Settings> DecodeSettings(absl::string_view body) const override;
  absl::StatusOr<Interface> DecodeInterface(absl::string_view body) const override;
  absl::StatusOr<PrefixSet> DecodePrefixSet(absl::string_view body) const override;
  absl::StatusOr<NextHop> DecodeNextHop(absl::string_view body) const override;
  absl::StatusOr<SteerTarget> DecodeSteerTarget(absl::string_view body) const override;
  absl::StatusOr<MulticastRoute> DecodeMulticastRoute(absl::string_view body) const override;
  absl::StatusOr<Rule> DecodeRule(absl::string_view body) const override;

 private:
  ActionPool& actions_;
};

}  // namespace headgate::api
