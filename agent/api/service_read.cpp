// SPDX-License-Identifier: Apache-2.0
//
// Get: objects with their status, a page at a time.
#include <absl/container/flat_hash_set.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_split.h>

#include <algorithm>
#include <functional>

#include "agent/api/gateway_service.h"
#include "agent/api/status.h"

namespace headgate::api {
namespace {

constexpr uint32_t kMaxPage = 10'000;
// Counters are no objects: they come and go with the rules that name them.
constexpr int kKinds[] = {pb::KIND_INTERFACE,    pb::KIND_PREFIX_SET, pb::KIND_RULE,           pb::KIND_NEXT_HOP,
                          pb::KIND_STEER_TARGET, pb::KIND_SETTINGS,   pb::KIND_MULTICAST_ROUTE};

// Where the next page begins: in which state, and at which object of the whole list.
struct Token {
  uint64_t generation = 0;
  uint64_t offset = 0;
};

absl::StatusOr<Token> ParseToken(const std::string& text) {
  Token token;
  if (text.empty()) return token;
  const std::vector<std::string> parts = absl::StrSplit(text, '.');
  if (parts.size() != 2 || !absl::SimpleAtoi(parts[0], &token.generation) ||
      !absl::SimpleAtoi(parts[1], &token.offset)) {
    return absl::InvalidArgumentError("page_token: not one that Get has given");
  }
  return token;
}

void WriteInterfaceState(const InterfaceState& from, pb::InterfaceState& to) {
  if (from.device) {
    to.set_ifindex(from.device->ifindex);
    to.set_up(from.device->up);
    to.set_mtu(from.device->mtu);
    to.set_mac(ToString(from.device->mac));
  }
  if (from.mode) {
    to.set_mode(*from.mode == DriverMode::kNative ? pb::ATTACH_MODE_NATIVE : pb::ATTACH_MODE_GENERIC);
  }
  for (const std::string& warning : from.warnings) to.add_warnings(warning);
}

void WriteMulticastState(const MulticastView& from, pb::MulticastRouteState& to) {
  to.set_path(from.path.userspace ? pb::MulticastRouteState::PATH_USERSPACE
                                  : pb::MulticastRouteState::PATH_KERNEL);
  to.set_reason(from.path.reason);
  for (const MembershipView& membership : from.memberships) {
    pb::MulticastMembership* message = to.add_memberships();
    message->set_interface(membership.interface);
    message->set_group(ToString(membership.group));
    if (membership.source) message->set_source(ToString(*membership.source));
    message->set_trouble(membership.trouble);
  }
  for (const LegView& leg : from.legs) {
    pb::MulticastLegState* message = to.add_legs();
    message->set_name(leg.name);
    message->set_interface(leg.interface);
    if (leg.mac) message->set_mac(ToString(*leg.mac));
    message->set_trouble(leg.trouble);
  }
  for (const ListenerView& listener : from.listeners) {
    pb::MulticastListener* message = to.add_listeners();
    message->set_interface(listener.interface);
    message->set_group(ToString(listener.group));
    for (const IpAddress& source : listener.sources) message->add_sources(ToString(source));
    message->set_exclude(listener.exclude);
    const int64_t milliseconds = listener.expires_in.count();
    message->mutable_expires_in()->set_seconds(milliseconds / 1000);
    message->mutable_expires_in()->set_nanos(static_cast<int32_t>(milliseconds % 1000 * 1'000'000));
    if (listener.querier) message->set_querier(ToString(*listener.querier));
  }
}

// The list that pages are cut from: what to write for each object, in order, without writing it yet.
class Listing {
 public:
  Listing(const StatusView& view, const State& state, const pb::GetRequest& request, const AgentFacts& facts)
      : view_(view), state_(state), facts_(facts), names_(request.names().begin(), request.names().end()) {
    for (const int kind : request.kinds()) kinds_.insert(static_cast<pb::Kind>(kind));
    // Settings have no name to be asked for.
    if (Wants(pb::KIND_SETTINGS) && names_.empty()) {
      items_.push_back([this](pb::Object& object) {
        Write(*state_.settings, *object.mutable_settings());
        *object.mutable_status() = ToProto(view_.Of(*state_.settings));
      });
    }
    Add(pb::KIND_INTERFACE, state.interfaces, &pb::Object::mutable_interface, kByName);
    Add(pb::KIND_PREFIX_SET, state.prefix_sets, &pb::Object::mutable_prefix_set, kByName);
    Add(pb::KIND_NEXT_HOP, state.next_hops, &pb::Object::mutable_next_hop, kByName);
    Add(pb::KIND_STEER_TARGET, state.steer_targets, &pb::Object::mutable_steer_target, kByName);
    Add(pb::KIND_MULTICAST_ROUTE, state.multicast_routes, &pb::Object::mutable_multicast_route, kByName);
    Add(pb::KIND_RULE, state.rules, &pb::Object::mutable_rule,
        [](const auto& a, const auto& b) { return a->priority > b->priority; });
  }

