// SPDX-License-Identifier: Apache-2.0
//
// Multicast routes, from model to tables: entries of the tree that packets look for their route in, records of
// routes and legs, and the sets of egress ports that the kernel copies packets to.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "agent/control/compile_forward.h"
#include "agent/control/rule_entry.h"
#include "agent/control/state.h"
#include "bpf/hg_abi.h"

namespace headgate {

// Why workers are to replicate the route's packets, all of them, and not the kernel, which tells legs apart by
// their devices and resolves no next hop; empty: the kernel may.
std::string WhyWorkers(const MulticastRoute& route);
// Entries by which packets find the route, then those of senders that it leaves out; all of an id lie together.
std::vector<RuleEntry> CompileMulticastEntries(const MulticastRoute& route, const State& state);
// All of those entries have it: a packet that finds one is counted by route, not by action.
hg_action MulticastAction();

// `port`: the egress interface's id.
hg_leg CompileLeg(const MulticastLeg& leg, uint32_t port);
uint32_t LegId(const MulticastRoute& route, const MulticastLeg& leg, const State& state);
// Of routes that the kernel may replicate.
hg_fanout CompileFanout(const MulticastRoute& route, const State& state);
hg_feed_key CompileFeed(const MulticastRoute& route, const State& state);
// Of others it has nothing but the feed.
hg_mroute CompileMroute(const MulticastRoute& route, const State& state, uint32_t fanout);

class MulticastTable {
 public:
  using Routes = PagedTable<hg_mroute_page, &hg_mroute_page::route, HG_MROUTE_PAGES>;
  using Legs = PagedTable<hg_leg_page, &hg_leg_page::leg, HG_LEG_PAGES>;

  // Brings the tables from `before` to `after`; `before` is what the last call left.
  void Apply(const State& before, const State& after);
  // Takes over what a root record read back from the kernel names, whose cells are loaded.
  bool Adopt(const hg_root& root);
  // Brings adopted tables to `state`. Returns how many records differed.
  uint64_t Reconcile(const State& state);

  Routes routes;
  Legs legs;
  SharedTable<hg_fanout> fanouts;

 private:
  void Set(const MulticastRoute& route, const State& state);
  void Clear(uint32_t id);
};

}  // namespace headgate
