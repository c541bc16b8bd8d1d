// SPDX-License-Identifier: Apache-2.0
//
// Next hops of unicast destinations, kept resolved: the device and the MAC address that the kernel's routes and
// neighbours give them, as they change. For packets that are sent past the kernel's own stack.
//
// Threads: Want and Resolved from any.
#pragma once

#include <absl/status/statusor.h>

#include <chrono>
#include <compare>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>

#include "agent/base/fd.h"
#include "agent/resolver/kernel_changes.h"
#include "agent/resolver/kernel_tables.h"
#include "agent/resolver/neighbours.h"

namespace headgate {

struct Destination {
  IpAddress address;
  uint32_t ifindex = 0;  // 0: by whichever device the routes say
  friend auto operator<=>(const Destination&, const Destination&) = default;
};

// How packets to a destination leave.
struct UnicastNextHop {
  uint32_t ifindex = 0;
  MacAddress mac{};
  friend bool operator==(const UnicastNextHop&, const UnicastNextHop&) = default;
};

class Resolver {
 public:
  using Changed = std::function<void()>;
  using Answer = absl::StatusOr<UnicastNextHop>;

  // In the calling thread's network namespace. `changed` is called on the resolver's thread whenever it has
  // changed an answer. It may call Want and Resolved.
  static absl::StatusOr<std::unique_ptr<Resolver>> Start(Changed changed, const ResolverOptions& options = {});
  ~Resolver();

  // From now on these and no others.
  void Want(const std::set<Destination>& wanted);
  // One answer for each that is wanted; errors begin with the destination and say what is wrong, for people.
  std::map<Destination, Answer> Resolved() const;

 private:
  Resolver(Changed changed, const ResolverOptions& options, KernelTables kernel, KernelChanges changes, Fd wake);
  void Run(const std::stop_token& stop);
  // For something that may change an answer: true.
  bool Wait(std::chrono::milliseconds timeout);
  // At everything. When to look again though nothing happens.
  ResolverClock::time_point Look(ResolverClock::time_point now);
  Answer NextHop(const Destination& destination);
  // One that packets can be sent by.
  absl::StatusOr<LinkMessage> Link(uint32_t ifindex);
  std::set<Destination> Wanted() const;
  // True when an answer is another now.
  bool Publish(const std::map<Destination, Answer>& found);

  const Changed changed_;
  const ResolverOptions options_;
  const Fd wake_;

  // Of the thread.
  std::set<Destination> looked_at_;
  KernelTables kernel_;
  KernelChanges changes_;
  Neighbours neighbours_;
  std::map<uint32_t, absl::StatusOr<LinkMessage>> links_;  // of one look

  mutable std::mutex mutex_;
  std::map<Destination, Answer> answers_;  // to what is wanted; guarded by mutex_
  std::jthread thread_;
};

}  // namespace headgate