  size_t size() const { return items_.size(); }
  void Put(size_t item, pb::Object& object) const { items_[item](object); }

 private:
  static constexpr auto kByName = [](const auto& a, const auto& b) { return a->name < b->name; };

  bool Wants(pb::Kind kind) const { return kinds_.empty() || kinds_.contains(kind); }

  template <typename T, typename Mutable, typename Less>
  void Add(pb::Kind kind, const Table<T>& table, Mutable mutable_object, Less less) {
    if (!Wants(kind)) return;
    std::vector<std::shared_ptr<const T>> objects;
    table.ForEach([&](const std::shared_ptr<const T>& object) {
      if (names_.empty() || names_.contains(object->name)) objects.push_back(object);
    });
    std::sort(objects.begin(), objects.end(), less);
    for (const auto& object : objects) {
      items_.push_back([this, object, mutable_object](pb::Object& message) {
        Write(*object, *(message.*mutable_object)());
        *message.mutable_status() = ToProto(view_.Of(*object));
        message.set_id(object->id);
        if constexpr (std::is_same_v<T, Interface>) {
          const auto found = view_.interfaces().find(object->name);
          if (found != view_.interfaces().end())
            WriteInterfaceState(found->second, *message.mutable_interface_state());
        }
        if constexpr (std::is_same_v<T, MulticastRoute>) {
          WriteMulticastState(facts_.multicast(*object), *message.mutable_multicast_route_state());
        }
      });
    }
  }

  const StatusView& view_;
  const State& state_;
  const AgentFacts& facts_;
  absl::flat_hash_set<std::string> names_;
  absl::flat_hash_set<pb::Kind> kinds_;
  std::vector<std::function<void(pb::Object&)>> items_;
};

}  // namespace

grpc::Status GatewayService::Get(grpc::ServerContext*, const pb::GetRequest* request, pb::GetResponse* response) {
  const Violations violations = CheckValues("kinds", request->kinds(), *pb::Kind_descriptor(), kKinds);
  if (!violations.empty()) return Refuse(violations);
  const absl::StatusOr<Token> token = ParseToken(request->page_token());
  if (!token.ok()) return ToGrpc(token.status());
  const StatusView view(controller_);
  const Snapshot state = request->applied() ? view.applied() : view.desired();
  if (!request->page_token().empty() && token->generation != state->generation) {
    return ToGrpc(absl::AbortedError(absl::StrCat("the configuration changed from generation ", token->generation,
                                                  " to ", state->generation, ": begin again")));
  }
  const Listing listing(view, *state, *request, facts_);
  if (token->offset > listing.size()) {
    return ToGrpc(absl::InvalidArgumentError("page_token: not one that Get has given for this request"));
  }
  const uint32_t page = request->page_size() == 0 ? kMaxPage : std::min(request->page_size(), kMaxPage);
  const uint64_t end = std::min<uint64_t>(listing.size(), token->offset + page);
  for (uint64_t i = token->offset; i < end; ++i) listing.Put(i, *response->add_objects());
  response->set_generation(state->generation);
  if (end < listing.size()) response->set_next_page_token(absl::StrCat(state->generation, ".", end));
  return grpc::Status::OK;
}

}  // namespace headgate::api
