// SPDX-License-Identifier: Apache-2.0
//
// What workers share about legs: their counters, and what their rate limits have left. Both are maps of the data
// path, so that they outlive the agent and a leg has one limit whoever makes its copies.
//
// Threads: any; nobody waits for another.
#pragma once

#include <atomic>
#include <cstdint>
#include <iterator>

#include "bpf/hg_abi.h"

namespace headgate {

class MulticastAccount {
 public:
  using Counter = __u64 hg_leg_count::*;
  static constexpr Counter kCounters[] = {
      &hg_leg_count::offered,      &hg_leg_count::packets,   &hg_leg_count::bytes,     &hg_leg_count::ttl,
      &hg_leg_count::limited,      &hg_leg_count::no_source, &hg_leg_count::malformed, &hg_leg_count::no_listener,
      &hg_leg_count::no_neighbour, &hg_leg_count::too_big,   &hg_leg_count::tx_full,   &hg_leg_count::fragments};
  static_assert(sizeof(hg_leg_count) == std::size(kCounters) * sizeof(__u64), "all of them");

  // Memory of hg_worker_legs and hg_leg_limiters, each of HG_LEGS values.
  MulticastAccount(hg_leg_count* counts, uint64_t* limiters) : counts_(counts), limiters_(limiters) {}

  void Add(uint32_t leg, const hg_leg_count& more) {
    for (const Counter counter : kCounters) {
      if (more.*counter == 0) continue;
      std::atomic_ref(counts_[leg].*counter).fetch_add(more.*counter, std::memory_order_relaxed);
    }
  }
  // Takes of the leg's bucket; false: it is empty. As bpf/police.bpf.c does, in the same units.
  // `now`: CLOCK_MONOTONIC, ns.
  bool Take(uint32_t leg, uint64_t now, uint64_t cost, uint64_t depth) {
    now <<= HG_POLICE_SHIFT;
    const std::atomic_ref full_at(limiters_[leg]);
    uint64_t seen = full_at.load(std::memory_order_relaxed);
    while (true) {
      uint64_t ahead = seen - now;
      if (ahead > depth + kClockSlack) ahead = 0;
      if (ahead + cost > depth) return false;
      if (full_at.compare_exchange_weak(seen, now + ahead + cost, std::memory_order_relaxed)) return true;
    }
  }

 private:
  // Others may have taken at a time later than ours.
  static constexpr uint64_t kClockSlack = uint64_t{1'000'000'000} << HG_POLICE_SHIFT;

  hg_leg_count* const counts_;
  uint64_t* const limiters_;
};

}  // namespace headgate
