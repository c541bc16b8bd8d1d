// SPDX-License-Identifier: Apache-2.0
//
// What multicast routes have to be: each by itself, and beside the others. Two must not claim one packet, and none
// may be fed with what comes out of it.
#include <absl/container/flat_hash_map.h>
#include <absl/container/flat_hash_set.h>
#include <absl/strings/str_join.h>
#include <netinet/in.h>

#include <algorithm>

#include "agent/control/checker.h"
#include "agent/control/validate.h"
#include "bpf/hg_abi.h"

namespace headgate {
namespace {

constexpr size_t kMaxInputs = 32;
constexpr size_t kMaxSources = 64;
constexpr size_t kMaxLegs = 1024;

bool IsGroup(const IpAddress& address) {
  return address.family == Family::kIpv4 ? address.words[0] >> 28 == 0xe : address.words[0] >> 24 == 0xff;
}

bool Overlap(const Prefix& a, const Prefix& b) {
  return a.length <= b.length ? Contains(a, b.address) : Contains(b, a.address);
}

Prefix Host(const IpAddress& address) { return {address, static_cast<uint8_t>(AddressBits(address.family))}; }

// What no router forwards: RFC 5771, section 4; RFC 4291, section 2.7 (scopes interface and link).
bool HasLocalScope(const Prefix& group) {
  if (group.address.family == Family::kIpv4) return Overlap(group, {{{0xe0000000}, Family::kIpv4}, 24});
  for (const uint32_t scope : {1U, 2U}) {
    // Whatever the flags are: the low four bits of the second byte are the scope.
    if ((group.address.words[0] >> 16 & 0xf) == scope) return true;
  }
  return false;
}

void CheckGroup(const Prefix& group, absl::string_view field, Checker& check) {
  const int least = group.address.family == Family::kIpv4 ? 4 : 16;  // scope included
  if (!IsGroup(group.address) || group.length < least) {
    check.Fail(field, ToString(group),
               " is no group: those within 224.0.0.0/4 are, and within ff00::/8, of 16 bits or more");
  } else if (HasLocalScope(group)) {
    check.Fail(field, ToString(group),
               " has link-local groups (224.0.0.0/24, ff01::/16, ff02::/16), which no router ", "forwards");
  }
}

void CheckInput(const MulticastInput& input, const State& state, Checker& check) {
  if (input.interfaces.empty() || input.interfaces.size() > kMaxInputs) {
    check.Fail("input.interfaces", "1 to ", kMaxInputs, " interfaces are needed");
  }
  for (size_t i = 0; i < input.interfaces.size(); ++i) {
    const std::string field = absl::StrCat("input.interfaces[", i, "]");
    if (input.interfaces[i].empty()) check.Fail(field, "an interface is needed");
    check.Exists(field, "interface", state.interfaces, input.interfaces[i]);
    if (std::count(input.interfaces.begin(), input.interfaces.end(), input.interfaces[i]) > 1) {
      check.Fail(field, "\"", input.interfaces[i], "\" is there twice");
    }
  }
  CheckGroup(input.group, "input.group", check);
  check.Vlan("input.vlan", input.vlan);
  if (input.port != 0 && !HasPorts(input.protocol)) {
    check.Fail("input.port", "protocol ", input.protocol, " has no ports");
  }
  if (input.include.size() + input.exclude.size() > kMaxSources) {
    check.Fail("input.sources", input.include.size() + input.exclude.size(), " prefixes: at most ", kMaxSources,
               " are possible");
  }
  const auto check_sources = [&](const std::vector<Prefix>& sources, const char* name) {
    for (size_t i = 0; i < sources.size(); ++i) {
      const std::string field = absl::StrCat("input.sources.", name, "[", i, "]");
      if (sources[i].address.family != input.group.address.family) {
        check.Fail(field, ToString(sources[i]), " is of another IP version than the group");
      } else if (IsGroup(sources[i].address)) {
        check.Fail(field, ToString(sources[i]), " is a group: senders have unicast addresses");
      }
      if (std::count(sources.begin(), sources.end(), sources[i]) > 1) {
        check.Fail(field, ToString(sources[i]), " is there twice");
      }
    }
  };
  check_sources(input.include, "include");
  check_sources(input.exclude, "exclude");
  for (size_t i = 0; i < input.exclude.size(); ++i) {
    if (input.include.empty() && input.exclude[i].length == 0) {
      check.Fail(absl::StrCat("input.sources.exclude[", i, "]"), ToString(input.exclude[i]), " leaves no sender");
    }
    for (const Prefix& include : input.include) {
      if (include.length < input.exclude[i].length || !Overlap(include, input.exclude[i])) continue;
      check.Fail(absl::StrCat("input.sources.exclude[", i, "]"), ToString(input.exclude[i]), " covers ",
                 ToString(include), ", which is included");
    }
  }
}

bool SendsTheSame(const MulticastLeg& a, const MulticastLeg& b) {
  return a.interface == b.interface && a.group == b.group && a.unicast == b.unicast && a.port == b.port &&
         a.source == b.source && a.source_port == b.source_port && a.vlan == b.vlan;
}

template <typename Field>
void CheckUnicast(const MulticastLeg& leg, Family family, const Field& field, Checker& check) {
  const IpAddress& to = *leg.unicast;
  const bool ipv4 = to.family == Family::kIpv4;
  if (leg.group) check.Fail(field("unicast"), "a leg has one destination: give `group` or `unicast`");
  if (to.family != family) {
    check.Fail(field("unicast"), ToString(to), " is of another IP version than the input's group");
  } else if (IsGroup(to)) {
    check.Fail(field("unicast"), ToString(to), " is a group: give it as `group`");
  } else if (to == IpAddress{.family = family} ||
             (ipv4 && (to.words[0] == 0xffffffff || to.words[0] >> 24 == 127))) {
    check.Fail(field("unicast"), ToString(to), " is no address of a receiver");
  }
}

template <typename Field>
void CheckOnJoin(const MulticastLeg& leg, const Field& field, Checker& check) {
  if (leg.unicast)
    check.Fail(field("on_join"), "nobody joins a unicast destination: give `group`, or leave it out");
  if (leg.vlan.value_or(0) != 0) {
    check.Fail(field("on_join"), "reports are heard untagged: let the VLAN's own device be the interface");
  }
}

void CheckLeg(const MulticastRoute& route, size_t index, const State& state, Checker& check) {
  const MulticastLeg& leg = route.legs[index];
  const auto field = [index](const char* name) { return absl::StrCat("legs[", index, "].", name); };
  const Family family = route.input.group.address.family;
  check.Name(leg.name, field("name"));
  if (leg.interface.empty() && !leg.unicast) check.Fail(field("interface"), "an interface is needed");
  check.Exists(field("interface"), "interface", state.interfaces, leg.interface);
  for (size_t i = 0; i < index; ++i) {
    const MulticastLeg& other = route.legs[i];
    if (other.name == leg.name) {
      check.Fail(field("name"), "there is another leg \"", leg.name,
                 "\" in this route: let each have a name of its own");
    } else if (SendsTheSame(other, leg)) {
      check.Fail(absl::StrCat("legs[", index, "]"), "leg \"", other.name,
                 "\" sends to the same destination: ", "receivers would get all packets twice");
    }
  }
  if (leg.unicast) CheckUnicast(leg, family, field, check);
  if (leg.on_join) CheckOnJoin(leg, field, check);
  if (leg.mac && (!leg.unicast || leg.interface.empty())) {
    check.Fail(field("mac"), "is that of a next hop: let the leg have `unicast` and `interface`, too");
  } else if (leg.mac) {
    check.Unicast(field("mac"), *leg.mac);
  }
  if (leg.group) {
    if (leg.group->family != family) {
      check.Fail(field("group"), ToString(*leg.group), " is of another IP version than the input's group");
    } else {
      CheckGroup(Host(*leg.group), field("group"), check);
    }
  }
  if (const auto* source = std::get_if<IpAddress>(&leg.source)) {
    if (source->family != family) {
      check.Fail(field("source"), ToString(*source), " is of another IP version than the input's group");
    } else if (IsGroup(*source) || *source == IpAddress{.family = family}) {
      check.Fail(field("source"), ToString(*source), " cannot be a source address");
    }
  }
  const bool writes_ports = leg.port != 0 || leg.source_port != 0;
  if (writes_ports && route.input.protocol != IPPROTO_UDP) {
    check.Fail(field(leg.port != 0 ? "port" : "source_port"), "only UDP's ports can be written");
  }
  // Their checksums cover addresses and are not kept.
  const uint8_t protocol = route.input.protocol;
  if ((leg.group || leg.unicast || leg.source.index() != 0) &&
      (protocol == IPPROTO_TCP || protocol == IPPROTO_DCCP || protocol == IPPROTO_ICMPV6)) {
    check.Fail(field("group"), "addresses of protocol ", protocol, " cannot be written: its checksum covers them");
  }
  if (leg.ttl != 0 && leg.ttl_threshold != 0) {
    check.Fail(field("ttl.threshold"), "a TTL that is set is not compared with a threshold");
  }
  if (leg.dscp && *leg.dscp > 63) check.Fail(field("dscp"), *leg.dscp, ": DSCPs are 0 to 63");
  check.Vlan(field("vlan"), leg.vlan);
  if (leg.rate_limit) {
    if (leg.rate_limit->per_source) check.Fail(field("rate_limit.per"), "a leg has one bucket for all sources");
    CheckRateLimit(*leg.rate_limit, field("rate_limit"), check);
  }
}

void CheckFeed(const MulticastRoute& route, Checker& check) {
  constexpr uint16_t kMaxOffset = 1400, kMaxMilliseconds = 10'000;
  constexpr uint8_t kWidths[] = {1, 2, 4, 8};
  if (const auto& sequence = route.sequence) {
    if (route.input.protocol != IPPROTO_UDP) check.Fail("sequence", "only packets of UDP have a sequence number");
    if (sequence->offset > kMaxOffset) check.Fail("sequence.offset", "must be 0 to ", kMaxOffset);
    if (std::find(std::begin(kWidths), std::end(kWidths), sequence->width) == std::end(kWidths)) {
      check.Fail("sequence.width", sequence->width, " bytes: 1, 2, 4 or 8 is needed");
    }
  }
  if (!route.deduplicate) return;
  if (!route.deduplicate->feed.empty()) check.Name(route.deduplicate->feed, "deduplicate.feed");
  const uint16_t window = route.deduplicate->window;
  // Half of the numbers are ahead, the others behind.
  const uint16_t numbers = route.sequence && route.sequence->width == 1 ? 128 : HG_FEED_WINDOW;
  if (route.sequence && window > numbers) {
    check.Fail("deduplicate.window", window, " numbers: at most ", numbers, " of this width are told apart");
  } else if (!route.sequence && window > kMaxMilliseconds) {
    check.Fail("deduplicate.window", window, " ms: at most ", kMaxMilliseconds, " are possible");
  }
}

void CheckSameFeed(const MulticastRoute& route, const MulticastRoute& other, Checker& check) {
  if (!route.deduplicate || !other.deduplicate || route.deduplicate->feed.empty() ||
      route.deduplicate->feed != other.deduplicate->feed) {
    return;
  }
  if (route.sequence != other.sequence) {
    check.Fail("sequence", "route \"", other.name, "\" of feed \"", route.deduplicate->feed,
               "\" has another: redundant packets have the same number at the same place");
  } else if (FeedWindow(route) != FeedWindow(other)) {
    check.Fail("deduplicate.window", FeedWindow(route), ", and route \"", other.name, "\" of feed \"",
               route.deduplicate->feed, "\" has ", FeedWindow(other), ": they need the same");
  }
}

bool Shares(const std::vector<std::string>& a, const std::vector<std::string>& b) {
  return std::any_of(a.begin(), a.end(),
                     [&b](const std::string& name) { return std::find(b.begin(), b.end(), name) != b.end(); });
}

// Whether there may be a packet that is of both, with equal right.
bool Contend(const MulticastInput& a, const MulticastInput& b) {
  if (a.group != b.group || a.port != b.port || a.protocol != b.protocol || a.vlan != b.vlan ||
      !Shares(a.interfaces, b.interfaces)) {
    return false;
  }
  if (a.include.empty() || b.include.empty()) return a.include.empty() && b.include.empty();
  return std::any_of(a.include.begin(), a.include.end(), [&b](const Prefix& prefix) {
    return std::find(b.include.begin(), b.include.end(), prefix) != b.include.end();
  });
}

// Whether senders of that prefix may be among those that the input takes.
bool Takes(const MulticastInput& input, const Prefix& source) {
  const auto covers = [&source](const Prefix& prefix) {
    return prefix.length <= source.length && Contains(prefix, source.address);
  };
  if (std::any_of(input.exclude.begin(), input.exclude.end(), covers)) return false;
  return input.include.empty() || std::any_of(input.include.begin(), input.include.end(),
                                              [&source](const Prefix& p) { return Overlap(p, source); });
}

// Whether what leaves by the leg may be of the input, where it comes back. An egress interface's address is not
// known here: an input that names its senders is taken at its word.
bool Feeds(const MulticastRoute& route, const MulticastLeg& leg, const MulticastInput& input) {
  if (route.input.protocol != input.protocol || leg.unicast) return false;
  const std::optional<uint16_t> vlan = leg.vlan ? leg.vlan : route.input.vlan;
  if (vlan && input.vlan && vlan != input.vlan) return false;
  if (std::find(input.interfaces.begin(), input.interfaces.end(), leg.interface) == input.interfaces.end()) {
    return false;
  }
  const Prefix group = leg.group ? Host(*leg.group) : route.input.group;
  if (group.address.family != input.group.address.family || !Overlap(group, input.group)) return false;
  const uint16_t port = leg.port != 0 ? leg.port : route.input.port;
  if (port != 0 && input.port != 0 && port != input.port) return false;
  if (const auto* source = std::get_if<IpAddress>(&leg.source)) return Takes(input, Host(*source));
  if (std::holds_alternative<EgressAddress>(leg.source)) return input.include.empty();
  if (route.input.include.empty()) return true;
  return std::any_of(route.input.include.begin(), route.input.include.end(),
                     [&input](const Prefix& source) { return Takes(input, source); });
}

// Looks for a way from a route back to itself.
class LoopSearch {
 public:
  explicit LoopSearch(const State& state) {
    state.multicast_routes.ForEach([this](const std::shared_ptr<const MulticastRoute>& route) {
      for (const std::string& interface : route->input.interfaces) inputs_[interface].push_back(route.get());
    });
  }

