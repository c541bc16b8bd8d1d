// SPDX-License-Identifier: Apache-2.0
#include "agent/membership_feed.h"

#include <algorithm>

#include "agent/base/log.h"

namespace headgate {
namespace {

// What could not be joined is tried again so often.
constexpr std::chrono::milliseconds kRetry{1000};

bool IsHost(const Prefix& prefix) { return prefix.length == AddressBits(prefix.address.family); }

std::set<Membership> MembershipsOf(const MulticastInput& input, const InterfaceStates& interfaces) {
  std::set<Membership> wanted;
  if (!IsHost(input.group)) return wanted;
  // A membership names senders one by one.
  const bool by_source = !input.include.empty() && std::all_of(input.include.begin(), input.include.end(), IsHost);
  for (const std::string& name : input.interfaces) {
    const auto found = interfaces.find(name);
    if (found == interfaces.end() || !found->second.device) continue;
    const uint32_t ifindex = found->second.device->ifindex;
    if (!by_source) wanted.insert({ifindex, input.group.address, std::nullopt});
    for (const Prefix& source : input.include) {
      if (by_source) wanted.insert({ifindex, input.group.address, source.address});
    }
  }
  return wanted;
}

}  // namespace

std::set<Membership> MembershipsOf(const State& state, const InterfaceStates& interfaces) {
  std::set<Membership> wanted;
  state.multicast_routes.ForEach([&](const std::shared_ptr<const MulticastRoute>& route) {
    wanted.merge(MembershipsOf(route->input, interfaces));
  });
  // Who is sent all of a group is sent each sender's.
  std::erase_if(wanted, [&wanted](const Membership& membership) {
    return membership.source && wanted.contains({membership.ifindex, membership.group, std::nullopt});
  });
  return wanted;
}

MembershipFeed::MembershipFeed(const Controller& controller, EventBus& events)
    : controller_(controller), follower_(events, kRetry, [this] { Look(); }) {
  follower_.Start();
}

void MembershipFeed::Look() {
  const Snapshot applied = controller_.applied();
  if (!applied) return;
  std::map<Membership, absl::Status> failures =
      memberships_.Want(MembershipsOf(*applied, controller_.interfaces()));
  const std::lock_guard lock(mutex_);
  for (const auto& [membership, failure] : failures) {
    // Once, however often it is tried again.
    if (failures_.contains(membership)) continue;
    Log(spdlog::level::warn, "a group is not joined, its packets may not come", {{"reason", failure}});
  }
  failures_ = std::move(failures);
}

std::vector<MembershipView> MembershipFeed::Of(const MulticastRoute& route) const {
  const InterfaceStates interfaces = controller_.interfaces();
  std::vector<MembershipView> views;
  const std::lock_guard lock(mutex_);
  for (const Membership& membership : MembershipsOf(route.input, interfaces)) {
    MembershipView& view = views.emplace_back(
        MembershipView{InterfaceOf(membership.ifindex, interfaces), membership.group, membership.source, ""});
    // All of a group has been asked for on another route's behalf, of which this is a part.
    const auto failure = failures_.find(membership);
    if (failure != failures_.end()) view.trouble = std::string(failure->second.message());
  }
  return views;
}

std::vector<std::string> MembershipFeed::Troubles() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::string> troubles;
  for (const auto& [membership, failure] : failures_) {
    troubles.push_back("multicast packets may not come: " + std::string(failure.message()));
  }
  return troubles;
}

}  // namespace headgate
