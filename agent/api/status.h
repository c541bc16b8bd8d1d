// SPDX-License-Identifier: Apache-2.0
//
// Errors and object status, as the API shows them.
#pragma once

#include <absl/status/status.h>
#include <absl/strings/string_view.h>
#include <absl/types/span.h>
#include <grpcpp/support/status.h>

#include <chrono>
#include <map>
#include <optional>
#include <string>

#include "agent/control/change.h"
#include "agent/control/controller.h"
#include "agent/control/events.h"
#include "headgate/v1/gateway.pb.h"

namespace headgate::api {

// With violations: google.rpc.Status with a BadRequest among its details.
grpc::Status ToGrpc(const absl::Status& status, const Violations& violations = {});

headgate::v1::ObjectStatus ToProto(const ObjectStatus& status);

// A violation for each value of a repeated enum field that is none of `allowed`: not known to this version, not
// given, or without a meaning there.
Violations CheckValues(absl::string_view field, const google::protobuf::RepeatedField<int>& given,
                       const google::protobuf::EnumDescriptor& type, absl::Span<const int> allowed);
// INVALID_ARGUMENT that names the violations' fields; OK without any.
grpc::Status Refuse(const Violations& violations);

// Nothing for one that is out of these bounds, or that no duration can be (google/protobuf/duration.proto).
std::optional<std::chrono::milliseconds> DurationWithin(const google::protobuf::Duration& duration,
                                                        std::chrono::milliseconds min,
                                                        std::chrono::milliseconds max);

// What becomes of the objects of the desired state, at one moment.
class StatusView {
 public:
  explicit StatusView(const Controller& controller);

  const Snapshot& desired() const { return desired_; }
  const Snapshot& applied() const { return applied_; }
  const std::map<std::string, InterfaceState>& interfaces() const { return interfaces_; }

  ObjectStatus Of(const Settings& settings) const;
  ObjectStatus Of(const Interface& interface) const;
  ObjectStatus Of(const PrefixSet& set) const;
  ObjectStatus Of(const NextHop& hop) const;
  ObjectStatus Of(const SteerTarget& target) const;
  ObjectStatus Of(const MulticastRoute& route) const;
  ObjectStatus Of(const Rule& rule) const;

 private:
  StatusView(const ControllerStatus& status, std::map<std::string, InterfaceState> interfaces);
  // Of an object by itself: whether this version of it is in force.
  ObjectStatus Written(bool in_force) const;
  // Pending when the interface is; `status` otherwise.
  ObjectStatus Through(const std::string& interface, ObjectStatus status) const;

  Snapshot desired_, applied_;
  absl::Status apply_error_;
  std::map<std::string, InterfaceState> interfaces_;
};

}  // namespace headgate::api
