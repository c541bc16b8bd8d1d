// SPDX-License-Identifier: Apache-2.0
#include "agent/membership_feed.h"

#include "agent/base/log.h"

namespace headgate {
namespace {

// What could not be joined is tried again so often.
constexpr std::chrono::milliseconds kRetry{1000};
// Until interfaces are applied, and what the agent before had joined is joined again.
constexpr std::chrono::milliseconds kHold{3000};
constexpr std::chrono::milliseconds kHoldFailed{60000};

std::set<Membership> MembershipsOf(const MulticastRoute& route, const State& state,
                                   const InterfaceStates& interfaces, const ListenersByPort& listeners) {
  const std::set<Upstream> upstream = UpstreamOf(route, state, listeners);
  std::set<Membership> wanted;
  for (const std::string& name : route.input.interfaces) {
    const auto found = interfaces.find(name);
    if (found == interfaces.end() || !found->second.device) continue;
    for (const auto& [group, source] : upstream) wanted.insert({found->second.device->ifindex, group, source});
  }
  return wanted;
}

}  // namespace

std::set<Membership> MembershipsOf(const State& state, const InterfaceStates& interfaces,
                                   const ListenersByPort& listeners) {
  std::set<Membership> wanted;
  state.multicast_routes.ForEach([&](const std::shared_ptr<const MulticastRoute>& route) {
    wanted.merge(MembershipsOf(*route, state, interfaces, listeners));
  });
  // Who is sent all of a group is sent each sender's.
  std::erase_if(wanted, [&wanted](const Membership& membership) {
    return membership.source && wanted.contains({membership.ifindex, membership.group, std::nullopt});
  });
  return wanted;
}

MembershipFeed::MembershipFeed(const Controller& controller, EventBus& events, ListenerFeed& listeners,
                               HeldSockets held)
    : controller_(controller),
      listeners_(listeners),
      held_(std::move(held)),
      follower_(events, kRetry, [this] { Look(); }) {
  listeners.OnChange(follower_.waker());
  follower_.Start();
}

void MembershipFeed::Look() {
  const Snapshot applied = controller_.applied();
  if (!applied) return;
  std::map<Membership, absl::Status> failures =
      memberships_.Want(MembershipsOf(*applied, controller_.interfaces(), listeners_.listeners()));
  const auto age = std::chrono::steady_clock::now() - start_;
  if (!held_.empty() && age >= (failures.empty() ? kHold : kHoldFailed)) held_.Release();
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
  const Snapshot applied = controller_.applied();
  std::vector<MembershipView> views;
  if (!applied) return views;
  const std::set<Membership> memberships = MembershipsOf(route, *applied, interfaces, listeners_.listeners());
  const std::lock_guard lock(mutex_);
  for (const Membership& membership : memberships) {
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
