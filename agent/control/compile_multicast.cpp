// SPDX-License-Identifier: Apache-2.0
#include "agent/control/compile_multicast.h"

#include <netinet/in.h>

#include <absl/container/flat_hash_map.h>
#include <absl/strings/str_cat.h>

#include <algorithm>
#include <cstring>

namespace headgate {
namespace {

// Network order, as on the wire.
void SetAddress(uint32_t (&field)[4], const IpAddress& address) {
  const size_t words = address.family == Family::kIpv6 ? 4 : 1;
  for (size_t i = 0; i < words; ++i) field[i] = htonl(address.words[i]);
}

// RFC 1112, section 6.4; RFC 2464, section 7.
void SetGroupMac(uint8_t (&mac)[6], const IpAddress& group) {
  const bool ipv6 = group.family == Family::kIpv6;
  const uint32_t low = ipv6 ? group.words[3] : group.words[0] & 0x7fffff;
  mac[0] = ipv6 ? 0x33 : 0x01;
  mac[1] = ipv6 ? 0x33 : 0x00;
  mac[2] = static_cast<uint8_t>(ipv6 ? low >> 24 : 0x5e);
  mac[3] = static_cast<uint8_t>(low >> 16);
  mac[4] = static_cast<uint8_t>(low >> 8);
  mac[5] = static_cast<uint8_t>(low);
}

// The longest group prefix wins, then the longest source prefix, then VLANs, then ports; a sender that one route
// takes and another leaves out is taken. Never 0.
uint32_t PriorityOf(const MulticastInput& input, int source_length, bool taken) {
  return static_cast<uint32_t>(input.group.length) << 20 | static_cast<uint32_t>(source_length) << 8 |
         (input.vlan ? 4U : 0U) | (input.port != 0 ? 2U : 0U) | (taken ? 1U : 0U);
}

uint32_t PortOf(const MulticastLeg& leg, const State& state) { return state.interfaces.Get(leg.interface)->id; }

}  // namespace

std::string WhyWorkers(const MulticastRoute& route) {
  absl::flat_hash_map<std::string, const MulticastLeg*> by_interface;
  for (const MulticastLeg& leg : route.legs) {
    if (leg.unicast) return absl::StrCat("leg \"", leg.name, "\" sends to a unicast address");
    const auto [other, is_first] = by_interface.try_emplace(leg.interface, &leg);
    if (is_first) continue;
    return absl::StrCat("legs \"", other->second->name, "\" and \"", leg.name, "\" both leave by \"",
                        leg.interface, "\"");
  }
  return "";
}

std::vector<RuleEntry> CompileMulticastEntries(const MulticastRoute& route, const State& state) {
  const MulticastInput& input = route.input;
  std::vector<RuleEntry> entries;
  const auto add = [&](const std::optional<Prefix>& source, bool taken) {
    Match match;
    match.source = source;
    match.destination = input.group;
    match.protocol = input.protocol;
    match.vlan = input.vlan;
    if (input.port != 0) match.destination_ports = {PortRange{input.port, input.port}};
    for (const std::string& interface : input.interfaces) {
      match.interface = interface;
      for (RuleEntry entry : CompileMatch(match, state)) {
        entry.prio = PriorityOf(input, source ? source->length : 0, taken);
        entry.id = HG_ID_MROUTE | (taken ? 0 : HG_ID_LEFT_OUT) | route.id;
        entries.push_back(entry);
      }
    }
  };
  if (input.include.empty()) add(std::nullopt, true);
  for (const Prefix& source : input.include) add(source, true);
  for (const Prefix& source : input.exclude) add(source, false);
  return entries;
}

hg_action MulticastAction() {
  hg_action pass{};
  pass.verdict = HG_VERDICT_PASS;
  return pass;
}

hg_leg CompileLeg(const MulticastLeg& leg, uint32_t port) {
  hg_leg cell{};
  cell.port = static_cast<uint16_t>(port);
  if (const auto* address = std::get_if<IpAddress>(&leg.source)) {
    cell.flags |= HG_LEG_SOURCE;
    SetAddress(cell.src, *address);
  } else if (std::holds_alternative<EgressAddress>(leg.source)) {
    cell.flags |= HG_LEG_SOURCE_EGRESS;
  }
  if (leg.group) {
    cell.flags |= HG_LEG_DESTINATION;
    SetAddress(cell.dst, *leg.group);
    SetGroupMac(cell.dmac, *leg.group);
  }
  if (leg.unicast) {
    cell.flags |= HG_LEG_DESTINATION;
    SetAddress(cell.dst, *leg.unicast);
    if (leg.mac) std::copy(leg.mac->begin(), leg.mac->end(), cell.dmac);
  }
  if (leg.port != 0) cell.flags |= HG_LEG_DESTINATION_PORT;
  if (leg.source_port != 0) cell.flags |= HG_LEG_SOURCE_PORT;
  if (leg.ttl != 0) cell.flags |= HG_LEG_TTL;
  if (leg.dscp) cell.flags |= HG_LEG_DSCP;
  if (leg.on_join) cell.flags |= HG_LEG_ON_JOIN;
  cell.dport = htons(leg.port);
  cell.sport = htons(leg.source_port);
  cell.ttl = leg.ttl;
  cell.ttl_threshold = leg.ttl_threshold;
  cell.dscp = leg.dscp.value_or(0);
  cell.vlan_mode = VlanModeOf(leg.vlan);
  cell.vlan = leg.vlan.value_or(0);
  if (leg.rate_limit) {
    const PolicerCost policer = CompilePolicer(*leg.rate_limit);
    cell.flags |= HG_LEG_POLICE;
    if (leg.rate_limit->bits_per_second != 0) cell.flags |= HG_LEG_POLICE_BITS;
    cell.police_cost = policer.cost;
    cell.police_depth = policer.depth;
  }
  return cell;
}

uint32_t LegId(const MulticastRoute& route, const MulticastLeg& leg, const State& state) {
  return state.multicast_legs.Get(LegKey(route.name, leg.name))->id;
}

hg_fanout CompileFanout(const MulticastRoute& route, const State& state) {
  hg_fanout fanout{};
  for (const MulticastLeg& leg : route.legs) {
    const uint32_t port = PortOf(leg, state);
    fanout.ports[port / 64] |= uint64_t{1} << port % 64;
  }
  return fanout;
}

hg_feed_key CompileFeed(const MulticastRoute& route, const State& state) {
  hg_feed_key key{};
  const std::string name = FeedKey(route);
  if (name.empty()) return key;
  key.feed = static_cast<uint16_t>(state.multicast_feeds.Get(name)->id);
  key.window = FeedWindow(route);
  if (route.deduplicate) key.flags |= HG_FEED_DROP;
  if (!route.sequence) return key;
  key.offset = route.sequence->offset;
  key.width = route.sequence->width;
  if (route.sequence->little_endian) key.flags |= HG_FEED_LITTLE_ENDIAN;
  return key;
}

hg_mroute CompileMroute(const MulticastRoute& route, const State& state, uint32_t fanout) {
  hg_mroute cell{};
  cell.feed = CompileFeed(route, state);
  if (!WhyWorkers(route).empty()) return cell;
  cell.fanout = fanout;
  for (const MulticastLeg& leg : route.legs) {
    const uint32_t port = PortOf(leg, state);
    cell.port[cell.ports++] = static_cast<uint8_t>(port);
    cell.leg_of_port[port] = static_cast<uint16_t>(LegId(route, leg, state));
  }
  return cell;
}

void MulticastTable::Set(const MulticastRoute& route, const State& state) {
  if (!WhyWorkers(route).empty()) {
    Clear(route.id);
    if (!FeedKey(route).empty()) routes.Set(route.id, CompileMroute(route, state, 0));
    for (const MulticastLeg& leg : route.legs) legs.Clear(LegId(route, leg, state));
    return;
  }
  const uint32_t former = routes.Get(route.id).fanout;
  const uint32_t fanout = fanouts.Acquire(CompileFanout(route, state));
  if (former != 0) fanouts.Release(former);
  routes.Set(route.id, CompileMroute(route, state, fanout));
  for (const MulticastLeg& leg : route.legs) {
    legs.Set(LegId(route, leg, state), CompileLeg(leg, PortOf(leg, state)));
  }
}

void MulticastTable::Clear(uint32_t id) {
  if (const uint32_t fanout = routes.Get(id).fanout; fanout != 0) fanouts.Release(fanout);
  routes.Clear(id);
}

void MulticastTable::Apply(const State& before, const State& after) {
  Table<MulticastLegId>::ForEachDifference(before.multicast_legs, after.multicast_legs,
                                           [&](const auto* old, const auto* now) {
                                             if (old && (!now || (*now)->id != (*old)->id)) legs.Clear((*old)->id);
                                           });
  Table<MulticastRoute>::ForEachDifference(before.multicast_routes, after.multicast_routes,
                                           [&](const auto* old, const auto* now) {
                                             if (old && (!now || (*now)->id != (*old)->id)) Clear((*old)->id);
                                           });
  // Interfaces that come back under another id come with every route that names them.
  Table<MulticastRoute>::ForEachDifference(before.multicast_routes, after.multicast_routes,
                                           [&](const auto*, const auto* now) {
                                             if (now) Set(**now, after);
                                           });
}

bool MulticastTable::Adopt(const hg_root& root) {
  if (!routes.Adopt(root.mroute_page) || !legs.Adopt(root.leg_page)) return false;
  for (uint32_t id = 0; id < HG_MROUTES; ++id) {
    if (const uint32_t fanout = routes.Get(id).fanout; fanout != 0 && !fanouts.Adopt(fanout)) return false;
  }
  return true;
}

uint64_t MulticastTable::Reconcile(const State& state) {
  uint64_t differences = 0;
  std::vector<bool> wanted(HG_MROUTES);
  absl::flat_hash_map<uint32_t, hg_leg> cells;
  state.multicast_routes.ForEach([&](const std::shared_ptr<const MulticastRoute>& route) {
    const bool by_kernel = WhyWorkers(*route).empty();
    if (!by_kernel && FeedKey(*route).empty()) return;
    wanted[route->id] = true;
    const hg_mroute held = routes.Get(route->id);
    bool same_fanout = held.fanout == 0;
    if (by_kernel) {
      for (const MulticastLeg& leg : route->legs) {
        cells[LegId(*route, leg, state)] = CompileLeg(leg, PortOf(leg, state));
      }
      const hg_fanout fanout = CompileFanout(*route, state);
      same_fanout = held.fanout != 0 && std::memcmp(&fanouts.cells[held.fanout], &fanout, sizeof(fanout)) == 0;
    }
    const hg_mroute cell = CompileMroute(*route, state, held.fanout);
    if (same_fanout && std::memcmp(&cell, &held, sizeof(cell)) == 0) return;
    Set(*route, state);
    ++differences;
  });
  for (uint32_t id = 0; id < wanted.size(); ++id) {
    const hg_mroute held = routes.Get(id);
    if (wanted[id] || (held.ports == 0 && held.feed.feed == 0)) continue;
    Clear(id);
    ++differences;
  }
  return differences + legs.Reconcile(cells);
}

}  // namespace headgate
