// SPDX-License-Identifier: Apache-2.0
#include "agent/listener_planner.h"

#include <arpa/inet.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>

namespace headgate {
namespace {

bool IsHost(const Prefix& prefix) { return prefix.length == AddressBits(prefix.address.family); }

// Network order, as on the wire.
void SetAddress(uint32_t (&field)[4], const IpAddress& address) {
  const size_t words = address.family == Family::kIpv6 ? 4 : 1;
  for (size_t i = 0; i < words; ++i) field[i] = htonl(address.words[i]);
}

IpAddress AddressOf(const uint32_t (&field)[4], Family family) {
  IpAddress address{.family = family};
  const size_t words = family == Family::kIpv6 ? 4 : 1;
  for (size_t i = 0; i < words; ++i) address.words[i] = ntohl(field[i]);
  return address;
}

bool MaySend(const MulticastRoute& route, const MulticastLeg& leg, const IpAddress& group) {
  return leg.group ? *leg.group == group
                   : route.input.group.address.family == group.family && Contains(route.input.group, group);
}

// Visits who listens to what the route's leg may send.
template <typename Visit>
void ForEachListened(const MulticastRoute& route, const MulticastLeg& leg, const State& state,
                     const ListenersByPort& listeners, const Visit& visit) {
  const Interface* const interface = state.interfaces.Get(leg.interface);
  const auto found = interface == nullptr ? listeners.end() : listeners.find(interface->id);
  if (!leg.on_join || found == listeners.end()) return;
  const bool ipv4 = route.input.group.address.family == Family::kIpv4;
  const InterfaceListeners::OfFamily& of = ipv4 ? found->second.ip4 : found->second.ip6;
  for (const ListenedView& listened : of.groups) {
    if (MaySend(route, leg, listened.group)) visit(*interface, of, listened);
  }
}

// Whether the input lets packets of that sender in.
bool Takes(const MulticastInput& input, const IpAddress& source) {
  const auto covers = [&source](const Prefix& prefix) { return Contains(prefix, source); };
  if (std::any_of(input.exclude.begin(), input.exclude.end(), covers)) return false;
  return input.include.empty() || std::any_of(input.include.begin(), input.include.end(), covers);
}

// All of a group that the route lets in. A membership names senders one by one.
void AddGroup(const MulticastInput& input, const IpAddress& group, std::set<Upstream>& wanted) {
  const bool by_source = !input.include.empty() && std::all_of(input.include.begin(), input.include.end(), IsHost);
  if (!by_source) wanted.insert({group, std::nullopt});
  for (const Prefix& source : input.include) {
    if (by_source) wanted.insert({group, source.address});
  }
}

void AddListened(const MulticastRoute& route, const MulticastLeg& leg, const ListenedView& listened,
                 std::set<Upstream>& wanted) {
  const MulticastInput& input = route.input;
  // A prefix that becomes one group: which of it, nobody says.
  if (leg.group && !IsHost(input.group)) return;
  const IpAddress group = leg.group ? input.group.address : listened.group;
  const auto* const source = std::get_if<IpAddress>(&leg.source);
  const auto names = [&listened](const IpAddress& address) {
    return std::find(listened.sources.begin(), listened.sources.end(), address) != listened.sources.end();
  };
  // That they leave with this address is known here; that of an egress device is left to the leg.
  if (source != nullptr && names(*source) == listened.exclude) return;
  if (listened.exclude || leg.source.index() != 0) return AddGroup(input, group, wanted);
  for (const IpAddress& sender : listened.sources) {
    if (Takes(input, sender)) wanted.insert({group, sender});
  }
}

QuerierSettings SettingsOf(const Querier& querier) {
  return {.asks = !querier.disabled,
          .interval = std::chrono::seconds(querier.interval_seconds),
          .response = std::chrono::milliseconds(querier.response_ms),
          .last_listener = std::chrono::milliseconds(querier.last_listener_ms),
          .robustness = querier.robustness};
}

}  // namespace

std::vector<ListenedInterface> ListenedInterfacesOf(const State& state,
                                                    const std::map<std::string, InterfaceState>& interfaces) {
  std::set<std::string> names;
  state.multicast_routes.ForEach([&](const std::shared_ptr<const MulticastRoute>& route) {
    for (const MulticastLeg& leg : route->legs) {
      if (leg.on_join) names.insert(leg.interface);
    }
  });
  std::vector<ListenedInterface> listened;
  if (names.empty()) return listened;
  const std::map<uint32_t, IpAddress> link_locals = LinkLocalAddresses();
  for (const std::string& name : names) {
    const Interface* const interface = state.interfaces.Get(name);
    if (interface == nullptr) continue;
    ListenedInterface& one = listened.emplace_back();
    one.port = interface->id;
    one.name = name;
    one.querier = SettingsOf(interface->querier.value_or(Querier{}));
    const auto found = interfaces.find(name);
    if (found == interfaces.end() || !found->second.device) continue;
    const Device& device = *found->second.device;
    one.ifindex = device.ifindex;
    one.mac = device.mac;
    one.up = device.up;
    one.address4 = device.address4;
    const auto link_local = link_locals.find(device.ifindex);
    if (link_local != link_locals.end()) one.link_local = link_local->second;
  }
  return listened;
}

ListenerEntries EntriesOf(const State& state, const ListenersByPort& listeners) {
  std::set<std::pair<uint32_t, IpAddress>> seen;
  ListenerEntries entries;
  const auto add = [&](const Interface& interface, const InterfaceListeners::OfFamily&,
                       const ListenedView& listened) {
    if (!seen.insert({interface.id, listened.group}).second) return;
    hg_listener entry{.port = interface.id};
    SetAddress(entry.group, listened.group);
    if (listened.exclude) entries.emplace_back(entry, true);
    for (const IpAddress& source : listened.sources) {
      SetAddress(entry.source, source);
      entries.emplace_back(entry, !listened.exclude);
    }
  };
  state.multicast_routes.ForEach([&](const std::shared_ptr<const MulticastRoute>& route) {
    for (const MulticastLeg& leg : route->legs) ForEachListened(*route, leg, state, listeners, add);
  });
  return entries;
}

std::set<Upstream> UpstreamOf(const MulticastRoute& route, const State& state, const ListenersByPort& listeners) {
  std::set<Upstream> wanted;
  for (const MulticastLeg& leg : route.legs) {
    if (!leg.on_join) {
      if (IsHost(route.input.group)) AddGroup(route.input, route.input.group.address, wanted);
      continue;
    }
    ForEachListened(route, leg, state, listeners,
                    [&](const Interface&, const InterfaceListeners::OfFamily&, const ListenedView& listened) {
                      AddListened(route, leg, listened, wanted);
                    });
  }
  return wanted;
}

std::vector<ListenerView> ListenerViews(const MulticastRoute& route, const State& state,
                                        const ListenersByPort& listeners) {
  std::set<std::pair<std::string, IpAddress>> seen;
  std::vector<ListenerView> views;
  for (const MulticastLeg& leg : route.legs) {
    ForEachListened(
        route, leg, state, listeners,
        [&](const Interface& interface, const InterfaceListeners::OfFamily& of, const ListenedView& listened) {
          if (!seen.insert({interface.name, listened.group}).second) return;
          views.push_back({interface.name, listened.group, listened.exclude, listened.sources, listened.expires_in,
                           of.querier});
        });
  }
  return views;
}

std::vector<SeedGroup> SeedsOf(const ListenerEntries& entries) {
  std::map<std::pair<uint32_t, IpAddress>, SeedGroup> seeds;
  const auto seed = [&seeds](const hg_listener& entry) -> SeedGroup& {
    // An IPv6 group begins so, an IPv4 group does not.
    const Family family = ntohl(entry.group[0]) >> 24 == 0xff ? Family::kIpv6 : Family::kIpv4;
    const IpAddress group = AddressOf(entry.group, family);
    SeedGroup& one = seeds[{entry.port, group}];
    one.port = entry.port;
    one.group = group;
    return one;
  };
  const auto of_all = [](const hg_listener& entry) {
    return std::all_of(std::begin(entry.source), std::end(entry.source), [](uint32_t word) { return word == 0; });
  };
  for (const auto& [entry, wanted] : entries) {
    if (of_all(entry) && wanted) seed(entry).exclude = true;
  }
  for (const auto& [entry, wanted] : entries) {
    if (of_all(entry)) continue;
    SeedGroup& one = seed(entry);
    if (wanted != one.exclude) one.sources.push_back(AddressOf(entry.source, one.group.family));
  }
  std::vector<SeedGroup> all;
  for (auto& [key, one] : seeds) all.push_back(std::move(one));
  return all;
}

}  // namespace headgate
