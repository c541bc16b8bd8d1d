// SPDX-License-Identifier: Apache-2.0
#include "agent/control/validate.h"

#include <absl/strings/ascii.h>
#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/strip.h>
#include <net/if.h>
#include <netinet/in.h>

#include <algorithm>
#include <limits>

#include "agent/control/checker.h"

namespace headgate {
namespace {

constexpr size_t kMaxDeviceName = 127;  // ALTIFNAMSIZ - 1
constexpr uint32_t kMaxPriority = 0x7fffffff;
constexpr uint32_t kMaxRuleEntries = 256;
// Fields of a match that are right or wrong whatever the others are.
constexpr absl::string_view kIndependent[] = {"interface", "vlan", "inner_vlan", "dscp", "packet_length"};

// Whether the path is the other or below it.
bool IsWithin(absl::string_view path, absl::string_view other) {
  return absl::ConsumePrefix(&path, other) && (path.empty() || path[0] == '.' || path[0] == '[');
}

void CheckAddresses(const Match& match, const State& state, Checker& check) {
  if (match.source && !match.source_set.empty()) {
    check.Fail("match.source_set", "a rule matches by source or by source_set, not both");
  }
  if (match.destination && !match.destination_set.empty()) {
    check.Fail("match.destination_set", "a rule matches by destination or by destination_set, not both");
  }
  if (match.source && match.destination && match.source->address.family != match.destination->address.family) {
    check.Fail("match.destination", "source and destination are of different IP versions: no packet matches");
  }
  check.Exists("match.interface", "interface", state.interfaces, match.interface);
  check.Exists("match.source_set", "prefix set", state.prefix_sets, match.source_set);
  check.Exists("match.destination_set", "prefix set", state.prefix_sets, match.destination_set);
}

void CheckIcmp(const Match& match, Checker& check) {
  if (!match.icmp_type && !match.icmp_code) return;
  if (!match.protocol || (*match.protocol != IPPROTO_ICMP && *match.protocol != IPPROTO_ICMPV6)) {
    check.Fail("match.icmp_type", "ICMP types and codes need protocol icmp or icmpv6");
  }
  if (match.icmp_code && !match.icmp_type) check.Fail("match.icmp_code", "an ICMP code needs an icmp_type");
  if (match.fragment == FragmentMatch::kLater) {
    check.Fail("match.icmp_type", "fragments after the first have no ICMP header: no packet matches");
  }
}

void CheckProtocol(const Match& match, Checker& check) {
  const bool ports = !match.source_ports.empty() || !match.destination_ports.empty();
  const absl::string_view field = match.source_ports.empty() ? "match.destination_ports" : "match.source_ports";
  check.Ports("match.source_ports", match.source_ports);
  check.Ports("match.destination_ports", match.destination_ports);
  if (ports && match.protocol && !HasPorts(*match.protocol)) {
    check.Fail(field, "protocol ", *match.protocol, " has no ports: use tcp, udp, sctp, dccp or udplite");
  }
  if (match.tcp_flags.mask != 0 && (!match.protocol || *match.protocol != IPPROTO_TCP)) {
    check.Fail("match.tcp_flags", "TCP flags need protocol tcp");
  }
  if (match.fragment == FragmentMatch::kLater && (ports || match.tcp_flags.mask != 0)) {
    check.Fail(ports ? field : "match.tcp_flags",
               "fragments after the first have no ports or TCP flags: no packet matches");
  }
  const auto& address = match.source ? match.source : match.destination;
  if (match.protocol && *match.protocol == IPPROTO_ICMPV6 && address && address->address.family == Family::kIpv4) {
    check.Fail("match.protocol", "icmpv6 does not occur in IPv4: use icmp");
  }
  if (EntryCount(match) > kMaxRuleEntries) {
    check.Fail(field, EntryCount(match), " pairs of source and destination port ranges: at most ", kMaxRuleEntries,
               " are possible; use several rules");
  }
  CheckIcmp(match, check);
}

void CheckAction(const Action& action, const State& state, Checker& check) {
  if (std::holds_alternative<std::monostate>(action.verdict)) {
    check.Fail("action", "one of pass, drop, tx, redirect, route, next_hop and steer is needed");
  }
  if (const auto* redirect = std::get_if<Redirect>(&action.verdict)) {
    if (redirect->interface.empty()) check.Fail("action.redirect.interface", "an interface is needed");
    check.Exists("action.redirect.interface", "interface", state.interfaces, redirect->interface);
    if (redirect->source_mac) check.Unicast("action.redirect.source_mac", *redirect->source_mac);
  }
  if (const auto* hop = std::get_if<ToNextHop>(&action.verdict)) {
    if (hop->name.empty()) check.Fail("action.next_hop.name", "a next hop is needed");
    check.Exists("action.next_hop.name", "next hop", state.next_hops, hop->name);
  }
  if (const auto* steer = std::get_if<Steer>(&action.verdict)) {
    if (steer->target.empty()) check.Fail("action.steer.target", "a steer target is needed");
    check.Exists("action.steer.target", "steer target", state.steer_targets, steer->target);
  }
  if (!action.counter.empty()) check.Name(action.counter, "action.count.counter");
  if (action.rate_limit) CheckRateLimit(*action.rate_limit, "action.rate_limit", check);
}

}  // namespace

std::string RulePath(absl::string_view name) { return absl::StrCat("rules[\"", name, "\"]"); }
std::string NextHopPath(absl::string_view name) { return absl::StrCat("next_hops[\"", name, "\"]"); }
std::string SteerTargetPath(absl::string_view name) { return absl::StrCat("steer_targets[\"", name, "\"]"); }
std::string MulticastRoutePath(absl::string_view name) { return absl::StrCat("multicast_routes[\"", name, "\"]"); }

void ForEachReference(const State& state, const ReferenceVisitor& visit) {
  state.rules.ForEach([&](const std::shared_ptr<const Rule>& rule) {
    const std::string path = RulePath(rule->name);
    visit(path, ".match.interface", Kind::kInterface, rule->match.interface);
    visit(path, ".match.source_set", Kind::kPrefixSet, rule->match.source_set);
    visit(path, ".match.destination_set", Kind::kPrefixSet, rule->match.destination_set);
    visit(path, ".action.count.counter", Kind::kCounter, rule->action->counter);
    const Verdict& verdict = rule->action->verdict;
    if (const auto* redirect = std::get_if<Redirect>(&verdict)) {
      visit(path, ".action.redirect.interface", Kind::kInterface, redirect->interface);
    }
    if (const auto* hop = std::get_if<ToNextHop>(&verdict)) {
      visit(path, ".action.next_hop.name", Kind::kNextHop, hop->name);
    }
    if (const auto* steer = std::get_if<Steer>(&verdict)) {
      visit(path, ".action.steer.target", Kind::kSteerTarget, steer->target);
    }
  });
  state.next_hops.ForEach([&](const std::shared_ptr<const NextHop>& hop) {
    visit(NextHopPath(hop->name), ".interface", Kind::kInterface, hop->interface);
  });
  state.steer_targets.ForEach([&](const std::shared_ptr<const SteerTarget>& target) {
    if (const auto* tap = std::get_if<TapHandlerSpec>(&target->handler)) {
      visit(SteerTargetPath(target->name), ".handler.tap.interface", Kind::kInterface, tap->interface);
    }
  });
  state.multicast_routes.ForEach([&](const std::shared_ptr<const MulticastRoute>& route) {
    const std::string path = MulticastRoutePath(route->name);
    for (size_t i = 0; i < route->input.interfaces.size(); ++i) {
      visit(path, absl::StrCat(".input.interfaces[", i, "]"), Kind::kInterface, route->input.interfaces[i]);
    }
    for (size_t i = 0; i < route->legs.size(); ++i) {
      visit(path, absl::StrCat(".legs[", i, "].interface"), Kind::kInterface, route->legs[i].interface);
      visit(path, absl::StrCat(".legs[", i, "].name"), Kind::kMulticastLeg,
            LegKey(route->name, route->legs[i].name));
    }
    visit(path, "", Kind::kMulticastFeed, FeedKey(*route));
  });
  const auto& allow = state.settings->management;
  for (size_t i = 0; i < allow.size(); ++i) {
    visit("management", absl::StrCat(".allow[", i, "].interface"), Kind::kInterface, allow[i].interface);
  }
}

absl::Status CheckWhole(const State& state) {
  const auto exists = [&state](Kind kind, const std::string& name) {
    switch (kind) {
      case Kind::kInterface:
        return state.interfaces.Get(name) != nullptr;
      case Kind::kPrefixSet:
        return state.prefix_sets.Get(name) != nullptr;
      case Kind::kNextHop:
        return state.next_hops.Get(name) != nullptr;
      case Kind::kSteerTarget:
        return state.steer_targets.Get(name) != nullptr;
      case Kind::kCounter:
        return state.counters.Get(name) != nullptr;
      case Kind::kMulticastLeg:
        return state.multicast_legs.Get(name) != nullptr;
      case Kind::kMulticastFeed:
        return state.multicast_feeds.Get(name) != nullptr;
      case Kind::kSettings:
      case Kind::kRule:
      case Kind::kMulticastRoute:
        break;
    }
    return true;
  };
  absl::Status status;
  ForEachReference(
      state, [&](const std::string& path, absl::string_view field, Kind kind, const std::string& name) {
        if (name.empty() || exists(kind, name)) return;
        status.Update(
            absl::DataLossError(absl::StrCat(path, field, ": ", kMissing, KindName(kind), " \"", name, "\"")));
      });
  return status;
}

UnreadFields::UnreadFields(const Violations& violations) {
  for (const Violation& violation : violations) {
    const absl::string_view field = violation.field;
    // "config.rules[3].match.source", "config.management.allow[0].source"
    const size_t end = field.find("].");
    if (end != absl::string_view::npos) fields_[field.substr(0, end + 1)].push_back(violation.field);
  }
}

bool UnreadFields::Explain(absl::string_view object, const Violation& violation) const {
  const auto found = fields_.find(object);
  if (found == fields_.end()) return false;
  const absl::string_view field = violation.field;
  // What a rule or an entry of the management list matches hangs together, but for what is not there and a few
  // fields.
  const std::string scope = absl::StrCat(object, absl::StrContains(object, ".allow[") ? "." : ".match.");
  const bool may_follow =
      absl::StartsWith(field, scope) && !absl::StartsWith(violation.description, kMissing) &&
      std::none_of(std::begin(kIndependent), std::end(kIndependent),
                   [field](absl::string_view name) { return absl::EndsWith(field, absl::StrCat(".", name)); });
  return std::any_of(found->second.begin(), found->second.end(), [&](const std::string& unread) {
    return IsWithin(unread, field) || IsWithin(field, unread) || (may_follow && absl::StartsWith(unread, scope));
  });
}

bool HasPorts(uint8_t protocol) {
  return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP ||
         protocol == IPPROTO_DCCP || protocol == IPPROTO_UDPLITE;
}

namespace {

void CheckDevice(absl::string_view field, absl::string_view device, Checker& check) {
  if (device.empty() || device.size() > kMaxDeviceName || device == "." || device == ".." ||
      std::any_of(device.begin(), device.end(), [](char c) {
        return c == '/' || c == ':' || absl::ascii_isspace(static_cast<unsigned char>(c)) ||
               !absl::ascii_isprint(static_cast<unsigned char>(c));
      })) {
    check.Fail(field, "\"", device, "\" cannot be a network device's name");
  }
}

void CheckTap(const SteerTarget& target, const TapHandlerSpec& tap, const State& state, Checker& check) {
  CheckDevice("handler.tap.device", tap.device, check);
  if (tap.device.size() >= IFNAMSIZ)
    check.Fail("handler.tap.device", "names of TAP devices have at most 15 bytes");
  state.steer_targets.ForEach([&](const std::shared_ptr<const SteerTarget>& other) {
    const auto* same = std::get_if<TapHandlerSpec>(&other->handler);
    if (same != nullptr && same->device == tap.device && other->name != target.name) {
      check.Fail("handler.tap.device", "target \"", other->name, "\" has device \"", tap.device, "\" already");
    }
  });
  if (tap.tun && !tap.interface.empty()) {
    check.Fail("handler.tap.interface", "packets of a TUN leave by where their destination was seen");
  }
  check.Exists("handler.tap.interface", "interface", state.interfaces, tap.interface);
  if (target.workers > 1) check.Fail("workers.count", "a tap has one worker");
}

}  // namespace

void CheckInterface(const Interface& interface, const std::string& path, Violations& violations) {
  Checker check(path, violations);
  check.Name(interface.name);
  CheckDevice("device", interface.device, check);
  if (interface.querier) CheckQuerier(*interface.querier, check);
}

void CheckPrefixSet(const PrefixSet& set, const std::string& path, Violations& violations) {
  Checker(path, violations).Name(set.name);
}

void CheckNextHop(const NextHop& hop, const std::string& path, const State& state, Violations& violations) {
  Checker check(path, violations);
  check.Name(hop.name);
  if (hop.interface.empty()) check.Fail("interface", "an interface is needed");
  check.Exists("interface", "interface", state.interfaces, hop.interface);
  check.Unicast("mac", hop.mac);
  if (hop.source_mac) check.Unicast("source_mac", *hop.source_mac);
  check.Vlan("vlan", hop.vlan);
}

void CheckSteerTarget(const SteerTarget& target, const std::string& path, const State& state,
                      Violations& violations) {
  Checker check(path, violations);
  check.Name(target.name);
  if (target.priority > kTopSteerPriority) {
    check.Fail("priority", target.priority, ": priorities are 0 to ", kTopSteerPriority,
               ", higher is kept longer");
  }
  if (const auto* tap = std::get_if<TapHandlerSpec>(&target.handler)) CheckTap(target, *tap, state, check);
  if (target.workers < 1 || target.workers > kMaxWorkers) {
    check.Fail("workers.count", absl::StrCat("1 to ", kMaxWorkers, " workers are possible"));
  }
}

void CheckManagement(const ManagementAllow& entry, const std::string& path, const State& state,
                     Violations& violations) {
  Checker check(path, violations);
  if (entry == ManagementAllow{}) {
    check.Fail("", "at least one of source, protocol, destination_ports and interface is needed");
  }
  check.Exists("interface", "interface", state.interfaces, entry.interface);
  check.Ports("destination_ports", entry.destination_ports);
  if (!entry.destination_ports.empty() && entry.protocol && !HasPorts(*entry.protocol)) {
    check.Fail("destination_ports", "protocol ", *entry.protocol, " has no ports");
  }
}

void CheckRule(const Rule& rule, const std::string& path, const State& state, Violations& violations) {
  Checker check(path, violations);
  check.Name(rule.name);
  if (rule.priority == 0 || rule.priority > kMaxPriority) {
    check.Fail("priority", rule.priority, ": priorities are 1 to ", kMaxPriority, ", higher wins");
  }
  CheckAddresses(rule.match, state, check);
  CheckProtocol(rule.match, check);
  check.Vlan("match.vlan", rule.match.vlan);
  check.Vlan("match.inner_vlan", rule.match.inner_vlan);
  if (rule.match.dscp && *rule.match.dscp > 63) check.Fail("match.dscp", *rule.match.dscp, ": DSCPs are 0 to 63");
  if (rule.match.packet_length && rule.match.packet_length->first > rule.match.packet_length->last) {
    check.Fail("match.packet_length", "the lower end must not be above the upper");
  }
  CheckAction(*rule.action, state, check);
}

}  // namespace headgate
