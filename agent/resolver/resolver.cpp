// SPDX-License-Identifier: Apache-2.0
#include "agent/resolver/resolver.h"

#include <absl/strings/str_cat.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <utility>

#include "agent/base/status.h"

namespace headgate {
namespace {

// What no route makes a unicast destination.
absl::Status CheckAddress(const Destination& destination) {
  const IpAddress& address = destination.address;
  const bool v4 = address.family == Family::kIpv4;
  if (address.words == decltype(address.words){}) return absl::FailedPreconditionError("is no host's address");
  if (v4 ? address.words[0] >> 28 == 0xe : address.words[0] >> 24 == 0xff) {
    return absl::FailedPreconditionError("is a multicast address");
  }
  if (v4 && address.words[0] == 0xffffffff) return absl::FailedPreconditionError("is a broadcast address");
  if (!v4 && address.words[0] >> 22 == 0xfe80U >> 6 && destination.ifindex == 0) {
    return absl::FailedPreconditionError("is a link-local address: name the interface, too");
  }
  return absl::OkStatus();
}

// `by`: the device that was asked for, in words.
absl::Status CheckRoute(const RouteMessage& route, const std::string& by) {
  switch (route.type) {
    case RTN_UNICAST:
      break;
    case RTN_LOCAL:
    case RTN_ANYCAST:
      return absl::FailedPreconditionError("is an address of this host");
    case RTN_BROADCAST:
      return absl::FailedPreconditionError("is a broadcast address");
    case RTN_MULTICAST:
      return absl::FailedPreconditionError("is a multicast address");
    case RTN_BLACKHOLE:
      return absl::UnavailableError("its route is a blackhole");
    case RTN_UNREACHABLE:
      return absl::UnavailableError("its route says that it is unreachable");
    case RTN_PROHIBIT:
      return absl::UnavailableError("its route prohibits it");
    default:
      return absl::UnavailableError(absl::StrCat("no route", by));
  }
  return route.encapsulates ? absl::FailedPreconditionError("its route wants an encapsulation") : absl::OkStatus();
}

absl::Status NotLookedAt() { return absl::UnavailableError("its next hop is not looked up yet"); }

}  // namespace

absl::StatusOr<std::unique_ptr<Resolver>> Resolver::Start(Changed changed, const ResolverOptions& options) {
  HG_ASSIGN_OR_RETURN(KernelTables kernel, KernelTables::Open());
  HG_ASSIGN_OR_RETURN(KernelChanges changes, KernelChanges::Open());
  Fd wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake) return ErrnoStatus("make an event to wake the resolver");
  return std::unique_ptr<Resolver>(
      new Resolver(std::move(changed), options, std::move(kernel), std::move(changes), std::move(wake)));
}

Resolver::Resolver(Changed changed, const ResolverOptions& options, KernelTables kernel, KernelChanges changes,
                   Fd wake)
    : changed_(std::move(changed)),
      options_(options),
      wake_(std::move(wake)),
      kernel_(std::move(kernel)),
      changes_(std::move(changes)),
      neighbours_(kernel_, options_),
      thread_([this](const std::stop_token& stop) { Run(stop); }) {}

Resolver::~Resolver() {
  thread_.request_stop();
  eventfd_write(wake_.get(), 1);
  thread_.join();
}

void Resolver::Want(const std::set<Destination>& wanted) {
  {
    const std::lock_guard lock(mutex_);
    std::erase_if(answers_, [&wanted](const auto& entry) { return !wanted.contains(entry.first); });
    for (const Destination& destination : wanted) {
      answers_.try_emplace(destination, Annotate(NotLookedAt(), ToString(destination.address)));
    }
  }
  eventfd_write(wake_.get(), 1);
}

std::map<Destination, Resolver::Answer> Resolver::Resolved() const {
  const std::lock_guard lock(mutex_);
  return answers_;
}

