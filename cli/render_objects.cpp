// SPDX-License-Identifier: Apache-2.0
#include "cli/render_objects.h"

#include <absl/strings/match.h>
#include <absl/strings/str_cat.h>
#include <absl/strings/str_join.h>
#include <absl/strings/string_view.h>

#include <algorithm>
#include <vector>

#include "agent/api/text_values.h"
#include "cli/kinds.h"
#include "cli/table.h"

namespace headgate::cli {
namespace {

constexpr int kPrefixesShown = 4;

template <typename Enum>
std::string EnumName(Enum value) {
  const auto* descriptor = google::protobuf::GetEnumDescriptor<Enum>()->FindValueByNumber(value);
  return descriptor == nullptr ? absl::StrCat(static_cast<int>(value)) : EnumText(*descriptor);
}

// Address, set and ports of one side: "10.0.0.0/8", "@bogons:53", "[fc00::/7]:53,80"; "*" for any.
std::string Side(const std::string& prefix, const std::string& set, const std::vector<std::string>& ports) {
  std::string side = !set.empty() ? absl::StrCat("@", set) : prefix.empty() ? "*" : prefix;
  if (ports.empty()) return side;
  if (absl::StrContains(side, ':')) side = absl::StrCat("[", side, "]");
  return absl::StrCat(side, ":", absl::StrJoin(ports, ","));
}

std::string AnyIfEmpty(const std::vector<std::string>& parts) {
  return parts.empty() ? "any" : absl::StrJoin(parts, " ");
}

void AddSides(const std::string& source, const std::string& destination, std::vector<std::string>& parts) {
  if (source != "*" || destination != "*") parts.push_back(absl::StrCat(source, " > ", destination));
}

std::string VerdictText(const v1::Action& action) {
  switch (action.verdict_case()) {
    case v1::Action::kPass:
      return "pass";
    case v1::Action::kDrop:
      return "drop";
    case v1::Action::kTx:
      return action.tx().swap() == v1::TX_SWAP_UNSPECIFIED ? "tx" : "tx " + EnumName(action.tx().swap());
    case v1::Action::kRedirect: {
      const v1::Redirect& redirect = action.redirect();
      std::string text = "redirect " + redirect.interface();
      if (!redirect.source_mac().empty()) absl::StrAppend(&text, " from ", redirect.source_mac());
      if (!redirect.destination_mac().empty()) absl::StrAppend(&text, " to ", redirect.destination_mac());
      return text;
    }
    case v1::Action::kRoute:
      return "route";
    case v1::Action::kNextHop:
      return "next-hop " + action.next_hop().name();
    case v1::Action::kSteer:
      return "steer " + action.steer().target();
    case v1::Action::VERDICT_NOT_SET:
      return "none";
  }
  return "unknown";
}

std::string RateLimitText(const v1::RateLimit& limit) {
  const bool bits = limit.bits_per_second() != 0;
  std::string text = absl::StrCat("limit ", bits ? limit.bits_per_second() : limit.packets_per_second(),
                                  bits ? " bit/s" : " pps");
  if (limit.burst() != 0) absl::StrAppend(&text, " burst ", limit.burst());
  if (limit.per() == v1::RATE_LIMIT_SCOPE_SOURCE) text += " per source";
  return text;
}

template <typename Add>
std::string Render(Table table, v1::Kind kind, const v1::GetResponse& response, size_t width, Add add) {
  for (const v1::Object& object : response.objects()) {
    if (KindOf(object) == kind) add(table, object);
  }
  return table.Render(width);
}

std::string NumberOr(bool given, uint64_t number, absl::string_view otherwise) {
  return given ? absl::StrCat(number) : std::string(otherwise);
}

}  // namespace

std::string MatchText(const v1::Match& match) {
  std::vector<std::string> parts;
  if (!match.protocol().empty()) parts.push_back(match.protocol());
  AddSides(Side(match.source(), match.source_set(), {match.source_ports().begin(), match.source_ports().end()}),
           Side(match.destination(), match.destination_set(),
                {match.destination_ports().begin(), match.destination_ports().end()}),
           parts);
  if (!match.interface().empty()) parts.push_back("in " + match.interface());
  if (match.has_vlan()) parts.push_back(absl::StrCat("vlan ", match.vlan()));
  if (match.has_inner_vlan()) parts.push_back(absl::StrCat("inner-vlan ", match.inner_vlan()));
  if (!match.tcp_flags().empty()) parts.push_back("flags " + match.tcp_flags());
  if (match.has_icmp_type()) parts.push_back(absl::StrCat("type ", match.icmp_type()));
  if (match.has_icmp_code()) parts.push_back(absl::StrCat("code ", match.icmp_code()));
  if (match.has_dscp()) parts.push_back(absl::StrCat("dscp ", match.dscp()));
  if (match.fragment() != v1::FRAGMENT_MATCH_UNSPECIFIED)
    parts.push_back("fragment " + EnumName(match.fragment()));
  if (!match.packet_length().empty()) parts.push_back("len " + match.packet_length());
  return AnyIfEmpty(parts);
}

std::string MatchText(const v1::ManagementAllow& allow) {
  std::vector<std::string> parts;
  if (!allow.protocol().empty()) parts.push_back(allow.protocol());
  AddSides(Side(allow.source(), "", {}),
           Side("", "", {allow.destination_ports().begin(), allow.destination_ports().end()}), parts);
  if (!allow.interface().empty()) parts.push_back("in " + allow.interface());
  return AnyIfEmpty(parts);
}

std::string ActionText(const v1::Action& action) {
  std::vector<std::string> parts;
  // In the order in which they happen to a packet.
  if (action.has_rate_limit()) parts.push_back(RateLimitText(action.rate_limit()));
  parts.push_back(VerdictText(action));
  if (action.has_count()) parts.push_back("count " + action.count().counter());
  if (action.has_sample()) parts.push_back(absl::StrCat("sample 1/", action.sample().one_in()));
  return absl::StrJoin(parts, ", ");
}

std::string RuleText(const v1::Rule& rule) {
  return absl::StrCat("priority ", rule.priority(), ": ", MatchText(rule.match()), ": ",
                      ActionText(rule.action()));
}

std::string StatusText(const v1::ObjectStatus& status) {
  const std::string state = status.state() == v1::ObjectStatus::STATE_UNSPECIFIED ? "-" : EnumName(status.state());
  return status.reason().empty() ? state : absl::StrCat(state, ": ", status.reason());
}

std::string InterfaceTable(const v1::GetResponse& response, size_t width) {
  std::string warnings;
  const std::string table =
      Render(Table({{"INTERFACE"},
                    {"DEVICE"},
                    {"MODE"},
                    {"LINK"},
                    {"INDEX", Table::Align::kRight},
                    {"MTU", Table::Align::kRight},
                    {"MAC"},
                    {"STATUS", Table::Align::kLeft, true}}),
             v1::KIND_INTERFACE, response, width, [&](Table& rows, const v1::Object& object) {
               const v1::Interface& interface = object.interface();
               const v1::InterfaceState& state = object.interface_state();
               const bool exists = state.ifindex() != 0;
               // What it became; before that, what is wanted, in brackets.
               const std::string wanted =
                   interface.mode() == v1::ATTACH_MODE_UNSPECIFIED ? "auto" : EnumName(interface.mode());
               rows.Add({interface.name(), interface.device().empty() ? interface.name() : interface.device(),
                         state.mode() == v1::ATTACH_MODE_UNSPECIFIED ? absl::StrCat("(", wanted, ")")
                                                                     : EnumName(state.mode()),
                         !exists      ? "-"
                         : state.up() ? "up"
                                      : "down",
                         NumberOr(exists, state.ifindex(), "-"), NumberOr(exists, state.mtu(), "-"),
                         state.mac().empty() ? "-" : state.mac(), StatusText(object.status())});
               for (const std::string& warning : state.warnings()) {
                 absl::StrAppend(&warnings, "warning: ", interface.name(), ": ", warning, "\n");
               }
             });
  return table + warnings;
}

std::string RuleTable(const v1::GetResponse& response, size_t width) {
  return Render(Table({{"PRIORITY", Table::Align::kRight},
                       {"NAME"},
                       {"MATCH", Table::Align::kLeft, true},
                       {"ACTION", Table::Align::kLeft, true},
                       {"STATUS", Table::Align::kLeft, true}}),
                v1::KIND_RULE, response, width, [](Table& rows, const v1::Object& object) {
                  const v1::Rule& rule = object.rule();
                  rows.Add({absl::StrCat(rule.priority()), rule.name(), MatchText(rule.match()),
                            ActionText(rule.action()), StatusText(object.status())});
                });
}

std::string PrefixSetTable(const v1::GetResponse& response, size_t width) {
  return Render(Table({{"SET"},
                       {"PREFIXES", Table::Align::kRight},
                       {"FIRST", Table::Align::kLeft, true},
                       {"STATUS", Table::Align::kLeft, true}}),
                v1::KIND_PREFIX_SET, response, width, [](Table& rows, const v1::Object& object) {
                  const auto& prefixes = object.prefix_set().prefixes();
                  const int shown = std::min(prefixes.size(), kPrefixesShown);
                  rows.Add({object.prefix_set().name(), absl::StrCat(prefixes.size()),
                            absl::StrCat(absl::StrJoin(prefixes.begin(), prefixes.begin() + shown, " "),
                                         prefixes.size() > shown ? " ..." : ""),
                            StatusText(object.status())});
                });
}

std::string NextHopTable(const v1::GetResponse& response, size_t width) {
  return Render(
      Table({{"NEXT HOP"},
             {"INTERFACE"},
             {"MAC"},
             {"SOURCE MAC"},
             {"VLAN"},
             {"TTL"},
             {"STATUS", Table::Align::kLeft, true}}),
      v1::KIND_NEXT_HOP, response, width, [](Table& rows, const v1::Object& object) {
        const v1::NextHop& hop = object.next_hop();
        rows.Add({hop.name(), hop.interface(), hop.mac(), hop.source_mac().empty() ? "device's" : hop.source_mac(),
                  !hop.has_vlan()   ? "keep"
                  : hop.vlan() == 0 ? "strip"
                                    : absl::StrCat(hop.vlan()),
                  hop.decrement_ttl() ? "decrement" : "keep", StatusText(object.status())});
      });
}

namespace {

// Of a target that gives none.
constexpr uint32_t kTopPriority = 7;

std::string HandlerText(const v1::SteerHandler& handler) {
  switch (handler.kind_case()) {
    case v1::SteerHandler::kCount:
      return "count";
    case v1::SteerHandler::kEcho:
      return "echo";
    case v1::SteerHandler::kTap:
      return absl::StrCat(handler.tap().kind() == v1::TAP_KIND_TUN ? "tun " : "tap ", handler.tap().device());
    case v1::SteerHandler::kApp:
      return "app";
    case v1::SteerHandler::KIND_NOT_SET:
      break;
  }
  return "none";
}

}  // namespace

std::string SteerTargetTable(const v1::GetResponse& response, size_t width) {
  return Render(Table({{"STEER TARGET"},
                       {"HANDLER"},
                       {"WORKERS"},
                       {"SPREAD"},
                       {"PRIORITY"},
                       {"FALLBACK"},
                       {"STATUS", Table::Align::kLeft, true}}),
                v1::KIND_STEER_TARGET, response, width, [](Table& rows, const v1::Object& object) {
                  const v1::SteerTarget& target = object.steer_target();
                  const bool handled = target.has_handler();
                  rows.Add({target.name(), HandlerText(target.handler()),
                            handled ? absl::StrCat(target.has_workers() ? target.workers().count() : 1) : "-",
                            // "auto" is not what a document could say: there it is left out.
                            target.spread() == v1::SPREAD_UNSPECIFIED ? "-" : EnumName(target.spread()),
                            handled ? absl::StrCat(target.has_priority() ? target.priority() : kTopPriority) : "-",
                            target.fallback() == v1::FALLBACK_UNSPECIFIED ? "pass" : EnumName(target.fallback()),
                            StatusText(object.status())});
                });
}

namespace {

// "(172.16.9.9, 239.1.1.1):5001", as in ip mroute; "*" for all senders.
std::string InputText(const v1::MulticastInput& input) {
  std::vector<std::string> sources(input.sources().include().begin(), input.sources().include().end());
  if (sources.empty()) sources = {"*"};
  for (const std::string& prefix : input.sources().exclude()) sources.push_back("!" + prefix);
  std::string text = absl::StrCat("(", absl::StrJoin(sources, " "), ", ", input.group(), ")");
  if (input.port() != 0) absl::StrAppend(&text, ":", input.port());
  if (input.has_vlan()) absl::StrAppend(&text, " vlan ", input.vlan());
  if (!input.protocol().empty() && input.protocol() != "udp") absl::StrAppend(&text, " ", input.protocol());
  return text;
}

// "lan1 239.2.2.2:5002 from egress ttl 16".
std::string LegText(const v1::MulticastLeg& leg) {
  std::vector<std::string> words;
  if (!leg.interface().empty()) words.push_back(leg.interface());
  const std::string to = leg.group().empty() ? leg.unicast() : leg.group();
  const bool brackets = absl::StrContains(to, ':') && leg.port() != 0;
  if (!to.empty() || leg.port() != 0) {
    words.push_back(absl::StrCat(brackets ? "[" : "", to, brackets ? "]" : "",
                                 leg.port() != 0 ? absl::StrCat(":", leg.port()) : ""));
  }
  std::string text = absl::StrJoin(words, " ");
  if (!leg.mac().empty()) absl::StrAppend(&text, " via ", leg.mac());
  if (!leg.name().empty() && leg.name() != leg.interface() && leg.name() != leg.unicast()) {
    text = absl::StrCat(leg.name(), "=", text);
  }
  if (!leg.source().empty()) absl::StrAppend(&text, " from ", leg.source());
  if (leg.source_port() != 0) absl::StrAppend(&text, leg.source().empty() ? " from " : "", ":", leg.source_port());
  if (leg.ttl().set() != 0) absl::StrAppend(&text, " ttl ", leg.ttl().set());
  if (leg.ttl().threshold() != 0) absl::StrAppend(&text, " threshold ", leg.ttl().threshold());
  if (leg.has_dscp()) absl::StrAppend(&text, " dscp ", leg.dscp());
  if (leg.has_vlan()) absl::StrAppend(&text, " vlan ", leg.vlan());
  if (leg.has_rate_limit()) absl::StrAppend(&text, " ", RateLimitText(leg.rate_limit()));
  return text;
}

// Of one that is on_join: "on join: 2 groups".
std::string ListenedText(const v1::MulticastLeg& leg, const v1::MulticastRouteState& state) {
  const auto groups = std::count_if(
      state.listeners().begin(), state.listeners().end(), [&leg](const v1::MulticastListener& listener) {
        return listener.interface() == leg.interface() && (leg.group().empty() || leg.group() == listener.group());
      });
  if (groups == 0) return " on join: nobody";
  return absl::StrCat(" on join: ", groups, groups == 1 ? " group" : " groups");
}

// ", sequence 4 at 8, feed f"; empty for a route that has neither.
std::string FeedText(const v1::MulticastRoute& route) {
  std::string text;
  if (route.has_sequence()) {
    absl::StrAppend(&text, ", sequence ", route.sequence().width(), " at ", route.sequence().offset(),
                    route.sequence().little_endian() ? " little endian" : "");
  }
  if (!route.has_deduplicate()) return text;
  const std::string& feed = route.deduplicate().feed();
  return absl::StrCat(text, ", ", feed.empty() ? "deduplicated" : "feed ", feed);
}

// "userspace: leg "a" sends to a unicast address".
std::string PathText(const v1::MulticastRouteState& state) {
  if (state.path() == v1::MulticastRouteState::PATH_UNSPECIFIED) return "-";
  std::string text = EnumName(state.path());
  if (!state.reason().empty()) absl::StrAppend(&text, ": ", state.reason());
  for (const v1::MulticastMembership& membership : state.memberships()) {
    if (!membership.trouble().empty()) {
      absl::StrAppend(&text, "; not joined on ", membership.interface(), ": ", membership.trouble());
    }
  }
  return text;
}

}  // namespace

std::string MulticastRouteTable(const v1::GetResponse& response, size_t width) {
  return Render(Table({{"MULTICAST ROUTE"},
                       {"(SOURCE, GROUP)", Table::Align::kLeft, true},
                       {"IN"},
                       {"PATH"},
                       {"OUT", Table::Align::kLeft, true},
                       {"STATUS", Table::Align::kLeft, true}}),
                v1::KIND_MULTICAST_ROUTE, response, width, [](Table& rows, const v1::Object& object) {
                  const v1::MulticastRoute& route = object.multicast_route();
                  std::vector<std::string> legs;
                  const v1::MulticastRouteState& state = object.multicast_route_state();
                  for (int i = 0; i < route.legs_size(); ++i) {
                    legs.push_back(LegText(route.legs(i)));
                    if (route.legs(i).on_join()) absl::StrAppend(&legs.back(), ListenedText(route.legs(i), state));
                    const bool broken = i < state.legs_size() && !state.legs(i).trouble().empty();
                    if (broken) absl::StrAppend(&legs.back(), " (", state.legs(i).trouble(), ")");
                  }
                  rows.Add({route.name(), InputText(route.input()) + FeedText(route),
                            absl::StrJoin(route.input().interfaces(), ","), PathText(state),
                            absl::StrJoin(legs, ", "), StatusText(object.status())});
                });
}

std::string SettingsTable(const v1::GetResponse& response, size_t width) {
  return Render(Table({{"SETTING"}, {"VALUE", Table::Align::kLeft, true}}), v1::KIND_SETTINGS, response, width,
                [](Table& rows, const v1::Object& object) {
                  const v1::Settings& settings = object.settings();
                  rows.Add({"default action", settings.default_action() == v1::DEFAULT_ACTION_UNSPECIFIED
                                                  ? "pass"
                                                  : EnumName(settings.default_action())});
                  for (const v1::ManagementAllow& allow : settings.management().allow()) {
                    rows.Add({"management allow", MatchText(allow)});
                  }
                });
}

std::string ObjectTable(v1::Kind kind, const v1::GetResponse& response, size_t width) {
  switch (kind) {
    case v1::KIND_INTERFACE:
      return InterfaceTable(response, width);
    case v1::KIND_RULE:
      return RuleTable(response, width);
    case v1::KIND_PREFIX_SET:
      return PrefixSetTable(response, width);
    case v1::KIND_NEXT_HOP:
      return NextHopTable(response, width);
    case v1::KIND_STEER_TARGET:
      return SteerTargetTable(response, width);
    case v1::KIND_MULTICAST_ROUTE:
      return MulticastRouteTable(response, width);
    case v1::KIND_SETTINGS:
      return SettingsTable(response, width);
    default:
      return "";
  }
}

v1::GatewayConfig ToConfig(const v1::GetResponse& response) {
  v1::GatewayConfig config;
  for (const v1::Object& object : response.objects()) {
    switch (object.object_case()) {
      case v1::Object::kInterface:
        *config.add_interfaces() = object.interface();
        break;
      case v1::Object::kPrefixSet:
        *config.add_prefix_sets() = object.prefix_set();
        break;
      case v1::Object::kRule:
        *config.add_rules() = object.rule();
        break;
      case v1::Object::kNextHop:
        *config.add_next_hops() = object.next_hop();
        break;
      case v1::Object::kSteerTarget:
        *config.add_steer_targets() = object.steer_target();
        break;
      case v1::Object::kMulticastRoute:
        *config.add_multicast_routes() = object.multicast_route();
        break;
      case v1::Object::kSettings:
        config.set_default_action(object.settings().default_action());
        if (object.settings().has_management()) *config.mutable_management() = object.settings().management();
        break;
      case v1::Object::OBJECT_NOT_SET:
        break;
    }
  }
  return config;
}

}  // namespace headgate::cli