  // The steps of one, "a leg b to c"; empty: there is none.
  std::vector<std::string> From(const MulticastRoute& start) {
    start_ = &start;
    seen_.clear();
    steps_.clear();
    Visit(start);
    return steps_;
  }

 private:
  bool Visit(const MulticastRoute& route) {
    for (const MulticastLeg& leg : route.legs) {
      const auto found = inputs_.find(leg.interface);
      if (found == inputs_.end()) continue;
      for (const MulticastRoute* next : found->second) {
        if (!Feeds(route, leg, next->input)) continue;
        steps_.push_back(absl::StrCat("\"", route.name, "\" by leg \"", leg.name, "\" on \"", leg.interface,
                                      "\" to \"", next->name, "\""));
        if (next == start_) return true;
        if (seen_.insert(next).second && Visit(*next)) return true;
        steps_.pop_back();
      }
    }
    return false;
  }

  absl::flat_hash_map<std::string, std::vector<const MulticastRoute*>> inputs_;  // by interface
  const MulticastRoute* start_ = nullptr;
  absl::flat_hash_set<const MulticastRoute*> seen_;
  std::vector<std::string> steps_;
};

void CheckBesideOthers(const MulticastRoute& route, const State& state, Checker& check) {
  state.multicast_routes.ForEach([&](const std::shared_ptr<const MulticastRoute>& other) {
    if (other->name == route.name) return;
    CheckSameFeed(route, *other, check);
    if (!Contend(other->input, route.input)) return;
    check.Fail("input", "route \"", other->name,
               "\" takes packets of this input with equal right: let them differ in ", "group, sources or port");
  });
  // As it is in the state, for the search tells routes by where they are.
  const MulticastRoute* present = state.multicast_routes.Get(route.name);
  if (present == nullptr) return;
  const std::vector<std::string> loop = LoopSearch(state).From(*present);
  if (loop.empty()) return;
  check.Fail("legs", "packets would go round: ", absl::StrJoin(loop, ", "),
             "; let groups, ports or sources differ");
}

}  // namespace

// What IGMP and MLD can say (RFC 3376, sections 4.1.1 and 4.1.7).
void CheckQuerier(const Querier& querier, Checker& check) {
  static constexpr uint32_t kMaxInterval = 31744, kStep = 100, kMaxResponse = 3174400, kMaxLastListener = 25500;
  constexpr uint32_t kMaxRobustness = 7, kMillisecondsPerSecond = 1000;
  if (querier.interval_seconds > kMaxInterval) {
    check.Fail("querier.interval_seconds", querier.interval_seconds, ": must be 1 to ", kMaxInterval);
  }
  const auto check_time = [&check](const char* field, uint32_t value, uint32_t most) {
    if (value >= kStep && value <= most && value % kStep == 0) return;
    check.Fail(field, value, ": must be ", kStep, " to ", most, ", in steps of ", kStep);
  };
  check_time("querier.response_milliseconds", querier.response_ms, kMaxResponse);
  check_time("querier.last_listener_milliseconds", querier.last_listener_ms, kMaxLastListener);
  if (querier.response_ms >= uint64_t{querier.interval_seconds} * kMillisecondsPerSecond) {
    check.Fail("querier.response_milliseconds", querier.response_ms, ": must be less than the interval of ",
               querier.interval_seconds, " s");
  }
  if (querier.robustness > kMaxRobustness) {
    check.Fail("querier.robustness", uint32_t{querier.robustness}, ": must be 1 to ", kMaxRobustness);
  }
}

void CheckMulticastRoute(const MulticastRoute& route, const std::string& path, const State& state,
                         Violations& violations) {
  const size_t before = violations.size();
  Checker check(path, violations);
  check.Name(route.name);
  CheckInput(route.input, state, check);
  if (route.legs.empty() || route.legs.size() > kMaxLegs) {
    check.Fail("legs", "1 to ", kMaxLegs, " legs are needed");
  }
  for (size_t i = 0; i < std::min(route.legs.size(), kMaxLegs); ++i) CheckLeg(route, i, state, check);
  CheckFeed(route, check);
  if (violations.size() == before) CheckBesideOthers(route, state, check);
}

}  // namespace headgate
