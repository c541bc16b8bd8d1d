// SPDX-License-Identifier: Apache-2.0
#include "agent/api/status.h"

#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <google/protobuf/descriptor.h>

#include <algorithm>

#include "google/rpc/status.pb.h"

namespace headgate::api {

namespace pb = ::headgate::v1;

namespace {

// Details travel in trailers, and a peer that is sent more of those than it takes drops the connection.
constexpr size_t kMaxDetails = 1 << 20;
constexpr size_t kMaxText = 1024;

// At most kMaxText bytes and a mark that something is missing; of UTF-8, whole characters.
std::string Shortened(std::string text) {
  if (text.size() <= kMaxText) return text;
  size_t end = kMaxText;
  while (end > 0 && (static_cast<uint8_t>(text[end]) & 0xc0) == 0x80) --end;
  text.resize(end);
  return text + "...";
}

}  // namespace

grpc::Status ToGrpc(const absl::Status& status, const Violations& violations) {
  if (status.ok()) return grpc::Status::OK;
  // The two enums have the same values (google/rpc/code.proto).
  const auto code = static_cast<grpc::StatusCode>(status.code());
  const std::string message = Shortened(std::string(status.message()));
  if (violations.empty()) return {code, message};
  google::rpc::BadRequest bad_request;
  size_t size = 0;
  for (const Violation& violation : violations) {
    auto* field = bad_request.add_field_violations();
    field->set_field(Shortened(violation.field));
    field->set_description(Shortened(violation.description));
    size += field->ByteSizeLong() + 8;
    if (size > kMaxDetails) break;
  }
  google::rpc::Status details;
  details.set_code(static_cast<int>(status.code()));
  details.set_message(message);
  details.add_details()->PackFrom(bad_request);
  return {code, message, details.SerializeAsString()};
}

Violations CheckValues(absl::string_view field, const google::protobuf::RepeatedField<int>& given,
                       const google::protobuf::EnumDescriptor& type, absl::Span<const int> allowed) {
  const auto name = [&type](int number) {
    const auto* value = type.FindValueByNumber(number);
    return value == nullptr ? absl::StrCat("value ", number, ", which is unknown") : value->name();
  };
  Violations violations;
  for (int i = 0; i < given.size(); ++i) {
    if (std::find(allowed.begin(), allowed.end(), given[i]) != allowed.end()) continue;
    violations.push_back({absl::StrCat(field, "[", i, "]"),
                          absl::StrCat("is ", name(given[i]), "; here are: ",
                                       absl::StrJoin(allowed, ", ", [&](std::string* out, int number) {
                                         absl::StrAppend(out, name(number));
                                       }))});
  }
  return violations;
}

grpc::Status Refuse(const Violations& violations) {
  if (violations.empty()) return grpc::Status::OK;
  return ToGrpc(
      absl::InvalidArgumentError(absl::StrCat(violations.front().field, ": ", violations.front().description)),
      violations);
}

pb::ObjectStatus ToProto(const ObjectStatus& status) {
  pb::ObjectStatus message;
  message.set_state(status.state == ObjectState::kApplied   ? pb::ObjectStatus::STATE_APPLIED
                    : status.state == ObjectState::kPending ? pb::ObjectStatus::STATE_PENDING
                                                            : pb::ObjectStatus::STATE_ERROR);
  message.set_reason(status.reason);
  return message;
}

std::optional<std::chrono::milliseconds> DurationWithin(const google::protobuf::Duration& duration,
                                                        std::chrono::milliseconds min,
                                                        std::chrono::milliseconds max) {
  // Before any arithmetic, which could overflow.
  if (duration.seconds() < 0 || duration.seconds() > max.count() / 1000) return std::nullopt;
  if (duration.nanos() < 0 || duration.nanos() > 999'999'999) return std::nullopt;
  const std::chrono::milliseconds value(duration.seconds() * 1000 + duration.nanos() / 1'000'000);
  return value < min || value > max ? std::nullopt : std::optional(value);
}

StatusView::StatusView(const Controller& controller) : StatusView(controller.status(), controller.interfaces()) {}

StatusView::StatusView(const ControllerStatus& status, std::map<std::string, InterfaceState> interfaces)
    : desired_(status.desired),
      applied_(status.applied),
      apply_error_(status.apply_error),
      interfaces_(std::move(interfaces)) {}

ObjectStatus StatusView::Written(bool in_force) const {
  if (in_force) return {ObjectState::kApplied, ""};
  if (!apply_error_.ok()) return {ObjectState::kError, std::string(apply_error_.message())};
  return {ObjectState::kPending, absl::StrCat("generation ", desired_->generation, " is being written")};
}

ObjectStatus StatusView::Through(const std::string& interface, ObjectStatus status) const {
  if (interface.empty() || status.state != ObjectState::kApplied) return status;
  const auto found = interfaces_.find(interface);
  if (found == interfaces_.end() || found->second.status.state == ObjectState::kApplied) return status;
  return {ObjectState::kPending, absl::StrCat("interface ", interface, ": ", found->second.status.reason)};
}

ObjectStatus StatusView::Of(const Settings& settings) const { return Written(*applied_->settings == settings); }

ObjectStatus StatusView::Of(const Interface& interface) const {
  ObjectStatus written = Written(applied_->interfaces.Get(interface.name) == &interface);
  const auto found = interfaces_.find(interface.name);
  if (written.state != ObjectState::kApplied || found == interfaces_.end()) return written;
  return found->second.status;
}

ObjectStatus StatusView::Of(const PrefixSet& set) const {
  return Written(applied_->prefix_sets.Get(set.name) == &set);
}

ObjectStatus StatusView::Of(const NextHop& hop) const {
  return Through(hop.interface, Written(applied_->next_hops.Get(hop.name) == &hop));
}

ObjectStatus StatusView::Of(const SteerTarget& target) const {
  return Written(applied_->steer_targets.Get(target.name) == &target);
}

ObjectStatus StatusView::Of(const MulticastRoute& route) const {
  ObjectStatus status = Written(applied_->multicast_routes.Get(route.name) == &route);
  for (const std::string& interface : route.input.interfaces) status = Through(interface, std::move(status));
  for (const MulticastLeg& leg : route.legs) {
    if (!leg.interface.empty()) status = Through(leg.interface, std::move(status));
  }
  return status;
}

ObjectStatus StatusView::Of(const Rule& rule) const {
  ObjectStatus status = Through(rule.match.interface, Written(applied_->rules.Get(rule.name) == &rule));
  if (const auto* redirect = std::get_if<Redirect>(&rule.action->verdict)) {
    status = Through(redirect->interface, std::move(status));
  }
  if (const auto* to = std::get_if<ToNextHop>(&rule.action->verdict)) {
    if (const NextHop* hop = desired_->next_hops.Get(to->name))
      status = Through(hop->interface, std::move(status));
  }
  return status;
}

}  // namespace headgate::api