void Resolver::Run(const std::stop_token& stop) {
  bool happened = false;
  ResolverClock::time_point due{}, calm{};  // when to look though nothing happened; not before, though it did
  while (!stop.stop_requested()) {
    const ResolverClock::time_point next = happened ? calm : std::max(calm, due), now = ResolverClock::now();
    if (now < next) {
      happened = Wait(std::chrono::ceil<std::chrono::milliseconds>(next - now)) || happened;
      continue;
    }
    happened = false;
    due = Look(now);
    calm = ResolverClock::now() + options_.calm;
  }
}

bool Resolver::Wait(std::chrono::milliseconds timeout) {
  pollfd fds[] = {{changes_.fd(), POLLIN, 0}, {wake_.get(), POLLIN, 0}};
  if (poll(fds, std::size(fds), static_cast<int>(timeout.count())) <= 0) return false;
  const auto of_concern = [this](const Prefix& prefix) {
    return std::any_of(looked_at_.begin(), looked_at_.end(),
                       [&prefix](const Destination& one) { return Contains(prefix, one.address); });
  };
  bool happened = fds[0].revents != 0 &&
                  changes_.Read({[this](const Neighbour& one) { return neighbours_.InUse(one); }, of_concern});
  eventfd_t ignored = 0;
  if (fds[1].revents != 0 && eventfd_read(wake_.get(), &ignored) == 0) happened = true;
  return happened;
}

ResolverClock::time_point Resolver::Look(ResolverClock::time_point now) {
  looked_at_ = Wanted();
  links_.clear();
  neighbours_.BeginLook(now);
  std::map<Destination, Answer> found;
  bool all = true;
  for (const Destination& destination : looked_at_) {
    Answer answer = NextHop(destination);
    all = all && answer.ok();
    if (!answer.ok()) answer = Annotate(answer.status(), ToString(destination.address));
    found.emplace(destination, std::move(answer));
  }
  neighbours_.EndLook();
  if (Publish(found)) changed_();
  return all ? neighbours_.due() : std::min(neighbours_.due(), now + options_.retry);
}

Resolver::Answer Resolver::NextHop(const Destination& destination) {
  HG_RETURN_IF_ERROR(CheckAddress(destination));
  std::string by;
  if (destination.ifindex != 0) {
    HG_ASSIGN_OR_RETURN(const LinkMessage link, Link(destination.ifindex));
    by = absl::StrCat(" by ", link.name);
  }
  HG_ASSIGN_OR_RETURN(const RouteMessage route, kernel_.Route(destination.address, destination.ifindex));
  HG_RETURN_IF_ERROR(CheckRoute(route, by));
  HG_ASSIGN_OR_RETURN(const LinkMessage link, Link(route.ifindex));
  const IpAddress neighbour = route.gateway.value_or(destination.address);
  HG_ASSIGN_OR_RETURN(const MacAddress mac, neighbours_.Find({route.ifindex, neighbour}, link));
  return UnicastNextHop{route.ifindex, mac};
}

absl::StatusOr<LinkMessage> Resolver::Link(uint32_t ifindex) {
  auto place = links_.find(ifindex);
  if (place == links_.end()) place = links_.emplace(ifindex, kernel_.Link(ifindex)).first;
  const absl::StatusOr<LinkMessage>& link = place->second;
  if (!link.ok()) return link;
  if (!link->ethernet) {
    return absl::FailedPreconditionError(
        absl::StrCat("it leaves by ", link->name, ", which is no Ethernet device: only those are sent to"));
  }
  if (!link->up) return absl::UnavailableError(absl::StrCat(link->name, " is down"));
  return link;
}

std::set<Destination> Resolver::Wanted() const {
  const std::lock_guard lock(mutex_);
  std::set<Destination> wanted;
  for (const auto& [destination, answer] : answers_) wanted.insert(destination);
  return wanted;
}

bool Resolver::Publish(const std::map<Destination, Answer>& found) {
  const std::lock_guard lock(mutex_);
  bool changed = false;
  for (auto& [destination, answer] : answers_) {
    // What was wanted meanwhile is yet to be looked at.
    const auto place = found.find(destination);
    if (place == found.end() || place->second == answer) continue;
    answer = place->second;
    changed = true;
  }
  return changed;
}

}  // namespace headgate
