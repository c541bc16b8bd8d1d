// SPDX-License-Identifier: Apache-2.0
#include "agent/listeners/proxy.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <set>
#include <utility>

#include "agent/base/log.h"
#include "agent/base/status.h"

namespace headgate {
namespace {

// Packets of one interface in a row: others are to be heard, too.
constexpr int kBurst = 64;
// What epoll says is ready: a port, or one of these.
constexpr uint64_t kTimer = ~uint64_t{0}, kStop = kTimer - 1;

ListenerTime Now() { return std::chrono::steady_clock::now(); }

}  // namespace

absl::StatusOr<std::unique_ptr<ListenerProxy>> ListenerProxy::Start(std::function<void()> changed) {
  std::unique_ptr<ListenerProxy> proxy(new ListenerProxy(std::move(changed)));
  HG_RETURN_IF_ERROR(proxy->Setup());
  proxy->thread_ = std::jthread([raw = proxy.get()](const std::stop_token& stop) { raw->Run(stop); });
  return proxy;
}

ListenerProxy::~ListenerProxy() {
  thread_.request_stop();
  const uint64_t one = 1;
  if (stop_) static_cast<void>(write(stop_.get(), &one, sizeof(one)));
}

absl::Status ListenerProxy::Setup() {
  epoll_ = Fd(epoll_create1(EPOLL_CLOEXEC));
  timer_ = Fd(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  stop_ = Fd(eventfd(0, EFD_CLOEXEC));
  if (!epoll_ || !timer_ || !stop_) return ErrnoStatus("set up the listeners' thread");
  for (const auto& [fd, id] : {std::pair(timer_.get(), kTimer), std::pair(stop_.get(), kStop)}) {
    epoll_event event{.events = EPOLLIN, .data = {.u64 = id}};
    if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return ErrnoStatus("watch the listeners' timer");
  }
  return absl::OkStatus();
}

std::map<uint32_t, absl::Status> ListenerProxy::Want(const std::vector<ListenedInterface>& interfaces) {
  const std::lock_guard lock(mutex_);
  std::set<uint32_t> ports;
  std::map<uint32_t, absl::Status> failures;
  for (const ListenedInterface& wanted : interfaces) {
    ports.insert(wanted.port);
    if (absl::Status status = Follow(wanted); !status.ok()) failures[wanted.port] = std::move(status);
  }
  std::erase_if(followed_, [&ports](const auto& one) { return !ports.contains(one.first); });
  SetTimer();
  return failures;
}

absl::Status ListenerProxy::Follow(const ListenedInterface& wanted) {
  const ListenerTime now = Now();
  const auto [entry, is_new] = followed_.try_emplace(wanted.port, wanted);
  Followed& followed = entry->second;
  const ListenedInterface before = std::exchange(followed.interface, wanted);
  const bool moved = before.ifindex != wanted.ifindex, came_up = wanted.up && !before.up;
  if (moved) followed.socket.reset();
  followed.ip4.Configure(wanted.querier, now);
  followed.ip6.Configure(wanted.querier, now);
  followed.ip4.SetAddress(wanted.address4.value_or(IpAddress{.family = Family::kIpv4}), now);
  followed.ip6.SetAddress(wanted.link_local, now);
  if (!is_new && (moved || came_up)) {
    followed.ip4.Begin(now);
    followed.ip6.Begin(now);
  }
  return Listen(followed);
}

absl::Status ListenerProxy::Listen(Followed& followed) {
  if (followed.socket || followed.interface.ifindex == 0) return absl::OkStatus();
  auto socket = ReportSocket::Open(followed.interface.ifindex);
  if (!socket.ok()) return Annotate(socket.status(), "interface \"", followed.interface.name, "\"");
  epoll_event event{.events = EPOLLIN, .data = {.u64 = followed.interface.port}};
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, socket->fd(), &event) != 0) {
    return ErrnoStatus("watch interface \"", followed.interface.name, "\" for IGMP and MLD");
  }
  followed.socket = *std::move(socket);
  return absl::OkStatus();
}

