// SPDX-License-Identifier: Apache-2.0
#include "agent/control/compile_forward.h"

#include <algorithm>
#include <cstring>

namespace headgate {
namespace {

constexpr uint64_t kNanosecondsPerSecond = 1'000'000'000;
constexpr uint64_t kDefaultBurstFraction = 10;  // of a second
constexpr uint64_t kDefaultMinBits = 1518 * 8;  // the largest untagged frame

void SetMac(uint8_t (&field)[6], const MacAddress& mac) { std::copy(mac.begin(), mac.end(), field); }

struct VerdictCompiler {
  hg_action& cell;
  const State& state;

  void operator()(std::monostate) const { cell.verdict = HG_VERDICT_DROP; }
  void operator()(const Pass&) const { cell.verdict = HG_VERDICT_PASS; }
  void operator()(const Drop&) const { cell.verdict = HG_VERDICT_DROP; }
  void operator()(const Tx& tx) const {
    cell.verdict = HG_VERDICT_TX;
    if (tx.swap != TxSwap::kEthernet) cell.flags |= HG_ACTION_SWAP_IP;
    if (tx.swap == TxSwap::kPorts) cell.flags |= HG_ACTION_SWAP_PORTS;
  }
  void operator()(const Redirect& redirect) const {
    cell.verdict = HG_VERDICT_REDIRECT;
    cell.port = static_cast<uint16_t>(state.interfaces.Get(redirect.interface)->id);
    if (redirect.destination_mac) {
      cell.flags |= HG_ACTION_DMAC;
      SetMac(cell.dmac, *redirect.destination_mac);
    }
    if (redirect.source_mac) {
      cell.flags |= HG_ACTION_SMAC;
      SetMac(cell.smac, *redirect.source_mac);
    }
  }
  void operator()(const Route&) const { cell.verdict = HG_VERDICT_ROUTE; }
  void operator()(const ToNextHop& hop) const {
    cell.verdict = HG_VERDICT_NEXT_HOP;
    cell.object = state.next_hops.Get(hop.name)->id;
  }
  void operator()(const Steer& steer) const {
    cell.verdict = HG_VERDICT_STEER;
    cell.object = state.steer_targets.Get(steer.target)->id;
  }
};

}  // namespace

uint8_t VlanModeOf(const std::optional<uint16_t>& vlan) {
  if (!vlan) return HG_NEXT_HOP_VLAN_KEEP;
  return *vlan == 0 ? HG_NEXT_HOP_VLAN_STRIP : HG_NEXT_HOP_VLAN_SET;
}

PolicerCost CompilePolicer(const RateLimit& limit) {
  const bool by_bits = limit.bits_per_second != 0;
  const uint64_t rate = by_bits ? limit.bits_per_second : limit.packets_per_second;
  const uint64_t least = by_bits ? kDefaultMinBits : 1;
  const uint64_t burst = limit.burst != 0 ? limit.burst : std::max(least, rate / kDefaultBurstFraction);
  // In 128 bits: an hour's burst in 2^-14 ns does fit 64, the way there does not.
  const unsigned __int128 unit = static_cast<unsigned __int128>(kNanosecondsPerSecond) << HG_POLICE_SHIFT;
  return {static_cast<uint64_t>(unit * (by_bits ? 8 : 1) / rate), static_cast<uint64_t>(unit * burst / rate)};
}

hg_action CompileAction(const Action& action, const State& state) {
  hg_action cell{};
  std::visit(VerdictCompiler{cell, state}, action.verdict);
  if (!action.counter.empty()) cell.counter = state.counters.Get(action.counter)->id;
  if (const auto& limit = action.rate_limit) {
    const PolicerCost policer = CompilePolicer(*limit);
    cell.flags |= HG_ACTION_POLICE;
    if (limit->bits_per_second != 0) cell.flags |= HG_ACTION_POLICE_BITS;
    if (limit->per_source) cell.flags |= HG_ACTION_POLICE_SOURCE;
    cell.police_cost = policer.cost;
    cell.police_depth = policer.depth;
  }
  if (action.sample_one_in != 0) {
    cell.sample =
        action.sample_one_in == 1 ? 0xffffffffU : static_cast<uint32_t>((1ULL << 32) / action.sample_one_in);
  }
  return cell;
}

hg_next_hop CompileNextHop(const NextHop& hop, const State& state) {
  hg_next_hop cell{};
  cell.port = static_cast<uint16_t>(state.interfaces.Get(hop.interface)->id);
  SetMac(cell.dmac, hop.mac);
  if (hop.source_mac) SetMac(cell.smac, *hop.source_mac);
  cell.vlan_mode = VlanModeOf(hop.vlan);
  cell.vlan = hop.vlan.value_or(0);
  cell.decrement_ttl = hop.decrement_ttl ? 1 : 0;
  return cell;
}

hg_target CompileTarget(const SteerTarget& target) {
  hg_target cell{};
  cell.fallback = target.fallback == BasicVerdict::kPass ? HG_VERDICT_PASS : HG_VERDICT_DROP;
  // A quarter of the ring for the lowest, and a part more for each above it.
  if (target.priority < kTopSteerPriority) cell.shed_at = static_cast<uint8_t>(64 + 24 * target.priority);
  return cell;
}

}  // namespace headgate
