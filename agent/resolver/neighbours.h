// SPDX-License-Identifier: Apache-2.0
//
// The neighbours in use: their MAC addresses, found and kept true by having the kernel ask for them. The kernel
// does so by itself only for those that it sends packets to, which those of the data path are not.
//
// Threads: one at a time.
#pragma once

#include <absl/status/statusor.h>

#include <chrono>
#include <map>
#include <optional>

#include "agent/resolver/kernel_tables.h"

namespace headgate {

using ResolverClock = std::chrono::steady_clock;

struct ResolverOptions {
  // What is unresolved is looked at and asked for again so often.
  std::chrono::milliseconds retry{1000};
  // Neighbours in use are asked so often whether they are still there, unless the kernel doubts it before; routes
  // are looked up again as well.
  std::chrono::milliseconds verify{10000};
  // Two looks, for whatever reason, are this far apart at least.
  std::chrono::milliseconds calm{50};
};

class Neighbours {
 public:
  Neighbours(KernelTables& kernel, const ResolverOptions& options) : kernel_(kernel), options_(options) {}

  // A look at those in use: those that are not asked for between the two calls are forgotten.
  void BeginLook(ResolverClock::time_point now);
  absl::StatusOr<MacAddress> Find(const Neighbour& neighbour, const LinkMessage& link);
  void EndLook();

  bool InUse(const Neighbour& neighbour) const { return known_.contains(neighbour); }
  // When to look again though nothing happens.
  ResolverClock::time_point due() const;

 private:
  struct Known {
    uint64_t look = 0;  // the last that asked for it, and its answer
    absl::StatusOr<MacAddress> answer = absl::UnknownError("");
    std::optional<MacAddress> mac;         // the last in force, until it did not answer
    bool asked = false;                    // since there was one in force
    bool silent = false;                   // did not answer then
    ResolverClock::time_point may_ask{};   // not before, while it does not answer
    ResolverClock::time_point verified{};  // the last time
    ResolverClock::time_point due{};       // a look is, though nothing happens
  };
  absl::StatusOr<MacAddress> LookAt(const Neighbour& neighbour, const LinkMessage& link, Known& known);
  void Verify(const NeighbourMessage& entry, Known& known);
  absl::Status Ask(const Neighbour& neighbour, Known& known);

  KernelTables& kernel_;
  const ResolverOptions options_;
  std::map<Neighbour, Known> known_;
  uint64_t look_ = 0;
  ResolverClock::time_point now_;  // when the look began
};

}  // namespace headgate
