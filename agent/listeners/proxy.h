// SPDX-License-Identifier: Apache-2.0
//
// Who listens at which interface: follows IGMP and MLD there, and asks. One thread reads all sockets and keeps the
// time.
#pragma once

#include <absl/status/statusor.h>

#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "agent/base/fd.h"
#include "agent/listeners/listeners.h"
#include "agent/listeners/report_socket.h"

namespace headgate {

struct ListenedInterface {
  uint32_t port = 0;  // by which it is known
  std::string name;
  uint32_t ifindex = 0;  // 0: it has no device
  MacAddress mac{};
  bool up = false;
  std::optional<IpAddress> address4;    // to ask from
  std::optional<IpAddress> link_local;  // likewise, IPv6
  QuerierSettings querier;
  friend bool operator==(const ListenedInterface&, const ListenedInterface&) = default;
};

struct InterfaceListeners {
  struct OfFamily {
    std::optional<IpAddress> querier;
    std::vector<ListenedView> groups;
  };
  std::string name;
  OfFamily ip4, ip6;
  uint64_t refused = 0;  // groups and sources for which there was no room
};
using ListenersByPort = std::map<uint32_t, InterfaceListeners>;

class ListenerProxy {
 public:
  // Calls `changed` on its thread when other packets are wanted than before.
  static absl::StatusOr<std::unique_ptr<ListenerProxy>> Start(std::function<void()> changed);
  ~ListenerProxy();

  // Follows these interfaces and no others; what is known of those that stay, stays. Why it does not hear some,
  // by port; to be called again then. (any thread)
  std::map<uint32_t, absl::Status> Want(const std::vector<ListenedInterface>& interfaces);
  // As if a host had just asked for it, at an interface that is followed. (any thread)
  void Seed(uint32_t port, const IpAddress& group, bool exclude, const std::vector<IpAddress>& sources);
  // (any thread)
  ListenersByPort View() const;

 private:
  struct Followed {
    explicit Followed(const ListenedInterface& wanted)
        : interface(wanted), ip4(Family::kIpv4, wanted.querier), ip6(Family::kIpv6, wanted.querier) {}
    ListenedInterface interface;
    std::optional<ReportSocket> socket;
    Listeners ip4, ip6;
    bool told = false;  // that there was no room
  };

  explicit ListenerProxy(std::function<void()> changed) : changed_(std::move(changed)) {}
  absl::Status Setup();
  void Run(const std::stop_token& stop);
  absl::Status Follow(const ListenedInterface& wanted);
  absl::Status Listen(Followed& followed);
  static void Hear(Followed& followed);
  // Asks what is due. Whether other packets are wanted than before.
  static bool Serve(Followed& followed);
  void SetTimer();

  const std::function<void()> changed_;
  Fd epoll_, timer_, stop_;
  mutable std::mutex mutex_;               // guards what follows
  std::map<uint32_t, Followed> followed_;  // by port
  std::jthread thread_;
};

}  // namespace headgate