void ListenerProxy::Seed(uint32_t port, const IpAddress& group, bool exclude,
                         const std::vector<IpAddress>& sources) {
  const std::lock_guard lock(mutex_);
  const auto found = followed_.find(port);
  if (found == followed_.end()) return;
  Listeners& listeners = group.family == Family::kIpv4 ? found->second.ip4 : found->second.ip6;
  listeners.Seed(group, exclude, sources, Now());
  SetTimer();
}

ListenersByPort ListenerProxy::View() const {
  const std::lock_guard lock(mutex_);
  const ListenerTime now = Now();
  ListenersByPort view;
  for (const auto& [port, followed] : followed_) {
    view[port] = {followed.interface.name,
                  {followed.ip4.querier(), followed.ip4.View(now)},
                  {followed.ip6.querier(), followed.ip6.View(now)},
                  followed.ip4.refused() + followed.ip6.refused()};
  }
  return view;
}

void ListenerProxy::Run(const std::stop_token& stop) {
  std::array<epoll_event, 64> events;
  while (!stop.stop_requested()) {
    const int count = epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), -1);
    bool changed = false;
    {
      const std::lock_guard lock(mutex_);
      uint64_t expirations = 0;
      static_cast<void>(read(timer_.get(), &expirations, sizeof(expirations)));
      for (int i = 0; i < count; ++i) {
        // It may have gone since.
        const auto found =
            followed_.find(static_cast<uint32_t>(std::min<uint64_t>(events[i].data.u64, UINT32_MAX)));
        if (found != followed_.end() && found->second.socket) Hear(found->second);
      }
      for (auto& [port, followed] : followed_) changed = Serve(followed) || changed;
      SetTimer();
    }
    if (changed) changed_();
  }
}

void ListenerProxy::Hear(Followed& followed) {
  for (int i = 0; i < kBurst; ++i) {
    const std::optional<ReportSocket::Received> received = followed.socket->Receive();
    if (!received) return;
    // What this host said, come back.
    if (received->from == followed.interface.mac) continue;
    const std::variant<Heard, Refusal> parsed = ParseListenerPacket(received->packet);
    const Heard* const heard = std::get_if<Heard>(&parsed);
    if (heard == nullptr) continue;
    (heard->sender.family == Family::kIpv4 ? followed.ip4 : followed.ip6).Hear(*heard, Now());
  }
}

bool ListenerProxy::Serve(Followed& followed) {
  bool changed = false;
  for (Listeners* listeners : {&followed.ip4, &followed.ip6}) {
    for (const ListenerQuery& query : listeners->Run(Now())) {
      const ListenedInterface& interface = followed.interface;
      if (!followed.socket) continue;
      const IpAddress source =
          listeners == &followed.ip6 ? *interface.link_local : interface.address4.value_or(IpAddress{});
      // A device that is down; asked again when it is up.
      if (const absl::Status status = followed.socket->Send(query, source); !status.ok()) {
        Log(spdlog::level::debug, "a query was not sent", {{"interface", interface.name}, {"reason", status}});
      }
    }
    changed = listeners->TakeChanged() || changed;
    if (listeners->refused() == 0 || std::exchange(followed.told, true)) continue;
    Log(spdlog::level::warn, "more groups and sources are asked for than there is room for: some are not relayed",
        {{"interface", followed.interface.name}, {"room", Listeners::kMaxEntries}});
  }
  return changed;
}

// To when the next one has something to do.
void ListenerProxy::SetTimer() {
  ListenerTime next = kNever;
  for (const auto& [port, followed] : followed_) next = std::min({next, followed.ip4.Next(), followed.ip6.Next()});
  itimerspec at{};
  if (next != kNever) {
    const auto since = std::max<int64_t>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(next.time_since_epoch()).count(), 1);
    at.it_value = {static_cast<time_t>(since / 1'000'000'000), static_cast<long>(since % 1'000'000'000)};
  }
  timerfd_settime(timer_.get(), TFD_TIMER_ABSTIME, &at, nullptr);
}

}  // namespace headgate
